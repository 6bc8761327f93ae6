r"""The loops of language identification: excerpts, their capitals and marks, an automaton over bytes, naive Bayes.

**The automaton** has a row for each of its states, with an entry for each byte: `row << 16 | k`, the row to go on with,
and which of that row's own features ends here (0: none). So one load leads from byte to byte; features are looked up
beside it:

    entry = table[row, byte]        row = entry >> 16        feature = features[first[row] + (entry & 0xFFFF)]

**Naive Bayes** over the features found, with log1p(count) for the count as py3langid has it:

    score[class] = prior[class] + sum over features f of log1p(count[f]) * weight[f, class]

Weights of the model are multiples of 1/512, so they are integers here, and so are the logarithms, in units of 2^-20.
Features of one count are added up first and multiplied once: sums of integers are the same in any order, on any
machine. Only the last step, the exponentials of some 140 classes, is in floating point.
"""

import numpy as np

from mlm_data.characters import code_point
from mlm_data.curation.thresholds import SCORE_UNIT
from mlm_data.kernels import copy_bytes, kernel, lean_kernel, prefetch

MEMORY = 16  # bytes: no state of the automaton is further from its beginning
WEIGHT_UNIT = 512  # units of a weight in 1
LOG_UNIT = 1 << 20  # units of log1p in 1

# What a code point is, in bits. LOWER: small or titlecase, what str.isupper says no for.
LOWER, UPPER, LETTER = np.uint8(1), np.uint8(2), np.uint8(4)
MAY_CHANGE = np.uint8(255)  # a mark: the code point may join with the one before, or never stays as it is


@kernel
def excerpt_sizes(data, offsets, window, whole, out):
    """Bytes of each excerpt: texts up to `whole` bytes are taken whole, others as three windows with line feeds."""
    for i in range(len(out)):
        size = offsets[i + 1] - offsets[i]
        out[i] = size if size <= whole else 3 * window + 2


@kernel
def _border_after(data, i, end):
    """The first beginning of a character at i or behind."""
    while i < end and data[i] & 0xC0 == 0x80:
        i += 1
    return i


@kernel
def _border_before(data, i, start):
    """The last beginning of a character at i or before."""
    while i > start and data[i] & 0xC0 == 0x80:
        i -= 1
    return i


@kernel
def cut_excerpts(data, offsets, window, whole, out, places):
    """Write the excerpts behind each other; places[i] is where excerpt i begins."""
    at = np.int64(0)
    places[0] = 0
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        if end - start <= whole:
            at = copy_bytes(data, start, end, out, at)
        else:
            middle = start + (end - start - window) // 2
            at = copy_bytes(data, start, _border_before(data, start + window, start), out, at)
            out[at] = 10
            first = _border_after(data, middle, end)
            at = copy_bytes(data, first, _border_before(data, middle + window, first), out, at + 1)
            out[at] = 10
            at = copy_bytes(data, _border_after(data, end - window, end), end, out, at + 1)
        places[i + 1] = at


@kernel
def _look(data, i, end, kinds, marks):
    """(bits of all code points, whether the text may not be in NFC)."""
    bits = np.uint8(0)
    before = np.uint8(0)
    may_change = False
    while i < end:
        if data[i] < 0x80:
            bits |= kinds[data[i]]
            before = np.uint8(0)
            i += 1
            continue
        code, width = code_point(data, i)
        i += width
        if code >= len(kinds):
            bits |= LETTER
            before = np.uint8(0)
            continue
        bits |= kinds[code]
        mark = marks[code]
        may_change |= mark == MAY_CHANGE or (mark != 0 and mark < before)
        before = mark
    return bits, may_change


@kernel
def look(data, offsets, kinds, marks, needs_care, has_letters):
    """Which texts the library changes before it reads them (all in capitals, or not in NFC), and which have letters."""
    for i in range(len(needs_care)):
        bits, may_change = _look(data, offsets[i], offsets[i + 1], kinds, marks)
        needs_care[i] = may_change or bits & (LOWER | UPPER) == UPPER
        has_letters[i] = bits & LETTER != 0


@lean_kernel
def _count(entry, first, features, weights, counts, found, n):
    """Count the feature that ends here, if any; returns how many have been found. Weights of a new one are fetched."""
    k = entry & np.uint32(0xFFFF)
    if k:
        feature = features[first[entry >> np.uint32(16)] + k]
        if counts[feature] == 0:
            found[n] = feature
            n += 1
            place = np.uint64(feature) * np.uint64(weights.shape[1])
            for line in range(0, weights.shape[1], 32):
                prefetch(weights, place + np.uint64(line))
        counts[feature] += 1
    return n


