r"""The scanner of tokenizers whose words are separated by spaces and single characters: BERT, T5, XLM-R.

The rule. A text is cut at SPACE characters, which leave nothing, and around ISOLATED characters, which are pieces of
their own. Everything else belongs to the piece that it stands in. A piece is asked whole, raw, of the
tokenizer's whole pipeline (normalizer, pre-tokenizer, model), so whatever happens *inside* it happens as it must: the
only claim is that nothing reaches across a border. For BERT that holds since all its steps look at one character
at a time, except canonical ordering, which never crosses a character that is no mark. Normalizers that
look at graphemes or compose (Precompiled, NFKC) are kept away from borders by two classes more: at a space whose next
character CLINGS, or whose last one HOLDS, there is no border.

    "Hi,  naïve\u00a0x"    BERT: Hi | , | naïve | x        T5: Hi, | naïve\u00a0x   (one piece of two words)

Cost: letters and digits, or what is visible in ASCII, are taken eight at a time.
"""

import numpy as np

from mlm_data.kernels import inlined, lean_kernel, load_uint64, trailing_zeros
from mlm_data.tokens.classes import CLINGS, HOLDS, ISOLATED, SPACE, UNKNOWN, WORD
from mlm_data.tokens.emit import DOCUMENT, MATCH, NUM_HOLES, NUM_IDS, PLACE, SLACK, UNKNOWN_POINT, any_code_point, emit
from mlm_data.tokens.table import WORD_START

LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
HIGH = np.uint64(0x8080808080808080)
CASE = np.uint64(0x2020202020202020)
ONES = np.uint64(0x0101010101010101)
KIND = 7  # mask of a class without its flags


@inlined
def alphanumeric_run(data, place):
    """How many of the next eight bytes, from the first on, are ASCII letters or digits."""
    word = load_uint64(data, place)
    low = word & LOW
    folded = low | CASE
    letter = (folded + ONES * np.uint64(128 - 97)) & ~(folded + ONES * np.uint64(128 - 123))
    digit = (low + ONES * np.uint64(128 - 48)) & ~(low + ONES * np.uint64(128 - 58))
    return trailing_zeros(~((letter | digit) & ~word) & HIGH) >> 3


@inlined
def visible_run(data, place):
    """How many of the next eight bytes, from the first on, are visible ASCII (0x21 to 0x7E)."""
    word = load_uint64(data, place)
    low = word & LOW
    visible = (low + ONES * np.uint64(128 - 0x21)) & ~(low + ONES * np.uint64(128 - 0x7F))
    return trailing_zeros(~(visible & ~word) & HIGH) >> 3


@lean_kernel
def scan_separated(data, offsets, classes, isolates, matches, slots, keys, arena, out, holes, hashes, ends, state):
    """Scan from the state's document and place until all is done or a buffer is full.

    isolates: ASCII punctuation stands alone, and all ASCII letters and digits are words (BERT); else all visible
    ASCII is words (T5). matches: added tokens, as for `scan_gpt2`; what lies between two of them is a text of its own.
    ends[d] gets the ids and holes before the end of document d.
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
        if place == matches[match, 0] and place < document_end:
            if num_ids >= enough:
                break
            out[num_ids] = np.uint32(matches[match, 2]) | WORD_START
            num_ids += 1
            place = matches[match, 1]
            match += 1
        end = min(document_end, matches[match, 0])
        while place < end and num_ids < enough and num_holes < hashes.size:
            start = place
            point, length = any_code_point(data, place, end)
            kind = classes[point] & KIND
            place += length
            if kind == SPACE:
                if place >= end or data[place] < 0x80:
                    continue
                point, length = any_code_point(data, place, end)
                kind = classes[point] & KIND
                if kind != UNKNOWN and kind != CLINGS and kind != HOLDS:
                    continue
            last = kind
            while kind != UNKNOWN and kind != ISOLATED:
                while place + 8 <= end:
                    run = alphanumeric_run(data, place) if isolates else visible_run(data, place)
                    place += run
                    if run > 0:
                        last = WORD
                    if run < 8:
                        break
                if place >= end:
                    break
                point, length = any_code_point(data, place, end)
                kind = classes[point] & KIND
                if kind in (ISOLATED, UNKNOWN):
                    break
                after = place + length
                if kind == SPACE and last != HOLDS:
                    if after >= end or data[after] < 0x80:
                        break
                    point, length = any_code_point(data, after, end)
                    kind = classes[point] & KIND
                    if kind != CLINGS and kind != HOLDS:
                        break
                last = kind
                place = after
            if kind == UNKNOWN:
                unknown = point
                place = start
                break
            num_ids, num_holes = emit(slots, keys, arena, data, start, place, out, num_ids, holes, hashes, num_holes)
        if place < end:
            break
        if end < document_end:
            continue
        ends[document, 0] = num_ids
        ends[document, 1] = num_holes
        document += 1
    state[DOCUMENT] = document
    state[PLACE] = place
    state[MATCH] = match
    state[NUM_IDS] = num_ids
    state[NUM_HOLES] = num_holes
    state[UNKNOWN_POINT] = unknown
