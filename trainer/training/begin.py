"""What a run has before its next step, whether it begins or goes on: one typed result, made in this order.

    dataset -> record (agree.py) -> machine -> model -> newest checkpoint -> weights -> optimizer -> stream -> stepper

First weights are drawn, or imported, or those at the end of another run (`start`), which comes with the state of its
optimizer. A run that goes on takes everything from its newest whole checkpoint. Nothing is written before all of it has
been checked; then run.json and the tokenizer are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mlm_data.dataset.dataset import Dataset
from trainer.config import RunSettings
from trainer.model.encoder import PADDED_BIAS, Encoder
from trainer.training import checkpoint as ck
from trainer.training import graphs, runs
from trainer.training import machine as mc
from trainer.training import parallel as pl
from trainer.training.agree import agree
from trainer.training.counts import unigram_counts
from trainer.training.datasets import check_fit, open_dataset
from trainer.training.optim import Average, Optimizer
from trainer.training.record import RunRecord, write
from trainer.training.step import Forward, Stepper
from trainer.training.stream import Stream

SCRATCH_LR = 3e-4  # AdamW's: above it an imported model forgets faster than it learns; Muon's rates always are


@dataclass(kw_only=True)
class State:
    """What changes from step to step besides weights and optimizer; goes into checkpoints as JSON."""

    step: int = 0
    skipped: list[int] = field(default_factory=list)
    seconds: float = 0.0  # of training, without compilation
    validation: dict[str, Any] | None = None  # the last one: step and sums
    best: dict[str, Any] | None = None  # step and loss of the best validation


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run before its next step."""

    folder: Path
    dataset: Dataset
    record: RunRecord
    machine: mc.Machine
    model: Encoder
    forward: nn.Module  # model and loss, wrapped for several ranks
    optimizer: Optimizer
    average: Average | None  # of the weights, where the settings ask for one
    stream: Stream
    stepper: Stepper
    state: State
    saved: int | None  # step of the newest checkpoint, the same on all ranks; None where there is none


def begin(settings: RunSettings, parallel: pl.Parallel, *, say: Callable[[str], None], followed: bool = False) -> Begun:
    """Begin a run, or take it up where its newest whole checkpoint is.

    Args:
        say: gets a line for each thing that a person should know.
        followed: another phase has begun with this one's weights.

    Raises:
        PremaskError: for anything a user can mend; nothing is written then.
    """
    folder, dataset = Path(settings.out), open_dataset(settings.data)
    check_fit(dataset, settings, world=parallel.world)
    record = agree(folder, settings, dataset, world=parallel.world, followed=followed)
    parallel.wait()  # until all have looked, before one writes
    machine = mc.choose(settings, precision=record.precision, parallel=parallel)
    graphs.check(settings, machine.device, parallel.world)
    for note in machine.notes:
        say(note)
    mc.prepare(machine)
    shape = (record.settings.model, record.vocab_size, record.sequence_length)
    model = runs.make_model(*shape, machine, rows=settings.batch_rows)
    model.recompute = settings.recompute
    found, notes = ck.latest(folder)
    for note in notes:
        say(note)
    resumed = found if found is not None and "loader" in found.state else None  # an imported model has no step yet
    source = resumed or _first_weights(model, settings, record, dataset, found, machine, say)
    if resumed is not None:
        runs.load_weights(model, resumed.model, where=folder)
    if machine.compile:
        mc.compile_parts(model)
    forward = pl.wrap(Forward(model), model.blocks, parallel)
    optimizer = Optimizer(model, settings.optimizer, parallel)
    average = Average(optimizer.parameters, settings.ema, optimizer) if settings.ema else None
    if source is not None and "run" in source.state:
        optimizer.load_state(source.optimizer)
        if average:
            average.load_state(source.optimizer)
    state = State()
    if resumed is not None:
        state = State(**resumed.state["run"])
        torch.set_rng_state(torch.tensor(resumed.state["rng"], dtype=torch.uint8))
        say(f"resumed from step {resumed.step}")
        if changed := runs.changed_kernels(resumed.state.get("kernels", {}), runs.computed_with(model)):
            say(f"from here on not bit for bit what it would have been: {changed}")
    record, place = _place(record, resumed, dataset, say)
    stream = Stream(dataset, settings, state=place, parallel=parallel, short=machine.device.type == "cuda")
    precision = str(machine.precision).removeprefix("torch.")
    record = record.model_copy(update={"precision": precision, "mix": tuple(stream.digests[1:])})
    if parallel.leads:
        write(folder, record, dataset.tokenizer())
    kind = graphs.GraphStepper if settings.cuda_graphs else Stepper
    return Begun(
        folder=folder,
        dataset=dataset,
        record=record,
        machine=machine,
        model=model,
        forward=forward,
        optimizer=optimizer,
        average=average,
        stream=stream,
        stepper=kind(forward, optimizer, table_rows=settings.log_every, parallel=parallel),
        state=state,
        saved=None if resumed is None else resumed.step,
    )


def _first_weights(
    model: Encoder,
    settings: RunSettings,
    record: RunRecord,
    dataset: Dataset,
    imported: ck.Checkpoint | None,
    machine: mc.Machine,
    say: Callable[[str], None],
) -> ck.Checkpoint | None:
    """Put the first weights into the model; returns the checkpoint that they came from, where there is one."""
    if imported is not None:
        say(f"starting from the imported weights of {record.imported}")
        if settings.optimizer.kind == "muon" or settings.optimizer.lr > SCRATCH_LR:
            say(
                "these learning rates are for training from scratch: the imported model will forget much of what it "
                "knows; --recipe adapt has gentle ones"
            )
        found = imported
    elif settings.start is not None:
        found = runs.last_checkpoint(Path(settings.start), record.tokenizer)
        say(f"starting from {settings.start}, step {found.step}")
    else:
        _draw_weights(model, dataset, torch.Generator(machine.device).manual_seed(settings.seed))
        return None
    runs.load_weights(model, found.model, where=Path(settings.out))
    return found


def _draw_weights(model: Encoder, dataset: Dataset, generator: torch.Generator) -> None:
    """Draw the weights; the output bias starts as the logarithm of the unigram frequencies."""
    model.initialize(generator)
    counts = unigram_counts(dataset) + 1.0
    bias = torch.full_like(model.decoder_bias, PADDED_BIAS)
    bias[: counts.size] = torch.from_numpy(np.log(counts / counts.sum())).to(bias)
    with torch.no_grad():
        model.decoder_bias.copy_(bias)


def _place(
    record: RunRecord, resumed: ck.Checkpoint | None, dataset: Dataset, say: Callable[[str], None]
) -> tuple[RunRecord, list[dict[str, Any]] | None]:
    """Where the stream goes on; None: at its beginning, as also where another dataset has taken the old one's place."""
    place = resumed.state["loader"] if resumed is not None else None
    if not record.former or (place is not None and place[0]["digest"] == dataset.digest):
        return record, place
    done = resumed.step if resumed is not None else 0
    *earlier, last = record.former
    say(f"from step {done + 1} on with dataset {dataset.digest[:16]}, from its beginning")
    former = (*earlier, last.model_copy(update={"until": done}))
    return record.model_copy(update={"former": former}), None
