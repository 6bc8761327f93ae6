"""run.json: what a run is, as one typed record. Written at the beginning, and whenever the number of steps is decided.

Everything that is not in a checkpoint and that a later start must know stands here: with what the run was begun, and
what was found out then (the precision that is the faster on its machine, how many steps fit into its minutes).
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import CheckpointError
from mlm_data.stores.folder import Folder
from mlm_data.stores.places import public
from mlm_data.tokens.reference import ROLES, Reference
from trainer.config import RunSettings
from trainer.training import checkpoint as ck
from trainer.training.horizon import Horizon

FORMAT = 1
RECORD, TOKENIZER = "run.json", "tokenizer.json"


class Former(BaseModel, frozen=True, extra="forbid"):
    """A dataset that another has taken the place of."""

    data: str
    dataset: str  # digest
    until: int | None  # its last step; None until the run goes on with the other


class RunRecord(BaseModel, frozen=True, extra="forbid"):
    """A run, whole."""

    format: int = FORMAT
    settings: RunSettings  # as the run was begun; its shape is that of the imported model where there is one
    dataset: str | None  # digest; None for an imported model: the first dataset decides
    tokenizer: str  # SHA-256 of tokenizer.json
    vocab_size: int = Field(ge=1)
    roles: dict[str, int]  # id of each role; -1: no such token
    sequence_length: int = Field(ge=1)
    precision: str | None = None  # of matrix products: measured at the beginning, then kept
    ramp: tuple[int, ...] = ()  # steps at which the number of micro-batches changes
    rows_per_step: tuple[int, ...] = ()  # of all ranks, from each step of the ramp on
    horizon: Horizon | None = None  # None: a budget in minutes, not decided yet
    mix: tuple[str, ...] = ()  # digests of the other datasets of a mixture
    former: tuple[Former, ...] = ()  # the oldest first
    imported: str | None = None  # name of the model that the first weights came from
    positions: int | None = None  # places in a row that the imported model was made for
    versions: dict[str, str]  # of premask and torch


def new_record(settings: RunSettings, dataset: Dataset, *, world: int) -> RunRecord:
    """The record of a run that begins."""
    manifest = dataset.manifest
    ramp = sorted(settings.accumulate) if isinstance(settings.accumulate, dict) else [0]
    return RunRecord(
        settings=settings,
        dataset=dataset.digest,
        tokenizer=manifest.tokenizer["sha256"],
        vocab_size=manifest.vocab_size,
        roles={role: getattr(manifest.roles, role) for role in ROLES},
        sequence_length=manifest.sequence_length,
        ramp=tuple(ramp),
        rows_per_step=tuple(settings.rows_at(step) * world for step in ramp),
        versions=_versions(),
    )


def imported_record(
    settings: RunSettings, tokenizer: Reference, *, name: str, positions: int, length: int
) -> RunRecord:
    """The record of an imported model, which no dataset has trained yet.

    Args:
        positions: places in a row that the model was made for.
        length: places in a row until a dataset says how long its rows are.
    """
    return RunRecord(
        settings=settings,
        dataset=None,
        tokenizer=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        roles={role: getattr(tokenizer.roles, role) for role in ROLES},
        sequence_length=length,
        imported=name,
        positions=positions,
        versions=_versions(),
    )


def exists(folder: Path) -> bool:
    """Whether a run has begun in this folder."""
    return (folder / RECORD).exists()


def read(folder: Path) -> RunRecord:
    """The record of a run.

    Raises:
        CheckpointError: if there is none, or it is damaged or newer than this premask.
    """
    values = ck.read_json(folder / RECORD)
    found = values.get("format", 0) if isinstance(values, dict) else 0
    if isinstance(found, int) and found > FORMAT:
        raise CheckpointError(f"{folder}: format {found} is newer than this premask knows: upgrade premask")
    try:
        return RunRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{folder / RECORD}: {field}: {first['msg']}: it is damaged, or of another premask: begin another run"
        ) from error


def write(folder: Path, record: RunRecord, tokenizer: bytes | None = None) -> None:
    """Write run.json, and the tokenizer at the beginning."""
    if tokenizer is not None:
        Folder(folder).write(TOKENIZER, tokenizer)
    ck.write_json(folder / RECORD, without_secrets(record.model_dump(mode="json")))


def without_secrets(value: Any) -> Any:
    """Settings as files may hold them that travel with a model: places of datasets without key and secret."""
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {
            name: public(item) if name == "data" and isinstance(item, str) else without_secrets(item)
            for name, item in value.items()
        }
    return value


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("premask", "torch")}
