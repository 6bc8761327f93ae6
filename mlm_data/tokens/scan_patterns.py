r"""The scanners of byte-level tokenizers: GPT-2's pattern and that of cl100k, Llama 3 and Qwen 2.

The rule is the regular expression that the tokenizer's pre-tokenizer applies from left to right; alternatives are
tried in order at each place:

    GPT-2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    cl100k   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
             \s*[\r\n]+|\s+(?!\S)|\s+

`\s+(?!\S)` is a run of white space without its last character, where a visible one follows: so the last space goes to
the next word.

    "it's  4 you\n"     GPT-2: it | 's | ␣ | ␣4 | ␣you | \n      cl100k: it | 's | ␣ | ␣ | 4 | ␣you | \n

Added tokens cut a text into sections first (`added.py`); a section's end is the end of the text for the pattern. Word
characters are taken eight at a time. Source: Radford et al. 2019, sec. 2.2 and its code; tiktoken's cl100k_base.
"""

import numpy as np

from mlm_data.kernels import inlined, leading_zeros, lean_kernel, load_uint64, num_ones, range_mask, trailing_zeros
from mlm_data.tokens.classes import BLANK, LETTER, NUMBER, OTHER, UNKNOWN
from mlm_data.tokens.emit import (
    DOCUMENT,
    MATCH,
    NUM_HOLES,
    NUM_IDS,
    PLACE,
    QUEUE,
    SLACK,
    UNKNOWN_POINT,
    any_code_point,
    emit,
    emit_queue,
)
from mlm_data.tokens.table import WORD_START

LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
HIGH = np.uint64(0x8080808080808080)
CASE = np.uint64(0x2020202020202020)
ONES = np.uint64(0x0101010101010101)
FAR = 60  # the last of 64 places whose start is certain: a contraction of 3 bytes may follow
TRUSTED = np.uint64((1 << (FAR + 1)) - 1)


@inlined
def letter_run(data, place):
    """How many of the next eight bytes, from the first on, are ASCII letters."""
    word = load_uint64(data, place)
    folded = (word & LOW) | CASE
    letter = (folded + ONES * np.uint64(128 - 97)) & ~(folded + ONES * np.uint64(128 - 123)) & ~word
    return trailing_zeros(~letter & HIGH) >> 3


@inlined
def end_of_letters(data, place, end, classes):
    """Where a run of letters ends, and 0, or -1 and the code point whose class must be learnt first."""
    unknown = -1
    while place < end:
        if place + 8 <= end:
            run = letter_run(data, place)
            place += run
            if run == 8:
                continue
        point, length = any_code_point(data, place, end)
        kind = classes[point]
        if kind == UNKNOWN:
            unknown = point
        if kind != LETTER:
            break
        place += length
    return place, unknown


@inlined
def end_of_kind(data, place, end, classes, wanted, most):
    """The same for a run of at most `most` characters of another kind."""
    unknown = -1
    count = 0
    while place < end and count < most:
        point, length = any_code_point(data, place, end)
        kind = classes[point]
        if kind == UNKNOWN:
            unknown = point
        if kind != wanted:
            break
        place += length
        count += 1
    return place, unknown


@inlined
def gpt2_starts(data, place):
    """Where pieces start among the 64 ASCII bytes from `place` on, which starts one: a bit each; 0 if one isn't ASCII.

    Bits above FAR are not to be trusted: they depend on what follows the 64 bytes. With the bits of letters L, digits
    D, spaces S, all white space B and the rest O, a visible character starts a piece unless it continues its kind or
    follows a space, and white space does unless it is inside a run, neither its first nor its last:

        starts = ~B & ~(L & L<<1 | D & D<<1 | O & O<<1) & ~(S<<1)  |  B & (~(B<<1) | ~(B>>1))

    An apostrophe that starts a piece may be a contraction, which ends elsewhere.
    """
    if range_mask(data, place, 0, 0x80, 0x80) != 0:
        return np.uint64(0)
    letters = range_mask(data, place, 0x20, 0x61, 26)
    digits = range_mask(data, place, 0, 0x30, 10)
    spaces = range_mask(data, place, 0, 0x20, 1)
    blanks = range_mask(data, place, 0, 0x09, 5) | spaces
    quotes = range_mask(data, place, 0, 0x27, 1)
    one = np.uint64(1)
    others = ~(letters | digits | blanks)
    same = (letters & (letters << one)) | (digits & (digits << one)) | (others & (others << one))
    starts = ~blanks & ~same & ~(spaces << one)
    starts |= blanks & (~(blanks << one) | ~(blanks >> one))
    starts |= one
    quotes &= starts
    while quotes != 0:
        at = trailing_zeros(quotes)
        if at > FAR:
            break
        size = contraction(data, place + at, place + 64)
        if size > 0:
            starts &= ~(one << np.uint64(at + 1))
            starts |= one << np.uint64(at + size)
        quotes &= quotes - one
    return starts


