"""The keyed draws of `seeds` in numpy, and what draws are for: where few are needed, numba takes longer to start.

Keys and counters are arrays, of one number or of as many as they are folded into: numpy warns where a single number
overflows, and is silent where one in an array does. What they return is what the loops of `seeds` return.
"""

import numpy as np
from jaxtyping import UInt64

# Purposes. A purpose is folded in first, so that two uses of one seed never share a draw.
PRIORITY = np.uint64(1)  # which places are targets
CORRUPTION = np.uint64(2)  # [MASK], random or kept
RANDOM_TOKEN = np.uint64(3)  # which random token
SHARD_ORDER = np.uint64(4)  # order of shards in an epoch
ROW_ORDER = np.uint64(5)  # order of rows in a window
SPLIT = np.uint64(6)  # train or validation
SAMPLE = np.uint64(7)  # which documents a sample holds
SPAN_LENGTH = np.uint64(8)  # lengths of masked spans
WEIGHT = np.uint64(9)  # which documents are thinned or repeated

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Words = UInt64[np.ndarray, " words"]


def mix(x: Words) -> Words:
    """SplitMix64's finalizer."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def fold(key: UInt64[np.ndarray, " keys"], word: Words) -> Words:
    """Fold 64-bit words into keys."""
    return mix((key ^ mix(word + _GOLDEN)) + _GOLDEN)


def draw(key: UInt64[np.ndarray, " keys"], counter: Words) -> Words:
    """The counter-th number of a key's stream."""
    return mix(key + (counter + np.uint64(1)) * _GOLDEN)
