"""The counts of `audit_kernels` for planes that hide single tokens or words, 64 places at a time.

Where every candidate is a unit of its own, all that is counted are sizes of sets of places: a group's candidates, and
those of them that are targets. So a row's groups become sets of bits, once for all planes, and a plane costs an AND and
a count of ones for each group that occurs.

    places       [CLS] the cat ##s [SEP] [PAD] [PAD] [PAD]
    candidates     0    1   1   1    0     0     0     0
    in a word      0    0   0   1    0     0     0     0
    targets        0    0   1   1    0     0     0     0       2 of 3 candidates; of 1 inside a word 1

Words are counted by their first places, one class for each number of tokens: a word of two is hidden where its first
place is a target, and the one behind it, too.

    goes on        0    0   0   1    0     0     0     0       candidates that begin no word
    1 token        0    1   0   0    0     0     0     0       begins, and the next place doesn't go on
    2 tokens       0    0   1   0    0     0     0     0       begins, and just the next place goes on
    hidden         0    0   1   0    0     0     0     0       2 tokens & targets & targets >> 1

A word may have a hole, a place that can't be a target; such rows, which are rare, are looked at word by word.

Cost: two table look-ups a token, one comparison of 64 bytes for each group that tokens have; then 1 ANDed word for each
class and group that occur, plane and 64 places.
"""

import numpy as np

from mlm_data.kernels import kernel, load_uint64, num_ones, range_mask
from mlm_data.rows.audit_kernels import (
    CHOICES,
    FEW,
    FRACTION_BITS,
    FREQUENCY,
    LENGTHS,
    MANY,
    NUM_FREQUENCIES,
    NUM_GROUPS,
    NUM_LENGTHS,
    PARTLY,
    RUNS,
    SCRIPT,
    SHAPE,
    WORD,
    add_row,
    blame,
    find_candidates,
    hash_bits,
    squared_runs,
    well_shaped,
)
from mlm_data.rows.masking import MAX_UNIT, MILLION, find_units
from mlm_data.rows.unicode_scripts import SCRIPTS

NUM_SCRIPTS = len(SCRIPTS)
NONE = 255  # what a place without a candidate has instead of a script or a frequency
DRAWN = 8  # added to the frequency of a token that a random draw can hit; frequencies are below it
ALL, ONE = np.uint64(2**64 - 1), np.uint64(1)


