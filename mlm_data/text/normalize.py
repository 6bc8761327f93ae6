r"""Texts before they are hashed: the same document, whatever its line ends, controls and composed letters were.

In this order:

1. CR LF and CR become LF; so do the other line ends among the controls: U+000B, U+000C and U+0085.
2. Removed: U+0000-U+0008, U+000E-U+001F, U+007F-U+0084, U+0086-U+009F (C0, DEL and C1 without the line ends and the
   tab), and U+FEFF (byte order mark). Everything else stays, U+200B, U+200D and U+FFFD too.
3. White space before a line end goes, then every third and further line end of a run, then white space and line ends
   at both ends of the text. White space is the tab, the space, U+00A0, U+1680, U+2000-U+200A, U+2028, U+2029, U+202F,
   U+205F and U+3000.
4. NFC (Unicode Standard Annex 15), if `clean.unicode` says so.

    "\ufeff a \r\n\r\n\n\nb\x07e\u0301 "  ->  "a\n\nb\u00e9"

Doing it twice changes nothing, and no text depends on its neighbours. NFC comes last because removing a control can
bring a letter and its accent together; it makes neither white space nor controls, so the other rules still hold.

Cost: one vectorised scan says which texts need anything at all (several GB/s on ASCII); if none does, the array is
returned as it is. Only those are rewritten, and only texts with code points that NFC may touch are normalized.
"""

import unicodedata
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from mlm_data.config import CleanSettings
from mlm_data.hashing import string_buffers
from mlm_data.kernels import copy_bytes, kernel, load_uint64, store_uint64
from mlm_data.text.batches import large_strings

ALGORITHM_VERSION = 1  # enters cache keys: count up when any text comes out differently

CLEAN, DIRTY, COMPOSE = np.uint8(0), np.uint8(1), np.uint8(2)  # bits: rules 1 to 3, rule 4

# Code points that NFC never changes and that never join with the one before: NFC_Quick_Check=Yes and combining class
# 0 (Unicode 15). Left out is what is rare or may change; a test asks `unicodedata` about each one.
_STABLE = (
    (0x0000, 0x02FF),
    (0x0370, 0x0373),
    (0x0375, 0x037D),
    (0x0388, 0x0482),
    (0x048A, 0x058F),
    (0x05D0, 0x05F4),
    (0x061B, 0x064A),
    (0x0660, 0x066F),
    (0x0671, 0x06D5),
    (0x06EE, 0x06FF),
    (0x0904, 0x0939),
    (0x0E01, 0x0E37),
    (0x0E3F, 0x0E47),
    (0x0E4C, 0x0E5B),
    (0x10A0, 0x10FF),
    (0x1E00, 0x1EFF),
    (0x2002, 0x20CF),
    (0x2100, 0x2125),
    (0x212C, 0x2328),
    (0x232B, 0x2ADB),
    (0x2ADD, 0x2CEE),
    (0x2E80, 0x3029),
    (0x3030, 0x3098),
    (0x309B, 0xA66E),
    (0xAC00, 0xD7A3),
    (0xE000, 0xF8FF),
    (0xFE30, 0xFFFF),
    (0x1F000, 0x1FAFF),
    (0x20000, 0x2F7FF),
)


def normalize(texts: pa.LargeStringArray, settings: CleanSettings) -> pa.LargeStringArray:
    """The texts under the rules above, as many, in the same order; the array itself if all is well already.

    `min_chars` and `bad_bytes` of the settings are for others.
    """
    data, offsets = string_buffers(texts)
    needs = np.empty(len(texts), np.uint8)
    _scan(data, offsets, _stable_table(), settings.unicode == "NFC", needs)
    if not needs.any():
        return texts
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    places = np.empty(len(texts) + 1, np.int64)
    _rewrite(data, offsets, needs, out, places)
    cleaned = large_strings(out[: places[-1]], places)
    if not (needs & COMPOSE).any():
        return cleaned
    composes = pa.array((needs & COMPOSE).astype(np.bool_))
    # Not pyarrow's utf8_normalize: up to version 25 its NFC leaves the letters taken apart.
    composed = [unicodedata.normalize("NFC", text) for text in cleaned.filter(composes).to_pylist()]
    composed = pa.array(composed, pa.large_string())
    return pc.replace_with_mask(cleaned, composes, composed)


_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_LOWS = np.uint64(0x7F7F7F7F7F7F7F7F)
_SPACES = np.uint64(0x2020202020202020)


@lru_cache(maxsize=1)
def _stable_table() -> UInt8[np.ndarray, " code_points"]:
    table = np.zeros(0x30000, np.uint8)
    for first, last in _STABLE:
        table[first : last + 1] = 1
    return table


