"""Byte-level BPE over bytes: the model's answers for many pieces in one call, pieces of any length in bounded memory.

The rule (Sennrich et al. 2016, sec. 3.2): start with one symbol per byte; while some two neighbours can merge, merge
the pair of lowest rank, the leftmost of equal ones. "lower", merges (l,o) (e,r) (lo,w):

    l o w e r  ->  lo w e r  ->  lo w er  ->  low er

A long piece is cut into windows. That is exact: a sequence of tokens is the answer for its bytes if and only if
every two neighbours are the answer for *their* bytes, for the first merge that crosses a border does so in a state
which those two reach alone. So a window starts after a token of the last one, and the pair at the seam is checked;
where it fails, the seam moves back.

Nearly all pieces have fewer than 64 bytes. Of those the live symbols are bits of one word, each at its first byte, so
nothing moves when two merge; rank and place are one number, so a minimum over a vector finds the leftmost of the best.
The table of merges has buckets of four, looked at without a branch: whether two symbols merge can't be foreseen.

Symbols have numbers of their own here, in the order of the merges that make them, so that a merge's rank says what it
makes without another look-up; and the least of the old ranks is found while those of the new pairs are looked up.

Cost: a look-up for each byte and two for each merge, and for a long piece the square of its length in memory moves.
"""

from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.characters import byte_characters
from mlm_data.kernels import inlined, leading_zeros, lean_kernel, least16, trailing_zeros
from mlm_data.tokens.ask import Answers
from mlm_data.tokens.reference import UNSPEAKABLE, Reference
from mlm_data.tokens.table import WORD_START

BYTES = 256  # symbols that are one byte; the others are BYTES + the rank of the first merge that makes them
WINDOW = 512  # bytes of a long piece that are merged at a time
BUCKET = 4  # merges
ID_BITS = 21  # of each symbol of a pair in its key
RANK_BITS = 22  # of a merge; a short piece keeps a place of 6 bits below it
LANES = 16  # ranks that are compared at a time
NO_RANK = (1 << 26) - 1
NO_SYMBOL = (1 << ID_BITS) - 1
UNMET = NO_SYMBOL - 1  # a token that is merged on, though nothing merges to it: no text has it as a symbol
SHORT = 62  # bytes of a piece whose symbols are bits of one word


class BPE:
    """A byte-level BPE model's merges, ready to be asked. `usable` says whether it can be."""

    def __init__(self, reference: Reference) -> None:
        model = reference.raw_settings["model"]
        vocabulary = {t: i for t, i in model["vocab"].items() if not t.startswith(UNSPEAKABLE)}
        alphabet = byte_characters()
        plain = ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "byte_fallback", "ignore_merges")
        self.usable = not any(model.get(name) for name in plain)
        if not self.usable:
            return
        ids = [vocabulary.get(c, -1) for c in alphabet]
        texts = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        merges = [(vocabulary[a], vocabulary[b], vocabulary[a + b]) for a, b in texts]
        self.usable = max([*ids, *(max(merge) for merge in merges)]) < NO_SYMBOL and len(merges) < UNMET - BYTES
        if not self.usable:
            return
        symbols = {number: byte for byte, number in enumerate(ids) if number >= 0}
        for rank, (_, _, merged) in enumerate(merges):
            symbols.setdefault(merged, BYTES + rank)
        self._bytes = np.where(np.array(ids) < 0, -1, np.arange(BYTES))
        self._ids = np.array([*ids, *(merged for _, _, merged in merges)], np.int64).astype(np.uint32)
        pairs = np.array([[symbols.get(i, UNMET) for i in merge] for merge in merges], np.int64).reshape(-1, 3)
        self._merged = np.ascontiguousarray(pairs[:, 2])
        self._plain = bool((self._merged == np.arange(len(pairs)) + BYTES).all())
        self._merges = np.zeros(BUCKET << max(len(pairs).bit_length() - 1, 1), np.uint64)
        store_merges(pairs, self._merges)
        self._byte_ranks = np.full(1 << 16, NO_RANK, np.uint32)
        rank_bytes(self._bytes, self._merges, self._byte_ranks)

    def ask(
        self,
        data: UInt8[np.ndarray, " bytes"],
        starts: Int64[np.ndarray, " pieces"],
        lengths: Int64[np.ndarray, " pieces"],
    ) -> Answers | None:
        """Answers for pieces of bytes; each is one word.

        None where HF must be asked: for a byte without a token, or a long piece in which no seam can be found.
        """
        ids, bounds = np.empty(int(lengths.sum()) + 1, np.uint32), np.zeros(len(starts) + 1, np.int64)
        room = max(2 * WINDOW, SHORT + 2)
        symbols, spans, ranks = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint32)
        tables = self._bytes, self._byte_ranks, self._merges, self._merged, self._plain, self._ids
        done = np.empty(WINDOW, np.int64)
        if not merge_pieces(data, starts, lengths, *tables, symbols, ranks, spans, done, ids, bounds):
            return None
        return Answers(ids[: bounds[-1]], bounds)


