"""Whether a run may go on with these settings and this dataset, and what its record is then.

What a step depends on must stay as it was begun, or the run would be neither the old one nor the new one. Three things
may change, where the steps that are done would have been the same:

    the budget        if every step that is done had the rate that the new budget gives it: in the constant phase, or
                      where nothing decays. Else a run of its own has to begin with the weights (`start`)
    ranks, batch_rows and accumulate        as long as their product, the rows of a step, is the same
    the dataset       with `changed_data: take`, from its beginning
"""

from pathlib import Path

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.tombstones import Tombstone, read_tombstone
from mlm_data.errors import CheckpointError, StorageError, TokenizerError
from mlm_data.tokens.reference import from_roles
from trainer.config import BudgetSettings, RunSettings
from trainer.training import checkpoint as ck
from trainer.training import horizon as hz
from trainer.training.datasets import pinned
from trainer.training.record import TOKENIZER, Former, RunRecord, exists, new_record, read, without_secrets

FIXED = ("model", "optimizer", "schedule", "planes", "seed", "mix", "ema")


def agree(folder: Path, settings: RunSettings, dataset: Dataset, *, world: int, followed: bool = False) -> RunRecord:
    """The record of a run: that of run.json where there is one, checked; a fresh one otherwise. Writes nothing.

    Args:
        followed: another phase has begun with this one's weights.

    Raises:
        StorageError: if the folder holds something else.
        CheckpointError: if the run was begun with another dataset or with other settings.
    """
    fresh = new_record(settings, dataset, world=world)
    fresh = fresh.model_copy(update={"horizon": hz.fixed(settings, fresh.sequence_length, world=world)})
    if not exists(folder):
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise StorageError(f"{folder}: holds something that is no training run: choose an empty folder")
        return fresh
    record = read(folder)
    if record.imported is not None:  # its shape is that of the imported model, whatever the recipe
        own = fresh.settings.model_copy(update={"model": record.settings.model})
        fresh = fresh.model_copy(update={"settings": own})
    if record.dataset is None:
        return _first_dataset(folder, record, fresh, dataset)
    if record.dataset != dataset.digest:
        record = _take_dataset(folder, record, fresh, read_tombstone(dataset.folder, record.dataset))
    if settings.mix and record.settings.batch_rows != settings.batch_rows:
        raise CheckpointError(
            f"{folder}: batch_rows was {record.settings.batch_rows}, now it is {settings.batch_rows}, and a "
            "mixture is dealt out by it: leave it as it was, and change accumulate"
        )
    for name in FIXED:
        before, now = (without_secrets(one.settings.model_dump(mode="json")[name]) for one in (record, fresh))
        if before != now:
            raise CheckpointError(
                f"{folder}: {name} was {_difference(before, now)}, now it is {_difference(now, before)}: leave it as "
                f"it was, or begin another run with its weights (--set start={folder} --out ANOTHER)"
            )
    # Other ranks and micro-batches may share the rows of a step out in another way.
    if (record.rows_per_step, record.ramp) != (fresh.rows_per_step, fresh.ramp):
        raise CheckpointError(
            f"{folder}: rows per step (ranks x batch_rows x accumulate) were {list(record.rows_per_step)}, now they "
            f"are {list(fresh.rows_per_step)}: change batch_rows or accumulate, or choose another out"
        )
    if record.settings.budget != settings.budget:
        record = _take_budget(folder, record, fresh, followed)
    return record


def with_import(settings: RunSettings) -> RunSettings:
    """A run in phases whose folder holds an imported model begins with that, in its shape.

    Raises:
        StorageError: if the folder holds a run without phases.
    """
    folder = Path(settings.out)
    if not settings.phases or not exists(folder):
        return settings
    record = read(folder)
    if record.imported is None or record.dataset is not None:
        raise StorageError(
            f"{folder}: holds a run without phases: choose another out, and begin with its weights (start: {folder})"
        )
    start = settings.start or str(folder)
    return settings.model_copy(update={"start": start, "model": record.settings.model})


