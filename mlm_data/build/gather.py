"""Lists of some rows, out of a column that stays where it is: on the disk, in batches of a few MiB.

Arrow's `take` of a list column makes an index of every item, 8 bytes for a token of 2, and joins the batches first: a
unit of 64 MiB took 280 MB that way (measured). Here each batch is copied from the memory-mapped file, and nothing else
is made but the answer.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, Shaped

from mlm_data.build.select import list_lengths
from mlm_data.kernels import kernel, read_only


def gather_lists(
    column: pa.ChunkedArray, rows: Int64[np.ndarray, " rows"]
) -> tuple[Shaped[np.ndarray, " items"], Int64[np.ndarray, " rows+1"]]:
    """(items of the lists in these rows, one after another; where each list begins and the last one ends).

    Args:
        column: lists of numbers or booleans, none of them null.
        rows: sorted; a row may be there several times.

    >>> column = pa.chunked_array([[[1, 2], []], [[3]]], pa.large_list(pa.int32()))
    >>> items, offsets = gather_lists(column, np.array([0, 2, 2]))
    >>> items.tolist(), offsets.tolist()
    ([1, 2, 3, 3], [0, 2, 3, 4])
    """
    offsets = np.concatenate([[0], np.cumsum(list_lengths(column)[rows], dtype=np.int64)])
    kind = pa.array([], column.type.value_type).to_numpy(zero_copy_only=False).dtype  # to_pandas_dtype wants pandas
    items = np.empty(int(offsets[-1]), kind)
    first = 0
    for chunk in column.chunks:
        begin, end = np.searchsorted(rows, [first, first + len(chunk)])
        if begin < end:
            places = chunk.offsets.to_numpy().astype(np.int64, copy=False)
            values = chunk.values.slice(places[0], places[-1] - places[0]).to_numpy(zero_copy_only=False)
            _gather(read_only(values), read_only(places), rows[begin:end] - first, items, offsets[begin:end])
        first += len(chunk)
    return items, offsets


@kernel
def _gather(values, places, rows, items, offsets):
    for k in range(len(rows)):
        at = offsets[k]
        for place in range(places[rows[k]] - places[0], places[rows[k] + 1] - places[0]):
            items[at] = values[place]
            at += 1
