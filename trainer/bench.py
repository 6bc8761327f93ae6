"""Speed against peers, and where the time goes: ratios measured in one process, all peers taking turns.

Each round every peer does the same number of whole training steps (forward, backward, AdamW), one after the other, on
the same documents, with the same allocator. What counts is useful tokens per second: places that are not [PAD], [CLS]
or [SEP]. A ratio is the median over rounds of ratios within a round, so that a machine that is busy elsewhere slows all
peers of a round alike.

The share of the peak is useful operations (products of places in segments, pairs that see each other, the head at
targets; three times the forward pass) by seconds, over the fastest square product that was measured before and after.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from mlm_data.errors import ConfigError
from mlm_data.loader import Loader
from mlm_data.shards.reader import Dataset
from trainer import machine as mc
from trainer import runs
from trainer.arithmetic import step_flops
from trainer.config import OptimizerSettings, RunSettings
from trainer.data import Tensors
from trainer.optim import Optimizer
from trainer.step import Forward, Stepper

STEPS = 2  # of each peer in each round
WARM = 4  # steps before the first round: they compile


@dataclass(kw_only=True)
class Peer:
    """One way to train, and its seconds for each step."""

    name: str
    step: Callable[[int], None]  # the n-th batch
    useful: list[int]  # useful tokens of each batch
    seconds: list[list[float]] = field(default_factory=list)  # rounds x steps

    def rate(self, number: int) -> float:
        """Useful tokens per second in a round."""
        return self._tokens(number) / sum(self.seconds[number])

    def _tokens(self, number: int) -> int:
        return sum(self.useful[(number * STEPS + step) % len(self.useful)] for step in range(STEPS))


def bench(dataset: Dataset, settings: RunSettings, *, rounds: int, peers: bool = True) -> dict[str, Any]:
    """Everything `premask-train bench` prints, as plain types.

    Raises:
        ConfigError: if peers are asked for and transformers is not installed.
    """
    machine = mc.choose(settings)
    mc.prepare(machine)
    loader = Loader(dataset, planes=settings.planes, batch_rows=settings.batch_rows, seed=settings.seed)
    batches = [next(loader) for _ in range(STEPS * 3)]
    roles = dataset.manifest.roles
    special = [role for role in (roles.cls, roles.sep, roles.pad) if role >= 0]
    useful = [int((~np.isin(batch.input_ids, special)).sum()) for batch in batches]
    peak_before = gemm_peak(machine.precision)
    ours = _ours(dataset, settings, machine, batches, useful)
    every = [ours]
    if peers:
        every += _peers(dataset, settings, machine, batches, useful)
    for peer in every:
        for number in range(WARM):
            peer.step(number)
    for number in range(rounds):
        for peer in every:
            seconds = []
            for step in range(STEPS):
                start = time.perf_counter()
                peer.step(number * STEPS + step)
                _wait(machine)
                seconds.append(time.perf_counter() - start)
            peer.seconds.append(seconds)
    peak = max(peak_before, gemm_peak(machine.precision))
    flops = [_flops(dataset, settings, batch) for batch in batches]
    shares = []
    for number in range(rounds):
        work = sum(flops[(number * STEPS + step) % len(flops)] for step in range(STEPS))
        shares.append(work / sum(ours.seconds[number]) / peak)
    return {
        "precision": str(machine.precision).removeprefix("torch."),
        "gemm_peak_gflops": peak / 1e9,
        "share_of_peak": statistics.median(shares),
        "peers": [_line(peer, ours) for peer in every],
        "time": where_time_goes(lambda: ours.step(0)),
        "loader_wait": loader_wait(dataset, settings),
    }


def _line(peer: Peer, ours: Peer) -> dict[str, Any]:
    rounds = range(len(peer.seconds))
    return {
        "name": peer.name,
        "useful_tokens_per_second": statistics.median(peer.rate(number) for number in rounds),
        "best": max(peer.rate(number) for number in rounds),
        "ours_is_faster_by": statistics.median(ours.rate(number) / peer.rate(number) for number in rounds),
    }


def _wait(machine: mc.Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize()


def _ours(dataset: Dataset, settings: RunSettings, machine: mc.Machine, batches: list, useful: list[int]) -> Peer:
    manifest = dataset.manifest
    shape = {"rows": settings.batch_rows}
    model = runs.make_model(settings.model, manifest.vocab_size, manifest.sequence_length, machine, **shape)
    model.initialize(torch.Generator(machine.device).manual_seed(0))
    if machine.compile:
        mc.compile_parts(model)
    stepper = Stepper(Forward(model), Optimizer(model, OptimizerSettings(kind="adamw")), table_rows=1)
    tensors = [Tensors.of(batch, machine.device) for batch in batches]

    def step(number: int) -> None:
        stepper.run([tensors[number % len(tensors)]], 0.01)
        stepper.read()

    return Peer(name="premask", step=step, useful=useful)


def _flops(dataset: Dataset, settings: RunSettings, batch: Any) -> float:
    """Useful operations of a step on this batch: its segments without padding."""
    borders = np.unique(batch.cu_seqlens)
    starts = borders[:-1]
    real = batch.input_ids[starts] != dataset.manifest.roles.pad
    lengths = np.diff(borders)[real].tolist()
    shape = {"vocab_size": dataset.manifest.vocab_size, "targets": batch.num_targets}
    return sum(step_flops(settings.model, lengths=lengths, **shape).values())


def _peers(
    dataset: Dataset, settings: RunSettings, machine: mc.Machine, batches: list, useful: list[int]
) -> list[Peer]:
    """HF's ModernBERT at its best and as people use it, and BERT: see docs/benchmarks.md for what each does."""
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "bench: the peers need transformers: pip install 'premask[bench]', or use --no-peers"
        ) from error
    manifest, length = dataset.manifest, dataset.manifest.sequence_length
    shape, roles = settings.model, manifest.roles
    common = {
        "vocab_size": -(-manifest.vocab_size // 64) * 64,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "pad_token_id": roles.pad,
        "max_position_embeddings": max(512, length),
    }
    specials = {"cls_token_id": roles.cls, "sep_token_id": roles.sep, "bos_token_id": None, "eos_token_id": None}

    def modern(*, sparse: bool) -> torch.nn.Module:
        config = transformers.ModernBertConfig(**common, **specials, sparse_prediction=sparse)
        return transformers.ModernBertForMaskedLM(config).to(machine.device)

    bert = transformers.BertForMaskedLM(transformers.BertConfig(**common)).to(machine.device)
    full = [_as_rows(batch, settings.batch_rows, length) for batch in batches]
    alone = [_one_document_per_row(batch, settings.batch_rows, length, roles) for batch in batches]
    padded, padded_useful = [one for one, _ in alone], [count for _, count in alone]
    low = machine.precision == torch.bfloat16
    return [
        _hf(
            "HF ModernBERT, compiled, sparse, full rows", modern(sparse=True), full, useful, machine, low, compiled=True
        ),
        _hf(
            "HF ModernBERT, compiled, sparse, padded",
            modern(sparse=True),
            padded,
            padded_useful,
            machine,
            low,
            compiled=True,
        ),
        _hf(
            "HF ModernBERT, eager, float32, padded",
            modern(sparse=False),
            padded,
            padded_useful,
            machine,
            False,
        ),
        _hf("HF BERT, eager, float32, padded", bert, padded, padded_useful, machine, False),
    ]


def _hf(
    name: str,
    model: torch.nn.Module,
    batches: list[dict[str, torch.Tensor]],
    useful: list[int],
    machine: mc.Machine,
    low: bool,
    *,
    compiled: bool = False,
) -> Peer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    forward = torch.compile(model) if compiled and machine.compile else model
    tensors = [{name: tensor.to(machine.device) for name, tensor in batch.items()} for batch in batches]

    def step(number: int) -> None:
        optimizer.zero_grad()
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=low):
            loss = forward(**tensors[number % len(tensors)]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return Peer(name=name, step=step, useful=useful)


def _as_rows(batch: Any, rows: int, length: int) -> dict[str, torch.Tensor]:
    """Packed rows as HF would get them: documents concatenated, attention across their borders."""
    labels = np.full(rows * length, -100, np.int64)
    labels[batch.target_places[: batch.num_targets]] = batch.target_ids[: batch.num_targets]
    ids = batch.input_ids.astype(np.int64)
    return {
        "input_ids": torch.from_numpy(ids.reshape(rows, length)),
        "labels": torch.from_numpy(labels.reshape(rows, length)),
    }


def _one_document_per_row(batch: Any, rows: int, length: int, roles: Any) -> tuple[dict[str, torch.Tensor], int]:
    """The batch's first documents, each in a row of its own, padded to the full length."""
    flat = _as_rows(batch, rows, length)
    ids, labels = flat["input_ids"].reshape(-1), flat["labels"].reshape(-1)
    borders = np.unique(batch.cu_seqlens)
    segments = [slice(a, b) for a, b in pairwise(borders.tolist()) if batch.input_ids[a] != roles.pad]
    segments = segments[:rows]
    shape = (len(segments), length)
    result = {
        "input_ids": torch.full(shape, roles.pad),
        "labels": torch.full(shape, -100),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
    }
    useful = 0
    for row, piece in enumerate(segments):
        size = piece.stop - piece.start
        result["input_ids"][row, :size] = ids[piece]
        result["labels"][row, :size] = labels[piece]
        result["attention_mask"][row, :size] = 1
        useful += size - roles.num_specials
    return result, useful


def gemm_peak(precision: torch.dtype, *, size: int = 2048, repeats: int = 10) -> float:
    """Operations per second of the fastest of some square products."""
    left, right = (torch.ones(size, size, dtype=precision) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "mkldnn"),
    "attention": ("aten::bmm", "aten::baddbmm", "aten::_softmax", "premask::attend"),
    "fused kernels": ("Call CompiledFxGraph",),
    "optimizer": ("_fused_adam", "_foreach", "linalg_vector_norm"),
}


def where_time_goes(step: Callable[[], None], *, steps: int = 3) -> dict[str, float]:
    """Shares of a step's processor time by kind of work."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            step()
    totals = dict.fromkeys((*GROUPS, "other"), 0.0)
    for event in recorded.key_averages():
        group = next((name for name, keys in GROUPS.items() if any(key in event.key for key in keys)), "other")
        totals[group] += event.self_cpu_time_total
    total = sum(totals.values())
    return {name: value / total for name, value in totals.items()}


def loader_wait(
    dataset: Dataset, settings: RunSettings, *, tokens_per_second: float = 1e6, seconds: float = 3.0
) -> float:
    """Share of time that a consumer of so many places per second waits for its batches."""
    places = settings.batch_rows * dataset.manifest.sequence_length
    waited = 0.0
    with Loader(dataset, planes=settings.planes, batch_rows=settings.batch_rows, prefetch=2) as loader:
        next(loader)  # starting the thread is not waiting
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            time.sleep(places / tokens_per_second)  # the consumer works
            start = time.perf_counter()
            next(loader)
            waited += time.perf_counter() - start
        return waited / (time.perf_counter() - begin)
