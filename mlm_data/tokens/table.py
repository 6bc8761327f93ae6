"""The word table: piece of text -> its token ids. Shared by threads, bounded in memory, never wrong.

The rule. A slot of an open-addressing table is four 64-bit words; two of them share a cache line:

    meta     hash without its low byte | length of the key in bytes (1 to 255); 0: the slot is free
    k0, k1   the key itself, zero-padded, if it has at most 16 bytes; else its hash and its place among the long keys
    answer   1 to 3 ids of 20 bits and, in the two lowest bits, how many; or 0 there, and place and length in the arena

A key is found when length *and bytes* are equal, so a collision of hashes can't change an id. A linear probe starts at
the hash's high bits. "the" in a table of 8 slots:

    k0 = 0x656874, k1 = 0, hash = 0x9f…03  ->  slot 4 is "of"? lengths differ; slot 5: meta, k0, k1 equal -> 1 id: 1996

Readers take no lock: a slot's meta is stored last, and arrays that grow are replaced by larger copies while readers
finish with the old ones (`View`). Writers take a lock. When the next growth would break the byte budget, the table is
emptied and starts again: it is a memory of answers, and forgetting one only costs asking again.

Cost: one cache line for most look-ups; 32 bytes a slot at a load of at most one half.
Source: Knuth, The Art of Computer Programming 3, sec. 6.4, algorithm L.
"""

import threading
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8, UInt32, UInt64

from mlm_data.tokens.bits import acquire, folded, inlined, lean_kernel, load64, release

SHORT_KEY = 16  # bytes that fit into a slot
LONGEST_KEY = 255  # a longer piece is asked anew each time
SLOT = 4  # words
WORD_START = np.uint32(1 << 31)  # flag on an id: it begins a word
INLINE_IDS = 1 << 20  # ids below this fit into a slot
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Of a key of n bytes, what counts of its first and of its second word.
FIRST_MASK = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(SHORT_KEY + 1)], np.uint64)
SECOND_MASK = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(SHORT_KEY + 1)], np.uint64)


class View(NamedTuple):
    """The arrays of a table at one moment. Readers keep what they were given."""

    slots: UInt64[np.ndarray, " slots*4"]
    keys: UInt8[np.ndarray, " bytes"]  # keys of more than 16 bytes
    arena: UInt32[np.ndarray, " ids"]  # ids with WORD_START flags, of answers that don't fit into a slot


@inlined
def piece_key(data, start, length):
    """First 16 bytes of a piece as two zero-padded words: uint64, uint64."""
    if start + 16 <= data.size:
        # Without a branch on the length, which no processor could predict.
        short = min(length, SHORT_KEY)
        return load64(data, start) & FIRST_MASK[short], load64(data, start + 8) & SECOND_MASK[short]
    k0 = np.uint64(0)
    k1 = np.uint64(0)
    for i in range(min(length, 16)):
        if i < 8:
            k0 |= np.uint64(data[start + i]) << np.uint64(8 * i)
        else:
            k1 |= np.uint64(data[start + i]) << np.uint64(8 * (i - 8))
    return k0, k1


@inlined
def short_hash(k0, k1, length):
    """64-bit hash of a piece of at most 16 bytes: one multiplication, as in wyhash (Wang Yi et al.)."""
    return folded(k0 ^ np.uint64(0x9E3779B97F4A7C15), (k1 ^ np.uint64(0xC2B2AE3D27D4EB4F)) + np.uint64(length))


@inlined
def piece_hash(data, start, length, k0, k1):
    """64-bit hash of a piece whose first 16 bytes are k0, k1."""
    h = short_hash(k0, k1, length)
    i = start + 16
    end = start + length
    while i < end:
        word = np.uint64(0)
        if i + 8 <= data.size:
            word = load64(data, i)
            if end - i < 8:
                word &= ALL >> np.uint64(64 - 8 * (end - i))
        else:
            for j in range(i, end):
                word |= np.uint64(data[j]) << np.uint64(8 * (j - i))
        h = (h ^ word) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
        i += 8
    return h


@inlined
def find(slots, keys, data, start, length, k0, k1, h):
    """Place of a piece's slot in `slots`, or -1."""
    # Unsigned indices: numba looks whether a signed one counts from the end.
    mask = np.uint64(slots.size - 1)
    meta = (h & ~np.uint64(0xFF)) | np.uint64(length)
    place = ((h >> np.uint64(32)) * np.uint64(SLOT)) & mask
    while True:
        found = slots[place]
        if found == 0:
            return -1
        if found == meta:
            acquire()
            if length <= SHORT_KEY:
                if slots[place + np.uint64(1)] == k0 and slots[place + np.uint64(2)] == k1:
                    return np.int64(place)
            elif slots[place + np.uint64(1)] == h:
                offset = slots[place + np.uint64(2)]
                same = True
                for j in range(length):
                    if keys[offset + np.uint64(j)] != data[start + j]:
                        same = False
                        break
                if same:
                    return np.int64(place)
        place = (place + np.uint64(SLOT)) & mask


