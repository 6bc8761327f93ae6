"""Speed against peers, and where the time goes: ratios measured in one process, all peers taking turns.

Each round every peer does the same number of whole training steps (forward, backward, AdamW), one after the other, on
the same documents, with the same allocator, and right before each this trainer does, too. What counts is useful tokens
per second: places that are not [PAD], [CLS] or [SEP]. A ratio is the median over rounds of ratios to this trainer's
steps right before, so that a machine that is busy elsewhere slows both alike: a round of all peers takes a minute, and
what else runs changes within seconds.

The share of the peak is useful operations (products of places in segments, pairs that see each other, the head at
targets; three times the forward pass) by seconds, over the fastest square product that was measured before and after.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader
from mlm_data.stores.folder import Folder
from trainer.config import OptimizerSettings, RunSettings
from trainer.model.arithmetic import step_flops
from trainer.studies.peers import EAGER_LOW, LADDER, STEPS, Peer, make_peers
from trainer.training import machine as mc
from trainer.training import runs
from trainer.training.data import Tensors, shorten, usual_segments
from trainer.training.optim import Optimizer
from trainer.training.step import Forward, Stepper
from trainer.training.stream import AHEAD

WARM = 4  # steps before the first round: they compile


def bench(dataset: Dataset, settings: RunSettings, *, rounds: int, peers: Sequence[str] | None = ()) -> dict[str, Any]:
    """Everything `premask-train bench` prints, as plain types.

    Args:
        peers: which ones, as in `make_peers`; None: this trainer alone.

    Raises:
        ConfigError: if peers are asked for and can't be had.
    """
    machine = mc.choose(settings)
    mc.prepare(machine)
    waited = loader_wait(dataset, settings)  # first: nothing has mapped the files yet
    loader = Loader(dataset, planes=settings.planes, batch_rows=settings.batch_rows, seed=settings.seed)
    batches = [next(loader) for _ in range(STEPS * 3)]
    if machine.device.type == "cuda":
        segments = usual_segments(dataset, settings.batch_rows)
        batches = [shorten(batch, segments) for batch in batches]
    roles = dataset.manifest.roles
    special = [role for role in (roles.cls, roles.sep, roles.pad) if role >= 0]
    useful = [int((~np.isin(batch.input_ids, special)).sum()) for batch in batches]
    peak_before = mc.measured_peak(machine.precision, machine.device)
    ours = _ours(dataset, settings, machine, batches, useful)
    every = [ours]
    if peers is not None:
        every += make_peers(dataset, settings, machine, batches, useful, peers)
    for peer in every:
        for number in range(WARM):
            peer.step(number)
    for number in range(rounds):
        take_turns(every, number, lambda: _wait(machine))
    peak = max(peak_before, mc.measured_peak(machine.precision, machine.device))
    flops = [_flops(dataset, settings, batch) for batch in batches]
    shares = []
    for number in range(rounds):
        work = sum(flops[(number * STEPS + step) % len(flops)] for step in range(STEPS))
        shares.append(work / sum(ours.seconds[number]) / peak)
    return {
        "precision": str(machine.precision).removeprefix("torch."),
        "gemm_peak_gflops": peak / 1e9,
        "share_of_peak": statistics.median(shares),
        "peers": [_line(peer, settings.batch_rows * dataset.manifest.sequence_length) for peer in every],
        "waterfall": _waterfall({peer.name: peer for peer in every}, ours),
        "time": where_time_goes(lambda: ours.step(0), machine.device),
        "loader_wait": waited,
    }


def take_turns(every: Sequence[Peer], number: int, wait: Callable[[], None]) -> None:
    """One round: the first is this trainer, and does its steps before each of the others, too."""

    def seconds(peer: Peer) -> list[float]:
        found = []
        for step in range(STEPS):
            start = time.perf_counter()
            peer.step(number * STEPS + step)
            wait()
            found.append(time.perf_counter() - start)
        return found

    ours, *others = every
    for peer in others:
        peer.beside.append(seconds(ours))
        peer.seconds.append(seconds(peer))
    beside = [peer.beside[number] for peer in others] or [seconds(ours)]
    ours.seconds.append(sorted(beside, key=sum)[len(beside) // 2])
    ours.beside.append(ours.seconds[number])


def _line(peer: Peer, places: int) -> dict[str, Any]:
    rounds = range(len(peer.seconds))
    return {
        "name": peer.name,
        "useful_tokens_per_second": statistics.median(peer.rate(number) for number in rounds),
        "useful_share": statistics.mean(peer.useful) / places,
        "best": max(peer.rate(number) for number in rounds),
        "ours_is_faster_by": statistics.median(peer.lead(number) for number in rounds),
    }


def _waterfall(peers: dict[str, Peer], ours: Peer) -> list[dict[str, Any]]:
    """What each change alone brings, from HF as people use it to this trainer: the median ratio to the line before.

    Nothing if a peer is missing, but for the one that only some machines have.
    """
    if any(name not in peers for _, name in LADDER if name != EAGER_LOW):
        return []
    lines = []
    ladder = [(what, peers[name]) for what, name in LADDER if name in peers]
    ladder.append(("this trainer: its kernels, loss, last layer", ours))
    for (_, before), (what, peer) in pairwise(ladder):
        rounds = range(len(ours.seconds))
        ratios = [before.lead(number) / peer.lead(number) for number in rounds]
        lines.append({"what": what, "factor": statistics.median(ratios)})
    return lines


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

    return Peer(name="premask", step=step, useful=useful, ours=useful)


def _flops(dataset: Dataset, settings: RunSettings, batch: Any) -> float:
    """Useful operations of a step on this batch: its segments without padding."""
    borders = np.unique(batch.cu_seqlens)
    starts = borders[:-1]
    real = batch.input_ids[starts] != dataset.manifest.roles.pad
    lengths = np.diff(borders)[real].tolist()
    shape = {"vocab_size": dataset.manifest.vocab_size, "targets": batch.num_targets}
    return sum(step_flops(settings.model, lengths=lengths, **shape).values())


GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "mkldnn", "premask::product", "premask::multiply", "premask::gated"),
    "attention": ("aten::bmm", "aten::baddbmm", "aten::_softmax", "premask::attend"),
    "fused kernels": ("Call CompiledFxGraph", "premask::norm", "premask::geglu"),
    "optimizer": ("_fused_adam", "_foreach", "linalg_vector_norm"),
}
GPU_GROUPS = {  # by names of kernels
    "matrix products": ("nvjet", "gemm", "cublas", "cutlass_80", "splitK"),
    "attention": ("flash", "fmha"),
    "loss": ("softmax_gradient_kernel",),
    "fused kernels": ("triton_",),
    "optimizer": ("multi_tensor_apply",),
}


def where_time_goes(step: Callable[[], None], device: torch.device, *, steps: int = 3) -> dict[str, float]:
    """Shares by kind of work: of a step's processor time, on a GPU of the time that its kernels take."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            step()
    groups = GPU_GROUPS if on_gpu else GROUPS
    totals = dict.fromkeys((*groups, "other"), 0.0)
    for event in recorded.key_averages():
        group = next((name for name, keys in groups.items() if any(key in event.key for key in keys)), "other")
        if on_gpu:  # ranges that torch marks, such as an optimizer's step, hold kernels that are counted already
            totals[group] += event.self_device_time_total * (not event.is_user_annotation)
        else:
            totals[group] += event.self_cpu_time_total
    total = sum(totals.values())
    return {name: value / total for name, value in totals.items()}


