"""Checkpoints: safetensors and JSON, written aside and renamed, checked when read. No pickle, ever.

    RUN/checkpoints/step-00000200/
      model.safetensors      weights, float32
      optimizer.safetensors  Adam's moments and step counts, Muon's momentum
      state.json             step, the stream's state, settings, counters, RNG, kernels; SHA-256 of the two files above

A checkpoint is a folder that appears whole: its files are written and flushed into `.tmp-...` beside it, which is
then renamed. `latest` gives the newest one that is whole; a damaged one is passed over and named.
"""

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from mlm_data.errors import CheckpointError
from mlm_data.stores.folder import TEMPORARY, explain

FORMAT = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint in memory."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / "checkpoints" / f"step-{step:08d}"


def save(run: Path, checkpoint: Checkpoint) -> Path:
    """Make the checkpoint appear, whole or not at all.

    Raises:
        StorageError: if the disk is full or may not be written; no trace is left.
    """
    final = folder_of(run, checkpoint.step)
    temporary = final.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        hashes = {}
        for name, tensors in ((MODEL, checkpoint.model), (OPTIMIZER, checkpoint.optimizer)):
            data = safetensors.torch.save({key: value.detach().contiguous() for key, value in tensors.items()})
            hashes[name] = hashlib.sha256(data).hexdigest()
            _write(temporary / name, data)
        state = {"format": FORMAT, "step": checkpoint.step, "sha256": hashes} | checkpoint.state
        _write(temporary / STATE, json.dumps(state, indent=1, allow_nan=False).encode())
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        _flush(final.parent)
    except OSError as error:
        raise explain(error, str(final), "write the checkpoint") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


class Saver:
    """Saves checkpoints in another thread: training goes on while the disk is written.

    `save` copies the tensors first. What went wrong is raised by the next `save`, or by `wait`.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, run: Path, checkpoint: Checkpoint, *, keep: int, best: int | None) -> None:
        """Hand over a checkpoint; old ones are removed when it is written."""
        self.wait()
        copied = Checkpoint(
            step=checkpoint.step,
            model=_copies(checkpoint.model),
            optimizer=_copies(checkpoint.optimizer),
            state=json.loads(json.dumps(checkpoint.state, allow_nan=False)),
        )
        self._thread = threading.Thread(target=self._write, args=(run, copied, keep, best), name="premask-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the last checkpoint is written.

        Raises:
            StorageError: if it could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, run: Path, checkpoint: Checkpoint, keep: int, best: int | None) -> None:
        try:
            save(run, checkpoint)
            prune(run, keep=keep, best=best)
        except BaseException as error:  # raised by `wait`, in the thread that can act on it
            self._error = error


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def steps(run: Path) -> list[int]:
    """Steps of the checkpoints that are there, whole or not, ascending."""
    folder = run / "checkpoints"
    names = [entry.name.partition("step-") for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(number) for before, _, number in names if not before and number.isdecimal())


def load(run: Path, step: int) -> Checkpoint:
    """Read one checkpoint and check its bytes.

    Raises:
        CheckpointError: if a file is missing, short or changed, or of a newer format.
    """
    folder = folder_of(run, step)
    try:
        state = json.loads((folder / STATE).read_bytes())
        if state["format"] > FORMAT:
            raise CheckpointError(
                f"{folder}: format {state['format']} is newer than this premask knows: upgrade premask"
            )
        tensors = []
        for name in (MODEL, OPTIMIZER):
            data = (folder / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != state["sha256"][name]:
                raise CheckpointError(f"{folder / name}: damaged: its bytes are not those that were written")
            tensors.append(safetensors.torch.load(data))
    except OSError as error:
        raise CheckpointError(f"{folder}: damaged: {error.filename or ''} {error.strerror}") from error
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{folder}: damaged: {error}") from error
    return Checkpoint(step=state["step"], model=tensors[0], optimizer=tensors[1], state=state)


def latest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and one line for each newer one that is damaged.

    Raises:
        CheckpointError: if there are checkpoints and none is whole.
    """
    notes: list[str] = []
    for step in reversed(steps(run)):
        try:
            checkpoint = load(run, step)
        except CheckpointError as error:
            notes.append(f"{error}: the checkpoint before it is used")
        else:
            return checkpoint, notes
    if notes:
        raise CheckpointError(f"{run}: no checkpoint is whole; the newest: {notes[0].rsplit(': ', 1)[0]}: start anew")
    return None, notes


def find(run: Path, which: str = "newest") -> tuple[Checkpoint, list[str]]:
    """One checkpoint: the newest whole one, the `best` by validation loss, or that of a step; and notes, as `latest`.

    Raises:
        CheckpointError: if it is not there, or damaged.
    """
    there = steps(run)
    if not there:
        raise CheckpointError(f"{run}: no checkpoint yet: let it train for a while")
    found, notes = latest(run)
    assert found is not None, "there are checkpoints, and `latest` raises where none is whole"
    if which == "newest":
        return found, notes
    best: Any = (found.state.get("run") or {}).get("best")
    if which == "best" and best is None:
        raise CheckpointError(f"{run}: no validation yet, so no best checkpoint: use the newest")
    wanted = best["step"] if which == "best" else int(which) if which.isdecimal() else None
    if wanted not in there:
        raise CheckpointError(
            f"{run}: no checkpoint {which!r}: newest, best, or a step of {', '.join(map(str, there))}"
        )
    return load(run, wanted), []


def prune(run: Path, *, keep: int, best: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, and what crashes left behind."""
    found = steps(run)
    for step in found[: max(0, len(found) - keep)]:
        if step != best:
            shutil.rmtree(folder_of(run, step), ignore_errors=True)
    for leftover in (run / "checkpoints").glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a small JSON file at once, whole or not at all."""
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, json.dumps(value, indent=1, allow_nan=False).encode())
        os.replace(temporary, path)
    except OSError as error:
        raise explain(error, str(path), "write") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON file.

    Raises:
        CheckpointError: if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: no training run: {path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: can't be read: {error}") from error


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
