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