def forget_pages(folder: Folder) -> int:
    """Ask the kernel to drop a local dataset's rows and masks from its page cache; how many files that were.

    Pages that a process has mapped stay: call it before a loader opens them.
    """
    if not folder.is_local or not hasattr(os, "posix_fadvise"):
        return 0
    paths = [folder.path(f"{kind}/{name}") for kind in ("rows", "masks") for name in folder.names(kind)]
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # what is not on disk yet can't be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return len(paths)


def loader_wait(
    dataset: Dataset, settings: RunSettings, *, tokens_per_second: float = 1e6, seconds: float = 10.0
) -> float:
    """Share of time that a consumer of so many places per second waits for its batches, from a cold page cache.

    The consumer keeps a core busy with products, as a trainer does: a sleeping one would also wait for a cold core.
    """
    places = settings.batch_rows * dataset.manifest.sequence_length
    work = torch.ones(128, 128)
    waited = 0.0
    forget_pages(dataset.folder)
    with Loader(dataset, planes=settings.planes, batch_rows=settings.batch_rows, prefetch=AHEAD) as loader:
        next(loader)  # starting the thread is not waiting
        begin = now = time.perf_counter()
        while now - begin < seconds:
            done = now + places / tokens_per_second
            while time.perf_counter() < done:
                torch.mm(work, work)
            start = time.perf_counter()
            next(loader)
            now = time.perf_counter()
            waited += now - start
        return waited / (now - begin)
