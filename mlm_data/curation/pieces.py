r"""What the quality rules count in the lines and paragraphs of a text, and in its characters.

Three presets cut a text in three ways, which one pass over its line feeds serves:

- *pieces between runs of line feeds* (Gopher's repetition). The text isn't stripped: line feeds at an end leave an
  empty piece there, which counts.
- *lines that aren't blank* (FineWeb): those of the pieces that hold more than white space.
- *lines of `str.splitlines`* (Gopher's quality): line feeds and the rarer line breaks, such as U+2028; blank ones
  count, an empty one at the text's end doesn't.

Paragraphs are what is left between runs of two and more line feeds of the stripped text.

    "a.\n\nb\nb\n"  ->  pieces a. | b | b | (empty); not blank: 3; of splitlines: 4; paragraphs a. | b\nb

Later copies are found by 64-bit hashes of the bytes: two different lines of a text are taken for copies once in 10^19
pairs. The set of hashes grows with the *different* pieces. Cost: four looks at each byte, three of them eight at a
time.
"""

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from mlm_data.characters import code_point
from mlm_data.curation.character_classes import BREAK, SPACE, TERMINAL, character_classes
from mlm_data.curation.words import hash_span
from mlm_data.kernels import kernel, lean_kernel, load_uint64, num_ones, trailing_zeros, zero_bytes

COUNTS = (
    "num_characters",
    "num_line_feeds",
    "num_hashes",
    "num_ellipses",
    "num_lines",  # of splitlines
    "num_bullet_lines",
    "num_ellipsis_lines",
    "num_pieces",
    "num_repeated_pieces",
    "repeated_piece_characters",
    "num_filled_lines",  # that aren't blank
    "num_terminated_lines",
    "num_short_lines",
    "repeated_filled_characters",
    "num_paragraphs",
    "num_repeated_paragraphs",
    "repeated_paragraph_characters",
)  # fmt: skip
(
    _CHARACTERS, _LINE_FEEDS, _HASHES, _ELLIPSES, _LINES, _BULLETS, _ELLIPSIS_LINES, _PIECES, _REPEATED_PIECES,
    _REPEATED_PIECE_CHARACTERS, _FILLED, _TERMINATED, _SHORT, _REPEATED_FILLED_CHARACTERS, _PARAGRAPHS,
    _REPEATED_PARAGRAPHS, _REPEATED_PARAGRAPH_CHARACTERS,
) = range(len(COUNTS))  # fmt: skip

_HIGHS = np.uint64(0x8080808080808080)
_LINE_FEEDS_8 = np.uint64(0x0A0A0A0A0A0A0A0A)


def count_pieces(
    data: UInt8[np.ndarray, " bytes"],
    starts: Int64[np.ndarray, " texts"],
    ends: Int64[np.ndarray, " texts"],
    *,
    short_chars: int,
) -> dict[str, Int32[np.ndarray, " texts"]]:
    """The counts of COUNTS for each text data[start:end]; a line of at most `short_chars` characters is short."""
    out = np.zeros((len(starts), len(COUNTS)), np.int32)
    _count(data, starts, ends, character_classes(), short_chars, out)
    return {name: np.ascontiguousarray(out[:, column]) for column, name in enumerate(COUNTS)}


@lean_kernel
def count_characters(data, start, end):
    """Inside kernels: characters of the UTF-8 data[start:end]: bytes that continue none."""
    continuing = np.int64(0)
    at = start
    while at + 8 <= end:
        word = load_uint64(data, at)
        # A byte continues a character if its highest bit is set and the next one isn't.
        continuing += np.int64(num_ones(word & ~(word << np.uint64(1)) & _HIGHS))
        at += 8
    while at < end:
        continuing += (data[at] & 0xC0) == 0x80
        at += 1
    return end - start - continuing


@lean_kernel
def find_line_feed(data, start, end):
    """Inside kernels: the place of the first line feed of data[start:end]; `end` where there is none."""
    at = start
    while at + 8 <= end:
        found = zero_bytes(load_uint64(data, at) ^ _LINE_FEEDS_8)
        if found != 0:
            return at + (trailing_zeros(found) >> 3)
        at += 8
    while at < end and data[at] != 10:
        at += 1
    return at


@lean_kernel
def last_character(data, start, end):
    """Inside kernels: (code point, first byte) of the last character of data[start:end], which isn't empty."""
    at = end - 1
    while at > start and (data[at] & 0xC0) == 0x80:
        at -= 1
    code, _ = code_point(data, at)
    return code, at


@lean_kernel
def strip(data, start, end, classes):
    """Inside kernels: (start, end) without white space at both ends."""
    while start < end:
        code, width = code_point(data, start)
        if classes[code] & SPACE == 0:
            break
        start += width
    while start < end:
        code, at = last_character(data, start, end)
        if classes[code] & SPACE == 0:
            break
        end = at
    return start, end


