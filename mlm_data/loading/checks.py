"""What a stream of rows is asked for, checked."""

from collections.abc import Sequence

import numpy as np

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError


def check_split(dataset: Dataset, split: str) -> None:
    """Make sure that a split has rows.

    Raises:
        ConfigError: if there is no such split, or it is empty.
    """
    if dataset.num_rows(split) == 0:
        raise ConfigError(f"{dataset.folder.location}: has no {split} rows: build it with split.validation above 0")


def check_planes(dataset: Dataset, split: str, planes: Sequence[str]) -> None:
    """Make sure that a split has these planes.

    Raises:
        ConfigError: if it lacks one, or none is asked for.
    """
    known = dataset.planes(split)
    strange = [plane for plane in planes if plane not in known]
    if strange or not planes:
        raise ConfigError(f"planes: {strange or 'none'}: the {split} split has {', '.join(known)}")


def check_whole(name: str, value: object, *, least: int) -> None:
    """Make sure that a value is a whole number, as large as it must be, and that 64 bits hold it.

    Raises:
        ConfigError: if not.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value >= 2**63:
        raise ConfigError(f"{name} must be a whole number of 64 bits, got {value!r}")
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, got {value}")


def check_ranks(batch_rows: int, rank: int, world_size: int) -> None:
    """Make sure that there is such a rank, and that it takes rows.

    Raises:
        ConfigError: if not.
    """
    check_whole("batch_rows", batch_rows, least=1)
    check_whole("world_size", world_size, least=1)
    check_whole("rank", rank, least=0)
    if rank >= world_size:
        raise ConfigError(f"rank must be 0 to {world_size - 1}, got {rank}")
