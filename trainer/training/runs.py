"""The folder of a run: what is written at its beginning, checked when it goes on, and read to use its model."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import CheckpointError, StorageError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from mlm_data.tokens.reference import ROLES, Reference, from_roles
from trainer.config import ModelSettings, RunSettings
from trainer.kernels.norm import norms_for
from trainer.kernels.products import products_for
from trainer.model.attention import attention_kind, make_attention
from trainer.model.encoder import Encoder
from trainer.training import checkpoint as ck
from trainer.training.data import pinned
from trainer.training.machine import Machine

FORMAT = 1
FACTS, TOKENIZER = "run.json", "tokenizer.json"
FIXED = ("model", "optimizer", "schedule", "budget", "planes", "seed", "mix", "ema")


def begin(folder: Path, settings: RunSettings, dataset: Dataset, *, world: int = 1) -> dict[str, Any]:
    """The facts of a run: those of run.json where there is one, checked; fresh ones otherwise. Writes nothing.

    Raises:
        StorageError: if the folder holds something else.
        CheckpointError: if the run was begun with another dataset or with other settings.
    """
    fresh = {
        "format": FORMAT,
        "settings": settings.model_dump(mode="json"),
        "dataset": dataset.digest,
        "tokenizer": dataset.manifest.tokenizer["sha256"],
        "vocab_size": dataset.manifest.vocab_size,
        "roles": {role: getattr(dataset.manifest.roles, role) for role in ROLES},
        "sequence_length": dataset.manifest.sequence_length,
        "precision": None,  # measured at the beginning, then kept
        "rows_per_step": [settings.rows_at(step) * world for step in sorted(_ramp(settings))],
        "ramp": sorted(_ramp(settings)),
        "horizon": None,  # total steps and first step of the decay
        "versions": {name: version(name) for name in ("premask", "torch")},
    }
    if not (folder / FACTS).exists():
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise StorageError(f"{folder}: holds something that is no training run: choose an empty folder")
        return fresh
    facts = read(folder)
    if "imported" in facts:  # its shape is that of the imported model, whatever the recipe
        fresh["settings"]["model"] = facts["settings"]["model"]
    if facts["dataset"] is None:
        return _adopt(folder, facts, fresh)
    if facts["dataset"] != dataset.digest:
        facts = _take(folder, facts, fresh)
    if settings.mix and facts["settings"]["batch_rows"] != settings.batch_rows:
        raise CheckpointError(
            f"{folder}: batch_rows was {facts['settings']['batch_rows']}, now it is {settings.batch_rows}, and a "
            "mixture is dealt out by it: leave it as it was, and change accumulate"
        )
    for name in FIXED:
        before, now = facts["settings"][name], fresh["settings"][name]
        if before != now:
            raise CheckpointError(
                f"{folder}: {name} was {before}, now it is {now}: leave it as it was, or choose another out"
            )
    for name in ("rows_per_step", "ramp"):  # other ranks and micro-batches may share them out in another way
        if facts[name] != fresh[name]:
            raise CheckpointError(
                f"{folder}: rows per step (ranks x batch_rows x accumulate) were {facts['rows_per_step']}, "
                f"now they are {fresh['rows_per_step']}: change batch_rows or accumulate, or choose another out"
            )
    return facts


def _take(folder: Path, facts: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run that goes on with another dataset, from its beginning, if the settings say so."""
    old, new, data = facts["dataset"], fresh["dataset"], facts["settings"]["data"]
    if fresh["settings"]["changed_data"] != "take":
        raise CheckpointError(
            f"{folder}: was trained on dataset {old[:16]}, this is {new[:16]}: go on with the old one "
            f"(--data {pinned(data, old)}), with this one from its beginning (--set changed_data=take), or begin a "
            f"phase of its own (--set start={folder} --out ANOTHER)"
        )
    for name in ("tokenizer", "sequence_length"):
        if facts[name] != fresh[name]:
            raise CheckpointError(
                f"{folder}: the changed dataset has another {name.replace('_', ' ')}: begin a phase of its own "
                f"(--set start={folder} --out ANOTHER)"
            )
    former = [*facts.get("former", []), {"data": data, "dataset": old, "until": None}]  # known when it is resumed
    settings = facts["settings"] | {"data": fresh["settings"]["data"]}
    return facts | {"dataset": new, "settings": settings, "former": former}


def with_import(settings: RunSettings) -> RunSettings:
    """A run in phases whose folder holds an imported model begins with that, in its shape.

    Raises:
        StorageError: if the folder holds a run without phases.
    """
    folder = Path(settings.out)
    if not settings.phases or not (folder / FACTS).exists():
        return settings
    facts = read(folder)
    if "imported" not in facts or facts["dataset"] is not None:
        raise StorageError(
            f"{folder}: holds a run without phases: choose another out, and begin with its weights (start: {folder})"
        )
    start = settings.start or str(folder)
    return settings.model_copy(update={"start": start, "model": shape_of(folder, facts)})


def _ramp(settings: RunSettings) -> list[int]:
    """Steps at which the number of micro-batches changes."""
    return list(settings.accumulate) if isinstance(settings.accumulate, dict) else [0]


