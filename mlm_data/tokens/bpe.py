"""Byte-level BPE over bytes: the model's answers for many pieces in one call, pieces of any length in bounded memory.

The rule (Sennrich et al. 2016, sec. 3.2): start with one symbol per byte; while some two neighbours can merge, merge
the pair of lowest rank, the leftmost of equal ones. "lower", merges (l,o) (e,r) (lo,w):

    l o w e r  ->  lo w e r  ->  lo w er  ->  low er

A long piece is cut into windows. That is exact: a sequence of tokens is the answer for its bytes if and only if
every two neighbours are the answer for *their* bytes, for the first merge that crosses a border does so in a state
which those two reach alone. So a window starts after a token of the last one, and the pair at the seam is checked;
where it fails, the seam moves back.

Cost: a look-up in the table of merges for each byte and each merge, and the square of a piece's length in memory moves.
"""

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.tokens.ask import Answers, byte_characters
from mlm_data.tokens.bits import inlined, lean_kernel
from mlm_data.tokens.reference import UNSPEAKABLE, Reference
from mlm_data.tokens.table import WORD_START

WINDOW = 512  # bytes of a long piece that are merged at a time
NO_RANK = np.uint64(0xFFFFFFFFFFFFFFFF)


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
        self._bytes = np.array([vocabulary.get(c, -1) for c in alphabet], np.int64)
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        pairs = np.array([(vocabulary[a], vocabulary[b], vocabulary[a + b]) for a, b in pairs], np.int64).reshape(-1, 3)
        size = 1 << (2 * len(pairs) + 1).bit_length()
        self._merges = np.zeros(2 * size, np.uint64)
        store_merges(pairs, self._merges)

    def ask(
        self,
        data: UInt8[np.ndarray, " bytes"],
        starts: Int64[np.ndarray, " pieces"],
        lengths: Int64[np.ndarray, " pieces"],
    ) -> Answers | None:
        """Answers for pieces of bytes; each is one word.

        None where HF must be asked: for a byte without a token, or a long piece in which no seam can be found.
        """
        ids, bounds = np.empty(int(lengths.sum()), np.uint32), np.zeros(len(starts) + 1, np.int64)
        symbols, spans = np.empty(2 * WINDOW, np.int64), np.empty(2 * WINDOW, np.int64)
        ranks = np.empty(2 * WINDOW, np.uint64)
        tables = self._bytes, self._merges
        done = np.empty(WINDOW, np.int64)
        if not merge_pieces(data, starts, lengths, *tables, symbols, ranks, spans, done, ids, bounds):
            return None
        return Answers(ids[: bounds[-1]], bounds)


@inlined
def merge_slot(merges, left, right):
    """Where a pair is, or would be, in the table of merges: (left << 32 | right) + 1, then what it becomes."""
    key = (np.uint64(left) << np.uint64(32) | np.uint64(right)) + np.uint64(1)
    mask = np.uint64(merges.size - 1)
    h = key * np.uint64(0x9E3779B97F4A7C15)
    i = (h >> np.uint64(31)) & mask & ~np.uint64(1)
    while merges[i] != 0 and merges[i] != key:
        i = (i + np.uint64(2)) & mask
    return i


@inlined
def rank_of(merges, left, right):
    """Rank << 32 | new id of a pair, or NO_RANK."""
    i = merge_slot(merges, left, right)
    return merges[i + np.uint64(1)] if merges[i] != 0 else NO_RANK


@lean_kernel
def store_merges(pairs, merges):
    """Fill the table: rank << 32 | new id for each pair. Of a pair that comes twice the last counts, as in HF."""
    for rank in range(pairs.shape[0]):
        i = merge_slot(merges, pairs[rank, 0], pairs[rank, 1])
        merges[i] = (np.uint64(pairs[rank, 0]) << np.uint64(32) | np.uint64(pairs[rank, 1])) + np.uint64(1)
        merges[i + np.uint64(1)] = np.uint64(rank) << np.uint64(32) | np.uint64(pairs[rank, 2])


@lean_kernel
def merge_window(data, start, end, byte_ids, merges, symbols, ranks, spans, base):
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
        best = NO_RANK
        at = first
        for j in range(first, first + count - one):
            if ranks[j] < best:
                best = ranks[j]
                at = j
        if best == NO_RANK:
            break
        symbols[at] = np.int64(best & np.uint64(0xFFFFFFFF))
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
def merge_pieces(data, starts, lengths, byte_ids, merges, symbols, ranks, spans, done, ids, bounds):
    """Fill ids and bounds with the answers of all pieces; False if HF must be asked."""
    window = done.size
    used = 0
    for piece in range(starts.size):
        place = starts[piece]
        end = place + lengths[piece]
        begin = used
        kept = 0  # tokens of the last window that are in ids; their spans are in `done`
        furthest = place
        while place < end:
            stop = min(end, place + window)
            count = merge_window(data, place, stop, byte_ids, merges, symbols, ranks, spans, 0)
            if count < 0:
                return False
            if used > begin:
                # The seam: the token before it and the first one after it.
                if kept == 0 or done[kept - 1] + spans[0] > window:
                    return False
                before = done[kept - 1]
                after = spans[0]
                pair = merge_window(
                    data, place - before, place + after, byte_ids, merges, symbols, ranks, spans, window
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
                ids[used] = symbols[j]
                done[j] = spans[j]
                place += spans[j]
                used += 1
                kept = j + 1
            furthest = max(furthest, place)
        ids[begin] = np.uint32(ids[begin]) | WORD_START
        bounds[piece + 1] = used
    return True