@inlined
def bucket_of(merges, key):
    """Where a pair's bucket begins."""
    h = key * np.uint64(0x9E3779B97F4A7C15)
    return (h >> np.uint64(30)) & np.uint64(merges.size - BUCKET)


@inlined
def rank_of(merges, left, right):
    """Rank of the merge of two symbols, or NO_RANK.

    An entry is left << 43 | right << 22 | rank, and one more, so that 0 is none; a full bucket goes on in the next.
    """
    key = np.uint64(left) << np.uint64(ID_BITS) | np.uint64(right)
    place = bucket_of(merges, key)
    while True:
        rank = np.uint64(NO_RANK)
        for j in range(np.uint64(BUCKET)):
            entry = merges[place + j] - np.uint64(1)
            rank = entry & np.uint64((1 << RANK_BITS) - 1) if entry >> np.uint64(RANK_BITS) == key else rank
        if rank != np.uint64(NO_RANK) or merges[place + np.uint64(BUCKET - 1)] == 0:
            return np.uint32(rank)
        place = (place + np.uint64(BUCKET)) & np.uint64(merges.size - 1)


@lean_kernel
def store_merges(pairs, merges):
    """Fill the table from left, right and new id of each pair. Of a pair that comes twice the last counts, as in HF."""
    for rank in range(pairs.shape[0]):
        key = np.uint64(pairs[rank, 0]) << np.uint64(ID_BITS) | np.uint64(pairs[rank, 1])
        place = bucket_of(merges, key)
        while merges[place] != 0 and (merges[place] - np.uint64(1)) >> np.uint64(RANK_BITS) != key:
            place = (place + np.uint64(1)) & np.uint64(merges.size - 1)
        merges[place] = (key << np.uint64(RANK_BITS) | np.uint64(rank)) + np.uint64(1)


@lean_kernel
def rank_bytes(byte_ids, merges, ranks):
    """The rank of every two bytes: ranks[left << 8 | right]."""
    for left in range(256):
        for right in range(256):
            if byte_ids[left] >= 0 and byte_ids[right] >= 0:
                ranks[left << 8 | right] = rank_of(merges, byte_ids[left], byte_ids[right])


@inlined
def least_rank(ranks, lanes):
    """The least of the ranks of a short piece."""
    best = least16(ranks, np.uint64(0))
    for block in range(np.uint64(LANES), lanes, np.uint64(LANES)):
        least = least16(ranks, block)
        best = least if least < best else best
    return best