@inlined
def gpt2_queue(data, place, end, queue):
    """Put the ends of the next pieces into `queue` as long as they lie in blocks of ASCII; the last end, their number.

    queue: int64[QUEUE + 64].
    """
    one = np.uint64(1)
    count = np.uint64(0)
    while count < np.uint64(QUEUE) and place + 64 <= end and place + 80 <= data.size:
        starts = gpt2_starts(data, place) & TRUSTED
        starts &= starts - one  # the first start is `place`
        if starts == 0:
            break
        block = place
        place = block + 63 - leading_zeros(starts)
        found = num_ones(starts)
        # Sixteen at least, whether they are there or not: what the processor can't foresee costs more.
        for i in range(np.uint64(16)):
            queue[count + i] = block + trailing_zeros(starts)
            starts &= starts - one
        more = count + np.uint64(16)
        while starts != 0:
            queue[more] = block + trailing_zeros(starts)
            starts &= starts - one
            more += one
        count += found
    return place, np.int64(count)


@lean_kernel
def scan_gpt2(data, offsets, classes, matches, slots, keys, arena, queue, words, out, holes, hashes, ends, state):
    """Scan by GPT-2's pattern from the state's place until all is done or a buffer is full; see `emit.py`.

    matches: int64[added tokens found + 1, 3] of start, end and id, in order; the last start is beyond all text.
    """
    document = state[DOCUMENT]
    place = state[PLACE]
    match = state[MATCH]
    num_ids = 0
    num_holes = 0
    unknown = -1
    enough = out.size - SLACK
    while document < offsets.size - 1:
        document_end = offsets[document + 1]
        while place < document_end and num_ids < enough and num_holes < hashes.size:
            if place == matches[match, 0]:
                out[num_ids] = np.uint32(matches[match, 2]) | WORD_START
                num_ids += 1
                place = matches[match, 1]
                match += 1
                continue
            end = min(document_end, matches[match, 0])
            if place + 64 <= end and num_holes + QUEUE + 64 < hashes.size:
                start = place
                place, count = gpt2_queue(data, place, end, queue)
                if count > 0:
                    done, num_ids, num_holes = emit_queue(
                        slots, keys, arena, data, start, queue, words, count, out, num_ids, holes, hashes, num_holes
                    )
                    place = queue[done - 1]
                    continue
            start = place
            first = data[place]
            if first == 0x20:
                place += 1
            if place + 8 <= end:
                run = letter_run(data, place)
                if run > 0:
                    place += run
                    if run == 8 or data[place] >= 0x80:
                        place, unknown = end_of_letters(data, place, end, classes)
                        if unknown >= 0:
                            place = start
                            break
                    num_ids, num_holes = emit(
                        slots, keys, arena, data, start, place, out, num_ids, holes, hashes, num_holes
                    )
                    continue
            kind = np.uint8(BLANK)
            if place < end:
                point, length = any_code_point(data, place, end)
                kind = classes[point]
            if kind == UNKNOWN:
                unknown = point
            elif kind == LETTER:
                place, unknown = end_of_letters(data, place, end, classes)
            elif kind == BLANK:
                place = start
                last = start
                count = 0
                while place < end:
                    point, length = any_code_point(data, place, end)
                    kind = classes[point]
                    if kind == UNKNOWN:
                        unknown = point
                    if kind != BLANK:
                        break
                    last = place
                    place += length
                    count += 1
                if place < end and count > 1:
                    place = last
            else:
                size = 0
                if first == 0x27:
                    size = contraction(data, start, end)
                if size > 0:
                    place = start + size
                else:
                    place, unknown = end_of_kind(data, place, end, classes, kind, end)
            if unknown >= 0:
                place = start
                break
            num_ids, num_holes = emit(slots, keys, arena, data, start, place, out, num_ids, holes, hashes, num_holes)
        if place < document_end:
            break
        ends[document, 0] = num_ids
        ends[document, 1] = num_holes
        document += 1
    state[DOCUMENT] = document
    state[PLACE] = place
    state[MATCH] = match
    state[NUM_IDS] = num_ids
    state[NUM_HOLES] = num_holes
    state[UNKNOWN_POINT] = unknown