@lean_kernel
def insert(slots, keys, arena, used, data, starts, lengths, ids, bounds):
    """Add pieces with their answers; a piece that is there already is skipped.

    used: int64[3], slots, bytes of `keys` and ids of `arena` in use; the caller has made room. Piece i is
    data[starts[i] : starts[i] + lengths[i]]; its answer is ids[bounds[i] : bounds[i + 1]], with WORD_START flags.
    """
    mask = slots.size // SLOT - 1
    for i in range(starts.size):
        length = lengths[i]
        if length > LONGEST_KEY:
            continue
        k0, k1 = piece_key(data, starts[i], length)
        h = piece_hash(data, starts[i], length, k0, k1)
        if find(slots, keys, data, starts[i], length, k0, k1, h) >= 0:
            continue
        if length > SHORT_KEY:
            k0 = h
            k1 = np.uint64(used[1])
            for j in range(length):
                keys[used[1] + j] = data[starts[i] + j]
            used[1] += length
        first = bounds[i]
        count = bounds[i + 1] - first
        fits = 1 <= count <= 3
        answer = np.uint64(count)
        for j in range(count):
            token = ids[first + j]
            # Inside a slot, the first id begins a word and the others don't.
            fits = fits and ((token >= WORD_START) == (j == 0)) and (token & ~WORD_START) < INLINE_IDS
            if fits:
                answer |= np.uint64(token & ~WORD_START) << np.uint64(2 + 20 * j)
        if not fits:
            answer = (np.uint64(used[2]) << np.uint64(24)) | (np.uint64(count) << np.uint64(2))
            for j in range(count):
                arena[used[2] + j] = ids[first + j]
            used[2] += count
        place = (np.int64(h >> np.uint64(32)) & mask) * SLOT
        while slots[place] != 0:
            place = (place + SLOT) & (slots.size - 1)
        slots[place + 1] = k0
        slots[place + 2] = k1
        slots[place + 3] = answer
        release()
        slots[place] = (h & ~np.uint64(0xFF)) | np.uint64(length)
        used[0] += 1


@lean_kernel
def rehash(old, new, keys):
    """Put all slots of a table into a larger, empty one."""
    mask = new.size // SLOT - 1
    for place in range(0, old.size, SLOT):
        if old[place] == 0:
            continue
        length = np.int64(old[place] & np.uint64(0xFF))
        h = old[place + 1]
        if length <= SHORT_KEY:
            h = piece_hash(keys, 0, length, old[place + 1], old[place + 2])
        target = (np.int64(h >> np.uint64(32)) & mask) * SLOT
        while new[target] != 0:
            target = (target + SLOT) & (new.size - 1)
        for j in range(SLOT):
            new[target + j] = old[place + j]


class WordTable:
    """A bounded memory of answers. `view` may be read by any thread at any time.

    Args:
        budget_bytes: all arrays together, also while they grow, stay below it; at least 1 MiB.
    """

    def __init__(self, budget_bytes: int = 512 << 20) -> None:
        self.budget_bytes = max(budget_bytes, 1 << 20)
        self.num_resets = 0
        self._lock = threading.Lock()
        self._empty()

    def _empty(self) -> None:
        self._used = np.zeros(3, np.int64)
        # Growing costs, and pages that aren't written don't: begin with up to 4 MiB.
        scale = min(self.budget_bytes >> 24, 32).bit_length()
        sizes = SLOT << (10 + scale), 1 << (14 + scale), 1 << (12 + scale)
        self.view = View(*(np.zeros(n, kind) for n, kind in zip(sizes, (np.uint64, np.uint8, np.uint32), strict=True)))

    @property
    def num_pieces(self) -> int:
        """Pieces remembered now."""
        return int(self._used[0])

    @property
    def num_bytes(self) -> int:
        """Bytes of the arrays now."""
        return sum(array.nbytes for array in self.view)

    def add(
        self,
        data: UInt8[np.ndarray, " bytes"],
        starts: Int64[np.ndarray, " pieces"],
        lengths: Int64[np.ndarray, " pieces"],
        ids: UInt32[np.ndarray, " ids"],
        bounds: Int64[np.ndarray, " pieces+1"],
    ) -> None:
        """Remember the answers of pieces: piece i has ids[bounds[i]:bounds[i + 1]], with WORD_START flags.

        More than the budget can hold is not remembered.
        """
        with self._lock:
            if not self._make_room(len(starts), int(lengths.sum()), len(ids)):
                self._empty()
                self.num_resets += 1
                if not self._make_room(len(starts), int(lengths.sum()), len(ids)):
                    return
            insert(*self.view, self._used, data, starts, lengths, ids, bounds)

    def _make_room(self, pieces: int, key_bytes: int, ids: int) -> bool:
        """Grow the arrays for so much more; False if the budget forbids it."""
        slots, keys, arena = self.view
        need = self._used + np.array([pieces, key_bytes, ids])
        sizes = [_grown(slots.size, 2 * SLOT * int(need[0])), _grown(keys.size, int(need[1]) + 8)]
        sizes.append(_grown(arena.size, int(need[2])))
        grown = [size * array.itemsize for size, array in zip(sizes, self.view, strict=True) if size > array.size]
        if not grown:
            return True
        if sizes[0] == slots.size:
            grown.append(slots.nbytes)
        if sum(grown) + self.num_bytes > self.budget_bytes:
            return False
        if sizes[1] > keys.size:
            keys = np.concatenate([keys, np.zeros(sizes[1] - keys.size, np.uint8)])
        if sizes[2] > arena.size:
            arena = np.concatenate([arena, np.zeros(sizes[2] - arena.size, np.uint32)])
        if sizes[0] > slots.size:
            larger = np.zeros(sizes[0], np.uint64)
            rehash(slots, larger, keys)
            slots = larger
        else:
            # Readers of the old arrays must not find slots that point into the new ones.
            slots = slots.copy()
        self.view = View(slots, keys, arena)
        return True


def _grown(size: int, need: int) -> int:
    while size < need:
        size *= 2
    return size
