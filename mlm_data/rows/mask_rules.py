"""The rules that a plane keeps, for `verify`: which places may be targets, and how many of them are.

One pass over the tokens, and one over each plane's bits. Cost: several GB/s of planes on one core.
"""

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from mlm_data.kernels import kernel, read_only
from mlm_data.rows.audit_kernels import POPCOUNT


def maskable_bits(
    tokens: Integer[np.ndarray, "rows length"],
    used: Integer[np.ndarray, " rows"],
    never: Bool[np.ndarray, " vocabulary"],
) -> tuple[UInt8[np.ndarray, "rows bytes"], Int64[np.ndarray, " rows"]]:
    """The places of each row that may be targets, as a plane has its bits; and how many there are.

    Args:
        tokens: as they are stored.
        used: places of each row before its padding.
        never: which ids can't be targets; ids beyond it can't be either.
    """
    bits = np.zeros((tokens.shape[0], tokens.shape[1] // 8), np.uint8)
    counts = np.zeros(tokens.shape[0], np.int64)
    _maskable(read_only(tokens), read_only(np.ascontiguousarray(used, np.int64)), read_only(never), bits, counts)
    return bits, counts


def look_at_targets(
    targets: UInt8[np.ndarray, "rows bytes"], maskable: UInt8[np.ndarray, "rows bytes"]
) -> tuple[Bool[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
    """Whether some target of a row lies where none may be, and how many targets it has."""
    wrong, counts = np.zeros(len(targets), np.bool_), np.zeros(len(targets), np.int64)
    _look(read_only(targets), read_only(maskable), wrong, counts)
    return wrong, counts


@kernel
def _maskable(tokens, used, never, bits, counts):
    for row in range(tokens.shape[0]):
        count = 0
        for byte in range((used[row] + 7) // 8):
            value = np.uint8(0)
            for i in range(8 * byte, min(8 * byte + 8, used[row])):
                token = np.int64(tokens[row, i])
                if token < never.size and not never[token]:
                    value |= np.uint8(1 << (i & 7))
                    count += 1
            bits[row, byte] = value
        counts[row] = count


@kernel
def _look(targets, maskable, wrong, counts):
    for row in range(targets.shape[0]):
        beside, count = np.uint8(0), 0
        for byte in range(targets.shape[1]):
            bits = targets[row, byte]
            beside |= bits & ~maskable[row, byte]
            count += POPCOUNT[bits]
        wrong[row] = beside != 0
        counts[row] = count
