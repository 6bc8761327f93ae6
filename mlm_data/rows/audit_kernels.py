"""The counting loops of the mask audit, over rows and masks as they are stored. `audit_counts` says what they count."""

from typing import NamedTuple

import numpy as np

from mlm_data.kernels import kernel
from mlm_data.rows.masking import MAX_UNIT, MILLION, find_run_starts, find_units, joined, run_is_free
from mlm_data.rows.unicode_scripts import SCRIPTS
from mlm_data.seeds import fold, mix

FRACTION_BITS = 24
NUM_SOURCES, NUM_LENGTHS, NUM_FREQUENCIES, NUM_RANGES = 16, 8, 5, 64

# Columns of groups: sources first, then these.
LENGTHS = NUM_SOURCES
SCRIPT = LENGTHS + NUM_LENGTHS
WORD = SCRIPT + len(SCRIPTS)
FREQUENCY = WORD + 2
NUM_GROUPS = FREQUENCY + NUM_FREQUENCIES

# Columns of faults.
SHAPE, ON_SPECIAL, BESIDE, ON_NEVER, MANY, FEW, PARTLY, SWAP_PLACE, SWAP_TOKEN, RUN, PARTLY_SHOWN = range(11)
NUM_FAULTS = 11

# Columns of sums.
ROWS, CANDIDATES, BUDGET, TARGETS, MOST, DRAWABLE, RUNS, CHOICES, SAME, OTHER, OTHER_FOREIGN, LOWEST, HIGHEST = range(
    13
)
NUM_SUMS = 13

NUM_CLASSES = 3  # of places where runs may start, by how many runs fit there: `find_run_starts`

POPCOUNT = np.bitwise_count(np.arange(256, dtype=np.uint8))


@kernel
def count_tokens(tokens, vocab_size):
    """How often each id occurs; the last entry counts ids outside the vocabulary."""
    counts = np.zeros(vocab_size + 1, np.int64)
    for row in range(tokens.shape[0]):
        for token in tokens[row]:
            counts[min(np.int64(token), vocab_size)] += 1
    return counts


class Grouping(NamedTuple):
    """By what targets are counted: of every token of the vocabulary, and of every document."""

    never: np.ndarray  # bool[vocabulary]: can't be a target
    drawable: np.ndarray  # bool[vocabulary]: may come instead of a target
    script: np.ndarray  # uint8[vocabulary]
    frequency: np.ndarray  # uint8[vocabulary]: the band
    sources: np.ndarray  # uint8[documents]: the group


class Totals(NamedTuple):
    """What `count_unit_targets` and `count_run_targets` add to, by plane."""

    faults: np.ndarray  # int64[planes, NUM_FAULTS]
    groups: np.ndarray  # int64[planes, 3, NUM_GROUPS]
    sums: np.ndarray  # int64[planes, NUM_SUMS]
    fingerprints: np.ndarray  # uint64[planes]


