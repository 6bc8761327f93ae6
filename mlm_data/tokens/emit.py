"""What all scanners share: reading a code point, writing a piece's ids, and filling the holes of unknown pieces.

A scanner runs through the documents until one of its buffers is full. For a piece that the table knows it writes the
ids; for one that it doesn't it leaves a *hole*: the piece's place in the text, and the place in the ids where the
answer belongs. Afterwards the holes of the whole run are answered in one call and `splice` puts everything together.

    "the cat xyzzy sat"   ids 1996 4937 . 2938      hole 0: bytes 8 to 13, before id 2
    answer to hole 0: 1060 2100 13213 2100          ->  1996 4937 1060 2100 13213 2100 2938

Ids carry WORD_START flags until `splice` takes them apart.
"""

import numpy as np

from mlm_data.tokens.bits import inlined, lean_kernel
from mlm_data.tokens.table import WORD_START, find, piece_hash, piece_key

# Words of a scanner's state, in an int64 array.
DOCUMENT, PLACE, NUM_IDS, NUM_HOLES, UNKNOWN_POINT, MATCH = 0, 1, 2, 3, 4, 5
LONGEST_ANSWER = 1024  # ids; a longer answer is not remembered
SLACK = LONGEST_ANSWER + 8  # free ids that a scanner wants before it writes a piece


@inlined
def code_point(data, place, end):
    """The code point that starts at `place` and its length in bytes; bytes that are no UTF-8 count alone."""
    first = np.int64(data[place])
    if first < 0x80:
        return first, 1
    if 0xC2 <= first < 0xE0 and place + 1 < end:
        return (first & 0x1F) << 6 | (np.int64(data[place + 1]) & 0x3F), 2
    if 0xE0 <= first < 0xF0 and place + 2 < end:
        middle = (np.int64(data[place + 1]) & 0x3F) << 6
        return (first & 0x0F) << 12 | middle | (np.int64(data[place + 2]) & 0x3F), 3
    if 0xF0 <= first < 0xF5 and place + 3 < end:
        middle = (np.int64(data[place + 1]) & 0x3F) << 12 | (np.int64(data[place + 2]) & 0x3F) << 6
        return min((first & 0x07) << 18 | middle | (np.int64(data[place + 3]) & 0x3F), 0x10FFFF), 4
    return 0xFFFD, 1


@inlined
def emit(slots, keys, arena, data, start, end, out, num_ids, holes, hashes, num_holes):
    """Write the ids of the piece data[start:end], or a hole; returns the new numbers of ids and holes."""
    length = end - start
    k0, k1 = piece_key(data, start, length)
    h = piece_hash(data, start, length, k0, k1)
    place = -1
    if length <= 255:
        place = find(slots, keys, data, start, length, k0, k1, h)
    if place < 0:
        holes[num_holes, 0] = num_ids
        holes[num_holes, 1] = start
        holes[num_holes, 2] = length
        hashes[num_holes] = h
        return num_ids, num_holes + 1
    answer = slots[np.uint64(place + 3)]
    count = np.int64(answer & np.uint64(3))
    if count > 0:
        at = np.uint64(num_ids)
        out[at] = np.uint32((answer >> np.uint64(2)) & np.uint64(0xFFFFF)) | WORD_START
        out[at + np.uint64(1)] = np.uint32((answer >> np.uint64(22)) & np.uint64(0xFFFFF))
        out[at + np.uint64(2)] = np.uint32((answer >> np.uint64(42)) & np.uint64(0xFFFFF))
        return num_ids + count, num_holes
    count = np.int64((answer >> np.uint64(2)) & np.uint64(0x3FFFFF))
    offset = np.int64(answer >> np.uint64(24))
    for j in range(count):
        out[num_ids + j] = arena[offset + j]
    return num_ids + count, num_holes


@lean_kernel
def distinct_holes(data, holes, hashes, slots, which):
    """Number the distinct pieces of the holes in order: which[hole] = number; returns their count.

    slots: zeros, a power of two and more than twice the holes.
    """
    mask = slots.size - 1
    count = 0
    for hole in range(which.size):
        start = holes[hole, 1]
        length = holes[hole, 2]
        i = np.int64(hashes[hole] >> np.uint64(32)) & mask
        while slots[i] != 0:
            other = slots[i] - 1
            if hashes[other] == hashes[hole] and holes[other, 2] == length:
                same = True
                for j in range(length):
                    if data[start + j] != data[holes[other, 1] + j]:
                        same = False
                        break
                if same:
                    break
            i = (i + 1) & mask
        if slots[i] != 0:
            which[hole] = which[slots[i] - 1]
        else:
            slots[i] = hole + 1
            which[hole] = count
            count += 1
    return count


@inlined
def apart(flagged, first, count, ids, starts, place):
    """Copy ids without their flags to `place`, and the flags beside them."""
    for j in range(np.uint64(count)):
        token = flagged[np.uint64(first) + j]
        ids[np.uint64(place) + j] = token & ~WORD_START
        starts[np.uint64(place) + j] = token >= WORD_START


@lean_kernel
def splice(out, num_ids, holes, which, ids, bounds, ends, result, starts, offsets, base):
    """Put the answers into their holes and take ids and flags apart.

    out: a scanner's ids; holes, which: its holes and the number of each one's answer, ids[bounds[n]:bounds[n + 1]].
    ends: int64[documents, 2], ids and holes before the end of each document; offsets[d] becomes base + its end.
    result, starts: ids and word starts, already of the right size.
    """
    place = 0
    read = 0
    document = 0
    for hole in range(which.size + 1):
        upto = holes[hole, 0] if hole < which.size else num_ids
        while document < ends.shape[0] and ends[document, 1] <= hole and ends[document, 0] <= upto:
            offsets[document] = base + place + ends[document, 0] - read
            document += 1
        apart(out, read, upto - read, result, starts, place)
        place += upto - read
        read = upto
        if hole < which.size:
            first = bounds[which[hole]]
            count = bounds[which[hole] + 1] - first
            apart(ids, first, count, result, starts, place)
            place += count
