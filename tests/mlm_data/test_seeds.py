"""Keyed randomness: published numbers, avalanche, uniformity, and no two purposes alike."""

from typing import ClassVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlm_data import seeds
from mlm_data.kernels import kernel
from mlm_data.seeds import below, draw, fold, mix

words = st.integers(0, 2**64 - 1).map(np.uint64)


class Plain:
    """The same in Python's integers."""

    mask: ClassVar = 2**64 - 1

    @classmethod
    def mix(cls, x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & cls.mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & cls.mask
        return x ^ (x >> 31)

    @classmethod
    def fold(cls, key, word):
        golden = 0x9E3779B97F4A7C15
        return cls.mix((key ^ cls.mix(word + golden & cls.mask)) + golden & cls.mask)

    @classmethod
    def draw(cls, key, counter):
        return cls.mix(key + (counter + 1) * 0x9E3779B97F4A7C15 & cls.mask)


@kernel
def _draws(key, out):
    for i in range(len(out)):
        out[i] = draw(key, i)


def draws(key, count):
    out = np.empty(count, np.uint64)
    _draws(np.uint64(key), out)
    return out


def test_draws_are_splitmix64():
    """The first numbers of SplitMix64 from seed 1234567, as Vigna's splitmix64.c prints them."""
    assert draws(1234567, 5).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(words, words)
def test_kernels_equal_plain_integers(key, word):
    assert int(mix(key)) == Plain.mix(int(key))
    assert int(fold(key, word)) == Plain.fold(int(key), int(word))
    assert int(draw(key, word)) == Plain.draw(int(key), int(word))


def test_many_draws_are_single_ones_in_a_row():
    assert seeds.draws(np.uint64(7), 5).tolist() == [int(draw(np.uint64(7), counter)) for counter in range(5)]
    assert seeds.draws(np.uint64(7), 0).size == 0


@given(words, words, words)
def test_the_order_of_words_matters(key, one, two):
    if one != two:
        assert fold(np.uint64(fold(key, one)), two) != fold(np.uint64(fold(key, two)), one)
        assert fold(key, one) != fold(key, two)


def test_every_input_bit_moves_half_of_the_output_bits():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, 200, dtype=np.uint64)
    for function in (mix, lambda x: fold(x, np.uint64(3)), lambda x: fold(np.uint64(3), x), lambda x: draw(x, 0)):
        for bit in range(64):
            flips = [int(function(key)) ^ int(function(key ^ np.uint64(1 << bit))) for key in keys]
            mean = np.mean([flip.bit_count() for flip in flips])
            assert 30 < mean < 34, bit


def test_small_seeds_and_counters_are_as_good_as_any():
    """Chi-squared over 256 cells for the keys 0 to 7: 255 degrees of freedom, so 360 is 1 in 100,000."""
    for key in range(8):
        counts = np.bincount((draws(key, 100_000) >> np.uint64(56)).astype(np.int64), minlength=256)
        assert ((counts - 100_000 / 256) ** 2 / (100_000 / 256)).sum() < 360


@given(words, st.integers(1, 2**32 - 1))
def test_below_is_the_high_half_of_the_product(x, n):
    assert int(below(x, n)) == (int(x) >> 32) * n >> 32 < n


def test_below_reaches_everything_alike():
    counts = np.bincount([int(below(x, 10)) for x in draws(5, 20_000)], minlength=10)
    assert counts.min() > 1850
    assert counts.max() < 2150


def test_purposes_differ():
    names = [name for name in vars(seeds) if name.isupper()]
    values = [int(getattr(seeds, name)) for name in names]
    assert len(names) >= 8
    assert len(set(values)) == len(values)
    assert len({int(fold(np.uint64(0), np.uint64(value))) for value in values}) == len(values)