@kernel
def count_unit_targets(rows, targets, words, in_runs, millionths, specials, grouping, totals):
    """Add the counts of several planes of one kind that hides single tokens or, with `words`, words.

    targets [planes, rows, length / 8]; specials: cls, sep, pad.
    """
    tokens, segment_offsets, segment_lengths, segment_documents, _, word_starts = rows
    cls, sep, pad = specials
    never, drawable, script, frequency, sources = grouping
    faults, groups, sums, fingerprints = totals
    num_rows, length = tokens.shape
    num_planes, num_words = targets.shape[0], -(-length // 64)
    num_classes = MAX_UNIT if words else 1
    has_cls, has_sep = int(cls >= 0), int(sep >= 0)
    script_of = np.full(never.size, NONE, np.uint8)
    frequency_of = np.full(never.size, NONE, np.uint8)
    for token in range(never.size):
        if not never[token]:
            script_of[token] = script[token]
            frequency_of[token] = frequency[token] + DRAWN * drawable[token]
    scripts = np.empty(64 * num_words, np.uint8)
    frequencies = np.empty(64 * num_words, np.uint8)
    padded = np.zeros(8 * num_words, np.uint8)  # bits of a row, up to a whole word
    members = np.zeros((NUM_GROUPS, num_words), np.uint64)  # by group: places of its candidates
    candidates = np.empty(num_words, np.uint64)
    can_be_drawn = np.empty(num_words, np.uint64)
    bits = np.empty(num_words, np.uint64)
    borders = np.zeros(num_words, np.uint64)  # where a word begins, or a segment
    heads = np.empty((num_classes, num_words), np.uint64)  # by class: the first places of its units
    hidden = np.empty((num_classes, num_words), np.uint64)  # of these, units that are hidden
    touched = np.empty((num_classes, num_words), np.uint64)  # units that are hidden in part, or whole
    goes_on = np.empty(num_words, np.uint64)
    present = np.empty(NUM_GROUPS, np.int64)  # groups that occur in the row
    sizes = np.empty((num_classes, NUM_GROUPS), np.int64)
    num_units = np.empty(num_classes, np.int64)
    place = np.empty(length + 1, np.int32)  # as in `audit_kernels`, where candidates are looked at one by one
    segment = np.empty(length + 1, np.int32)
    starts = np.empty(length + 2, np.int32)
    hit_of = np.empty(length + 1, np.int32)
    for row in range(num_rows):
        line = tokens[row]
        first, last = segment_offsets[row], segment_offsets[row + 1]
        scripts[:] = NONE
        frequencies[:] = NONE
        used = 0
        for s in range(first, last):
            end = used + segment_lengths[s]
            for p in range(used + has_cls, end - has_sep):
                scripts[p] = script_of[line[p]]
                frequencies[p] = frequency_of[line[p]]
            used = end
        fits = well_shaped(line, first, last, segment_lengths, cls, sep, pad)
        padded[: length // 8] = word_starts[row]
        num = 0
        for w in range(num_words):
            at = 64 * w
            candidates[w] = range_mask(scripts, at, 0, 0, NONE)
            can_be_drawn[w] = range_mask(frequencies, at, 0, DRAWN, DRAWN)
            num += num_ones(candidates[w])
            for group in range(NUM_SCRIPTS):
                members[SCRIPT + group, w] = range_mask(scripts, at, 0, group, 1)
            for group in range(NUM_FREQUENCIES):
                members[FREQUENCY + group, w] = range_mask(frequencies, at, DRAWN, DRAWN + group, 1)
            borders[w] = load_uint64(padded, 8 * w)
            members[WORD, w] = candidates[w] & ~borders[w]
            members[WORD + 1, w] = candidates[w] & borders[w]
        members[:SCRIPT] = 0
        begin = 0
        for s in range(first, last):
            end = begin + segment_lengths[s]
            source = sources[segment_documents[s]]
            size = LENGTHS + (segment_lengths[s] - 1) * NUM_LENGTHS // length
            for w in range(begin >> 6, (end + 63) >> 6):
                low, high = max(begin - 64 * w, 0), min(end - 64 * w, 64)
                inside = candidates[w] & ((ALL >> np.uint64(64 - (high - low))) << np.uint64(low))
                members[source, w] |= inside
                members[size, w] |= inside
            borders[begin >> 6] |= ONE << np.uint64(begin & 63)
            begin = end
        units, has_holes = 0, False
        if words:
            has_holes = find_word_heads(candidates, borders, goes_on, heads)
        else:
            heads[0] = candidates
        if has_holes or in_runs:
            find_candidates(line, first, last, segment_lengths, has_cls, has_sep, never, place, segment)
        if has_holes:
            units = find_units(word_starts[row], place, segment, num, starts)
            heads[:] = 0
            for u in range(units):
                set_bit(heads[starts[u + 1] - starts[u] - 1], place[starts[u]])
        num_present = 0
        for group in range(NUM_GROUPS):
            count = 0
            for w in range(num_words):
                count += num_ones(members[group, w])
            present[num_present] = group
            sizes[0, num_present] = count
            num_present += count > 0
        num_units[0] = num
        for c in range(num_classes if words else 0):
            num_units[c] = 0
            for w in range(num_words):
                num_units[c] += num_ones(heads[c, w])
            for i in range(num_present if num_units[c] else 0):
                count = 0
                for w in range(num_words):
                    count += num_ones(members[present[i], w] & heads[c, w])
                sizes[c, i] = count
        for plane in range(num_planes):
            fault, total_of = faults[plane], sums[plane]
            padded[: length // 8] = targets[plane, row]
            total, hit, drawn = 0, 0, 0
            for w in range(num_words):
                bits[w] = load_uint64(padded, 8 * w)
                total += num_ones(bits[w])
                hit += num_ones(bits[w] & candidates[w])
                drawn += num_ones(bits[w] & can_be_drawn[w])
            if total != hit:
                blame(
                    targets[plane, row], line, first, last, segment_lengths, has_cls, has_sep, never, used, fault
                )  # fmt: skip
            if has_holes:
                hidden[:] = 0
                touched[:] = 0
                for u in range(units):
                    size, inside = starts[u + 1] - starts[u], 0
                    for i in range(starts[u], starts[u + 1]):
                        inside += (targets[plane, row, place[i] >> 3] >> (place[i] & 7)) & 1
                    if inside:
                        set_bit(touched[size - 1], place[starts[u]])
                    if inside == size:
                        set_bit(hidden[size - 1], place[starts[u]])
            elif words:
                _find_hidden(bits, heads, hidden, touched)
            else:
                hidden[0] = bits
            smallest_left = length + 1
            for c in range(num_classes):
                n = num_units[c]
                if n == 0:
                    continue
                k, partly = np.int64(hit), np.int64(0)
                if words:
                    k = np.int64(0)
                    for w in range(num_words):
                        k += np.int64(num_ones(hidden[c, w]))
                        partly += np.int64(num_ones(touched[c, w] & ~hidden[c, w]))
                fault[PARTLY] += partly
                if k < n:
                    smallest_left = min(smallest_left, c + 1)
                total_of[CHOICES] += min(k, n - k)
                each = (k << FRACTION_BITS) // n
                for i in range(num_present):
                    group, count = present[i], 0
                    for w in range(num_words):
                        count += num_ones(members[group, w] & hidden[c, w])
                    groups[plane, 0, group] += sizes[c, i]
                    groups[plane, 1, group] += count
                    groups[plane, 2, group] += sizes[c, i] * each
            budget = num * millionths[plane] // MILLION
            fault[SHAPE] += not fits
            fault[MANY] += total > budget
            fault[FEW] += hit < budget and smallest_left <= budget - hit
            add_row(total_of, num, budget, hit, total, drawn)
            if in_runs:
                for i in range(num):
                    hit_of[i] = (targets[plane, row, place[i] >> 3] >> (place[i] & 7)) & 1
                total_of[RUNS] += squared_runs(segment, hit_of, num)
            fingerprints[plane] += hash_bits(targets[plane, row], row)


@kernel
def set_bit(bits, place):
    """Inside kernels: set the bit of a place in words of 64."""
    bits[place >> 6] |= ONE << np.uint64(place & 63)


@kernel
def find_word_heads(candidates, borders, goes_on, heads):
    """Write the first places of a row's words, by their number of tokens, to `heads`, as `find_units` has them.

    Args:
        candidates: places that may be targets, in words of 64 bits, as all others.
        borders: where a word or a segment begins, on a candidate or not.
        goes_on: for work: candidates that begin no word.
        heads: [MAX_UNIT, words].

    Returns whether some word has a place in it that is no candidate; then `heads` means nothing.
    """
    num_words = candidates.size
    # A border that is on no candidate goes to the next one: a carry runs through what is no candidate.
    carry, before, holes = np.uint64(0), np.uint64(0), np.uint64(0)
    for w in range(num_words):
        others = ~candidates[w]
        total = (borders[w] & others) + others
        over = total < others
        moved = total + carry
        carry = np.uint64(over | (moved < total))
        goes_on[w] = candidates[w] & ~(borders[w] | moved)
        holes |= goes_on[w] & ~(candidates[w] << ONE | before)
        before = candidates[w] >> np.uint64(63)
    if holes:
        return True
    # A word ends after MAX_UNIT tokens: where that many places before, and this one, go on, another begins.
    while True:
        found = np.uint64(0)
        two, four, long, last = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
        for w in range(num_words):
            now = goes_on[w]
            two_now = now & (now << np.uint64(1) | last >> np.uint64(63))
            four_now = two_now & (two_now << np.uint64(2) | two >> np.uint64(62))
            long_now = four_now & (four_now << np.uint64(4) | four >> np.uint64(60))
            begins = long_now & ~(long_now << np.uint64(1) | long >> np.uint64(63))
            two, four, long, last = two_now, four_now, long_now, now
            goes_on[w] = now & ~begins
            found |= begins
        if found == 0:
            break
    for w in range(num_words):
        heads[0, w] = candidates[w] & ~goes_on[w]
    # heads[c]: words of more than c tokens; then those of one token more are taken out.
    for c in range(1, MAX_UNIT):
        for w in range(num_words):
            heads[c, w] = heads[c - 1, w] & _shifted(goes_on, w, c)
            heads[c - 1, w] ^= heads[c, w]
    return False


@kernel
def _find_hidden(bits, heads, hidden, touched):
    """Which units have a target at all of their places, and at some of them."""
    every, some = bits.copy(), bits.copy()
    for c in range(MAX_UNIT):
        for w in range(bits.size):
            if c:
                shifted = _shifted(bits, w, c)
                every[w] &= shifted
                some[w] |= shifted
            hidden[c, w] = heads[c, w] & every[w]
            touched[c, w] = heads[c, w] & some[w]


@kernel
def _shifted(bits, w, count):
    """64 bits from place 64 w + count on; 0 < count < 64."""
    after = bits[w + 1] if w + 1 < bits.size else np.uint64(0)
    return bits[w] >> np.uint64(count) | after << np.uint64(64 - count)


@kernel
def count_single_pairs(rows, targets, pairs, has_cls, has_sep, never, counts):
    """As `count_pairs`, for planes that all are of kind `token`."""
    tokens, segment_offsets, segment_lengths, _, _, _ = rows
    num_rows, length = tokens.shape
    num_planes, num_words = targets.shape[0], -(-length // 64)
    marks = np.empty(64 * num_words, np.uint8)  # 1 at candidates
    padded = np.zeros(8 * num_words, np.uint8)
    bits = np.empty((num_planes, num_words), np.uint64)  # targets that are candidates
    hidden = np.empty(num_planes, np.int64)
    for row in range(num_rows):
        marks[:] = 0
        at = 0
        for s in range(segment_offsets[row], segment_offsets[row + 1]):
            end = at + segment_lengths[s]
            for p in range(at + has_cls, end - has_sep):
                marks[p] = not never[tokens[row, p]]
            at = end
        num = 0
        for w in range(num_words):
            num += num_ones(range_mask(marks, 64 * w, 0, 1, 1))
        if num == 0:
            continue
        for plane in range(num_planes):
            padded[: length // 8] = targets[plane, row]
            hit = 0
            for w in range(num_words):
                bits[plane, w] = load_uint64(padded, 8 * w) & range_mask(marks, 64 * w, 0, 1, 1)
                hit += num_ones(bits[plane, w])
            hidden[plane] = hit
        for pair in range(len(pairs)):
            a, b = pairs[pair]
            both = 0
            for w in range(num_words):
                both += num_ones(bits[a, w] & bits[b, w])
            counts[pair, 0] += both
            counts[pair, 1] += (hidden[a] * hidden[b] << FRACTION_BITS) // np.int64(num)
            counts[pair, 2] += min(hidden[a], hidden[b])
