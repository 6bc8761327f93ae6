import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data import seeds
from mlm_data.loading import order_plain
from mlm_data.loading.order import RowOrder
from mlm_data.loading.order_kernels import permute
from mlm_data.loading.order_plain import MIN_BITS, ROUNDS, unpermute


def plain_permute(key: int, i: int, n: int) -> int:
    """`permute` in Python's own integers."""
    bits = max(MIN_BITS, (n - 1).bit_length())
    low_bits, high_bits = bits - bits // 2, bits // 2
    x = i
    while True:
        high, low = x >> low_bits, x % 2**low_bits
        for k in range(0, ROUNDS, 2):
            high ^= int(seeds.draw(np.uint64(key), np.uint64(k << 40 | low))) % 2**high_bits
            low ^= int(seeds.draw(np.uint64(key), np.uint64((k + 1) << 40 | high))) % 2**low_bits
        x = high << low_bits | low
        if x < n:
            return x


@given(st.integers(0, 2**64 - 1), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_permute_is_a_bijection(key, n):
    assert sorted(permute(np.uint64(key), i, n) for i in range(n)) == list(range(n))


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**40), st.data())
@settings(max_examples=100, deadline=None)
def test_permute_equals_its_plain_twin(key, n, data):
    i = data.draw(st.integers(0, n - 1))
    assert permute(np.uint64(key), i, n) == plain_permute(key, i, n)


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**40), st.data())
@settings(max_examples=100, deadline=None)
def test_numpy_permutes_as_the_loop_does_and_back(key, n, data):
    places = data.draw(st.lists(st.integers(0, n - 1), max_size=20))
    image = np.array([permute(np.uint64(key), i, n) for i in places], np.int64)
    named = np.array([key], np.uint64)
    assert order_plain.permute(named, np.array(places, np.int64), n).tolist() == image.tolist()
    assert unpermute(named, image, n).tolist() == places


@pytest.mark.parametrize("window", [1, 2, 7])
def test_a_row_is_found_where_it_is_read(window):
    order = RowOrder(np.array([3, 1, 5, 2, 4]), seed=11, window=window)
    epochs, shards, rows = order.take(0, 3 * order.num_rows)
    places = np.arange(epochs.size)
    for epoch, shard in {*zip(epochs.tolist(), shards.tolist(), strict=True)}:
        mine = (epochs == epoch) & (shards == shard)
        assert order.find(epoch, shard, rows[mine].astype(np.int64)).tolist() == places[mine].tolist()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any), st.integers(1, 13), st.data())
@settings(max_examples=100, deadline=None)
def test_numpy_has_the_order_of_the_loops(counts, window, data):
    options = {"seed": data.draw(st.integers(0, 2**64 - 1)), "window": window}
    first, count = data.draw(st.integers(0, 200)), data.draw(st.integers(1, 100))
    loops = RowOrder(np.array(counts), **options)
    plain = RowOrder(np.array(counts), **options, compiled=False)
    for one, other in zip(loops.take(first, count), plain.take(first, count), strict=True):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()


@pytest.mark.parametrize("n", [3, 4])
def test_permute_reaches_every_order_about_equally_often(n):
    draws = 600 * math.factorial(n)
    counts = Counter(tuple(permute(np.uint64(key), i, n) for i in range(n)) for key in range(draws))
    assert len(counts) == math.factorial(n)
    chi_square = sum((count - 600) ** 2 / 600 for count in counts.values())
    freedom = math.factorial(n) - 1
    assert chi_square < freedom + 6 * math.sqrt(2 * freedom)


def test_rows_of_a_large_window_land_anywhere():
    n = 5000
    image = np.array([permute(np.uint64(7), i, n) for i in range(n)])
    assert abs(np.corrcoef(np.arange(n), image)[0, 1]) < 0.06
    assert (image == np.arange(n)).sum() < 8  # a random permutation has one fixed point on average


def rows_of(order: RowOrder, first: int, count: int) -> list[tuple[int, int, int]]:
    return [tuple(map(int, line)) for line in zip(*order.take(first, count), strict=True)]


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_an_epoch_holds_every_row_once(window):
    counts = np.array([5, 1, 0, 7, 3, 2])
    order = RowOrder(counts, seed=3, window=window)
    everything = sorted((shard, row) for shard, n in enumerate(counts) for row in range(n))
    for epoch in range(3):
        lines = rows_of(order, epoch * 18, 18)
        assert {line[0] for line in lines} == {epoch}
        assert sorted(line[1:] for line in lines) == everything


def test_a_window_holds_whole_shards_only():
    order = RowOrder(np.full(10, 4), seed=1, window=3)
    shards = [shard for _, shard, _ in rows_of(order, 0, 40)]
    windows = [set(shards[begin : begin + 12]) for begin in range(0, 40, 12)]
    assert [len(window) for window in windows] == [3, 3, 3, 1]
    assert set.union(*windows) == set(range(10))


def test_the_stream_can_be_entered_anywhere():
    order = RowOrder(np.array([4, 9, 2, 6]), seed=5, window=2)
    whole = rows_of(order, 0, 80)
    for first in range(60):
        assert rows_of(RowOrder(np.array([4, 9, 2, 6]), seed=5, window=2), first, 17) == whole[first : first + 17]


def test_epochs_and_seeds_have_orders_of_their_own():
    order = RowOrder(np.full(8, 50), seed=0, window=4)
    first, second = rows_of(order, 0, 400), rows_of(order, 400, 400)
    other = rows_of(RowOrder(np.full(8, 50), seed=1, window=4), 0, 400)
    assert [line[1:] for line in first] != [line[1:] for line in second]
    assert first != other


def test_windows_of_equal_size_have_orders_of_their_own():
    order = RowOrder(np.full(8, 50), seed=0, window=1)
    rows = [row for _, _, row in rows_of(order, 0, 400)]
    assert len({tuple(rows[begin : begin + 50]) for begin in range(0, 400, 50)}) == 8
