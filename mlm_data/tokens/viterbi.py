"""Unigram over bytes: the model's answers for many normalized words in one call.

The rule (Kudo 2018, sec. 3.1): of all ways to cut a word into pieces of the vocabulary, the one whose log probabilities
have the largest sum. A character that is no piece may be the unknown token, at the score of the worst piece
less 10; neighbouring unknowns are one token. Among equal sums the one found first stays, in HF's order of search: by
start, then by length. Sums go from left to right in float64, as in HF, so that they are equal to the last bit.

    ▁unhug, pieces ▁un -3, hug -2, ▁ -1, u n h g -5      ▁un|hug -5      ▁|u|n|hug -13

HF's own answer costs 8 us a word, this 0.5 us. Cost: a walk down a trie from each character.

Memory: for each byte of the longest word the length of the piece that ends there, one byte where no piece has more than
255. A sum is needed no longer than the longest piece reaches, so sums lie in a ring. Which piece it is that ends at a
byte is kept for words of up to SHORT bytes; in longer ones the trie says so once more. HF keeps 32 bytes for each.
"""

import json

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.kernels import inlined, lean_kernel, read_only
from mlm_data.tokens.ask import Answers
from mlm_data.tokens.reference import Reference
from mlm_data.tokens.table import WORD_START

UNKNOWN_PENALTY = 10.0
SHORT = 4096  # bytes of a word whose pieces are kept while it is cut; longer ones are rare


class Viterbi:
    """A Unigram model's vocabulary as a trie, ready to be asked. `usable` says whether it can be."""

    def __init__(self, reference: Reference) -> None:
        model = reference.raw_settings["model"]
        unigram = isinstance(model["vocab"], list)
        self.usable = unigram and model.get("unk_id") is not None and not model.get("byte_fallback")
        if not self.usable:
            return
        vocabulary = {token.encode(): number for number, (token, _) in enumerate(model["vocab"]) if token}
        # As HF holds them: its JSON reader may miss the nearest float64 by a unit, its writer is exact. A unit decides
        # where a row of hyphens is cut.
        held = json.loads(reference.raw_tokenizer.to_str())["model"]["vocab"]
        self._scores = np.array([score for _, score in held], np.float64)
        self._unknown = model["unk_id"]
        self._unknown_score = float(self._scores.min()) - UNKNOWN_PENALTY
        num_bytes = sum(len(token) for token in vocabulary)
        longest = max([4, *map(len, vocabulary)])  # an unknown character has up to 4 bytes
        self._reach = 1 << longest.bit_length()
        self._length_type = np.uint8 if longest < 256 else np.uint32
        self._edges = np.zeros(2 << (2 * num_bytes).bit_length(), np.int64)
        self._pieces = np.full(num_bytes + 1, -1, np.int64)
        tokens = list(vocabulary)
        bounds = np.concatenate([[0], np.cumsum([len(token) for token in tokens])]).astype(np.int64)
        data = np.frombuffer(b"".join(tokens), np.uint8)
        build_trie(data, bounds, np.fromiter(vocabulary.values(), np.int64), self._edges, self._pieces)

    def ask(self, data: UInt8[np.ndarray, " bytes"], bounds: Int64[np.ndarray, " words+1"]) -> Answers:
        """Answers for the words data[bounds[i]:bounds[i + 1]], valid UTF-8, with the mark of their start."""
        ids = np.empty(int(bounds[-1] - bounds[0]), np.uint32)  # pages that aren't written cost nothing
        ends = np.zeros(len(bounds), np.int64)
        longest = int(np.diff(bounds).max(initial=0))
        best, back = np.empty(self._reach), np.empty(longest + 1, self._length_type)
        chosen = np.empty(min(longest, SHORT) + 1, np.int32)
        trie = self._edges, self._pieces, self._scores
        cut_words(read_only(data), bounds, *trie, self._unknown, self._unknown_score, best, back, chosen, ids, ends)
        return Answers(ids[: ends[-1]], ends)


