"""Which rows of the stream a step of a training run has read, from the run's record alone.

A run writes `run.json`: its settings, the digest of its dataset, and how many rows a step of all ranks takes. The order
of rows follows from these, so a step's documents are found without the trainer, and without its weights.

    step s of all ranks     rows [first, first + count) of the stream; `count` may grow with the steps (`ramp`)
    micro-batch m, rank r   B of them from first + (m * world + r) * B on
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.tombstones import check_not_purged
from mlm_data.errors import CheckpointError, ConfigError
from mlm_data.loading.checks import check_planes, check_split
from mlm_data.loading.order import WINDOW, RowOrder
from mlm_data.loading.origins import documents_between
from mlm_data.shards.format import TRAIN
from mlm_data.stores.copies import through_cache

RECORD = "run.json"
FORMAT = 1
MOST_STEPS = 10**9  # of a run, as far as rows are counted: times a step's rows they fit 64 bits


@dataclass(frozen=True, kw_only=True)
class RunSteps:
    """What a run's record says of its stream."""

    folder: Path
    dataset: str  # digest
    batch_rows: int
    seed: int
    planes: tuple[int, ...] | None
    ramp: tuple[int, ...]  # steps done, from which on a step takes so many rows
    rows_per_step: tuple[int, ...]  # of all ranks
    world: int
    steps: int | None  # of the newest checkpoint; None where there is none

    def rows_of_step(self, step: int) -> tuple[int, int]:
        """First row of the stream and number of rows of step 1, 2, ..., of all ranks."""
        return rows_of_step(self.ramp, self.rows_per_step, step)

    def step_of_row(self, row: int) -> int:
        """The step that reads a row of the stream."""
        first = 0
        for begin, end, rows in _spans(self.ramp, self.rows_per_step):
            if end is None or row < first + (end - begin) * rows:
                return begin + (row - first) // rows + 1
            first += (end - begin) * rows
        raise AssertionError("the last span has no end")


def rows_of_step(ramp: Sequence[int], rows_per_step: Sequence[int], step: int) -> tuple[int, int]:
    """First row of the stream and number of rows of step 1, 2, ..., of all ranks.

    Args:
        ramp: steps done, from which on a step takes so many rows; the first is 0.
        rows_per_step: of all ranks.
        step: counted from 1.
    """
    first = 0
    for begin, end, rows in _spans(ramp, rows_per_step):
        if end is None or step <= end:
            return first + (step - 1 - begin) * rows, rows
        first += (end - begin) * rows
    raise AssertionError("the last span has no end")


def _spans(ramp: Sequence[int], rows_per_step: Sequence[int]) -> list[tuple[int, int | None, int]]:
    """(steps done before, steps done at its end, rows of each) wherever the rows of a step stay the same."""
    return list(zip(ramp, [*ramp[1:], None], rows_per_step, strict=True))


def read_run(folder: str | Path) -> RunSteps:
    """The record of a run, or of its newest phase.

    Raises:
        CheckpointError: if there is none, or it is damaged or newer than this premask.
        ConfigError: if its steps can't be told from the record alone: a mixture, or a dataset that was changed.
    """
    folder = newest_phase(Path(folder))
    path = folder / RECORD
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}: name the folder of a run") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > FORMAT:
        raise CheckpointError(f"{path}: format {value['format']} is newer than this premask knows: upgrade premask")
    try:
        return _steps(folder, value)
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, IndexError) as error:
        raise CheckpointError(f"{path}: damaged: {type(error).__name__}: {error}") from error


def _steps(folder: Path, value: dict[str, Any]) -> RunSteps:
    settings = value["settings"]
    if value["dataset"] is None:
        raise ConfigError(f"{folder}: an imported model has no steps yet: train it")
    if settings.get("mix") or value.get("former"):
        what = "mixes several datasets" if settings.get("mix") else "went on with another dataset"
        raise ConfigError(f"{folder}: the run {what}: ask premask-train which-docs {folder} STEP")
    accumulate = settings["accumulate"]
    micro_batches = accumulate if isinstance(accumulate, int) else accumulate[str(value["ramp"][0])]
    if len(value["ramp"]) != len(value["rows_per_step"]):
        raise ValueError("not one number of rows for each step of the ramp")
    ramp = tuple(_number(step) for step in value["ramp"])
    if ramp[0] != 0 or sorted(set(ramp)) != list(ramp):
        raise ValueError(f"a ramp that is not 0 and rising: {ramp}")
    rows_per_step = tuple(_number(rows, least=1) for rows in value["rows_per_step"])
    batch_rows, planes = _number(settings["batch_rows"], least=1), settings["planes"]
    world, left = divmod(rows_per_step[0], batch_rows * _number(micro_batches, least=1))
    if world < 1 or left:
        raise ValueError(f"{rows_per_step[0]} rows a step are no number of micro-batches of {batch_rows}")
    return RunSteps(
        folder=folder,
        dataset=str(value["dataset"]),
        batch_rows=batch_rows,
        seed=_number(settings["seed"], bits=63),
        planes=None if planes is None else tuple(_number(plane) for plane in planes),
        ramp=ramp,
        rows_per_step=rows_per_step,
        world=world,
        steps=max(_checkpoints(folder), default=None),
    )


