"""Train a Unigram vocabulary, repeatably.

The rule (Kudo 2018, sec. 3.2; the details of sentencepiece's trainer): begin with the substrings of words that cover
most text. Then, again and again: estimate each piece's probability by expectation and maximization over all ways to cut
the words, and drop the quarter of the pieces whose loss costs the likelihood least, until few enough are left.
Single characters stay.

    words   ▁low 5, ▁lower 2, ▁newest 6, ▁widest 3
    pieces  ▁low est w e r ▁ n i d ...      ▁lower = ▁low|er  costs little, so "▁lower" goes; "est" stays

Where we differ from sentencepiece: seeds are counted by hashes of all substrings up to 16 characters, not by a
suffix array. HF's trainer does the same as sentencepiece, but sums floats in the order of a hash table with a
random key; here words are sorted first and sums run in one order, so the same words give the same pieces.

Cost: 16 look-ups per character of the distinct words to begin with, then about 20 passes over the lattice.
"""

import math
from collections.abc import Set

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64

from mlm_data.kernels import kernel

LONGEST = 16  # characters of a piece
SEEDS_PER_TOKEN = 12  # how many more pieces to begin with
SHRINK = 0.75  # what is kept each time
PASSES = 2  # of estimation before each pruning
MIN_COUNT = 0.5  # expected; below it a piece goes
IMPOSSIBLE = -1e30


