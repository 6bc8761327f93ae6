"""What a stream of rows is asked for, checked."""

from collections.abc import Sequence

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.shards import format as fmt


def check_split(dataset: Dataset, split: str) -> None:
    """Make sure that a split has rows.

    Raises:
        ConfigError: if there is no such split, or it is empty.
    """
    if split not in fmt.SPLITS:
        raise ConfigError(f"split must be train or validation, got {split!r}")
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


def check_ranks(batch_rows: int, rank: int, world_size: int) -> None:
    """Make sure that there is such a rank, and that it takes rows.

    Raises:
        ConfigError: if not.
    """
    if batch_rows < 1:
        raise ConfigError(f"batch_rows must be at least 1, got {batch_rows}")
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank must be 0 to {world_size - 1}, got {rank}")
