"""The counts of `audit_kernels` for planes that hide single tokens, 64 places at a time.

Where every candidate is a unit of its own, all that is counted are sizes of sets of places: a group's candidates, and
those of them that are targets. So a row's groups become sets of bits, once for all planes, and a plane costs an AND and
a count of ones for each group that occurs.

    places       [CLS] the cat ##s [SEP] [PAD] [PAD] [PAD]
    candidates     0    1   1   1    0     0     0     0
    in a word      0    0   0   1    0     0     0     0
    targets        0    0   1   1    0     0     0     0       2 of 3 candidates; of 1 inside a word 1

Cost: two table look-ups a token, one comparison of 64 bytes for each group that tokens have; then 1 ANDed word for each
group that occurs, plane and 64 places.
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
    SCRIPT,
    SHAPE,
    WORD,
    add_row,
    blame,
    hash_bits,
    well_shaped,
)
from mlm_data.rows.masking import MILLION
from mlm_data.rows.unicode_scripts import SCRIPTS

NUM_SCRIPTS = len(SCRIPTS)
NONE = 255  # what a place without a candidate has instead of a script or a frequency
DRAWN = 8  # added to the frequency of a token that a random draw can hit; frequencies are below it
ALL = np.uint64(2**64 - 1)


@kernel
def count_single_targets(rows, targets, millionths, specials, grouping, totals):
    """As `count_targets`, for kind `token`: targets [planes, rows, length / 8]; specials: cls, sep, pad."""
    tokens, segment_offsets, segment_lengths, segment_documents, _, word_starts = rows
    cls, sep, pad = specials
    never, drawable, script, frequency, sources = grouping
    faults, groups, sums, fingerprints = totals
    num_rows, length = tokens.shape
    num_planes, num_words = targets.shape[0], -(-length // 64)
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
    present = np.empty(NUM_GROUPS, np.int64)  # groups that occur in the row
    sizes = np.empty(NUM_GROUPS, np.int64)
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
            starts = load_uint64(padded, 8 * w)
            members[WORD, w] = candidates[w] & ~starts
            members[WORD + 1, w] = candidates[w] & starts
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
            begin = end
        num_present = 0
        for group in range(NUM_GROUPS):
            count = 0
            for w in range(num_words):
                count += num_ones(members[group, w])
            present[num_present] = group
            sizes[num_present] = count
            num_present += count > 0
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
            if num:
                total_of[CHOICES] += min(hit, num - hit)
                each = (np.int64(hit) << FRACTION_BITS) // np.int64(num)
                for i in range(num_present):
                    group, hidden = present[i], 0
                    for w in range(num_words):
                        hidden += num_ones(members[group, w] & bits[w])
                    groups[plane, 0, group] += sizes[i]
                    groups[plane, 1, group] += hidden
                    groups[plane, 2, group] += sizes[i] * each
            budget = num * millionths[plane] // MILLION
            fault[SHAPE] += not fits
            fault[MANY] += total > budget
            fault[FEW] += hit < budget and hit < num
            add_row(total_of, num, budget, hit, total, drawn)
            fingerprints[plane] += hash_bits(targets[plane, row], row)


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
