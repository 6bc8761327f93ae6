import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.build.gather import gather_lists


def random_lists(generator, num, kind):
    high = 2 if kind == pa.bool_() else 60_000
    lists = [generator.integers(0, high, size).tolist() for size in generator.integers(0, 9, num)]
    return [[bool(item) for item in items] for items in lists] if kind == pa.bool_() else lists


@pytest.mark.parametrize("kind", [pa.uint16(), pa.int32(), pa.bool_()])
@pytest.mark.parametrize("seed", range(5))
def test_equals_take(kind, seed):
    generator = np.random.default_rng(seed)
    lists = random_lists(generator, 40, kind)
    # Slices: batches that begin in the middle of their buffers.
    chunks = [pa.array(lists[i : i + 9], pa.large_list(kind)).slice(2) for i in range(0, 40, 9)]
    column = pa.chunked_array([*chunks, pa.array([], pa.large_list(kind))])
    rows = np.sort(generator.integers(0, len(column), 50))
    items, offsets = gather_lists(column, rows)
    plain = [column[row].as_py() for row in rows.tolist()]
    assert items.tolist() == [item for some in plain for item in some]
    assert np.diff(offsets).tolist() == [len(some) for some in plain]


def test_no_rows():
    column = pa.chunked_array([pa.array([[1]], pa.large_list(pa.uint16()))])
    items, offsets = gather_lists(column, np.zeros(0, np.int64))
    assert (items.dtype, items.tolist(), offsets.tolist()) == (np.uint16, [], [0])


def test_nothing_is_made_but_the_answer():
    """Arrow's own `take` makes an index of 8 bytes an item."""
    batch = pa.array([list(range(1000))] * 250, pa.large_list(pa.uint16()))
    column = pa.chunked_array([batch] * 8)
    rows = np.arange(len(column))
    gather_lists(column, rows)  # compiled
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    items, _ = gather_lists(column, rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert items.nbytes == 2 * 1000 * len(column)
    assert peak < 1.1 * items.nbytes
    assert pa.total_allocated_bytes() == before
