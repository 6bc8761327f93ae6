"""Boilerplate lines against dictionaries and `str.split`."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.duplicates.lines import (
    CUT,
    RECORD,
    SEEN,
    choose_cuts,
    cut_lines,
    line_hashes,
    pack_lines,
    partition_lines,
)
from mlm_data.hashing import hash128

WHITE = "\t\x0b\x0c\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"


def strings(*texts):
    return pa.array(texts, pa.large_string())


def records_of(units, min_chars):
    parts = [np.empty(0, SEEN)]
    for unit, texts in enumerate(units):
        lines = line_hashes(strings(*texts), min_chars=min_chars)
        parts.append(pack_lines(lines, unit, np.arange(len(texts), dtype=np.int32)))
    return np.concatenate(parts)


def oracle(units, min_chars, max_copies):
    seen, cuts = {}, []
    for unit, texts in enumerate(units):
        for document, text in enumerate(texts):
            for number, line in enumerate(text.split("\n")):
                line = line.strip(WHITE)
                if len(line) >= min_chars:
                    seen[line] = seen.get(line, 0) + 1
                    if seen[line] > max_copies:
                        cuts.append((unit, document, number))
    return cuts


line = st.sampled_from(
    ["", " ", "ab", " ab\t", "abc", "äb\u3000", "äbc", "日本語", "\xa0", "a b", "abc\r", "long line of text"]
)
texts = st.lists(line, max_size=6).map("\n".join)
many_units = st.lists(st.lists(texts, max_size=4), max_size=4)


@settings(max_examples=300, deadline=None)
@given(many_units, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.randoms(use_true_random=False))
def test_cuts_equal_a_dictionary_in_any_order(units, min_chars, max_copies, partitions, random):
    records = records_of(units, min_chars)
    places = list(range(len(records))) + random.sample(range(len(records)), min(len(records), 2))  # some come twice
    random.shuffle(places)
    parts = partition_lines(records[np.array(places, np.int64)], partitions)
    cuts = [choose_cuts(part, max_copies=max_copies) for part in parts]
    assert all(part.tolist() == sorted(part.tolist()) for part in cuts)
    assert sorted(cut for part in cuts for cut in part.tolist()) == oracle(units, min_chars, max_copies)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=5), st.randoms(use_true_random=False))
def test_cutting_equals_split_and_join(contents, random):
    cuts, expected, removed = [], [], []
    for number, text in enumerate(contents):
        lines = text.split("\n")
        gone = sorted(random.sample(range(len(lines)), random.randint(0, len(lines))))
        cuts += [(number, place) for place in gone]
        expected.append("\n".join(line for place, line in enumerate(lines) if place not in gone))
        removed.append(len(text) - len(expected[-1]))
    which = np.array([cut[0] for cut in cuts], np.int32), np.array([cut[1] for cut in cuts], np.int64)
    found, num_removed = cut_lines(strings("left out", *contents).slice(1), *which)
    found.validate(full=True)
    assert found.to_pylist() == expected
    assert num_removed.tolist() == removed


def test_lines_are_hashed_as_texts_are():
    lines = line_hashes(strings("one\n  two words \n\nthree", "", "two words"), min_chars=4)
    np.testing.assert_array_equal(lines.hashes, hash128(strings("two words", "three", "two words")))
    assert lines.number.tolist() == [1, 3, 0]
    assert lines.places.tolist() == [0, 2, 2, 3]


@pytest.mark.parametrize("min_chars", [0, 1])
def test_blank_lines_are_never_duplicates(min_chars):
    blank = "\n".join(["", *WHITE, WHITE, ""])
    assert len(line_hashes(strings(blank), min_chars=min_chars).number) == 0


def test_the_example_of_the_module():
    texts = ["Home | About | Contact us\n\nIt rained.", "It snowed.\nHome | About | Contact us"]
    cuts = choose_cuts(*partition_lines(records_of([texts], 20), 1), max_copies=1)
    assert cuts.tolist() == [(0, 1, 1)]
    assert cut_lines(strings(*texts), cuts["document"], cuts["line"])[0].to_pylist() == [texts[0], "It snowed."]


def test_the_first_copies_stay_across_units():
    cuts = choose_cuts(*partition_lines(records_of([["same\nsame"], ["same"], ["same", "same"]], 1), 1), max_copies=3)
    assert cuts.tolist() == [(2, 0, 0), (2, 1, 0)]


def test_hostile_texts():
    """A line of 50 MB, 10 million empty lines, 2 million equal lines."""
    assert len(line_hashes(strings("x" * 50_000_000, "\n" * 10_000_000), min_chars=30).number) == 1
    text = "abc\n" * 2_000_000
    lines = line_hashes(strings(text), min_chars=3)
    cuts = choose_cuts(*partition_lines(pack_lines(lines, 0, np.zeros(1, np.int32)), 1), max_copies=5)
    assert len(cuts) == 1_999_995
    found, removed = cut_lines(strings(text), cuts["document"], cuts["line"])
    assert found.to_pylist() == ["abc\n" * 5]
    assert removed.tolist() == [4 * 1_999_995]


def test_nothing_in_nothing_out():
    assert len(choose_cuts(np.empty(0, RECORD), max_copies=1)) == 0
    assert choose_cuts(np.empty(0, RECORD), max_copies=1).dtype == CUT
    found, removed = cut_lines(strings(), np.empty(0, np.int32), np.empty(0, np.int64))
    assert (len(found), len(removed)) == (0, 0)


def test_equal_lines_meet_and_half_of_the_hash_goes_along():
    seen = records_of([["one line", "two\nlines"], ["lines\none line"]], 1)
    parts = partition_lines(seen, 3)
    assert all(part.dtype == RECORD for part in parts)
    for number, part in enumerate(parts):
        mine = seen[seen["h2"] % 3 == number]
        assert part.tolist() == mine[["h1", "unit", "document", "line"]].tolist()
    assert sum(map(len, parts)) == len(seen) == 5
