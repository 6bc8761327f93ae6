"""Sets of places hold what a look at each candidate finds."""

import numpy as np
import pytest

from mlm_data.rows.audit_bits import find_word_heads
from mlm_data.rows.audit_counts import FAULTS
from mlm_data.rows.masking import MAX_UNIT, find_units
from tests.mlm_data.rows.test_audit import Build, places


def to_words(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)


@pytest.mark.parametrize("num_words", [1, 2, 3, 8])
@pytest.mark.parametrize("begin_share", [0.0, 0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("hole_share", [0.0, 0.002, 0.1])
def test_first_places_of_words(num_words, begin_share, hole_share):
    rng = np.random.default_rng([num_words, int(100 * begin_share), int(1000 * hole_share)])
    seen = set()
    for _ in range(60):
        length = 64 * num_words
        candidates = rng.random(length) >= hole_share
        starts = rng.random(length) < begin_share
        segment_of = np.cumsum(rng.random(length) < 0.01).astype(np.int32)
        firsts = np.flatnonzero(np.diff(segment_of, prepend=-1))
        candidates[firsts] = False  # a special token
        place = np.flatnonzero(candidates).astype(np.int32)
        begins = np.zeros(length + 2, np.int32)
        bits = np.packbits(starts, bitorder="little")
        units = find_units(bits, place, segment_of[place], place.size, begins)
        borders = starts.copy()
        borders[firsts] = True
        heads = np.zeros((MAX_UNIT, num_words), np.uint64)
        has_holes = find_word_heads(to_words(candidates), to_words(borders), np.zeros(num_words, np.uint64), heads)
        sizes = np.diff(begins[: units + 1])
        spans = [place[begins[u + 1] - 1] - place[begins[u]] + 1 for u in range(units)]
        assert has_holes or spans == sizes.tolist()
        seen.add(bool(has_holes))
        if not has_holes:
            for size in range(1, MAX_UNIT + 1):
                wanted = np.zeros(length, bool)
                wanted[place[begins[:units][sizes == size]]] = True
                assert np.array_equal(heads[size - 1], to_words(wanted))
    assert hole_share or seen == {False}


@pytest.mark.parametrize("sequence_length", [24, 64, 72, 200])
@pytest.mark.parametrize("unknown_share", [0.0, 0.05])
def test_words_hidden_in_part_are_counted_one_by_one(sequence_length, unknown_share):
    build = Build(
        kind="whole_word", planes=1, sequence_length=sequence_length, word_share=0.4, unknown_share=unknown_share
    )
    rows, vocabulary = build.rows, build.vocabulary
    rng = np.random.default_rng(1)
    for _ in range(40):
        r = int(rng.integers(len(rows)))
        build.hide("0", r, int(rng.integers(rows.used()[r])), hidden=bool(rng.random() < 0.5))
    targets, wanted = places(build), 0
    for r in range(len(rows)):
        at, found, segment = 0, [], []
        for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
            inside = [
                p for p in range(at + 1, at + rows.segment_lengths[s] - 1) if not vocabulary.never[rows.tokens[r, p]]
            ]
            found += inside
            segment += [s] * len(inside)
            at += rows.segment_lengths[s]
        begins = np.zeros(len(found) + 2, np.int32)
        units = find_units(
            rows.word_starts[r], np.array(found, np.int32), np.array(segment, np.int32), len(found), begins
        )
        for u in range(units):
            hit = targets[r, found[begins[u] : begins[u + 1]]]
            wanted += bool(hit.any() and not hit.all())
    counts = build.count().planes["0"]
    assert wanted > 0
    assert counts.faults[FAULTS.index("words hidden in part")] == wanted
