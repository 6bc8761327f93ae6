"""A run's datasets: named, opened, and refused where a run can't use them."""

import os

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.names import split_name
from mlm_data.errors import ConfigError
from mlm_data.shards.format import TRAIN
from trainer.config import RunSettings

MAX_IDS = 2**21 - 1


def open_dataset(location: str) -> Dataset:
    """Open `folder`, `folder@tag` or `folder@digest`.

    Raises:
        FormatError: as `Dataset.open`.
        ConfigError: if there is no such folder, or no version has this name.
    """
    folder, _ = split_name(location)
    if "://" not in folder and not os.path.isdir(folder):
        raise ConfigError(f"data: {folder}: no such folder: build a dataset with `premask build`, or name another")
    return Dataset.open(location)


def pinned(location: str, digest: str) -> str:
    """The location of one version, whichever version the location itself names."""
    return f"{split_name(location)[0]}@{digest}"


def check_fit(dataset: Dataset, settings: RunSettings, *, world: int = 1) -> None:
    """Refuse a dataset that can't be trained on with these settings.

    Raises:
        ConfigError: if it does not fill one batch, a plane is not there or hides nothing, or its vocabulary is so large
            that the neighbours of a place can't be counted as one integer of 63 bits for three ids.
    """
    manifest, where, rows = dataset.manifest, f"data: {dataset.folder.location}", settings.batch_rows * world
    num_rows, size, known = dataset.num_rows(TRAIN), manifest.vocab_size, dataset.planes(TRAIN)
    if num_rows < rows:
        remedy = f"use batch_rows={max(1, num_rows // world)} or more text"
        raise ConfigError(f"{where} has {num_rows} training rows, fewer than one batch of {rows}: {remedy}")
    if size > MAX_IDS:
        raise ConfigError(
            f"{where} has a vocabulary of {size:,} ids, the trainer does {MAX_IDS:,} at most: "
            "build the dataset with a smaller tokenizer"
        )
    planes = known if settings.planes is None else [str(plane) for plane in settings.planes]
    strange = [plane for plane in planes if plane not in known]
    if strange or not planes:
        raise ConfigError(f"planes: {', '.join(strange) or 'none'}: the train split has {', '.join(known)}")
    empty = [plane for plane in planes if manifest.max_targets(plane) == 0]
    if empty:
        raise ConfigError(
            f"{where} hides nothing in plane {', '.join(empty)} (max_targets is 0), so there is nothing to learn: look "
            f"at a row (premask inspect {dataset.folder.location} --row 0) and build it with a tokenizer that knows "
            "the text, or a higher mask.rate"
        )


def check_mix(dataset: Dataset, other: Dataset) -> None:
    """Refuse to mix datasets of two lengths or two tokenizers.

    Raises:
        ConfigError: names what differs, and both values.
    """
    for name, one, two in (
        ("sequence_length", dataset.manifest.sequence_length, other.manifest.sequence_length),
        ("tokenizer", dataset.manifest.tokenizer["sha256"], other.manifest.tokenizer["sha256"]),
    ):
        if one != two:
            raise ConfigError(
                f"mix: {other.folder.location} has {name} {two}, {dataset.folder.location} has {one}: "
                "mix datasets of one length and one tokenizer"
            )