@kernel
def _put(table, value):
    """Whether the hash was in the open-addressing table; now it is."""
    mask = np.int64(len(table) - 1)
    slot = np.int64(value & np.uint64(mask))
    while table[slot] != 0:
        if table[slot] == value:
            return True
        slot = (slot + 1) & mask
    table[slot] = value
    return False


@kernel
def _grown(table):
    """A table of twice the size with the same hashes."""
    larger = np.zeros(2 * len(table), np.uint64)
    for value in table:
        if value != 0:
            _put(larger, value)
    return larger


@lean_kernel
def _count_line(data, start, end, classes, counts):
    """A line of splitlines: is it a list's item, does it end in an ellipsis?"""
    counts[_LINES] += 1
    first, last = strip(data, start, end, classes)
    if first == last:
        return
    if data[first] == 0x2D or (
        last - first >= 3 and data[first] == 0xE2 and data[first + 1] == 0x80 and data[first + 2] == 0xA2
    ):
        counts[_BULLETS] += 1
    if last - first >= 3:
        a, b, c = data[last - 3], data[last - 2], data[last - 1]
        if (a == 0x2E and b == 0x2E and c == 0x2E) or (a == 0xE2 and b == 0x80 and c == 0xA6):
            counts[_ELLIPSIS_LINES] += 1


@lean_kernel
def _count_signs(data, start, end, classes, counts):
    """Hashes and ellipses of a text, and its lines of splitlines."""
    line = start
    dots = 0
    i = start
    while i < end:
        c = data[i]
        if c == 0x2E:
            dots += 1
            if dots == 3:
                counts[_ELLIPSES] += 1
                dots = 0
            i += 1
            continue
        dots = 0
        if c >= 0x80:
            code, width = code_point(data, i)
            if code == 0x2026:
                counts[_ELLIPSES] += 1
            elif classes[code] & BREAK:
                _count_line(data, line, i, classes, counts)
                line = i + width
            i += width
            continue
        if c == 0x23:
            counts[_HASHES] += 1
        elif c < 0x20 and classes[c] & BREAK:
            _count_line(data, line, i, classes, counts)
            if c == 13 and i + 1 < end and data[i + 1] == 10:
                i += 1
            line = i + 1
        i += 1
    if line < end:
        _count_line(data, line, end, classes, counts)


@kernel
def _count(data, starts, ends, classes, short_chars, out):
    empty_hash = hash_span(data, np.int64(0), np.int64(0))
    for text in range(len(starts)):
        counts = out[text]
        start, end = starts[text], ends[text]
        counts[_CHARACTERS] = count_characters(data, start, end)
        _count_signs(data, start, end, classes, counts)

        seen = np.zeros(64, np.uint64)
        num_seen = 0
        at = start
        while True:
            piece = at
            stop = find_line_feed(data, piece, end)
            value = empty_hash if stop == piece else hash_span(data, piece, stop)
            is_copy = _put(seen, value)
            if not is_copy:
                num_seen += 1
                if 2 * num_seen > len(seen):
                    seen = _grown(seen)
            num_chars = count_characters(data, piece, stop)
            counts[_PIECES] += 1
            if is_copy:
                counts[_REPEATED_PIECES] += 1
                counts[_REPEATED_PIECE_CHARACTERS] += num_chars
            first, last = strip(data, piece, stop, classes)
            if first < last:
                counts[_FILLED] += 1
                code, _ = last_character(data, piece, stop)
                if classes[code] & TERMINAL:
                    counts[_TERMINATED] += 1
                if num_chars <= short_chars:
                    counts[_SHORT] += 1
                if is_copy:
                    counts[_REPEATED_FILLED_CHARACTERS] += num_chars
            at = stop
            if at >= end:
                break
            while at < end and data[at] == 10:
                counts[_LINE_FEEDS] += 1
                at += 1

        start, end = strip(data, start, end, classes)
        seen = np.zeros(64, np.uint64)
        num_seen = 0
        at = start
        while True:
            paragraph = at
            stop = at
            next_at = end
            while True:
                stop = find_line_feed(data, stop, end)
                if stop >= end:
                    break
                if data[stop + 1] == 10:  # the stripped text doesn't end in a line feed
                    next_at = stop + 2
                    while data[next_at] == 10:
                        next_at += 1
                    break
                stop += 1
            counts[_PARAGRAPHS] += 1
            value = empty_hash if stop == paragraph else hash_span(data, paragraph, stop)
            if _put(seen, value):
                counts[_REPEATED_PARAGRAPHS] += 1
                counts[_REPEATED_PARAGRAPH_CHARACTERS] += count_characters(data, paragraph, stop)
            else:
                num_seen += 1
                if 2 * num_seen > len(seen):
                    seen = _grown(seen)
            if stop >= end:
                break
            at = next_at
