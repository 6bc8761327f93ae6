"""The GPU path on a GPU: parity, a training step, waiting, memory, speed. Prints what it measures: run it with -s.

Errors of bf16 are judged by a yardstick: plain attention in bf16 against plain attention in float32. Flash attention,
compiled, must stay within twice that error, the criterion of flash attention's own tests (Dao et al. 2022, their
repository). docs/how-to/gpu.md says how to run this in one command.
"""

import shutil
import time

import pytest
import torch

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader
from trainer.config import ModelSettings, OptimizerSettings
from trainer.model.arithmetic import memory_bytes, num_parameters, peak_of, step_flops
from trainer.model.attention import make_attention
from trainer.model.encoder import PADDED_BIAS, Encoder
from trainer.model.loss import softmax_gradient, target_loss
from trainer.recipes import RECIPES
from trainer.training import checkpoint as ck
from trainer.training import machine as mc
from trainer.training import runs
from trainer.training.data import Tensors
from trainer.training.loop import train
from trainer.training.optim import Optimizer
from trainer.training.step import Forward, Stepper

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="needs an NVIDIA GPU, torch.cuda.is_available() is False here: docs/how-to/gpu.md says how to run it",
    ),
    pytest.mark.filterwarnings("default"),  # those of drivers and compilers that we have not seen are no failures
]
DEVICE = torch.device("cuda")
SHAPE = ModelSettings(layers=5, width=256, heads=4, intermediate=512)
VOCABULARY = 1000
ROWS, LENGTH = 4, 512
LENGTHS = [[300, 200, 12], [512], [1, 2, 509], [100, 100, 100, 100, 112]]


def layout(lengths: list[list[int]], empty: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and borders; `empty` segments of no length fill the tail up, as in the loader's batches."""
    flat = [size for row in lengths for size in row]
    positions = torch.cat([torch.arange(size) for size in flat]).int()
    borders = torch.tensor([0, *flat, *[0] * empty]).cumsum(0).int()
    return positions.to(DEVICE), borders.to(DEVICE)


def make_encoder(kind: str, precision: torch.dtype, shape: ModelSettings = SHAPE, *, std: float = 0.05) -> Encoder:
    """The same weights for every kind and precision."""
    attention = make_attention(kind, rows=ROWS, length=LENGTH, window=shape.window)
    model = Encoder(shape, VOCABULARY, length=LENGTH, attention=attention, compute=precision)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 and name != "decoder_bias" else 0.0, std, generator=generator)
        model.decoder_bias[VOCABULARY:] = PADDED_BIAS
    return model.to(DEVICE)


def error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference relative to the reference's norm."""
    return ((found.double() - reference.double()).norm() / reference.double().norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_triton_loss_agrees_with_its_twin(dtype):
    from trainer.kernels import triton_loss

    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(300, 50_368, generator=generator) * 4).to(DEVICE, dtype)
    bias = torch.randn(50_368, generator=generator).to(DEVICE)
    target = torch.randint(0, 50_368, (300,), generator=generator).to(DEVICE)
    target[:2] = (logits[:2].float() + bias).argmax(-1)
    target[5::7] = -100
    expected, found = logits.float().clone(), logits.clone()
    loss_a, hit_a = softmax_gradient(expected, bias, target)
    loss_b, hit_b = triton_loss.softmax_gradient(found, bias, target)
    torch.testing.assert_close(loss_b, loss_a, rtol=1e-5, atol=1e-5)
    assert torch.equal(hit_a, hit_b)
    assert hit_b.sum() >= 2
    unit = 2.0**-20 if dtype == torch.float32 else 2.0**-8
    assert (found.float() - expected).abs().max() <= unit
    again = logits.clone()
    triton_loss.softmax_gradient(again, bias, target)
    assert torch.equal(again, found)  # the same bits every time


