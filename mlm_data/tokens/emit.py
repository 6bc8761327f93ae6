"""What all scanners share: reading a code point, writing a piece's ids, and filling the holes of unknown pieces.

A scanner runs through the documents until one of its buffers is full. For a piece that the table knows it writes the
ids; for one that it doesn't it leaves a *hole*: the piece's place in the text, and the place in the ids where the
answer belongs. Afterwards the holes of the whole run are answered in one call and `splice` puts everything together.

    "the cat xyzzy sat"   ids 1996 4937 . 2938      hole 0: bytes 8 to 13, before id 2
    answer to hole 0: 1060 2100 13213 2100          ->  1996 4937 1060 2100 13213 2100 2938

Ids carry WORD_START flags until `splice` takes them apart.
"""

import numpy as np

from mlm_data.kernels import acquire, copy16, inlined, lean_kernel, load_uint64, prefetch
from mlm_data.tokens.table import (
    ALL,
    FIRST_MASK,
    SECOND_MASK,
    SHORT_KEY,
    SLOT,
    TAG,
    WORD_START,
    find,
    piece_hash,
    piece_key,
    short_hash,
)

# Words of a scanner's state, in an int64 array.
DOCUMENT, PLACE, NUM_IDS, NUM_HOLES, UNKNOWN_POINT, MATCH = 0, 1, 2, 3, 4, 5
LONGEST_ANSWER = 1024  # ids; a longer answer is not remembered
SLACK = LONGEST_ANSWER + 8  # free ids that a scanner wants before it writes a piece
ROW = 4  # words of a piece that is looked up: its tail, its head, its slot; four, for places that are a shift
QUEUE = 256  # pieces that are looked up together, and up to 64 more
IDS_PER_RUN = 1 << 18  # a scanner's buffer of ids: more would leave the cache, less ask about fewer pieces together
HOLES_PER_RUN = 1 << 13


class Buffers:
    """What one thread's scans write into."""

    def __init__(self) -> None:
        self.out = np.empty(IDS_PER_RUN + SLACK, np.uint32)
        self.holes = np.empty((HOLES_PER_RUN, 3), np.int64)
        self.hashes = np.empty(HOLES_PER_RUN, np.uint64)
        self.state = np.zeros(8, np.int64)
        self.queue = np.empty(QUEUE + 64, np.int64)  # ends of pieces
        self.words = np.empty((QUEUE + 64) * ROW, np.uint64)  # what is looked up of each

    @property
    def written(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, holes, and the holes' hashes."""
        return self.out, self.holes, self.hashes


@inlined
def any_code_point(data, place, end):
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
    count = np.int64(answer >> np.uint64(32))
    if count > 0:
        copy16(slots, place + 2, out, num_ids)
        return num_ids + count, num_holes
    count = np.int64(answer)
    offset = np.int64(slots[np.uint64(place + 2)])
    for j in range(count):
        out[num_ids + j] = arena[offset + j]
    return num_ids + count, num_holes


@lean_kernel
def emit_queue(slots, keys, arena, data, start, queue, words, count, out, num_ids, holes, hashes, num_holes):
    """The same for `count` pieces that follow each other from `start` on, ending at queue[0], queue[1], ...

    Twice over the pieces: first all hashes, so that the slots come from memory together, then the answers. Stops when
    `out` is full; the caller keeps 16 bytes of `data` behind each piece's start, and room for `count` holes. Returns
    how many pieces were written, and the new numbers of ids and holes.
    words: uint64[ROW * count], scratch.
    """
    mask = np.uint64(slots.size - 1)
    one = np.uint64(1)
    two = np.uint64(2)
    place = start
    for i in range(np.uint64(count)):
        length = queue[i] - place
        short = np.uint64(min(length, SHORT_KEY))
        k0 = load_uint64(data, place) & FIRST_MASK[short]
        k1 = load_uint64(data, place + 8) & SECOND_MASK[short] | np.uint64(length) << TAG
        # No key has such a tail: a long piece is left to `emit`.
        k1 = k1 if length <= SHORT_KEY else ALL
        slot = ((short_hash(k0, k1) >> np.uint64(32)) * np.uint64(SLOT)) & mask
        row = i * np.uint64(ROW)
        words[row] = k1
        words[row + one] = k0
        words[row + two] = slot
        prefetch(slots, slot)
        place = queue[i]
    enough = out.size - SLACK
    done = 0
    place = start
    while done < count and num_ids < enough:
        row = np.uint64(done) * np.uint64(ROW)
        k1 = words[row]
        slot = words[row + two]
        other = slots[slot] ^ k1
        acquire()
        other |= slots[slot + one] ^ words[row + one]
        ids = np.int64(slots[slot + np.uint64(3)] >> np.uint64(32))
        if other == 0 and ids > 0:
            copy16(slots, slot + two, out, np.uint64(num_ids))
            num_ids += ids
        else:  # not in its first slot, long, unknown, or with many ids
            end = queue[np.uint64(done)]
            num_ids, num_holes = emit(slots, keys, arena, data, place, end, out, num_ids, holes, hashes, num_holes)
        place = queue[np.uint64(done)]
        done += 1
    return done, num_ids, num_holes


@lean_kernel
def distinct_holes(data, holes, hashes, slots, which, starts, lengths):
    """Number the distinct pieces of the holes in order: which[hole] = number; returns their count.

    slots: zeros, a power of two and more than twice the holes.
    starts, lengths: of each distinct piece, in the order of their numbers; as long as the holes.
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
            starts[count] = start
            lengths[count] = length
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
