"""Duplicates against a dictionary, over partitions, and in the order of the documents."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.duplicates.exact import (
    RECORD,
    find_duplicates,
    pack_records,
)
from mlm_data.duplicates.records import from_bytes, partition, to_bytes

# Few different halves, so that ids agree in one half and differ in the other.
halves = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
units = st.lists(st.lists(st.tuples(halves, halves), max_size=8), max_size=6)


def pack(contents):
    parts = [
        pack_records(np.array(ids, np.uint64).reshape(-1, 2), unit, np.arange(len(ids)))
        for unit, ids in enumerate(contents)
    ]
    return np.concatenate([*parts, pack_records(np.empty((0, 2), np.uint64), 0, np.empty(0, np.int64))])


def oracle(contents):
    seen, drops = {}, []
    for unit, ids in enumerate(contents):
        for document, pair in enumerate(ids):
            copy = seen.get(pair, 0)
            seen[pair] = copy + 1
            if copy:
                drops.append((unit, document, copy))
    return drops


def listed(duplicates):
    return list(zip(*(column.tolist() for column in duplicates), strict=True))


@given(units, st.randoms(use_true_random=False))
def test_equals_a_dictionary_whatever_the_order(contents, random):
    records = pack(contents)
    order = list(range(len(records)))
    random.shuffle(order)
    assert listed(find_duplicates(records[order])) == oracle(contents)


@given(units, st.integers(1, 5))
def test_partitions_together_find_the_same(contents, num_partitions):
    parts = partition(pack(contents), "h2", num_partitions)
    assert len(parts) == num_partitions
    found = [drop for part in parts for drop in listed(find_duplicates(part))]
    assert sorted(found) == oracle(contents)


@given(units)
def test_records_round_trip_in_24_bytes(contents):
    records = pack(contents)
    data = to_bytes(records)
    assert len(data) == 24 * len(records)
    np.testing.assert_array_equal(from_bytes(data, RECORD), records)


def test_the_example_of_the_module():
    records = pack_records(np.array([[7, 7], [5, 5], [5, 5], [7, 7]], np.uint64), 0, np.array([0, 4, 9, 1]))
    records["unit"] = [2, 0, 1, 0]
    assert listed(find_duplicates(records)) == [(1, 9, 1), (2, 0, 1)]


def test_many_copies_of_one_text():
    ids = np.zeros((100_000, 2), np.uint64)
    duplicates = find_duplicates(pack_records(ids, 3, np.arange(100_000)))
    np.testing.assert_array_equal(duplicates.copy, np.arange(1, 100_000))
    np.testing.assert_array_equal(duplicates.document, np.arange(1, 100_000))
