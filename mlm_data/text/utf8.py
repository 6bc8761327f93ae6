"""UTF-8 for kernels: is it well-formed (Unicode Standard, table 3-7), which code point is this, write that one.

And is it text at all. UTF-16 and UTF-32 without a mark pass as UTF-8 where their letters are below U+0800: half of the
bytes of Russian are 04 then. A document that holds a NUL, and of whose bytes more than a tenth are control characters
(other than white space and ESC), is no text. The wide encodings of any alphabet reach 20 to 75 %; of texts with a few
stray NULs, as databases leave them, it is well below 1 %. So a tenth parts them with room on both sides.
"""

import numpy as np
from jaxtyping import Int8, Int64, UInt8

from mlm_data.kernels import kernel, load_uint64

BAD_BYTES, TEXT, GARBAGE = range(3)
CONTROLS_PER_TEXT = 10  # a text with NULs has less than one control character in so many bytes

_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)


def check_texts(
    data: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " pieces"], ends: Int64[np.ndarray, " pieces"]
) -> Int8[np.ndarray, " pieces"]:
    """What data[start:end] is, for each piece: TEXT, GARBAGE, or else BAD_BYTES where it isn't well-formed UTF-8.

    ASCII without NUL goes 8 and then 32 bytes at a time.
    """
    out = np.empty(len(starts), np.int8)
    _check_texts(data, starts, ends, out)
    return out


def is_no_text(data: bytes) -> bool:
    """Whether these bytes are GARBAGE."""
    return bool(_is_no_text(np.frombuffer(data, np.uint8), 0, len(data)))


@kernel
def _is_continuation(byte):
    return (byte & 0xC0) == 0x80


@kernel
def _is_no_text(data, start, end):
    nuls = controls = 0
    for i in range(start, end):
        c = data[i]
        nuls += c == 0
        controls += c < 32 and not 9 <= c <= 13 and c != 27
    return nuls > 0 and controls * CONTROLS_PER_TEXT > end - start


@kernel
def _are_plain(data, i):
    """Whether the 32 bytes from i on are ASCII without NUL."""
    a, b, c, d = load_uint64(data, i), load_uint64(data, i + 8), load_uint64(data, i + 16), load_uint64(data, i + 24)
    seen = a | b | c | d | (a - _ONES) | (b - _ONES) | (c - _ONES) | (d - _ONES)
    return seen & _HIGHS == np.uint64(0)


@kernel
def _scan_utf8(data, i, end):
    """(is it well-formed, has it a NUL before what is bad)."""
    has_nul = False
    while i < end:
        if i + 8 <= end:
            word = load_uint64(data, i)
            # Of bytes below 80, subtracting 1 from each sets a high bit exactly where one of them is 0.
            if (word | (word - _ONES)) & _HIGHS == np.uint64(0):
                i += 8
                while i + 32 <= end and _are_plain(data, i):
                    i += 32
                continue
        first = data[i]
        if first < 0x80:
            has_nul |= first == 0
            i += 1
        elif first < 0xE0:
            if first < 0xC2 or i + 2 > end or not _is_continuation(data[i + 1]):
                return False, has_nul
            i += 2
        elif first < 0xF0:
            if i + 3 > end or not (_is_continuation(data[i + 1]) and _is_continuation(data[i + 2])):
                return False, has_nul
            second = data[i + 1]
            if (first == 0xE0 and second < 0xA0) or (first == 0xED and second >= 0xA0):
                return False, has_nul
            i += 3
        else:
            if first > 0xF4 or i + 4 > end:
                return False, has_nul
            second = data[i + 1]
            if not (_is_continuation(second) and _is_continuation(data[i + 2]) and _is_continuation(data[i + 3])):
                return False, has_nul
            if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second >= 0x90):
                return False, has_nul
            i += 4
    return True, has_nul


@kernel
def _check_texts(data, starts, ends, out):
    for i in range(len(starts)):
        is_good, has_nul = _scan_utf8(data, starts[i], ends[i])
        out[i] = TEXT if is_good else BAD_BYTES
        if (has_nul or not is_good) and _is_no_text(data, starts[i], ends[i]):
            out[i] = GARBAGE


@kernel
def put_code_point(code, out, at):
    """For kernels: write a code point at out[at]; return the place behind it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | (code >> 6)
        out[at + 1] = 0x80 | (code & 0x3F)
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | (code >> 12)
        out[at + 1] = 0x80 | ((code >> 6) & 0x3F)
        out[at + 2] = 0x80 | (code & 0x3F)
        return at + 3
    out[at] = 0xF0 | (code >> 18)
    out[at + 1] = 0x80 | ((code >> 12) & 0x3F)
    out[at + 2] = 0x80 | ((code >> 6) & 0x3F)
    out[at + 3] = 0x80 | (code & 0x3F)
    return at + 4
