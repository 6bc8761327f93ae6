"""Fine-tuning on a labelled file: all weights move, from where the linear probe's regression ends.

A text's logits are W mean(states) + b over its places, as in probe.py. W and b begin at the probe's minimum, so that
training begins where the frozen encoder stops, and the first steps don't tear its features apart (Kumar et al. 2022,
sec. 4: linear probing, then fine-tuning). Each epoch goes once through the training texts in an order of its own,
`TEXTS` at a time, packed into rows of one static shape:

    loss of a step = mean over its texts of cross-entropy      AdamW; warm-up over a tenth, then a line to zero

The order is a keyed hash of text and epoch, so a run gives the same accuracy again on the same machine. Nothing is
chosen by looking at the held-out texts.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt64
from torch import Tensor

from mlm_data import seeds
from mlm_data.errors import ConfigError
from trainer.config import ScheduleSettings
from trainer.model.encoder import Encoder
from trainer.studies.texts import TextBatch, pack
from trainer.training import runs
from trainer.training.machine import Machine
from trainer.training.runs import TrainedModel
from trainer.training.schedule import factor

TEXTS = 16  # of one step, about: their places fill whole rows
EPOCHS = 3
WIDTH_LR = 0.0384  # learning rate times width: 5e-5 at 768 (Devlin et al. 2019, sec. 4.1), 1.5e-4 at 256
DECAY, CLIP = 0.01, 1.0


def default_lr(width: int) -> float:
    """AdamW's learning rate for an encoder of this width.

    >>> round(default_lr(768), 9)
    5e-05
    """
    return WIDTH_LR / width


def finetune(
    trained: TrainedModel,
    machine: Machine,
    segments: Sequence[np.ndarray],
    labels: Int64[np.ndarray, " texts"],
    test: Bool[np.ndarray, " texts"],
    hashes: UInt64[np.ndarray, " texts"],
    start: tuple[Tensor, Tensor],
    *,
    epochs: int = EPOCHS,
    lr: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Int64[np.ndarray, " held"]:
    """Labels that the fine-tuned encoder gives the held-out texts. The run's own weights stay as they are.

    Args:
        segments: ids of each text, cut to the model's length.
        test: which texts are held out.
        hashes: of the texts, for the order.
        start: weights [D, classes] and biases of the linear probe.
        lr: the largest learning rate; `default_lr` of the width by default.
        say: called with a line after each epoch.

    Raises:
        ConfigError: if there is no epoch, or no positive learning rate.
    """
    lr = default_lr(trained.model.shape.width) if lr is None else lr
    if epochs < 1:
        raise ConfigError(f"--epochs must be at least 1, got {epochs}")
    if not 0 < lr < 1:
        raise ConfigError(f"--lr must be between 0 and 1, got {lr:g}: fine-tuning wants 1e-5 to 1e-3")
    places = np.mean([segment.size for segment in segments]) * TEXTS
    rows = max(1, round(places / trained.model.length))
    model = _copy(trained, machine, rows=rows)
    head = torch.nn.Linear(model.shape.width, start[1].numel(), device=machine.device)
    with torch.no_grad():
        head.weight.copy_(start[0].T)
        head.bias.copy_(start[1])
    parameters = _used(model) + list(head.parameters())
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)

    train = np.flatnonzero(~test)
    orders = [train[np.argsort(_keys(hashes[train], epoch), kind="stable")] for epoch in range(epochs)]
    steps = [sum(1 for _ in _batches(trained, segments, order, rows)) for order in orders]
    schedule = ScheduleSettings(kind="linear", warmup_steps=max(1, sum(steps) // 10))
    step = 0
    for epoch, order in enumerate(orders, start=1):
        loss_sum = torch.zeros((), device=machine.device)
        for batch, numbers in _batches(trained, segments, order, rows):
            truth = torch.from_numpy(labels[numbers]).to(machine.device)
            logits = head(mean_states(model, batch))
            loss = torch.nn.functional.cross_entropy(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            for group in optimizer.param_groups:
                group["lr"] = lr * factor(step, sum(steps), schedule)
            optimizer.step()
            loss_sum += loss.detach() * numbers.size
            step += 1
        say(f"epoch {epoch} of {epochs}: training loss {loss_sum.item() / train.size:.3f}")

    guesses = []
    with torch.no_grad():
        for batch, _ in _batches(trained, segments, np.flatnonzero(test), rows):
            guesses.append(head(mean_states(model, batch)).argmax(-1).cpu().numpy())
    return np.concatenate(guesses)


def mean_states(model: Encoder, batch: TextBatch) -> Float32[Tensor, "texts width"]:
    """The mean normed output of each text of a batch, differentiable: one product, so sums keep their order."""
    device = model.decoder_bias.device
    layout = (tensor.to(device) for tensor in (batch.input_ids, batch.position_ids, batch.cu_seqlens))
    states_TD = model.final_norm(model(*layout)).float()
    share_NT = np.zeros((batch.starts.size, states_TD.shape[0]), np.float32)
    for number, (start, size) in enumerate(zip(batch.starts, batch.lengths, strict=True)):
        share_NT[number, start : start + size] = 1 / size
    return torch.from_numpy(share_NT).to(device) @ states_TD


def _batches(
    trained: TrainedModel, segments: Sequence[np.ndarray], order: Int64[np.ndarray, " n"], rows: int
) -> Iterator[tuple[TextBatch, Int64[np.ndarray, " texts"]]]:
    """Packed texts in an order, and their numbers."""
    done = 0
    chosen = (segments[number] for number in order)
    for batch in pack(chosen, rows=rows, length=trained.model.length, pad=trained.tokenizer.roles.pad):
        yield batch, order[done : done + batch.starts.size]
        done += batch.starts.size


def _keys(hashes: UInt64[np.ndarray, " n"], epoch: int) -> UInt64[np.ndarray, " n"]:
    return np.array([seeds.fold(key, epoch) for key in hashes], np.uint64)


def _copy(trained: TrainedModel, machine: Machine, *, rows: int) -> Encoder:
    """The same weights in a model of its own, for batches of `rows` rows."""
    own = trained.model
    model = runs.make_model(own.shape, own.vocab_size, own.length, machine, rows=rows)
    model.load_state_dict(own.state_dict())
    return model


def _used(model: Encoder) -> list[torch.nn.Parameter]:
    """All but the prediction head, which a classifier does not ask."""
    return [p for name, p in model.named_parameters() if not name.startswith("head.") and name != "decoder_bias"]
