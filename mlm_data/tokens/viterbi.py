"""Unigram over bytes: the model's answers for many normalized words in one call.

The rule (Kudo 2018, sec. 3.1): of all ways to cut a word into pieces of the vocabulary, the one whose log probabilities
have the largest sum. A character that is no piece may be the unknown token, at the score of the worst piece
less 10; neighbouring unknowns are one token. Among equal sums the one found first stays, in HF's order of search: by
start, then by length. Sums go from left to right in float64, as in HF, so that they are equal to the last bit.

    ▁unhug, pieces ▁un -3, hug -2, ▁ -1, u n h g -5      ▁un|hug -5      ▁|u|n|hug -13

HF's own answer costs 8 us a word, this 0.5 us. Cost: a walk down a trie from each character.
"""

import json

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.tokens.ask import Answers, frozen
from mlm_data.tokens.bits import inlined, lean_kernel
from mlm_data.tokens.reference import Reference
from mlm_data.tokens.table import WORD_START

UNKNOWN_PENALTY = 10.0


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
        self._edges = np.zeros(2 << (2 * num_bytes).bit_length(), np.int64)
        self._pieces = np.full(num_bytes + 1, -1, np.int64)
        tokens = list(vocabulary)
        bounds = np.concatenate([[0], np.cumsum([len(token) for token in tokens])]).astype(np.int64)
        data = np.frombuffer(b"".join(tokens), np.uint8)
        build_trie(data, bounds, np.fromiter(vocabulary.values(), np.int64), self._edges, self._pieces)

    def ask(self, data: UInt8[np.ndarray, " bytes"], bounds: Int64[np.ndarray, " words+1"]) -> Answers:
        """Answers for the words data[bounds[i]:bounds[i + 1]], valid UTF-8, with the mark of their start."""
        ids = np.empty(int(bounds[-1] - bounds[0]), np.uint32)
        ends = np.zeros(len(bounds), np.int64)
        room = int(np.diff(bounds).max(initial=0)) + 1
        best, back, chosen = np.empty(room), np.empty(room, np.int64), np.empty(room, np.int64)
        trie = self._edges, self._pieces, self._scores
        cut_words(frozen(data), bounds, *trie, self._unknown, self._unknown_score, best, back, chosen, ids, ends)
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


@lean_kernel
def cut_words(data, bounds, edges, pieces, scores, unknown, unknown_score, best, back, chosen, ids, ends):
    """Fill ids and ends[word + 1]. best, back, chosen: room for the longest word's places."""
    used = 0
    for word in range(bounds.size - 1):
        start = bounds[word]
        size = bounds[word + 1] - start
        for i in range(size + 1):
            back[i] = -1
        best[0] = 0.0
        place = 0
        while place < size:
            here = best[place]
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
                    if back[at] < 0 or candidate > best[at]:
                        best[at] = candidate
                        back[at] = place
                        chosen[at] = piece
                    single = single or at - place == width
            if not single:
                at = place + width
                candidate = unknown_score + here
                if back[at] < 0 or candidate > best[at]:
                    best[at] = candidate
                    back[at] = place
                    chosen[at] = unknown
            place += width
        # Backwards, the ids go to the end of the word's room first; there are no more of them than bytes.
        to = used + size
        at = size
        while at > 0:
            first = back[at]
            piece = chosen[at]
            if piece == unknown:
                while first > 0 and chosen[first] == unknown:
                    first = back[first]
                # HF looks fused unknowns up by their text: together they may be a piece after all.
                node = np.int64(0)
                for j in range(first, at):
                    i = edge(edges, node, data[start + j])
                    node = edges[i + np.uint64(1)] if edges[i] != 0 else np.int64(-1)
                    if node < 0:
                        break
                if node >= 0 and pieces[node] >= 0:
                    piece = pieces[node]
            to -= 1
            ids[to] = np.uint32(piece)
            at = first
        count = used + size - to
        for j in range(count):
            ids[used + j] = ids[to + j]
        if count > 0:
            ids[used] |= WORD_START
        used += count
        ends[word + 1] = used
