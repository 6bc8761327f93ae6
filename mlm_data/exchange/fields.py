"""Rows under one plane's masks, laid out as other trainers want them. A worked trace, L = 8, [MASK] = 4, [PAD] = 0:

    tokens          2  17  18    3    2  21    3    0      segment_lengths 4 3, targets at 1, 2, 5, swap 5 -> 99
    input_ids       2   4   4    3    2  99    3    0
    labels       -100  17  18 -100 -100  21 -100 -100
    attention_mask  1   1   1    1    1   1    1    0
    position_ids    0   1   2    3    0   1    2    0      again from 0 at each segment; padding is a segment, too

The original ids are the labels where there are any, else the input ids: nothing is lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int32, Int64

from mlm_data.dataset.dataset import Dataset
from mlm_data.shards import format as fmt
from mlm_data.types import IGNORED, PlaneMasks, Rows

MOST_PLACES = 1 << 20  # laid out at once: about 40 MB with what it takes to make them
TYPES: Mapping[str, type[np.integer]] = {
    "input_ids": np.int32,
    "labels": np.int32,
    "attention_mask": np.int8,
    "position_ids": np.int32,
}


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Some rows of L places."""

    input_ids: Int32[np.ndarray, "rows L"]
    labels: Int32[np.ndarray, "rows L"]
    attention_mask: Int8[np.ndarray, "rows L"]
    position_ids: Int32[np.ndarray, "rows L"]

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by name, in the order of `TYPES`."""
        return {name: getattr(self, name) for name in TYPES}

    def originals(self) -> Int32[np.ndarray, "rows L"]:
        """The ids before anything was hidden."""
        return np.where(self.labels == IGNORED, self.input_ids, self.labels)


def read_fields(dataset: Dataset, split: str, plane: str) -> Iterator[Fields]:
    """All rows of a split in the order on disk, at most `MOST_PLACES` places at a time (but one row at least).

    Raises:
        FormatError: if a file is damaged.
    """
    step = max(1, MOST_PLACES // dataset.manifest.sequence_length)
    for index in range(dataset.num_shards(split)):
        shard = dataset.shard(split, index)
        for rows, masks in zip(shard.rows, shard.masks(plane), strict=True):
            for first in range(0, len(rows), step):
                yield lay_out(rows, masks, first, min(first + step, len(rows)), mask=dataset.manifest.roles.mask)


def lay_out(rows: Rows, masks: PlaneMasks, first: int, end: int, *, mask: int) -> Fields:
    """The rows first to end of a record batch under one plane's masks; `mask` is the id of [MASK]."""
    tokens = rows.tokens[first:end].astype(np.int32)
    count, length = tokens.shape
    is_target = np.unpackbits(masks.targets[first:end], axis=1, bitorder=fmt.BITS).astype(bool)
    ids = np.where(is_target, np.int32(mask), tokens)
    swaps = slice(int(masks.swap_offsets[first]), int(masks.swap_offsets[end]))
    row = np.repeat(np.arange(count), np.diff(masks.swap_offsets[first : end + 1]))
    ids[row, masks.swap_places[swaps]] = masks.swap_tokens[swaps]
    used = rows.used()[first:end]
    place = np.arange(length, dtype=np.int32)
    return Fields(
        input_ids=ids,
        labels=np.where(is_target, tokens, np.int32(IGNORED)),
        attention_mask=(place < used[:, None]).astype(np.int8),
        position_ids=place - _begins(rows, first, end, used, length),
    )


def segment_bounds(rows: Rows, first: int, end: int) -> tuple[Int64[np.ndarray, " segments"], ...]:
    """(row counted from `first`, place of the first token, length) of each segment of some rows."""
    offsets = rows.segment_offsets[first : end + 1].astype(np.int64)
    lengths = rows.segment_lengths[offsets[0] : offsets[-1]].astype(np.int64)
    row = np.repeat(np.arange(end - first), np.diff(offsets))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return row, ends[:-1] - ends[offsets - offsets[0]][row], lengths


def _begins(
    rows: Rows, first: int, end: int, used: Int32[np.ndarray, " rows"], length: int
) -> Int32[np.ndarray, "rows L"]:
    """Where the segment of each place begins."""
    row, places, _ = segment_bounds(rows, first, end)
    begins = np.zeros((end - first, length), np.int32)
    begins[row, places] = places
    short = np.flatnonzero(used < length)
    begins[short, used[short]] = used[short]
    return np.maximum.accumulate(begins, axis=1)