def train_unigram(
    words: list[str], counts: Int64[np.ndarray, " words"], *, num_pieces: int, alphabet: Set[str]
) -> list[tuple[str, float]]:
    """Pieces and their log probabilities, best first, at most `num_pieces`.

    Args:
        words: distinct, sorted, not empty; the mark of a word's start is a part of them.
        counts: how often each occurs.
        alphabet: characters that get a piece of their own, at most `num_pieces`.
    """
    text = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32).astype(np.int64)
    lengths = np.array([len(word) for word in words], np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    weights = np.repeat(counts, lengths)
    room = np.repeat(bounds[1:], lengths) - np.arange(len(text))  # characters up to the word's end
    edges, starts, sizes, scores = _seeds(text, weights, room, SEEDS_PER_TOKEN * num_pieces, alphabet)
    alive = np.ones(len(starts), bool)
    wanted = max(int(1.1 * num_pieces), int((sizes == 1).sum()))
    while True:
        for _ in range(PASSES):
            expected = np.zeros(len(starts))
            expect(bounds, counts, edges, scores, expected)
            alive &= (expected >= MIN_COUNT) | (sizes == 1)
            scores = _maximize(expected, alive)
        if alive.sum() <= wanted:
            break
        used = np.zeros(len(starts))
        best_path(bounds, counts, edges, scores, used)
        alive = _prune(edges, starts, sizes, scores, used, alive, max(wanted, int(SHRINK * alive.sum())))
        scores = np.where(alive, scores, IMPOSSIBLE)
    order = np.lexsort((np.arange(len(starts)), -scores, sizes != 1, ~alive))[: min(num_pieces, int(alive.sum()))]
    order = order[np.lexsort((order, -scores[order]))]
    characters = text.astype(np.uint32)
    return [
        (characters[starts[i] : starts[i] + sizes[i]].tobytes().decode("utf-32-le"), round(float(scores[i]), 6))
        for i in order
    ]


def _seeds(
    text: Int64[np.ndarray, " characters"],
    weights: Int64[np.ndarray, " characters"],
    room: Int64[np.ndarray, " characters"],
    most: int,
    alphabet: Set[str],
) -> tuple[
    Int32[np.ndarray, " characters 16"],
    Int64[np.ndarray, " pieces"],
    Int64[np.ndarray, " pieces"],
    Float64[np.ndarray, " pieces"],
]:
    """The first pieces: edges[i, n - 1] is the piece of n characters at i, or -1; a place, size and score of each."""
    found_hashes, found_starts, found_counts, found_sizes = [], [], [], []
    hashes = np.zeros(len(text), np.uint64)
    all_hashes = np.zeros((len(text), LONGEST), np.uint64)
    for size in range(1, min(LONGEST, len(text)) + 1):
        # The hash of n characters from the hash of n - 1 and the last one, for all places at once.
        last = np.zeros(len(text), np.uint64)
        last[: len(text) - size + 1] = text[size - 1 :].astype(np.uint64)
        hashes = _mixed(hashes, last)
        all_hashes[:, size - 1] = hashes
        places = np.flatnonzero(room >= size)
        if not len(places):
            continue
        values, first, inverse = np.unique(hashes[places], return_index=True, return_inverse=True)
        counts = np.bincount(inverse, weights=weights[places]).astype(np.int64)
        keep = np.flatnonzero(counts >= 2) if size > 1 else np.arange(len(values))
        if size == 1:
            keep = np.flatnonzero(np.isin(text[places[first]], [ord(character) for character in alphabet]))
        if not len(keep):
            break  # what isn't repeated at one length isn't at the next
        found_hashes.append(values[keep])
        found_starts.append(places[first[keep]])
        found_counts.append(counts[keep])
        found_sizes.append(np.full(len(keep), size, np.int64))
    starts, counts, sizes = (np.concatenate(part) for part in (found_starts, found_counts, found_sizes))
    order = np.lexsort((sizes, starts, -counts * sizes, sizes > 1))
    order = order[: max(most, int((sizes == 1).sum()))]
    number = np.full(len(starts), -1, np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    edges = np.full((len(text), LONGEST), -1, np.int32)
    base = 0
    for values in found_hashes:
        size = int(sizes[base])
        place = np.searchsorted(values, all_hashes[:, size - 1]).clip(max=len(values) - 1)
        hit = (values[place] == all_hashes[:, size - 1]) & (room >= size)
        edges[hit, size - 1] = number[base + place[hit]]
        base += len(values)
    probability = counts[order] / counts[order].sum()
    return edges, starts[order], sizes[order], np.log(probability)


def _mixed(hashes: UInt64[np.ndarray, " n"], last: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    x = (hashes + np.uint64(0x9E3779B97F4A7C15)) ^ (last * np.uint64(0xD6E8FEB86659FD93))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _maximize(expected: Float64[np.ndarray, " pieces"], alive: np.ndarray) -> Float64[np.ndarray, " pieces"]:
    """Log probabilities, with sentencepiece's prior for few pieces: digamma instead of log."""
    counts = np.where(alive, np.maximum(expected, 1e-3), 1.0)
    total = digamma_one(float(counts[alive].sum()))
    return np.where(alive, digamma(counts) - total, IMPOSSIBLE)


def _prune(edges, starts, sizes, scores, used, alive, keep):
    """Keep the `keep` pieces whose loss would cost the likelihood most; characters always."""
    cost = np.zeros(len(starts))
    losses(edges, starts, sizes, scores, used, alive, cost)
    order = np.lexsort((np.arange(len(starts)), -cost, sizes != 1, ~alive))
    result = np.zeros(len(starts), bool)
    result[order[:keep]] = True
    return result & alive


def digamma(x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The derivative of log gamma, for x > 0: recurrence, then the asymptotic series (Abramowitz, Stegun 6.3.18)."""
    x = np.array(x, np.float64)
    result = np.zeros_like(x)
    for _ in range(7):
        small = x < 7
        result -= np.where(small, 1 / x, 0)
        x += small
    y = x - 0.5
    z = 1 / (y * y)
    return result + np.log(y) + z * (1 / 24 - z * (7 / 960 - z * (31 / 8064 - z * 127 / 30720)))


def digamma_one(x: float) -> float:
    """`digamma` of one number."""
    return math.fsum(digamma(np.array([x])))


@kernel
def expect(bounds, counts, edges, scores, expected):
    """Add to expected[piece] how often it is used on average over all ways to cut the words (forward, backward)."""
    longest = 0
    for word in range(bounds.size - 1):
        longest = max(longest, bounds[word + 1] - bounds[word])
    forward = np.empty(longest + 1)
    backward = np.empty(longest + 1)
    for word in range(bounds.size - 1):
        start = bounds[word]
        n = bounds[word + 1] - start
        forward[0] = 0.0
        for i in range(1, n + 1):
            forward[i] = IMPOSSIBLE
            backward[i - 1] = IMPOSSIBLE
        backward[n] = 0.0
        for i in range(n):
            if forward[i] <= IMPOSSIBLE:
                continue
            for size in range(1, min(LONGEST, n - i) + 1):
                piece = edges[start + i, size - 1]
                if piece >= 0 and scores[piece] > IMPOSSIBLE:
                    forward[i + size] = add_logs(forward[i + size], forward[i] + scores[piece])
        if forward[n] <= IMPOSSIBLE:
            continue  # a character outside the alphabet
        for i in range(n - 1, -1, -1):
            for size in range(1, min(LONGEST, n - i) + 1):
                piece = edges[start + i, size - 1]
                if piece >= 0 and scores[piece] > IMPOSSIBLE and backward[i + size] > IMPOSSIBLE:
                    backward[i] = add_logs(backward[i], backward[i + size] + scores[piece])
        for i in range(n):
            if forward[i] <= IMPOSSIBLE:
                continue
            for size in range(1, min(LONGEST, n - i) + 1):
                piece = edges[start + i, size - 1]
                if piece >= 0 and scores[piece] > IMPOSSIBLE and backward[i + size] > IMPOSSIBLE:
                    log_share = forward[i] + scores[piece] + backward[i + size] - forward[n]
                    expected[piece] += counts[word] * math.exp(log_share)


@kernel
def add_logs(a, b):
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    if b <= IMPOSSIBLE or a - b > 50:
        return a
    return a + math.log1p(math.exp(b - a))


@kernel
def best_path(bounds, counts, edges, scores, used):
    """Add to used[piece] how often it is used when each word is cut in the best way (Viterbi)."""
    longest = 0
    for word in range(bounds.size - 1):
        longest = max(longest, bounds[word + 1] - bounds[word])
    best = np.empty(longest + 1)
    last = np.empty(longest + 1, np.int64)
    for word in range(bounds.size - 1):
        start = bounds[word]
        n = bounds[word + 1] - start
        cut_best(start, n, edges, scores, best, last, n)
        if best[n] <= IMPOSSIBLE:
            continue
        while n > 0:
            used[edges[start + n - last[n], last[n] - 1]] += counts[word]
            n -= last[n]


@kernel
def cut_best(start, n, edges, scores, best, last, longest):
    """The best way to cut n characters at `start`, pieces of up to `longest`: its score best[i], last size last[i]."""
    best[0] = 0.0
    for i in range(1, n + 1):
        best[i] = IMPOSSIBLE
    for i in range(n):
        if best[i] <= IMPOSSIBLE:
            continue
        for size in range(1, min(min(LONGEST, longest), n - i) + 1):
            piece = edges[start + i, size - 1]
            if piece >= 0 and scores[piece] > IMPOSSIBLE and best[i] + scores[piece] > best[i + size]:
                best[i + size] = best[i] + scores[piece]
                last[i + size] = size


@kernel
def losses(edges, starts, sizes, scores, used, alive, cost):
    """What it costs the likelihood if a piece goes and its text is cut in the next best way, for each piece."""
    best = np.empty(LONGEST + 1)
    last = np.empty(LONGEST + 1, np.int64)
    total = 0.0
    for piece in range(starts.size):
        total += used[piece]
    for piece in range(starts.size):
        if not alive[piece] or sizes[piece] == 1:
            continue
        n = sizes[piece]
        cut_best(starts[piece], n, edges, scores, best, last, n - 1)
        if best[n] <= IMPOSSIBLE:
            cost[piece] = 1e300  # nothing else can spell it
            continue
        if used[piece] == 0:
            continue
        parts = 0
        log_parts = 0.0
        while n > 0:
            log_parts += math.log(used[edges[starts[piece] + n - last[n], last[n] - 1]] + used[piece])
            parts += 1
            n -= last[n]
        log_parts -= parts * math.log(total + used[piece] * (parts - 1))
        cost[piece] = used[piece] * (math.log(used[piece]) - math.log(total) - log_parts)
