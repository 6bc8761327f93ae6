"""Rows as kernels take them: a named tuple of arrays instead of six arguments."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlm_data.kernels import read_only
from mlm_data.types import Rows


class RowArrays(NamedTuple):
    """The arrays of `Rows`, read-only; see there for what they hold."""

    tokens: np.ndarray
    segment_offsets: np.ndarray
    segment_lengths: np.ndarray
    segment_documents: np.ndarray
    segment_starts: np.ndarray
    word_starts: np.ndarray


def row_arrays(rows: Rows) -> RowArrays:
    """Rows for a kernel that reads them."""
    return RowArrays(*(read_only(getattr(rows, name)) for name in RowArrays._fields))


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Rows of one shard, one after another, as one; a copy, unless there is but one part.

    Raises:
        ValueError: if there is no part.
    """
    if len(parts) == 1:
        return parts[0]
    if not parts:
        raise ValueError("no rows to join: their type and length are unknown")
    # A part's offsets need not begin at 0, and its values may go on beyond its last one.
    spans = [(int(part.segment_offsets[0]), int(part.segment_offsets[-1])) for part in parts]
    ends = np.cumsum([end - begin for begin, end in spans])
    shifts = [int(end) - last for end, (_, last) in zip(ends, spans, strict=True)]
    offsets = [part.segment_offsets[:-1] + np.int32(shift) for part, shift in zip(parts, shifts, strict=True)]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name)[slice(*span)] for part, span in zip(parts, spans, strict=True)])

    return Rows(
        tokens=np.concatenate([part.tokens for part in parts]),
        segment_offsets=np.concatenate([*offsets, ends[-1:]]).astype(np.int32),
        segment_lengths=joined("segment_lengths"),
        segment_documents=joined("segment_documents"),
        segment_starts=joined("segment_starts"),
        word_starts=np.concatenate([part.word_starts for part in parts]),
    )
