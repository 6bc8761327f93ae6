"""The static step: no graph break, no recompilation, no wait for the device, nothing larger than it must be."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader, evaluation
from tests.trainer.precision import both_precisions
from trainer.config import ModelSettings, OptimizerSettings
from trainer.model.encoder import Encoder
from trainer.model.loss import softmax_gradient
from trainer.training import machine as mc
from trainer.training import runs
from trainer.training.data import Tensors
from trainer.training.optim import Optimizer
from trainer.training.score import score
from trainer.training.step import Forward, Stepper

CPU = torch.device("cpu")
# Operations whose result the host must wait for on a GPU.
WAITS = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "unique_consecutive",
    "_unique2",
}


class Recorder(TorchDispatchMode):
    """Names and largest outputs of all operations inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names[func._schema.name.split("::")[1]] += 1
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.untyped_storage().nbytes() // one.element_size())
        return out


@pytest.fixture
def parts(settings, dataset):
    """A model of five layers, a stepper and a stream of batches."""
    chosen = settings("budget.steps=1", "model.layers=5")
    machine = mc.choose(chosen)
    opened = Dataset.open(dataset)
    model = runs.make_model(chosen.model, opened.manifest.vocab_size, 64, machine, rows=4)
    model.initialize(torch.Generator().manual_seed(0))
    stepper = Stepper(Forward(model), Optimizer(model, chosen.optimizer), table_rows=64)
    return model, stepper, Loader(opened, batch_rows=4), opened


@both_precisions
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo looks at every input's
def test_blocks_compile_whole_once_per_kind_and_never_again(parts, monkeypatch):
    model, stepper, loader, opened = parts
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compile_eagerly = torch.compile

    def quick(function, **options):
        return compile_eagerly(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", quick)
    mc.compile_parts(model)
    model.loss_kernel = softmax_gradient
    target_size = max(loader.target_sizes)
    for _ in range(2):
        stepper.run([Tensors.of(next(loader), CPU)], 1.0)
    # Embedding, head, layer 0 (no norm), a global and a local layer, and the last layer, which ends at targets.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 6
    assert not torch._dynamo.utils.counters["graph_break"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(25):  # into the next epochs, and through an evaluation
            stepper.run([Tensors.of(next(loader), CPU)], 0.5)
        result = score(Forward(model), evaluation(opened, 4), target_size=target_size, device=CPU)
        stepper.run([Tensors.of(next(loader), CPU)], 0.5)
    assert result.targets > 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 6
    torch._dynamo.reset()


@both_precisions
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_step_waits_for_nothing(parts, kind):
    model, _, loader, _ = parts
    stepper = Stepper(Forward(model), Optimizer(model, OptimizerSettings(kind=kind)), table_rows=8)
    batches = [Tensors.of(next(loader), CPU) for _ in range(3)]
    with Recorder() as recorder:
        stepper.run(batches[:2], 1.0)
        stepper.run(batches[2:], 0.5)
    assert sum(recorder.names.values()) > 500
    assert not WAITS & set(recorder.names), recorder.names
    assert [one.targets for one in stepper.read()] == [
        sum(int((batch.target_ids >= 0).sum()) for batch in group) for group in (batches[:2], batches[2:])
    ]


def test_the_cuda_path_runs_on_meta_and_holds_nothing_quadratic():
    """Flash attention in bfloat16, forward and backward: shapes and types only, which is what `meta` can say."""
    rows, length, targets, vocab = 8, 1024, 1000, 50_000
    machine = mc.Machine(device=torch.device("meta"), precision=torch.bfloat16, compile=False, deterministic=False)
    shape = ModelSettings(layers=4, width=128, heads=2, intermediate=192)
    places = rows * length
    from trainer.model.attention import make_attention

    attention = make_attention("varlen", rows=rows, length=length, window=shape.window)
    with torch.device("meta"):
        model = Encoder(shape, vocab, length=length, attention=attention, compute=machine.precision)
        batch = Tensors(
            torch.empty(places, dtype=torch.int32),
            torch.empty(places, dtype=torch.int32),
            torch.empty(rows * 32 + 1, dtype=torch.int32),
            torch.empty(targets, dtype=torch.int32),
            torch.empty(targets, dtype=torch.int64),
        )
    with Recorder() as recorder:
        loss, hits = Forward(model)(batch, batch.target_places, batch.target_ids)
        loss.backward()
    assert loss.dtype == torch.float32
    assert loss.device.type == hits.device.type == "meta"
    for name, parameter in model.named_parameters():
        assert parameter.grad.shape == parameter.shape, name
        assert parameter.grad.dtype == torch.float32, name
    assert recorder.names["_varlen_attn"] == shape.layers
    assert recorder.names["_varlen_attn_backward"] == shape.layers
    # The largest tensors are the logits at targets and what the layers keep: no [T, V], no [L, L] for each row.
    assert recorder.largest <= max(targets * 50_048, places * 3 * shape.width, 50_048 * shape.width)
    assert not WAITS & set(recorder.names)
