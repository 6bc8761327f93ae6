"""The word table: piece of text -> its token ids. Shared by threads, bounded in memory, never wrong.

The rule. A slot of an open-addressing table is four 64-bit words; two of them share a cache line:

    tail     length of the key in bytes (1 to 255) in the highest byte; below it the key's bytes 8 to 14, zero-padded,
             or the place of a key of more than 15 bytes among the long keys. 0: the slot is free
    head     the key's first 8 bytes, zero-padded; of a longer key its hash
    answer   two words, as they are copied to a scanner's ids: up to 3 ids with their flags, and how many; or, with 0
             there, place and length in the arena

A key is found when length *and bytes* are equal, so a collision of hashes can't change an id. A linear probe starts at
the hash's high bits. "the" in a table of 8 slots:

    tail = 3 << 56, head = 0x656874, hash = 0x9f…03  ->  slot 4 is "of"? tails differ; slot 5: equal -> 1 id: 1996

Readers take no lock: a slot's tail is stored last and read first, and arrays that grow are replaced by larger copies
while readers finish with the old ones (`View`). Writers take a lock. When the next growth would break the byte budget,
the table is emptied and starts again: it is a memory of answers, and forgetting one only costs asking again.

Cost: one cache line for most look-ups; 32 bytes a slot at a load of at most one half.
Source: Knuth, The Art of Computer Programming 3, sec. 6.4, algorithm L.
"""

import threading
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8, UInt32, UInt64

from mlm_data.kernels import acquire, folded, inlined, lean_kernel, load_uint64, prefetch, release

SHORT_KEY = 15  # bytes that fit into a slot
LONGEST_KEY = 255  # a longer piece is asked anew each time
SLOT = 4  # words
WORD_START = np.uint32(1 << 31)  # flag on an id: it begins a word
AHEAD = 8  # pieces whose slots are fetched while one is added
INLINE_IDS = 3  # of an answer that fits into a slot
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
TAG = np.uint64(56)  # above these bits of a tail is the key's length
# Of a key of n bytes, what counts of its first and of its second word.
FIRST_MASK = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(SHORT_KEY + 1)], np.uint64)
SECOND_MASK = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(SHORT_KEY + 1)], np.uint64)


class View(NamedTuple):
    """The arrays of a table at one moment. Readers keep what they were given."""

    slots: UInt64[np.ndarray, " slots*4"]
    keys: UInt8[np.ndarray, " bytes"]  # keys of more than 15 bytes
    arena: UInt32[np.ndarray, " ids"]  # ids with WORD_START flags, of answers that don't fit into a slot


@inlined
def piece_key(data, start, length):
    """First 15 bytes of a piece as two zero-padded words, the length above the second: uint64 head, uint64 tail."""
    tag = np.uint64(min(length, 255)) << TAG
    short = np.uint64(min(length, SHORT_KEY))
    if start + 16 <= data.size:
        # Without a branch on the length, which no processor could predict.
        return load_uint64(data, start) & FIRST_MASK[short], load_uint64(data, start + 8) & SECOND_MASK[short] | tag
    k0 = np.uint64(0)
    k1 = tag
    for i in range(min(length, SHORT_KEY)):
        if i < 8:
            k0 |= np.uint64(data[start + i]) << np.uint64(8 * i)
        else:
            k1 |= np.uint64(data[start + i]) << np.uint64(8 * (i - 8))
    return k0, k1


@inlined
def short_hash(k0, k1):
    """64-bit hash of a piece of at most 15 bytes: one multiplication, as in wyhash (Wang Yi et al.)."""
    return folded(k0 ^ np.uint64(0x9E3779B97F4A7C15), k1 ^ np.uint64(0xC2B2AE3D27D4EB4F))


@inlined
def piece_hash(data, start, length, k0, k1):
    """64-bit hash of a piece whose head and tail are k0, k1."""
    h = short_hash(k0, k1)
    i = start + SHORT_KEY
    end = start + length
    while i < end:
        word = np.uint64(0)
        if i + 8 <= data.size:
            word = load_uint64(data, i)
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
    place = ((h >> np.uint64(32)) * np.uint64(SLOT)) & mask
    while True:
        found = slots[place]
        if found == 0:
            return -1
        if length <= SHORT_KEY:
            if found == k1:
                acquire()
                if slots[place + np.uint64(1)] == k0:
                    return np.int64(place)
        elif found >> TAG == np.uint64(length):
            acquire()
            if slots[place + np.uint64(1)] == h:
                offset = found & (ALL >> np.uint64(8))
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
        ahead = i + AHEAD
        if ahead < starts.size:
            k0, k1 = piece_key(data, starts[ahead], lengths[ahead])
            prefetch(slots, ((short_hash(k0, k1) >> np.uint64(32)) & np.uint64(mask)) * np.uint64(SLOT))
        length = lengths[i]
        if length > LONGEST_KEY:
            continue
        k0, k1 = piece_key(data, starts[i], length)
        h = piece_hash(data, starts[i], length, k0, k1)
        if find(slots, keys, data, starts[i], length, k0, k1, h) >= 0:
            continue
        if length > SHORT_KEY:
            k0 = h
            k1 = np.uint64(used[1]) | np.uint64(length) << TAG
            for j in range(length):
                keys[used[1] + j] = data[starts[i] + j]
            used[1] += length
        first = bounds[i]
        count = bounds[i + 1] - first
        answer0 = np.uint64(0)
        answer1 = np.uint64(0)
        if 1 <= count <= INLINE_IDS:
            answer0 = np.uint64(ids[first])
            answer1 = np.uint64(count) << np.uint64(32)
            if count > 1:
                answer0 |= np.uint64(ids[first + 1]) << np.uint64(32)
            if count > 2:
                answer1 |= np.uint64(ids[first + 2])
        else:
            answer0 = np.uint64(used[2])
            answer1 = np.uint64(count)
            for j in range(count):
                arena[used[2] + j] = ids[first + j]
            used[2] += count
        place = (np.int64(h >> np.uint64(32)) & mask) * SLOT
        while slots[place] != 0:
            place = (place + SLOT) & (slots.size - 1)
        slots[place + 1] = k0
        slots[place + 2] = answer0
        slots[place + 3] = answer1
        release()
        slots[place] = k1
        used[0] += 1


@lean_kernel
def rehash(old, new):
    """Put all slots of a table into a larger, empty one."""
    mask = new.size // SLOT - 1
    for place in range(0, old.size, SLOT):
        if old[place] == 0:
            continue
        h = old[place + 1]
        if old[place] >> TAG <= np.uint64(SHORT_KEY):
            h = short_hash(old[place + 1], old[place])
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
        self.view = View(_free_slots(sizes[0]), np.zeros(sizes[1], np.uint8), np.zeros(sizes[2], np.uint32))

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
            larger = _free_slots(sizes[0])
            rehash(slots, larger)
            slots = larger
        else:
            # Readers of the old arrays must not find slots that point into the new ones.
            copy = _free_slots(slots.size)
            copy[:] = slots
            slots = copy
        self.view = View(slots, keys, arena)
        return True


def _free_slots(size: int) -> UInt64[np.ndarray, " slots*4"]:
    """Zeros that begin at a cache line: large arrays of numpy's begin 16 bytes after one."""
    line = 64
    array = np.zeros(size + line // 8, np.uint64)
    skip = -array.ctypes.data % line // 8
    return array[skip : skip + size]


def _grown(size: int, need: int) -> int:
    while size < need:
        size *= 2
    return size