@kernel
def count_run_targets(rows, targets, ngram, millionths, specials, grouping, totals):
    """Add the counts of several planes that hide runs of `ngram` tokens; single tokens, words: `count_unit_targets`.

    targets [planes, rows, length / 8]; specials: cls, sep, pad.
    """
    tokens, segment_offsets, segment_lengths, segment_documents, _, word_starts = rows
    cls, sep, pad = specials
    never, drawable, script, frequency, sources = grouping
    faults, groups, sums, fingerprints = totals
    num_rows, length = tokens.shape
    num_planes = targets.shape[0]
    has_cls, has_sep = int(cls >= 0), int(sep >= 0)
    place = np.empty(length + 1, np.int32)
    segment = np.empty(length + 1, np.int32)
    can_be_drawn = np.empty(length + 1, np.int32)
    hit = np.empty(length + 1, np.int32)
    starts = np.arange(length + 2).astype(np.int32)
    hidden = np.empty(length + 1, np.int32)
    codes = np.empty((length + 1, 5), np.uint8)  # groups of each unit
    alike = np.zeros(length + 1, np.int32)  # class of each unit: how many runs fit where it lies
    units_of = np.zeros((NUM_CLASSES, NUM_GROUPS), np.int32)  # by class and group
    hidden_of = np.zeros((NUM_CLASSES, NUM_GROUPS), np.int32)
    for row in range(num_rows):
        line = tokens[row]
        first, last = segment_offsets[row], segment_offsets[row + 1]
        num, used = find_candidates(line, first, last, segment_lengths, has_cls, has_sep, never, place, segment)
        fits = well_shaped(line, first, last, segment_lengths, cls, sep, pad)
        for i in range(num):
            can_be_drawn[i] = drawable[line[place[i]]]
        units = find_run_starts(ngram, place, segment, num, starts, alike)
        units_of[:] = 0
        for u in range(units):
            i = starts[u]
            s, p = segment[i], place[i]
            code = codes[u]
            code[0] = sources[segment_documents[s]]
            code[1] = LENGTHS + (segment_lengths[s] - 1) * NUM_LENGTHS // length
            code[2] = SCRIPT + script[line[p]]
            code[3] = WORD + ((word_starts[row, p >> 3] >> (p & 7)) & 1)
            code[4] = FREQUENCY + frequency[line[p]]
            counts = units_of[alike[u]]
            for c in range(5):
                counts[code[c]] += 1
        for plane in range(num_planes):
            bits, fault, total_of = targets[plane, row], faults[plane], sums[plane]
            total, on_candidates, drawn = 0, 0, 0
            for byte in bits:
                total += POPCOUNT[byte]
            for i in range(num):
                p = place[i]
                hit[i] = (bits[p >> 3] >> (p & 7)) & 1
                on_candidates += hit[i]
                drawn += hit[i] & can_be_drawn[i]
            if total != on_candidates:
                blame(bits, line, first, last, segment_lengths, has_cls, has_sep, never, used, fault)

            num_hidden, smallest_left = 0, length + 1
            fault[RUN] += _other_runs(ngram, place, segment, hit, num)
            for u in range(units):
                i = starts[u]
                hidden[num_hidden] = u
                num_hidden += hit[i] and not (i > 0 and hit[i - 1] and joined(place, segment, i - 1, i))
                if smallest_left > ngram and run_is_free(ngram, place, segment, num, hit, i):
                    smallest_left = ngram
            hidden_of[:] = 0
            for h in range(num_hidden):
                u = hidden[h]
                counts = hidden_of[alike[u]]
                for c in range(5):
                    counts[codes[u, c]] += 1
            for size in range(NUM_CLASSES):
                # Every unit has one length group, so these columns hold each once.
                n, k = np.int64(0), np.int64(0)
                for g in range(LENGTHS, LENGTHS + NUM_LENGTHS):
                    n += np.int64(units_of[size, g])
                    k += np.int64(hidden_of[size, g])
                if n == 0:
                    continue
                # Runs keep apart: two of them may have but one choice.
                total_of[CHOICES] += (min(k, n - k) + 1) // 2
                each = (k << FRACTION_BITS) // n
                for g in range(NUM_GROUPS):
                    groups[plane, 0, g] += units_of[size, g]
                    groups[plane, 1, g] += hidden_of[size, g]
                    groups[plane, 2, g] += units_of[size, g] * each

            budget = num * millionths[plane] // MILLION
            fault[SHAPE] += not fits
            fault[MANY] += total > budget
            fault[FEW] += on_candidates < budget and smallest_left <= budget - on_candidates
            add_row(total_of, num, budget, on_candidates, total, drawn)
            total_of[RUNS] += squared_runs(segment, hit, num)
            fingerprints[plane] += hash_bits(bits, row)


