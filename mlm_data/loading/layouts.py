"""A batch as other trainers want it: labels at every place, rows side by side or in a line.

`Batch` lists its targets; models of HF want a label for each place, -100 where there is nothing to predict, and int64
throughout. All shapes follow from B and L alone. A worked trace, the batch of `batches`, B = 1 and L = 8:

    input_ids       2   4   4    3   2  99    3   0
    labels       -100  17  18 -100 -100 21 -100 -100
    attention_mask  1   1   1    1   1   1    1   0      row: 1 at tokens; [PAD] stands nowhere else
    position_ids    0   1   2    3   0   1    2   0
    segment_ids     0   0   0    0   1   1    1   2      segment: places see each other where these are equal
"""

import numpy as np
from jaxtyping import Bool, Int32, Int64

from mlm_data.loading.batches import Batch
from mlm_data.types import IGNORED


def labels_of(batch: Batch) -> Int64[np.ndarray, " T"]:
    """The id to predict at each place, -100 where there is none."""
    labels = np.full(batch.input_ids.size, IGNORED, np.int64)
    count = batch.num_targets
    labels[batch.target_places[:count]] = batch.target_ids[:count]
    return labels


def padded(batch: Batch, *, length: int, pad: int) -> dict[str, Int64[np.ndarray, "B L"]]:
    """`input_ids`, `attention_mask`, `labels` and `position_ids`, each of B rows of L places."""
    shape = (-1, length)
    return {
        "input_ids": batch.input_ids.astype(np.int64).reshape(shape),
        "attention_mask": (batch.input_ids != pad).astype(np.int64).reshape(shape),
        "labels": labels_of(batch).reshape(shape),
        "position_ids": batch.position_ids.astype(np.int64).reshape(shape),
    }


def segment_ids(batch: Batch, *, length: int) -> Int32[np.ndarray, "B L"]:
    """Number of each place's segment in its row; padding at a row's end is a segment of its own."""
    return np.cumsum(batch.position_ids.reshape(-1, length) == 0, axis=1, dtype=np.int32) - np.int32(1)


def segment_mask(batch: Batch, *, length: int) -> Bool[np.ndarray, "B 1 L L"]:
    """True where two places of a row are in one segment: the block-diagonal mask. B * L * L bytes."""
    ids = segment_ids(batch, length=length)
    return (ids[:, :, None] == ids[:, None, :])[:, None]


def pieces(batch: Batch, *, length: int, pad: int) -> dict[str, Int64[np.ndarray, "pieces L"]]:
    """The fields of `padded`, each piece of a document in a row of its own; how many there are differs by batch.

    For models that take neither borders nor a mask of four axes. A short piece costs as much as a long one.
    """
    ids, labels = batch.input_ids, labels_of(batch)
    starts, sizes = batch.cu_seqlens[:-1], np.diff(batch.cu_seqlens)
    is_piece = sizes > 0
    is_piece[is_piece] = ids[starts[is_piece]] != pad  # padding is a segment, too
    starts, sizes = starts[is_piece], sizes[is_piece]
    place = np.arange(length)
    inside = place < sizes[:, None]
    index = np.minimum(starts[:, None] + place, ids.size - 1)
    return {
        "input_ids": np.where(inside, ids[index], pad).astype(np.int64),
        "attention_mask": inside.astype(np.int64),
        "labels": np.where(inside, labels[index], IGNORED),
        "position_ids": np.where(inside, place, 0),
    }