@pytest.mark.parametrize("local", [False, True])
def test_flash_attention_agrees_with_the_reference(local):
    positions, borders = layout(LENGTHS, empty=7)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(ROWS * LENGTH, 4, 64, generator=generator).bfloat16().to(DEVICE) for _ in range(3)]
    weight = torch.randn(ROWS * LENGTH, 4, 64, generator=generator).to(DEVICE)
    results = {}
    for name, kind, dtype in (
        ("exact", "reference", torch.float32),
        ("yardstick", "reference", torch.bfloat16),
        ("flash", "varlen", torch.bfloat16),
    ):
        q, k, v = (one.to(dtype, copy=True).requires_grad_() for one in inputs)
        attention = make_attention(kind, rows=ROWS, length=LENGTH, window=64)
        out = attention(q, k, v, attention.layout(positions, borders), local=local)
        (out.float() * weight).sum().backward()
        results[name] = (out, q.grad, k.grad, v.grad)
    for what, exact, yardstick, flash in zip(("out", "dq", "dk", "dv"), *results.values(), strict=True):
        print(
            f"\nattention, local={local}, {what}: flash {error(flash, exact):.2e}, plain {error(yardstick, exact):.2e}"
        )
        assert error(flash, exact) <= 2 * error(yardstick, exact)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_encoder_agrees_with_float32_in_outputs_and_all_gradients(compiled):
    positions, borders = layout(LENGTHS, empty=7)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, VOCABULARY, (ROWS * LENGTH,), generator=generator).int().to(DEVICE)
    places = torch.randperm(ROWS * LENGTH, generator=generator)[:300].sort().values.int().to(DEVICE)
    targets = torch.randint(5, VOCABULARY, (300,), generator=generator).to(DEVICE)
    results = {}
    for name, kind, precision in (
        ("exact", "reference", torch.float32),
        ("yardstick", "reference", torch.bfloat16),
        ("ours", "varlen", torch.bfloat16),
    ):
        model = make_encoder(kind, precision)
        if compiled and name == "ours":
            mc.compile_parts(model)
        features = model.features(model(ids, positions, borders, places))
        loss, _ = target_loss(
            features, model.embedding.weight, model.decoder_bias, targets, compute=precision, kernel=model.loss_kernel
        )
        loss.backward()
        gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
        results[name] = {"loss": loss.detach()[None], "logits": model.logits(features).detach()} | gradients
    exact, yardstick, ours = results.values()
    worst = max((error(ours[key], exact[key]) / max(error(yardstick[key], exact[key]), 1e-4), key) for key in exact)
    print(f"\nencoder, compiled={compiled}: worst error is {worst[0]:.2f} x the yardstick's, at {worst[1]}")
    print(f"logits: ours {error(ours['logits'], exact['logits']):.2e}, plain bf16 ", end="")
    print(f"{error(yardstick['logits'], exact['logits']):.2e}")
    assert worst[0] <= 2, worst