def _number(value: Any, *, least: int = 0, bits: int = 31) -> int:
    if type(value) is not int or not least <= value < 1 << bits:
        raise ValueError(f"{value!r} is no whole number of at least {least}")
    return value


def documents_of_step(dataset: Dataset, run: RunSteps, step: int, *, rank: int | None = None) -> pa.Table:
    """Which documents were in step 1, 2, ... of a run; columns as of `Loader.documents_between`.

    Args:
        dataset: the version that the run has read.
        run: its record.
        step: counted from 1.
        rank: the rows of this rank alone; all ranks' by default.

    Raises:
        ConfigError: for a step or a rank that can't be, or another dataset.
    """
    check_run(dataset, run)
    check_step(step)
    if rank is not None and not 0 <= rank < run.world:
        raise ConfigError(f"rank must be 0 to {run.world - 1}, got {rank}")
    first, count = run.rows_of_step(step)
    dataset = dataset.read_by(through_cache(dataset.folder))
    check_split(dataset, TRAIN)
    planes, order = _planes(dataset, run), _order(dataset, run)
    if rank is None:
        return documents_between(dataset, TRAIN, planes, order, first, count)
    size = run.batch_rows
    begins = range(first + rank * size, first + count, run.world * size)
    tables = [documents_between(dataset, TRAIN, planes, order, begin, size) for begin in begins]
    return pa.concat_tables(tables, promote_options="permissive")


def check_step(step: int) -> None:
    """Make sure that a run may have such a step.

    Raises:
        ConfigError: if not.
    """
    if step < 1:
        raise ConfigError(f"steps are counted from 1, got {step}")
    if step > MOST_STEPS:
        raise ConfigError(f"no run has a step {step:,}: at most {MOST_STEPS:,} are counted")


def steps_of_rows(dataset: Dataset, run: RunSteps, shard: int, rows: Sequence[int]) -> list[list[tuple[int, str]]]:
    """Step and plane of each time that the run has read each of some training rows, up to its newest checkpoint.

    Raises:
        ConfigError: if the run has read another dataset.
    """
    check_run(dataset, run)
    planes, order = _planes(dataset, run), _order(dataset, run)
    end = sum(run.rows_of_step(run.steps)) if run.steps else 0
    found: list[list[tuple[int, str]]] = [[] for _ in rows]
    for epoch in range(-(-end // order.num_rows)):
        places = order.find(epoch, shard, np.array(rows, np.int64))
        for seen, place in zip(found, places.tolist(), strict=True):
            if place < end:
                seen.append((run.step_of_row(place), planes[epoch % len(planes)]))
    return found


def _planes(dataset: Dataset, run: RunSteps) -> list[str]:
    planes = dataset.planes(TRAIN) if run.planes is None else [str(plane) for plane in run.planes]
    check_planes(dataset, TRAIN, planes)
    return planes


def _order(dataset: Dataset, run: RunSteps) -> RowOrder:
    return RowOrder(dataset.shard_rows(TRAIN), seed=run.seed, window=WINDOW, compiled=False)


def check_run(dataset: Dataset, run: RunSteps) -> None:
    """Make sure that a run has read this version.

    Raises:
        ConfigError: if it has read another.
    """
    if dataset.digest != run.dataset:
        check_not_purged(dataset.folder, run.dataset)
        raise ConfigError(
            f"{run.folder}: has read version {run.dataset[:16]}, this is {dataset.digest[:16]}: "
            f"name {dataset.folder.location}@{run.dataset[:16]}"
        )


def newest_phase(folder: Path) -> Path:
    """The folder itself, or that of its newest phase."""
    numbers = {path: path.name.removeprefix("phase-") for path in folder.glob("phase-*")}
    phases = {path: int(number) for path, number in numbers.items() if number.isdecimal() and _checkpoints(path)}
    return max(phases, key=phases.__getitem__, default=folder)


def _checkpoints(folder: Path) -> list[int]:
    """Steps of a run's checkpoints."""
    names = (path.name.removeprefix("step-") for path in (folder / "checkpoints").glob("step-*"))
    return [int(name) for name in names if name.isdecimal()]
