"""The rules that a plane keeps, for `verify`: which places may be targets, how many of them are, and what swaps may be.

One pass over the tokens, one over each plane's bits, and one over its swaps.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from mlm_data.kernels import kernel, read_only
from mlm_data.rows.audit_kernels import POPCOUNT
from mlm_data.rows.masking import PlaneMasks, mask_arrays
from mlm_data.rows.row_rules import problem_line

SWAP_LINES = (
    "a swap lies outside the row",
    "a swap is not on a target",
    "its swaps are not in order",
    "a swap's token is not in the vocabulary",
)


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
    # One entry behind the vocabulary stands for all ids beyond it: a loop without a branch.
    may = np.append(~never, False).astype(np.uint8)
    _maskable(read_only(tokens), read_only(np.ascontiguousarray(used, np.int64)), read_only(may), bits, counts)
    return bits, counts


def look_at_targets(
    targets: UInt8[np.ndarray, "rows bytes"], maskable: UInt8[np.ndarray, "rows bytes"]
) -> tuple[Bool[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
    """Whether some target of a row lies where none may be, and how many targets it has."""
    wrong, counts = np.zeros(len(targets), np.bool_), np.zeros(len(targets), np.int64)
    _look(read_only(targets), read_only(maskable), wrong, counts)
    return wrong, counts


def swap_problems(masks: PlaneMasks, *, sequence_length: int, vocab_size: int, first: int = 0) -> Iterator[str]:
    """One line for each rule of swaps that some row breaks; only the first rule's, if a swap lies outside its row.

    Args:
        masks: of any rows; its offsets lie within its values.
        sequence_length: places of a row.
        first: number of the first row, for the lines.
    """
    firsts, counts = _swaps(mask_arrays(masks), sequence_length, vocab_size)
    for line, row, count in zip(SWAP_LINES, firsts.tolist(), counts.tolist(), strict=True):
        if count:
            yield problem_line(first + row, line, count)
        if count and line == SWAP_LINES[0]:
            return


@kernel
def _maskable(tokens, used, may, bits, counts):
    beyond = may.size - 1
    for row in range(tokens.shape[0]):
        line, count = tokens[row], 0
        for byte in range(used[row] >> 3):
            value = np.uint8(0)
            for i in range(8):
                value |= may[min(np.int64(line[8 * byte + i]), beyond)] << np.uint8(i)
            bits[row, byte] = value
            count += POPCOUNT[value]
        for i in range(used[row] & ~7, used[row]):
            one = may[min(np.int64(line[i]), beyond)]
            bits[row, i >> 3] |= one << np.uint8(i & 7)
            count += one
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


@kernel
def _swaps(masks, length, vocab_size):
    targets, swap_offsets, swap_places, swap_tokens = masks
    firsts, counts = np.zeros(4, np.int64), np.zeros(4, np.int64)
    for row in range(targets.shape[0]):
        bits, before = targets[row], np.int64(-1)
        outside, beside, falling, foreign = False, False, False, False
        for q in range(swap_offsets[row], swap_offsets[row + 1]):
            place = np.int64(swap_places[q])
            if place >= length:
                outside = True
                continue
            beside |= bool((bits[place >> 3] >> (place & 7)) & 1 == 0)
            falling |= bool(place <= before)
            foreign |= bool(np.int64(swap_tokens[q]) >= vocab_size)
            before = place
        for rule, broken in enumerate((outside, beside, falling, foreign)):
            if broken:
                if counts[rule] == 0:
                    firsts[rule] = row
                counts[rule] += 1
    return firsts, counts
