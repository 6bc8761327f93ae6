"""Keyed randomness: every draw is a pure function of what it is for.

A *key* is a 64-bit number made by folding words into a state, one after another; a *draw* hashes a key and a
counter. There is no generator that could be advanced in another order by another worker.

    key = fold(fold(fold(seed, PRIORITY), plane), document)        draw(key, place) -> uint64

The mixing function is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
Generators, OOPSLA 2014, fig. 17, with Stafford's variant 13): a bijection on 64 bits with full avalanche.
"""

import numpy as np

from mlm_data.kernels import kernel
from mlm_data.seeds_plain import (
    CORRUPTION,
    PRIORITY,
    RANDOM_TOKEN,
    ROW_ORDER,
    SAMPLE,
    SHARD_ORDER,
    SPAN_LENGTH,
    SPLIT,
    WEIGHT,
)

__all__ = [
    "CORRUPTION", "PRIORITY", "RANDOM_TOKEN", "ROW_ORDER", "SAMPLE", "SHARD_ORDER", "SPAN_LENGTH", "SPLIT", "WEIGHT",
    "below", "draw", "draws", "fold", "mix",
]  # fmt: skip


@kernel
def mix(x):
    """SplitMix64's finalizer: uint64 -> uint64, a bijection."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def fold(key, word):
    """Fold one 64-bit word into a key: uint64, uint64 -> uint64."""
    return mix((np.uint64(key) ^ mix(np.uint64(word) + np.uint64(0x9E3779B97F4A7C15))) + np.uint64(0x9E3779B97F4A7C15))


@kernel
def draw(key, counter):
    """The counter-th number of a key's stream: uint64, uint64 -> uniform uint64."""
    return mix(np.uint64(key) + (np.uint64(counter) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


@kernel
def draws(key, count):
    """The first `count` numbers of a key's stream: uint64 [count]."""
    numbers = np.empty(count, np.uint64)
    for counter in range(count):
        numbers[counter] = draw(key, counter)
    return numbers


@kernel
def below(x, n):
    """Map a uniform uint64 to [0, n) without division: the high half of x * n, n < 2**32 (Lemire 2019).

    >>> int(below(2**63, 10))
    5
    """
    return ((np.uint64(x) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)
