"""Which documents are held out for validation.

A document goes to validation if the hash of (seed, what the split goes by) lies below a threshold: share * 2**64. It
never changes sides when others come or go. By `document` the hash is the document id's, so that exact duplicates always
share a side; by `source` or by a field whole groups share one.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, UInt64

from mlm_data import seeds
from mlm_data.hashing import hash128
from mlm_data.kernels import kernel


def choose_validation(
    groups: UInt64[np.ndarray, " documents"], *, share: float, seed: int
) -> Bool[np.ndarray, " documents"]:
    """True where a document is held out.

    Args:
        groups: a 64-bit hash of what the split goes by; documents of one group share a side.
        share: expected fraction of the groups, in [0, 1).
        seed: the build's seed.

    >>> int(choose_validation(np.arange(10_000, dtype=np.uint64), share=0.1, seed=0).sum())
    975
    """
    key = np.uint64(seeds.fold(np.uint64(seed), seeds.SPLIT))  # numba hands back a plain int
    return _below(groups, key, np.uint64(round(share * 2**53) << 11))


def group_hashes(values: pa.Array) -> UInt64[np.ndarray, " documents"]:
    """A 64-bit hash of each string; nulls are one group of their own."""
    strings = pa.array(values).cast(pa.large_string())
    hashes = hash128(strings.fill_null(""))[:, 0].copy()
    hashes[strings.is_null().to_numpy(zero_copy_only=False)] = np.uint64(0)
    return hashes


@kernel
def _below(groups, key, threshold):
    chosen = np.empty(groups.size, np.bool_)
    for i in range(groups.size):
        chosen[i] = seeds.draw(key, groups[i]) < threshold
    return chosen