def newest(folder: Path) -> Path:
    """The folder itself, or that of its newest phase."""
    phases = [path for path in folder.glob("phase-*") if ck.steps(path)]
    return max(phases, key=lambda path: int(path.name.removeprefix("phase-")), default=folder)


def last_checkpoint(folder: Path, tokenizer: str) -> ck.Checkpoint:
    """The newest whole checkpoint of a run that another begins with.

    Raises:
        CheckpointError: if there is none, or it belongs to another tokenizer.
    """
    folder = newest(folder)
    facts = read(folder)
    if facts["tokenizer"] != tokenizer:
        raise CheckpointError(
            f"{folder}: was trained with another tokenizer: build the dataset with {folder / TOKENIZER}"
        )
    found, _ = ck.latest(folder)
    if found is None:
        raise CheckpointError(f"{folder}: no checkpoint yet: let it train for a while")
    return found


def best_weights(checkpoint: ck.Checkpoint) -> dict[str, Tensor]:
    """The weights to use: their moving average where the run has one."""
    averages = {key: value for key, value in checkpoint.optimizer.items() if key.startswith("ema/")}
    return {key.removeprefix("ema/"): value for key, value in averages.items()} or checkpoint.model


def load_weights(model: Encoder, weights: dict[str, Tensor], *, where: Path) -> None:
    """Put weights into a model.

    Raises:
        CheckpointError: if they are another model's.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{where}: the weights do not fit the model: {str(error).splitlines()[-1]}") from error


def _adopt(folder: Path, imported: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """The facts of an imported model's first training."""
    if fresh["tokenizer"] != imported["tokenizer"]:
        raise CheckpointError(
            f"{folder}: the imported model has another tokenizer than the dataset: "
            f"build the dataset with {folder / TOKENIZER}"
        )
    return fresh | {name: imported[name] for name in ("imported", "positions")}


def read(folder: Path) -> dict[str, Any]:
    """run.json of a run.

    Raises:
        CheckpointError: if there is none, or it is damaged or newer than this premask.
    """
    facts = ck.read_json(folder / FACTS)
    if facts.get("format", 0) > FORMAT:
        raise CheckpointError(f"{folder}: format {facts['format']} is newer than this premask knows: upgrade premask")
    return facts


def write(folder: Path, facts: dict[str, Any], tokenizer: bytes | None = None) -> None:
    """Write run.json, and the tokenizer at the beginning."""
    if tokenizer is not None:
        Folder(folder).write(TOKENIZER, tokenizer)
    ck.write_json(folder / FACTS, facts)


def shape_of(folder: Path, facts: dict[str, Any]) -> ModelSettings:
    """The encoder's shape in a run."""
    return parse_settings(ModelSettings, facts["settings"]["model"], where=str(folder / FACTS))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run's model, ready to use."""

    folder: Path
    model: Encoder
    settings: RunSettings
    tokenizer: Reference
    facts: dict[str, Any]
    step: int
    notes: tuple[str, ...]  # what was wrong with newer checkpoints


def load(folder: Path, machine: Machine, *, rows: int | None = None, which: str = "newest") -> Trained:
    """The model of a run's newest whole checkpoint, or another (`checkpoint.find`), for batches of `rows` rows.

    Raises:
        CheckpointError: if there is none, or its weights do not fit its settings or its tokenizer.
    """
    folder = newest(folder)
    facts = read(folder)
    settings = parse_settings(RunSettings, facts["settings"], where=str(folder / FACTS))
    found, notes = ck.find(folder, which)
    tokenizer = load_tokenizer(folder, facts)
    model = make_model(
        settings.model, facts["vocab_size"], facts["sequence_length"], machine, rows=rows or settings.batch_rows
    )
    load_weights(model, best_weights(found), where=folder)
    return Trained(
        folder=folder,
        model=model,
        settings=settings,
        tokenizer=tokenizer,
        facts=facts,
        step=found.step,
        notes=tuple(notes),
    )


def load_tokenizer(folder: Path, facts: dict[str, Any]) -> Reference:
    """The tokenizer that a run was trained with.

    Raises:
        CheckpointError: if it is missing or another one.
    """
    path = folder / TOKENIZER
    try:
        reference = from_roles(path.read_bytes(), facts.get("roles", {}), where=str(path))
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}: copy it from the dataset") from error
    if reference.sha256 != facts["tokenizer"]:
        raise CheckpointError(
            f"{path}: is not the tokenizer that the model was trained with ({facts['tokenizer'][:16]}): "
            "copy that one from the dataset's tokenizer folder"
        )
    return reference


def make_model(shape: ModelSettings, vocab_size: int, length: int, machine: Machine, *, rows: int) -> Encoder:
    """An encoder on the machine's device for batches of `rows` x `length`, its weights not yet drawn."""
    kind = attention_kind(machine.device, machine.precision)
    attention = make_attention(kind, rows=rows, length=length, window=shape.window)
    with torch.device(machine.device):
        return Encoder(
            shape,
            vocab_size,
            length=length,
            attention=attention,
            compute=machine.precision,
            products=products_for(machine.device, machine.precision),
            norms=norms_for(machine.device, machine.precision),
        )