def _take_budget(folder: Path, record: RunRecord, fresh: RunRecord, followed: bool) -> RunRecord:
    """The record of a run that goes on with another budget, if its steps would have been the same with it."""
    before, now = _named(record.settings.budget), _named(fresh.settings.budget)
    done = max(ck.steps(folder), default=0)
    if followed:
        raise CheckpointError(
            f"{folder}: the budget was {before}, now it is {now}, and the next phase has begun with its weights: "
            "leave it as it was, or choose another out"
        )
    if fresh.horizon is not None and fresh.horizon.total < done:
        raise CheckpointError(
            f"{folder}: the budget was {before}, now it is {now}, and {done} steps are done: leave it as it was, "
            "or choose another out"
        )
    if not hz.same_rates(record.horizon, fresh.horizon, done, record.settings.schedule):
        raise CheckpointError(
            f"{folder}: the budget was {before}, now it is {now}, and the learning rates of its {done} steps followed "
            f"the old one: begin another run with its weights (--set start={folder} --out ANOTHER), or leave it as it "
            "was"
        )
    settings = record.settings.model_copy(update={"budget": fresh.settings.budget})
    return record.model_copy(update={"settings": settings, "horizon": fresh.horizon})


def _named(budget: BudgetSettings) -> str:
    return ", ".join(f"{value:g} {name}" for name, value in budget.model_dump().items() if value is not None)


def _take_dataset(folder: Path, record: RunRecord, fresh: RunRecord, purged: Tombstone | None) -> RunRecord:
    """The record of a run that goes on with another dataset, from its beginning, if the settings say so.

    Args:
        purged: the tombstone of the dataset that it was trained on, if it was purged.
    """
    old, new, data = record.dataset, fresh.dataset, record.settings.data
    assert old is not None, "a run that has a dataset to change"
    assert new is not None, "a run that begins has a dataset"
    if fresh.settings.changed_data != "take":
        if purged is not None:
            when = purged.purged.replace("T", " ").removesuffix("+00:00")
            raise CheckpointError(
                f"{folder}: was trained on dataset {old[:16]}, which was purged on {when} UTC; "
                f"{purged.replaced_by[:16]} takes its place: go on with that from its beginning "
                f"(--set changed_data=take), or begin a phase of its own (--set start={folder} --out ANOTHER)"
            )
        raise CheckpointError(
            f"{folder}: was trained on dataset {old[:16]}, this is {new[:16]}: go on with the old one "
            f"(--data {pinned(data, old)}), with this one from its beginning (--set changed_data=take), or begin a "
            f"phase of its own (--set start={folder} --out ANOTHER)"
        )
    for name in ("tokenizer", "sequence_length"):
        if getattr(record, name) != getattr(fresh, name):
            raise CheckpointError(
                f"{folder}: the changed dataset has another {name.replace('_', ' ')}: begin a phase of its own "
                f"(--set start={folder} --out ANOTHER)"
            )
    former = (*record.former, Former(data=data, dataset=old, until=None))  # known when it is resumed
    settings = record.settings.model_copy(update={"data": fresh.settings.data})
    return record.model_copy(update={"dataset": new, "settings": settings, "former": former})


def _first_dataset(folder: Path, imported: RunRecord, fresh: RunRecord, dataset: Dataset) -> RunRecord:
    """The record of an imported model's first training."""
    if fresh.tokenizer not in (imported.tokenizer, _with_markers(folder, imported, dataset)):
        raise CheckpointError(
            f"{folder}: the imported model has another tokenizer than the dataset: "
            f"build the dataset with {folder / TOKENIZER}"
        )
    return fresh.model_copy(update={"imported": imported.imported, "positions": imported.positions})


def _with_markers(folder: Path, imported: RunRecord, dataset: Dataset) -> str | None:
    """SHA-256 of the imported model's tokenizer where the dataset's markers stay whole: the same ids, other bytes."""
    markers = dataset.manifest.config.get("tokenizer", {}).get("markers", ())
    try:
        return from_roles((folder / TOKENIZER).read_bytes(), imported.roles, markers=markers).sha256
    except TokenizerError:  # it has no such tokens
        return None


def _difference(value: object, other: object) -> object:
    """Of two groups of settings the fields that differ; else the value itself."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: item for name, item in value.items() if other.get(name) != item}
    return value
