"""Rows as kernels take them: a named tuple of arrays instead of six arguments."""

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