@kernel
def count_swaps(tokens, masks, rank, num_random, faults, sums, ranges):
    """Add what targets hold that don't hold [MASK], of one plane."""
    targets, swap_offsets, swap_places, swap_tokens = masks
    length = tokens.shape[1]
    for row in range(tokens.shape[0]):
        line, bits = tokens[row], targets[row]
        before = np.int64(-1)
        for q in range(swap_offsets[row], swap_offsets[row + 1]):
            p, new = np.int64(swap_places[q]), np.int64(swap_tokens[q])
            if p <= before or p >= length or (bits[p >> 3] >> (p & 7)) & 1 == 0:
                faults[SWAP_PLACE] += 1
                continue
            before = p
            own = line[p]
            if new == own:
                sums[SAME] += 1
                continue
            if new >= rank.size or rank[new] < 0:
                faults[SWAP_TOKEN] += 1
                continue
            sums[OTHER] += 1
            sums[LOWEST] = min(sums[LOWEST], rank[new])
            sums[HIGHEST] = max(sums[HIGHEST], rank[new])
            ranges[0, rank[new] * NUM_RANGES // num_random] += 1
            if rank[own] < 0:
                sums[OTHER_FOREIGN] += 1
            else:
                ranges[1, rank[own] * NUM_RANGES // num_random] += 1


@kernel
def count_partly_shown(masks, ngram, faults):
    """Add how many runs of `ngram` targets hold [MASK] at some of their places, and not at others."""
    targets, swap_offsets, swap_places, _ = masks
    num_rows, num_bytes = targets.shape
    for row in range(num_rows):
        q, last = swap_offsets[row], swap_offsets[row + 1]
        seen, swapped = 0, 0
        for p in range(8 * num_bytes):
            if (targets[row, p >> 3] >> (p & 7)) & 1 == 0:
                continue
            while q < last and swap_places[q] < p:
                q += 1
            seen += 1
            swapped += q < last and swap_places[q] == p
            if seen == ngram:
                faults[PARTLY_SHOWN] += 0 < swapped < ngram
                seen, swapped = 0, 0


@kernel
def count_pairs(rows, targets, pairs, words, ngram, has_cls, has_sep, never, counts):
    """Add (both, expected, most) of every pair of planes of words or runs; targets [planes, rows, length / 8]."""
    tokens, segment_offsets, segment_lengths, _, _, word_starts = rows
    num_rows, length = tokens.shape
    num_planes = targets.shape[0]
    place = np.empty(length + 1, np.int32)
    segment = np.empty(length + 1, np.int32)
    starts = np.arange(length + 2).astype(np.int32)
    alike = np.zeros(length + 1, np.int32)
    heads = np.zeros((MAX_UNIT, length // 8), np.uint8)  # first places of the units of each class
    sizes = np.zeros(MAX_UNIT, np.int64)
    hidden = np.zeros((num_planes, MAX_UNIT), np.int64)
    begins = np.zeros((num_planes, length // 8), np.uint8)  # targets of the row; of runs only their first places
    for row in range(num_rows):
        first, last = segment_offsets[row], segment_offsets[row + 1]
        num, _ = find_candidates(tokens[row], first, last, segment_lengths, has_cls, has_sep, never, place, segment)
        units = _units(words, ngram, word_starts[row], place, segment, num, starts, alike)
        heads[:] = 0
        sizes[:] = 0
        for u in range(units):
            p, size = place[starts[u]], alike[u]
            heads[size, p >> 3] |= np.uint8(1) << np.uint8(p & 7)
            sizes[size] += 1
        for plane in range(num_planes):
            begins[plane] = targets[plane, row]
            for u in range(units if ngram else 0):
                i, p = starts[u], place[starts[u]]
                if i > 0 and joined(place, segment, i - 1, i):
                    before = (targets[plane, row, (p - 1) >> 3] >> ((p - 1) & 7)) & 1
                    begins[plane, p >> 3] &= ~(np.uint8(before) << np.uint8(p & 7))
        for size in range(MAX_UNIT):
            if sizes[size] == 0:
                continue
            tokens_of = ngram if ngram else size + 1
            for plane in range(num_planes):
                k = 0
                for byte in range(length // 8):
                    k += POPCOUNT[begins[plane, byte] & heads[size, byte]]
                hidden[plane, size] = k
            for pair in range(len(pairs)):
                a, b = pairs[pair]
                both = 0
                for byte in range(length // 8):
                    both += POPCOUNT[begins[a, byte] & begins[b, byte] & heads[size, byte]]
                ka, kb = hidden[a, size], hidden[b, size]
                counts[pair, 0] += both * tokens_of
                counts[pair, 1] += ((ka * kb << FRACTION_BITS) // sizes[size]) * tokens_of
                counts[pair, 2] += min(ka, kb) * tokens_of


@kernel
def find_candidates(line, first, last, segment_lengths, has_cls, has_sep, never, place, segment):
    """Write place and segment of every candidate of a row; returns (candidates, places in segments)."""
    num, at = 0, 0
    for s in range(first, last):
        end = at + segment_lengths[s]
        for p in range(at + has_cls, end - has_sep):
            place[num] = p
            segment[num] = s
            num += not never[line[p]]
        at = end
    return num, at


@kernel
def _units(words, ngram, word_starts, place, segment, num, starts, alike):
    """Find the words of a row, or where its runs may start, and the class of each; returns how many there are."""
    if not words:
        return find_run_starts(ngram, place, segment, num, starts, alike)
    units = find_units(word_starts, place, segment, num, starts)
    for u in range(units):
        alike[u] = starts[u + 1] - starts[u] - 1
    return units


@kernel
def add_row(sums, num, budget, hit, total, drawn):
    """Add a row of one plane: candidates, how many may be hidden and are, all targets, those that a draw can hit."""
    sums[ROWS] += 1
    sums[CANDIDATES] += num
    sums[BUDGET] += budget
    sums[TARGETS] += hit
    sums[MOST] = max(sums[MOST], total)
    sums[DRAWABLE] += drawn


@kernel
def well_shaped(line, first, last, segment_lengths, cls, sep, pad):
    """Whether segments begin with [CLS], end with [SEP], and [PAD] fills the rest."""
    fits, at = True, 0
    for s in range(first, last):
        end = at + segment_lengths[s]
        if cls >= 0:
            fits &= line[at] == cls
        if sep >= 0:
            fits &= line[end - 1] == sep
        at = end
    for p in range(at, line.size):
        fits &= line[p] == pad
    return fits


@kernel
def blame(bits, line, first, last, segment_lengths, has_cls, has_sep, never, used, faults):
    """Say where the targets of one row lie that are on no candidate."""
    at = 0
    for s in range(first, last):
        end = at + segment_lengths[s]
        for p in range(at, end):
            if (bits[p >> 3] >> (p & 7)) & 1:
                if p < at + has_cls or p >= end - has_sep:
                    faults[ON_SPECIAL] += 1
                else:
                    faults[ON_NEVER] += never[line[p]]
        at = end
    for p in range(used, line.size):
        faults[BESIDE] += (bits[p >> 3] >> (p & 7)) & 1


@kernel
def _other_runs(ngram, place, segment, hit, num):
    """How many runs of neighbouring targets are not `ngram` places long."""
    others, run = 0, 0
    for i in range(num):
        run += hit[i]
        if run and not (i + 1 < num and hit[i + 1] and joined(place, segment, i, i + 1)):
            others += run != ngram
            run = 0
    return others


@kernel
def squared_runs(segment, hit, num):
    """Sum of squares of the lengths of runs of neighbouring targets; what is no candidate does not end a run."""
    total, run = 0, 0
    for i in range(num):
        joined = i > 0 and segment[i] == segment[i - 1]
        run = (run if joined else 0) * hit[i] + hit[i]
        total += (2 * run - 1) * hit[i]
    return total


@kernel
def hash_bits(bits, row):
    """A 64-bit hash of one row's bits and number."""
    state = np.uint64(row)
    word = np.uint64(0)
    for i in range(bits.size):
        word = (word << np.uint64(8)) | np.uint64(bits[i])
        if i % 8 == 7 or i == bits.size - 1:
            state = fold(state, word)
            word = np.uint64(0)
    return mix(state)