def steppers(dataset, kind: str):
    """The same model and optimizer on the CPU in float32 and on the GPU as it is trained there."""
    opened = Dataset.open(dataset)
    vocab = opened.manifest.vocab_size
    shape = ModelSettings(layers=4, width=128, heads=2, intermediate=192)
    made = {}
    for name, device, precision, attention_kind in (
        ("cpu", torch.device("cpu"), torch.float32, "reference"),
        ("gpu", DEVICE, torch.bfloat16, "varlen"),
    ):
        attention = make_attention(attention_kind, rows=4, length=64, window=shape.window)
        model = Encoder(shape, vocab, length=64, attention=attention, compute=precision)
        model.initialize(torch.Generator().manual_seed(0))
        model = model.to(device)
        if name == "gpu":
            mc.compile_parts(model)
        optimizer = Optimizer(model, OptimizerSettings(kind=kind))
        made[name] = Stepper(Forward(model), optimizer, table_rows=64)
    return opened, made["cpu"], made["gpu"]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_training_follows_the_float32_run_on_the_cpu(dataset, kind):
    opened, cpu, gpu = steppers(dataset, kind)
    loader = Loader(opened, batch_rows=4)
    for _ in range(20):
        batch = next(loader)
        cpu.run([Tensors.of(batch, torch.device("cpu"))], 0.3)
        gpu.run([Tensors.of(batch, DEVICE)], 0.3)
    for one, other in zip(cpu.read(), gpu.read(), strict=True):
        assert not other.skipped
        assert other.targets == one.targets
        assert other.loss_sum == pytest.approx(one.loss_sum, rel=0.01)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_step_neither_waits_for_the_gpu_nor_compiles_again(dataset, kind):
    opened, _, stepper = steppers(dataset, kind)
    loader = Loader(opened, batch_rows=4)
    for _ in range(3):
        stepper.run([Tensors.of(next(loader), DEVICE)], 1.0)
    batches = [Tensors.of(next(loader), DEVICE) for _ in range(10)]
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch._dynamo.config.patch(error_on_recompile=True):
            for batch in batches:
                stepper.run([batch], 0.5)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert len(stepper.read()) == 13


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_recorded_step_is_the_step(dataset, kind):
    """CUDA graphs: two micro-batches a step, the same figures as without, and no wait."""
    from trainer.training.graphs import GraphStepper

    opened, _, plain = steppers(dataset, kind)
    _, _, other = steppers(dataset, kind)
    recorded = GraphStepper(other.forward, other.optimizer, table_rows=64)
    loader = Loader(opened, batch_rows=4)
    groups = [[Tensors.of(next(loader), DEVICE) for _ in range(2)] for _ in range(12)]
    for number, batches in enumerate(groups):
        plain.run(batches, 0.3)
        if number == 2:
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
        try:
            recorded.run(batches, 0.3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for one, two in zip(plain.read(), recorded.read(), strict=True):
        assert two.targets == one.targets
        assert two.loss_sum == pytest.approx(one.loss_sum, rel=2e-3)  # sums in another order


def test_a_run_with_cuda_graphs_trains_and_goes_on(settings):
    overrides = ("device=cuda", "precision=bfloat16", "compile=on", "model.width=128", "model.heads=2")
    first = settings("budget.steps=8", "cuda_graphs=true", *overrides)
    assert train(first)["skipped"] == []
    again = settings("budget.steps=8", "cuda_graphs=true", *overrides, out="again")
    shutil.copytree(first.out, again.out)
    shutil.rmtree(ck.folder_of(runs.Path(again.out), 8))
    assert train(again)["step"] == 8


def test_a_run_trains_stops_and_goes_on(settings):
    overrides = ("device=cuda", "precision=bfloat16", "compile=on", "model.width=128", "model.heads=2")
    first = settings("budget.steps=12", *overrides)
    result = train(first)
    assert result["step"] == 12
    assert result["skipped"] == []
    found, notes = ck.latest(runs.Path(first.out))
    assert found.step == 12
    assert notes == []
    assert all(torch.isfinite(tensor).all() for tensor in found.model.values())
    assert runs.read(runs.Path(first.out)).precision == "bfloat16"
    assert train(first)["step"] == 12  # resumes, and has nothing left to do


def test_memory_and_speed_of_a_base_model():
    """Prints places per second, the share of the peak, and memory against the arithmetic. ModernBERT-base, AdamW."""
    shape, vocab, length = ModelSettings(**RECIPES["base"]()["model"]), 50_368, 1024
    roomy = torch.cuda.get_device_properties(DEVICE).total_memory > 40 << 30
    rows = 32 if roomy else 8
    places, targets = rows * length, rows * length * 3 // 10
    lengths = [length] * rows
    attention = make_attention("varlen", rows=rows, length=length, window=shape.window)
    with DEVICE:
        model = Encoder(shape, vocab, length=length, attention=attention, compute=torch.bfloat16)
        model.initialize(torch.Generator(DEVICE).manual_seed(0))
        batch = Tensors(
            torch.randint(5, vocab, (places,)).int(),
            torch.arange(length).repeat(rows).int(),
            torch.tensor([0, *lengths, *[0] * (rows * 3 // 2)]).cumsum(0).int(),  # as `usual_segments` would have it
            torch.randperm(places)[:targets].sort().values.int(),
            torch.randint(5, vocab, (targets,)),
        )
    mc.compile_parts(model)
    stepper = Stepper(Forward(model), Optimizer(model, OptimizerSettings(kind="adamw")), table_rows=64)
    start = time.perf_counter()
    stepper.run([batch], 0.0)
    torch.cuda.synchronize()
    cold = time.perf_counter() - start
    for _ in range(4):
        stepper.run([batch], 0.0)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(20):
        stepper.run([batch], 0.0)
    end.record()
    torch.cuda.synchronize()
    seconds = begin.elapsed_time(end) / 1000 / 20
    peak_bytes = torch.cuda.max_memory_allocated()
    flops = step_flops(shape, vocab_size=vocab, lengths=lengths, targets=targets)
    said = memory_bytes(shape, vocab_size=vocab, places=places, targets=targets)
    name = torch.cuda.get_device_name()
    peak = peak_of(name)
    share = (
        f"{sum(flops.values()) / seconds / peak.flops:.1%} of {peak.flops / 1e12:.0f} TFLOP/s" if peak else "unknown"
    )
    print(f"\n{name}, torch {torch.__version__}, ModernBERT-base, {rows} rows x {length}, {targets} targets, AdamW")
    print(f"first step {cold:.1f} s, then {seconds * 1000:.1f} ms: {places / seconds:,.0f} places/s, MFU {share}")
    print(f"parameters {num_parameters(shape, vocab):,}; peak memory {peak_bytes / 2**30:.1f} GiB, ", end="")
    print(f"by arithmetic {sum(said.values()) / 2**30:.1f} GiB: {said}")
    assert all(not one.skipped for one in stepper.read())
    assert peak_bytes <= 1.3 * sum(said.values())