@lean_kernel
def _walk(data, start, end, table, first, features, weights, counts, found):
    """Count the features of a text: counts[f], and found[:n] says which; returns n.

    The automaton is one of Aho and Corasick (1975): where it stands depends on the last MEMORY bytes at most. So four
    quarters of a text are walked at once, each from MEMORY bytes before it, and do not wait for each other's loads.
    """
    n = 0
    up = np.uint32(16)
    quarter = (end - start) // 4
    a = b = c = d = np.uint32(0)  # entries; a row is in the upper half
    if quarter >= 4 * MEMORY:
        for i in range(start + quarter - MEMORY, start + quarter):
            b = table[b >> up, data[i]]
            c = table[c >> up, data[i + quarter]]
            d = table[d >> up, data[i + 2 * quarter]]
        for i in range(start, start + quarter):
            a = table[a >> up, data[i]]
            b = table[b >> up, data[i + quarter]]
            c = table[c >> up, data[i + 2 * quarter]]
            d = table[d >> up, data[i + 3 * quarter]]
            n = _count(a, first, features, weights, counts, found, n)
            n = _count(b, first, features, weights, counts, found, n)
            n = _count(c, first, features, weights, counts, found, n)
            n = _count(d, first, features, weights, counts, found, n)
        start += 4 * quarter
    for i in range(start, end):
        d = table[d >> up, data[i]]
        n = _count(d, first, features, weights, counts, found, n)
    return n


@lean_kernel
def _sort_by_count(counts, found, n, sizes, ordered):
    """Put the features into the order of their counts; returns the highest count. Sets their counts to 0 again."""
    highest = 0
    for i in range(n):
        count = counts[found[i]]
        highest = max(highest, count)
        sizes[count + 1] += 1
    for count in range(1, highest + 2):
        sizes[count] += sizes[count - 1]
    for i in range(n):
        count = counts[found[i]]
        ordered[sizes[count]] = found[i]
        sizes[count] += 1
        counts[found[i]] = 0
    return highest


@kernel
def _score(counts, found, n, weights, logs, priors, sizes, ordered, sums, scores):
    """Scores of all classes, in units of 1 / (WEIGHT_UNIT * LOG_UNIT)."""
    highest = _sort_by_count(counts, found, n, sizes, ordered)
    scores[:] = priors
    i = 0
    for count in range(1, highest + 1):
        behind = sizes[count]
        if behind > i:
            sums[:] = 0
            for k in range(i, behind):
                row = weights[ordered[k]]
                for j in range(len(sums)):
                    sums[j] += row[j]
            for j in range(len(scores)):
                scores[j] += logs[count] * np.int64(sums[j])
            i = behind
    sizes[: highest + 2] = 0


@kernel
def _best(scores, size, joins, chances):
    """(class, its share of the probability in units of 1 / SCORE_UNIT) at a temperature of sqrt(bytes)."""
    best = scores[0]
    for j in range(len(scores)):
        best = max(best, scores[j])
    unit = 1.0 / (WEIGHT_UNIT * LOG_UNIT) / np.sqrt(np.float64(size))
    chances[:] = 0.0
    total = 0.0
    for j in range(len(scores)):
        chance = np.exp(np.float64(scores[j] - best) * unit)
        total += chance
        chances[joins[j]] += chance
    label = 0
    for j in range(len(scores)):
        if chances[j] > chances[label]:
            label = j
    return label, np.uint16(chances[label] / total * SCORE_UNIT + 0.5)


@kernel
def classify(data, offsets, table, first, features, weights, logs, priors, joins, labels, scores):
    """The class of each text and its score; -1 and 0 where the text has no feature at all.

    Args:
        table: uint32[rows, 256], the automaton.
        first: int32[rows + 1], where the features of a row begin, less one.
        features: int32, features by row.
        weights: int16[features, classes rounded up], in units of 1 / WEIGHT_UNIT.
        logs: int64, log1p of each count that a text may have, in units of 1 / LOG_UNIT.
        priors: int64[classes].
        joins: int64[classes], the class that takes each one's probability: itself, mostly.
        labels: int16 per text, written.
        scores: uint16 per text, written.
    """
    most = len(logs)
    counts = np.zeros(weights.shape[0], np.int32)
    found = np.empty(most, np.int32)
    ordered = np.empty(most, np.int32)
    sizes = np.zeros(most + 2, np.int32)
    sums = np.empty(weights.shape[1], np.int32)
    totals = np.empty(len(priors), np.int64)
    chances = np.empty(len(priors), np.float64)
    for i in range(len(labels)):
        start, end = offsets[i], offsets[i + 1]
        n = _walk(data, start, end, table, first, features, weights, counts, found)
        if n == 0:
            labels[i] = -1
            scores[i] = 0
            continue
        _score(counts, found, n, weights, logs, priors, sizes, ordered, sums, totals)
        labels[i], scores[i] = _best(totals, end - start, joins, chances)