@inlined
def contraction(data, place, end):
    """Length in bytes of 's 't 'm 'd 're 've 'll at an apostrophe, or 0."""
    result = 0
    if place + 1 < end:
        one = data[place + 1]
        if one in (0x73, 0x74, 0x6D, 0x64):
            result = 2
        elif place + 2 < end:
            two = data[place + 2]
            if (one in (0x72, 0x76) and two == 0x65) or (one == 0x6C and two == 0x6C):
                result = 3
    return result


@inlined
def any_case_contraction(data, place, end):
    """The same in any case; U+017F is an s."""
    result = 0
    if place + 1 < end:
        one = data[place + 1] | 0x20
        if one in (0x73, 0x74, 0x6D, 0x64):
            result = 2
        elif place + 2 < end:
            two = data[place + 2] | 0x20
            long_s = data[place + 1] == 0xC5 and data[place + 2] == 0xBF
            if long_s or (one in (0x72, 0x76) and two == 0x65) or (one == 0x6C and two == 0x6C):
                result = 3
    return result


@lean_kernel
def scan_cl100k(data, offsets, classes, digits, matches, slots, keys, arena, out, holes, hashes, ends, state):
    """The same for cl100k's pattern; `digits` is the longest run of numbers in a piece."""
    document = state[DOCUMENT]
    place = state[PLACE]
    match = state[MATCH]
    num_ids = 0
    num_holes = 0
    unknown = -1
    enough = out.size - SLACK
    while document < offsets.size - 1:
        document_end = offsets[document + 1]
        while place < document_end and num_ids < enough and num_holes < hashes.size:
            if place == matches[match, 0]:
                out[num_ids] = np.uint32(matches[match, 2]) | WORD_START
                num_ids += 1
                place = matches[match, 1]
                match += 1
                continue
            end = min(document_end, matches[match, 0])
            start = place
            first = data[place]
            size = 0
            if first == 0x27:
                size = any_case_contraction(data, place, end)
            if size > 0:
                place += size
                num_ids, num_holes = emit(
                    slots, keys, arena, data, start, place, out, num_ids, holes, hashes, num_holes
                )
                continue
            point, length = any_code_point(data, place, end)
            kind = classes[point]
            second = np.uint8(BLANK)  # the class of the next character; at the end, one that continues nothing
            after = place + length
            if kind == UNKNOWN:
                unknown = point
            elif kind != LETTER and kind != NUMBER and after < end:
                point, length = any_code_point(data, after, end)
                second = classes[point]
                if second == UNKNOWN:
                    unknown = point
            if unknown < 0:
                if kind == LETTER:
                    place, unknown = end_of_letters(data, place, end, classes)
                elif kind == NUMBER:
                    place, unknown = end_of_kind(data, place, end, classes, np.uint8(NUMBER), digits)
                elif second == LETTER and first != 0x0D and first != 0x0A:
                    place, unknown = end_of_letters(data, after, end, classes)
                elif kind == OTHER or (first == 0x20 and second == OTHER):
                    place, unknown = end_of_kind(data, after, end, classes, np.uint8(OTHER), end)
                    while place < end and (data[place] == 0x0D or data[place] == 0x0A):
                        place += 1
                else:
                    last = start
                    newline = -1
                    count = 0
                    while place < end:
                        point, length = any_code_point(data, place, end)
                        kind = classes[point]
                        if kind == UNKNOWN:
                            unknown = point
                        if kind != BLANK:
                            break
                        if data[place] == 0x0D or data[place] == 0x0A:
                            newline = place
                        last = place
                        place += length
                        count += 1
                    if newline >= 0:
                        place = newline + 1
                    elif place < end and count > 1:
                        place = last
            if unknown >= 0:
                place = start
                break
            num_ids, num_holes = emit(slots, keys, arena, data, start, place, out, num_ids, holes, hashes, num_holes)
        if place < document_end:
            break
        ends[document, 0] = num_ids
        ends[document, 1] = num_holes
        document += 1
    state[DOCUMENT] = document
    state[PLACE] = place
    state[MATCH] = match
    state[NUM_IDS] = num_ids
    state[NUM_HOLES] = num_holes
    state[UNKNOWN_POINT] = unknown