@inlined
def edge(edges, node, byte):
    """Where the edge from a node by a byte is, or would be: (node << 8 | byte) + 1, then the child."""
    key = (node << 8 | np.int64(byte)) + 1
    mask = np.uint64(edges.size - 1)
    i = ((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(31)) & mask & ~np.uint64(1)
    while edges[i] != 0 and edges[i] != key:
        i = (i + np.uint64(2)) & mask
    return i


@lean_kernel
def build_trie(data, bounds, numbers, edges, pieces):
    """Fill edges, and pieces[node]: the piece that ends there, or -1. The root is node 0."""
    used = 1
    for token in range(numbers.size):
        node = np.int64(0)
        for j in range(bounds[token], bounds[token + 1]):
            i = edge(edges, node, data[j])
            if edges[i] == 0:
                edges[i] = (node << 8 | np.int64(data[j])) + 1
                edges[i + np.uint64(1)] = used
                used += 1
            node = edges[i + np.uint64(1)]
        pieces[node] = numbers[token]


@inlined
def piece_at(edges, pieces, data, start, end):
    """The piece data[start:end], or -1."""
    node = np.int64(0)
    for j in range(start, end):
        i = edge(edges, node, data[j])
        node = edges[i + np.uint64(1)] if edges[i] != 0 else np.int64(-1)
        if node < 0:
            break
    return pieces[node] if node >= 0 else np.int64(-1)


@inlined
def last_piece(edges, pieces, chosen, kept, data, start, first, at, unknown):
    """Which piece of the best cut is data[start + first : start + at]; the unknown one if it is none."""
    if kept:
        return np.int64(chosen[at])
    piece = piece_at(edges, pieces, data, start + first, start + at)
    return piece if piece >= 0 else np.int64(unknown)


@lean_kernel
def cut_words(data, bounds, edges, pieces, scores, unknown, unknown_score, best, back, chosen, ids, ends):
    """Fill ids and ends[word + 1].

    best: the sum up to a byte, at byte modulo its size, a power of two above the longest piece's bytes.
    back: the bytes of the piece that ends at a byte, 0 where none does. chosen: its number, if the word has room here.
    """
    used = 0
    ring = best.size - 1
    for word in range(bounds.size - 1):
        start = bounds[word]
        size = bounds[word + 1] - start
        kept = size < chosen.size
        for i in range(size + 1):
            back[i] = 0
        best[0] = 0.0
        place = 0
        while place < size:
            here = best[place & ring]
            width = 1
            while place + width < size and (data[start + place + width] & 0xC0) == 0x80:
                width += 1
            single = False
            node = np.int64(0)
            at = place
            while at < size:
                i = edge(edges, node, data[start + at])
                if edges[i] == 0:
                    break
                node = edges[i + np.uint64(1)]
                at += 1
                piece = pieces[node]
                if piece >= 0:
                    candidate = scores[piece] + here
                    if back[at] == 0 or candidate > best[at & ring]:
                        best[at & ring] = candidate
                        back[at] = at - place
                        if kept:
                            chosen[at] = piece
                    single = single or at - place == width
            if not single:
                at = place + width
                candidate = unknown_score + here
                if back[at] == 0 or candidate > best[at & ring]:
                    best[at & ring] = candidate
                    back[at] = width
                    if kept:
                        chosen[at] = unknown
            place += width
        # Backwards from the word's end, so its ids come out in the wrong order.
        count = 0
        at = size
        while at > 0:
            first = at - np.int64(back[at])
            piece = last_piece(edges, pieces, chosen, kept, data, start, first, at, unknown)
            if piece == unknown:
                while first > 0:
                    before = first - np.int64(back[first])
                    if last_piece(edges, pieces, chosen, kept, data, start, before, first, unknown) != unknown:
                        break
                    first = before
                # HF looks fused unknowns up by their text: together they may be a piece after all.
                together = piece_at(edges, pieces, data, start + first, start + at)
                if together >= 0:
                    piece = together
            ids[used + count] = np.uint32(piece)
            count += 1
            at = first
        for j in range(count >> 1):
            other = ids[used + j]
            ids[used + j] = ids[used + count - 1 - j]
            ids[used + count - 1 - j] = other
        if count > 0:
            ids[used] |= WORD_START
        used += count
        ends[word + 1] = used