@kernel
def _is_plain(word):
    """Whether all eight bytes are printable ASCII (0x20 to 0x7E)."""
    below = (word - _SPACES) & ~word
    delete = word ^ _LOWS
    return (word | below | ((delete - _ONES) & ~delete)) & _HIGHS == np.uint64(0)


@kernel
def _code_point(data, i):
    """(code point, bytes) of the well-formed UTF-8 at i."""
    c = np.int64(data[i])
    if c < 0x80:
        return c, 1
    if c < 0xE0:
        return ((c & 0x1F) << 6) | (np.int64(data[i + 1]) & 0x3F), 2
    if c < 0xF0:
        return ((c & 0x0F) << 12) | ((np.int64(data[i + 1]) & 0x3F) << 6) | (np.int64(data[i + 2]) & 0x3F), 3
    high = ((c & 0x07) << 18) | ((np.int64(data[i + 1]) & 0x3F) << 12)
    return high | ((np.int64(data[i + 2]) & 0x3F) << 6) | (np.int64(data[i + 3]) & 0x3F), 4


@kernel
def _is_space(code):
    if code < 0x1680:
        return code == 32 or code == 9 or code == 0xA0
    if code < 0x3000:
        is_general = 0x2000 <= code <= 0x200A or 0x2028 <= code <= 0x2029
        return is_general or code == 0x202F or code == 0x205F or code == 0x1680
    return code == 0x3000


@kernel
def _is_break(code):
    return 10 <= code <= 13 or code == 0x85


@kernel
def _is_removed(code):
    if code < 0x20:
        return code != 9 and not _is_break(code)
    return (0x7F <= code <= 0x9F and code != 0x85) or code == 0xFEFF


@kernel
def _scan_one(data, first, end, stable, may_compose):
    """Which rules a text may need: never too few."""
    needs = CLEAN
    if first == end:
        return needs
    i = first
    was_space = True  # a line end or white space would be the first thing in the text
    was_break = True
    was_two_breaks = True
    while i < end:
        if i + 8 <= end:
            word = load_uint64(data, i)
            if _is_plain(word):
                was_space = data[i + 7] == 32
                was_break = was_two_breaks = False
                if i == first and data[i] == 32:
                    needs |= DIRTY
                i += 8
                continue
        code, width = _code_point(data, i)
        if code == 10:
            if was_space or was_two_breaks:
                needs |= DIRTY
            was_two_breaks = was_break
            was_break = True
            was_space = False
        else:
            was_space = _is_space(code)
            if (was_space and i == first) or _is_removed(code) or _is_break(code):
                needs |= DIRTY
            was_break = was_two_breaks = False
            if may_compose and (code >= len(stable) or stable[code] == 0):
                needs |= COMPOSE
                if needs & DIRTY:
                    return needs
        i += width
    if was_space or was_break:
        needs |= DIRTY
    return needs


@kernel
def _scan(data, offsets, stable, may_compose, needs):
    for i in range(len(needs)):
        needs[i] = _scan_one(data, offsets[i], offsets[i + 1], stable, may_compose)


@kernel
def _rewrite_one(data, i, end, out, base):
    """Write a text under rules 1 to 3; return the place behind it."""
    at = base
    kept = base  # behind the last character that is no white space
    breaks = 0  # line ends since then
    while i < end:
        if i + 8 <= end and breaks == 0 and kept > base:
            word = load_uint64(data, i)
            if _is_plain(word):
                store_uint64(out, at, word)
                i += 8
                at += 8
                last = at
                while last > kept and out[last - 1] == 32:
                    last -= 1
                # White space written before this word counts as kept only if something follows it.
                if last > at - 8:
                    kept = last
                continue
        code, width = _code_point(data, i)
        if _is_break(code):
            if code == 13 and i + 1 < end and data[i + 1] == 10:
                width = 2
            breaks += 1
            at = kept
        elif not _is_removed(code):
            is_space = _is_space(code)
            if kept > base:
                if breaks > 0 and at == kept:
                    for _ in range(min(breaks, 2)):
                        out[at] = 10
                        at += 1
            else:
                at = base
            if not (is_space and kept == base):
                for k in range(width):
                    out[at] = data[i + k]
                    at += 1
            if not is_space:
                kept = at
                breaks = 0
        i += width
    return kept


@kernel
def _rewrite(data, offsets, needs, out, places):
    at = np.int64(0)
    places[0] = 0
    for i in range(len(needs)):
        if needs[i] & DIRTY:
            at = _rewrite_one(data, offsets[i], offsets[i + 1], out, at)
        else:
            at = copy_bytes(data, offsets[i], offsets[i + 1], out, at)
        places[i + 1] = at
