"""Sketches against a plain Python twin; what they estimate; texts that repeat themselves, or have no end."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.duplicates import minhash
from mlm_data.duplicates.minhash import KEPT, band_keys, sketch
from mlm_data.duplicates.words import word_hashes
from mlm_data.errors import ConfigError
from mlm_data.seeds import draw, mix

MASK = 2**64 - 1
BASE = 0xD1342543DE82EF95


def strings(*texts):
    return pa.array(texts, pa.large_string())


def shingles_of(text, n):
    words = word_hashes(strings(text))[0].tolist()
    n = min(n, len(words)) or 1
    found = []
    for first in range(len(words) - n + 1):
        total = 0
        for word in words[first : first + n]:
            total = (total * BASE + word) & MASK
        found.append(total)
    return found


def twin(text, n, size):
    """Fast similarity sketching as the paper has it."""
    shingles = shingles_of(text, n)
    buckets = [None] * size
    for rnd in range(2 * size if shingles else 0):
        for shingle in set(shingles):
            drawn = int(draw(np.uint64(shingle), np.uint64(rnd)))
            place = (drawn >> 32) * size >> 32 if rnd < size else rnd - size
            value = (rnd, drawn & 0xFFFFFFFF)
            if buckets[place] is None or value < buckets[place]:
                buckets[place] = value
        if None not in buckets:
            break
    values = [int(mix(np.uint64(bucket[0] << 32 | bucket[1]))) & 255 for bucket in buckets if bucket]
    return len(shingles), values


words = st.lists(st.sampled_from("a b c dd ee FF gg. h, 漢 é -".split()), max_size=40).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, max_size=4), st.sampled_from([1, 2, 5]), st.sampled_from([1, 4, 20]))
def test_equals_the_twin(texts, n, size):
    sketches = sketch(strings("left out", *texts).slice(1), ngram=n, size=size)
    for text, values, count in zip(texts, *sketches, strict=True):
        expected_count, expected = twin(text, n, size)
        assert count == expected_count
        if count:
            assert values.tolist() == expected


def test_a_text_of_fewer_words_has_one_shingle():
    values, count = sketch(
        strings("one two", "One, TWO!", "one", "", " .,! ", "one two three four five six"), ngram=5, size=16
    )
    assert count.tolist() == [1, 1, 1, 0, 0, 2]
    assert (values[0] == values[1]).all()
    assert (values[0] != values[2]).any()


def distinct(count, first=0):
    return " ".join(f"w{number}" for number in range(first, first + count))


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("count", [60, 3000])
def test_agreement_estimates_jaccard(similarity, count):
    """Within five standard deviations of as many independent hashes."""
    trials, size = 40, 112
    shared = round(count * 2 * similarity / (1 + similarity))
    pairs = []
    for trial in range(trials):
        begin = trial * 10_000
        pairs += [distinct(count, begin), distinct(count, begin + count - shared)]
    values = sketch(strings(*pairs), ngram=1, size=size).values
    agreeing = (values[::2] == values[1::2]).mean()
    found = (agreeing - 1 / 256) / (1 - 1 / 256)
    true = shared / (2 * count - shared)
    assert abs(found - true) < 5 * (true * (1 - true) / (size * trials)) ** 0.5


def test_long_texts_cross_the_buffer_unharmed():
    text = distinct(20_000)
    values, count = sketch(strings(text), ngram=5, size=8)
    assert (count[0], values[0].tolist()) == twin(text, 5, 8)


def test_a_long_text_that_repeats_itself_is_its_set():
    """Buckets stay empty after a round over all, and the rounds go over what is different."""
    size = 112
    once = "x " + distinct(50)
    many = "x " * (KEPT * size) + distinct(50)
    values, count = sketch(strings(once, many), ngram=1, size=size)
    assert count.tolist() == [51, KEPT * size + 50]
    assert (values[0] == values[1]).all()


def test_one_word_of_50_mb_and_25_million_words():
    letters = sketch(strings("x" * 50_000_000), ngram=5, size=112)
    assert letters.num_shingles.tolist() == [1]
    repeated = sketch(strings("x " * 25_000_000, "x x x x x"), ngram=5, size=112)
    assert repeated.num_shingles.tolist() == [24_999_996, 1]
    assert (repeated.values[0] == repeated.values[1]).all()


def test_no_text_depends_on_its_neighbours():
    texts = [distinct(40, 7 * number) for number in range(30)]
    together = sketch(strings(*texts), ngram=5, size=112)
    for number, text in enumerate(texts):
        assert (sketch(strings(text), ngram=5, size=112).values[0] == together.values[number]).all()


def test_no_texts():
    values, count = sketch(strings(), ngram=5, size=112)
    assert values.shape == (0, 112)
    assert count.shape == (0,)
    assert band_keys(values, bands=16).shape == (0, 16)


@pytest.mark.parametrize(("bands", "rows"), [(16, 7), (14, 8), (4, 28), (112, 1)])
def test_keys_are_equal_where_the_bytes_of_a_band_are(bands, rows):
    values = np.random.default_rng(0).integers(0, 2, (200, 112), np.uint8)
    keys = band_keys(values, bands=bands)
    as_bytes = [[(band, row[band * rows : (band + 1) * rows].tobytes()) for band in range(bands)] for row in values]
    names = {}
    for row, row_keys in zip(as_bytes, keys.tolist(), strict=True):
        for name, key in zip(row, row_keys, strict=True):
            assert names.setdefault(name, key) == key
    assert len(set(names.values())) == len(names)


def test_bands_must_divide_the_sketch():
    with pytest.raises(ConfigError, match="bands must divide the 112 values of a sketch, got 15"):
        band_keys(np.zeros((1, 112), np.uint8), bands=15)


def test_the_version_of_the_algorithm():
    """Golden values: whoever changes them counts up ALGORITHM_VERSION."""
    values = sketch(strings("The quick brown fox jumps over the lazy dog."), ngram=5, size=16).values
    assert minhash.ALGORITHM_VERSION == 1
    assert values[0].tolist() == GOLDEN
    assert band_keys(values, bands=2).tolist() == [GOLDEN_KEYS]


GOLDEN = [127, 44, 211, 169, 57, 156, 119, 71, 63, 55, 226, 89, 76, 103, 145, 216]
GOLDEN_KEYS = [0xBCE5E590C10BF1E1, 0xD15325E81071C5BF]
