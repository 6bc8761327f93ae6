"""The folder of a run: its model, ready to use, and the weights that others begin with."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mlm_data.errors import CheckpointError
from mlm_data.loading.run_steps import newest_phase
from mlm_data.tokens.reference import Reference, from_roles
from trainer.config import ModelSettings, RunSettings
from trainer.kernels.norm import norms_for
from trainer.kernels.products import products_for
from trainer.model.attention import attention_kind, make_attention
from trainer.model.encoder import Encoder
from trainer.training import checkpoint as ck
from trainer.training import machine as mc
from trainer.training.machine import Machine
from trainer.training.record import TOKENIZER, RunRecord, read


def last_checkpoint(folder: Path, tokenizer: str) -> ck.Checkpoint:
    """The newest whole checkpoint of a run that another begins with.

    Raises:
        CheckpointError: if there is none, or it belongs to another tokenizer.
    """
    folder = newest_phase(folder)
    if read(folder).tokenizer != tokenizer:
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


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A run's model, ready to use."""

    folder: Path
    model: Encoder
    settings: RunSettings
    tokenizer: Reference
    record: RunRecord
    step: int
    notes: tuple[str, ...]  # what was wrong with newer checkpoints


def load(folder: Path, machine: Machine, *, rows: int | None = None, which: str = "newest") -> TrainedModel:
    """The model of a run's newest whole checkpoint, or another (`checkpoint.find`), for batches of `rows` rows.

    Raises:
        CheckpointError: if there is none, or its weights do not fit its settings or its tokenizer.
    """
    folder = newest_phase(folder)
    record = read(folder)
    settings = record.settings
    found, notes = ck.find(folder, which)
    tokenizer = load_tokenizer(folder, record)
    model = make_model(
        settings.model, record.vocab_size, record.sequence_length, machine, rows=rows or settings.batch_rows
    )
    load_weights(model, best_weights(found), where=folder)
    return TrainedModel(
        folder=folder,
        model=model,
        settings=settings,
        tokenizer=tokenizer,
        record=record,
        step=found.step,
        notes=tuple(notes),
    )


def open_run(folder: Path, *, rows: int | None = None, which: str = "newest") -> tuple[TrainedModel, Machine]:
    """A run's model on this machine, uncompiled, in the precision that it was trained in.

    Raises:
        CheckpointError: as `load`.
    """
    folder = newest_phase(folder)
    record = read(folder)
    anywhere = record.settings.model_copy(update={"compile": "off", "device": "auto", "precision": "auto"})
    machine = mc.choose(anywhere, precision=record.precision)
    return load(folder, machine, rows=rows, which=which), machine


def load_tokenizer(folder: Path, record: RunRecord) -> Reference:
    """The tokenizer that a run was trained with.

    Raises:
        CheckpointError: if it is missing or another one.
    """
    path = folder / TOKENIZER
    try:
        reference = from_roles(path.read_bytes(), record.roles, where=str(path))
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}: copy it from the dataset") from error
    if reference.sha256 != record.tokenizer:
        raise CheckpointError(
            f"{path}: is not the tokenizer that the model was trained with ({record.tokenizer[:16]}): "
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


def computed_with(model: Encoder) -> dict[str, str]:
    """What a model's steps call, by the part of the step; another one rounds otherwise. Goes into checkpoints."""
    return {
        "attention": type(model.attention).__name__,
        "norms": type(model.final_norm.norms).__name__,
        "products": type(model.products).__name__,
        "loss": model.loss_kernel.__module__,
    }


def changed_kernels(before: dict[str, str], now: dict[str, str]) -> str:
    """What is computed otherwise than before, in a few words; empty where nothing is, or nothing is known.

    >>> changed_kernels({"norms": "Own", "products": "Torch"}, {"norms": "Plain", "products": "Torch"})
    'norms was Own, now it is Plain'
    """
    pairs = [(part, before.get(part, now[part]), now[part]) for part in now]
    return ", ".join(f"{part} was {old}, now it is {new}" for part, old, new in pairs if old != new)