@inlined
def merge_short(data, start, length, byte_ids, byte_ranks, merges, merged, plain, symbols, ranks):
    """Merge a piece of 1 to SHORT bytes; bit j + 1 of the result: at byte j the token symbols[j + 1] starts.

    symbols[0] and the one after the last merge with nothing, so that none is a special case; ranks[j] is
    rank << 6 | j of symbol j and the next one.
    """
    one = np.uint64(1)
    size = np.uint64(length)
    lanes = np.uint64((length + 2 + LANES - 1) // LANES * LANES)
    for j in range(lanes):
        ranks[j] = np.uint32(NO_RANK << 6)
    symbols[0] = NO_SYMBOL
    left = np.uint64(data[np.uint64(start)])
    symbols[one] = byte_ids[left]
    for j in range(one, size):
        right = np.uint64(data[np.uint64(start) + j])
        symbols[j + one] = byte_ids[right]
        ranks[j] = byte_ranks[left << np.uint64(8) | right] << np.uint32(6) | np.uint32(j)
        left = right
    symbols[size + one] = NO_SYMBOL
    live = (one << (size + np.uint64(2))) - one
    best = least_rank(ranks, lanes)
    while best < np.uint32(NO_RANK << 6):
        at = np.uint64(best & np.uint32(63))
        above = live & (~one << at)
        gone = np.uint64(trailing_zeros(above))
        after = np.uint64(trailing_zeros(above & (above - one)))
        before = np.uint64(63 - leading_zeros(live & ((one << at) - one)))
        live &= ~(one << gone)
        # The least of the ranks that stay, while those of the two new pairs come from memory.
        ranks[gone] = np.uint32(NO_RANK << 6)
        ranks[at] = np.uint32(NO_RANK << 6)
        ranks[before] = np.uint32(NO_RANK << 6)
        least = least_rank(ranks, lanes)
        symbol = np.int64(best >> np.uint32(6)) + BYTES
        if not plain:
            symbol = merged[symbol - BYTES]
        symbols[at] = symbol
        ahead = rank_of(merges, symbol, symbols[after]) << np.uint32(6) | np.uint32(at)
        beside = rank_of(merges, symbols[before], symbol) << np.uint32(6) | np.uint32(before)
        ranks[at] = ahead
        ranks[before] = beside
        best = min(least, min(ahead, beside))
    return live & ((one << (size + one)) - np.uint64(2))


@lean_kernel
def merge_window(data, start, end, byte_ids, merges, merged, symbols, ranks, spans, base):
    """Merge data[start:end]; symbols and spans (bytes) of the result, from `base` on, and their number."""
    first = np.uint64(base)  # unsigned, or numba looks at each index whether it counts from the end
    one = np.uint64(1)
    count = np.uint64(end - start)
    for j in range(count):
        symbols[first + j] = byte_ids[data[np.uint64(start) + j]]
        spans[first + j] = 1
        if symbols[first + j] < 0:
            return -1
    for j in range(first, first + count - one):
        ranks[j] = rank_of(merges, symbols[j], symbols[j + one])
    while count > one:
        best = np.uint32(NO_RANK)
        at: Any = first
        for j in range(first, first + count - one):
            if ranks[j] < best:
                best = ranks[j]
                at = j
        if best == np.uint32(NO_RANK):
            break
        symbols[at] = merged[best]
        spans[at] += spans[at + one]
        count -= one
        for j in range(at + one, first + count):
            symbols[j] = symbols[j + one]
            spans[j] = spans[j + one]
            ranks[j - one] = ranks[j]
        if at + one < first + count:
            ranks[at] = rank_of(merges, symbols[at], symbols[at + one])
        if at > first:
            ranks[at - one] = rank_of(merges, symbols[at - one], symbols[at])
    return np.int64(count)


@lean_kernel
def merge_pieces(
    data, starts, lengths, byte_ids, byte_ranks, merges, merged, plain, names, symbols, ranks, spans, done, ids, bounds
):
    """Fill ids and bounds with the answers of all pieces; False if HF must be asked."""
    window = done.size
    short = SHORT
    for byte in range(256):
        if byte_ids[byte] < 0:
            short = 0  # a byte without a token: the longer way looks for it
    used = 0
    for piece in range(starts.size):
        place = starts[piece]
        end = place + lengths[piece]
        begin = used
        if 0 < lengths[piece] <= short:
            live = merge_short(data, place, lengths[piece], byte_ids, byte_ranks, merges, merged, plain, symbols, ranks)
            while live != 0:
                ids[used] = names[np.uint64(symbols[np.uint64(trailing_zeros(live))])]
                live &= live - np.uint64(1)
                used += 1
            ids[begin] = np.uint32(ids[begin]) | WORD_START
            bounds[piece + 1] = used
            continue
        kept = 0  # tokens of the last window that are in ids; their spans are in `done`
        furthest = place
        while place < end:
            stop = min(end, place + window)
            count = merge_window(data, place, stop, byte_ids, merges, merged, symbols, ranks, spans, 0)
            if count < 0:
                return False
            if used > begin:
                # The seam: the token before it and the first one after it.
                if kept == 0 or done[kept - 1] + spans[0] > window:
                    return False
                before = done[kept - 1]
                after = spans[0]
                pair = merge_window(
                    data, place - before, place + after, byte_ids, merges, merged, symbols, ranks, spans, window
                )
                if pair != 2 or spans[window] != before:
                    kept -= 1
                    used -= 1
                    place -= before
                    if furthest - place > window // 2 - 1:
                        return False
                    continue
            kept = 0
            first = place
            for j in range(count):
                if stop < end and j > 0 and place + spans[j] > first + window // 2:
                    break
                ids[used] = names[symbols[j]]
                done[j] = spans[j]
                place += spans[j]
                used += 1
                kept = j + 1
            furthest = max(furthest, place)
        ids[begin] = np.uint32(ids[begin]) | WORD_START
        bounds[piece + 1] = used
    return True
