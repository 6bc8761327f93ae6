"""The rules that a plane keeps, for `verify`: which places may be targets, how many of them are, and what swaps may be.

One pass over the tokens, one over each plane's bits, and one over its swaps.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from mlm_data.kernels import kernel, load_uint64, num_ones, range_mask, read_only, store_uint64
from mlm_data.rows.masking import mask_arrays
from mlm_data.rows.row_rules import problem_line
from mlm_data.types import PlaneMasks

FEW = 6  # ids that are compared one by one; more are looked up
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
    num_rows, num_bytes = tokens.shape[0], tokens.shape[1] // 8
    counts = np.zeros(num_rows, np.int64)
    flat = np.zeros(num_rows * num_bytes + 8, np.uint8)  # words are written whole, beyond the last row's end, too
    used = read_only(np.ascontiguousarray(used, np.int64))
    ids = np.flatnonzero(never)
    last = min(never.size - 1, np.iinfo(tokens.dtype).max)
    if 0 < ids.size <= FEW:
        few = np.resize(ids, FEW).astype(tokens.dtype)
        _maskable_but_few(read_only(tokens), used, read_only(few), tokens.dtype.type(last), flat, counts)
    else:
        # One entry behind the vocabulary stands for all ids beyond it: a loop without a branch.
        may = np.append(~never, False).astype(np.uint8)
        _maskable(read_only(tokens), used, read_only(may), flat, counts)
    return flat[: num_rows * num_bytes].reshape(num_rows, num_bytes), counts


def look_at_targets(
    targets: UInt8[np.ndarray, "rows bytes"], maskable: UInt8[np.ndarray, "rows bytes"]
) -> tuple[Bool[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
    """Whether some target of a row lies where none may be, and how many targets it has."""
    wrong, counts = np.zeros(len(targets), np.bool_), np.zeros(len(targets), np.int64)
    _look(_flat(targets), _flat(maskable), targets.shape[1], wrong, counts)
    return wrong, counts


def swap_problems(masks: PlaneMasks, *, sequence_length: int, vocab_size: int, first: int = 0) -> Iterator[str]:
    """One line for each rule of swaps that some row breaks; only the first rule's, if a swap lies outside its row.

    Args:
        masks: of any rows; its offsets lie within its values.
        sequence_length: places of a row.
        first: number of the first row, for the lines.
    """
    if _swaps_are_sound(
        _flat(masks.targets),
        read_only(masks.swap_offsets),
        read_only(masks.swap_places),
        read_only(masks.swap_tokens),
        sequence_length,
        vocab_size,
    ):
        return
    firsts, counts = _swaps(mask_arrays(masks), sequence_length, vocab_size)
    for line, row, count in zip(SWAP_LINES, firsts.tolist(), counts.tolist(), strict=True):
        if count:
            yield problem_line(first + row, line, count)
        if count and line == SWAP_LINES[0]:
            return


def _flat(bits: UInt8[np.ndarray, "rows bytes"]) -> UInt8[np.ndarray, " all"]:
    return read_only(np.ascontiguousarray(bits).reshape(-1))


@kernel
def _maskable(tokens, used, may, bits, counts):
    num_rows, length = tokens.shape
    beyond = may.size - 1
    marks = np.zeros(-(-length // 64) * 64, np.uint8)
    for row in range(num_rows):
        line = tokens[row]
        for i in range(length):
            marks[i] = may[min(np.int64(line[i]), beyond)]
        counts[row] = _write_row(marks, used[row], bits, row * (length // 8))


@kernel
def _maskable_but_few(tokens, used, few, last, bits, counts):
    """As `_maskable`, where `FEW` ids and those above the last one can't be targets: comparisons of whole vectors."""
    num_rows, length = tokens.shape
    a, b, c, d, e, f = few
    marks = np.zeros(-(-length // 64) * 64, np.uint8)
    for row in range(num_rows):
        line = tokens[row]
        for i in range(length):
            x = line[i]
            may = (x != a) & (x != b) & (x != c) & (x != d) & (x != e) & (x != f) & (x <= last)
            marks[i] = np.uint8(may)
        counts[row] = _write_row(marks, used[row], bits, row * (length // 8))


@kernel
def _write_row(marks, used, bits, at):
    """Write the bits of a row's places up to `used` from bits[at] on; returns how many are set."""
    count = np.int64(0)
    for w in range(marks.size >> 6):
        word = range_mask(marks, 64 * w, 0, 1, 1)
        left = used - 64 * w
        if left < 64:
            word &= (np.uint64(1) << np.uint64(max(left, 0))) - np.uint64(1)
        store_uint64(bits, at + 8 * w, word)
        count += np.int64(num_ones(word))
    return count


@kernel
def _look(targets, maskable, num_bytes, wrong, counts):
    for row in range(wrong.size):
        begin, end = row * num_bytes, (row + 1) * num_bytes
        whole = end - num_bytes % 8
        beside, count = np.uint64(0), np.uint64(0)
        for at in range(begin, whole, 8):
            bits = load_uint64(targets, at)
            beside |= bits & ~load_uint64(maskable, at)
            count += num_ones(bits)
        for at in range(whole, end):
            beside |= np.uint64(targets[at] & ~maskable[at])
            count += num_ones(np.uint64(targets[at]))
        wrong[row] = beside != 0
        counts[row] = count


@kernel
def _swaps_are_sound(targets, swap_offsets, swap_places, swap_tokens, length, vocab_size):
    """Whether no row breaks a rule of swaps: each rule in a loop of its own over all rows, as vectors want it."""
    num_rows = swap_offsets.size - 1
    begin, end = swap_offsets[0], swap_offsets[num_rows]
    places, tokens = swap_places[begin:end], swap_tokens[begin:end]
    if places.size == 0:
        return True
    highest, foreign = places[0], tokens[0]
    for q in range(places.size):
        highest = max(highest, places[q])
        foreign = max(foreign, tokens[q])
    if highest >= length or foreign >= vocab_size:
        return False
    # Places fall only where a row begins.
    falls = np.int64(0)
    for q in range(places.size - 1):
        falls += places[q + 1] <= places[q]
    hit = np.uint64(0)
    for row in range(num_rows):
        first, last = np.uint64(swap_offsets[row]), np.uint64(swap_offsets[row + 1])
        if begin < first < end and first < last:
            falls -= swap_places[first] <= swap_places[first - np.uint64(1)]
        bits = targets[row * (length >> 3) : (row + 1) * (length >> 3)]
        found = np.uint32(0)
        for q in range(first, last):
            place = np.uint32(swap_places[q])
            found += (np.uint32(bits[place >> np.uint32(3)]) >> (place & np.uint32(7))) & np.uint32(1)
        hit += found
    return falls == 0 and hit == places.size


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
