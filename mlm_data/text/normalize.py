r"""Texts before they are hashed: the same document, whatever its line ends, controls and composed letters were.

In this order:

1. CR LF and CR become LF; so do the other line ends among the controls: U+000B, U+000C and U+0085.
2. Removed: U+0000-U+0008, U+000E-U+001F, U+007F-U+0084, U+0086-U+009F (C0, DEL and C1 without the line ends and the
   tab), and U+FEFF (byte order mark). Everything else stays, U+200B, U+200D and U+FFFD too.
3. White space before a line end goes, then every third and further line end of a run, then white space and line ends
   at both ends of the text. White space is the tab, the space, U+00A0, U+1680, U+2000-U+200A, U+2028, U+2029, U+202F,
   U+205F and U+3000.
4. NFC (`nfc`), if `clean.unicode` says so.

    "\ufeff a \r\n\r\n\n\nb\x07e\u0301 "  ->  "a\n\nb\u00e9"

Doing it twice changes nothing, and no text depends on its neighbours. NFC comes last because removing a control can
bring a letter and its accent together; it makes neither white space nor controls, so the other rules still hold.

Cost: one scan, eight bytes at a time where they are printable ASCII, says which texts need anything at all; if none
does, the array is returned as it is. Only those are rewritten, and only texts that fail NFC's quick check are composed.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from mlm_data.characters import code_point
from mlm_data.config import CleanSettings
from mlm_data.hashing import large_strings, string_buffers
from mlm_data.kernels import copy_bytes, kernel, load_uint64, store_uint64
from mlm_data.text.nfc import LIMIT, MAY_CHANGE, compose, tables

ALGORITHM_VERSION = 1  # enters cache keys: count up when any text comes out differently

CLEAN, DIRTY, COMPOSE = np.uint8(0), np.uint8(1), np.uint8(2)  # bits: rules 1 to 3, rule 4


def normalize(texts: pa.LargeStringArray, settings: CleanSettings) -> pa.LargeStringArray:
    """The texts under the rules above, as many, in the same order; the array itself if all is well already.

    The thresholds and `bad_bytes` of the settings are for others.
    """
    data, offsets = string_buffers(texts)
    needs = np.empty(len(texts), np.uint8)
    _scan(data, offsets, _notable(), tables().marks, settings.unicode == "NFC", needs)
    if not needs.any():
        return texts
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    places = np.zeros(len(texts) + 1, np.int64)
    _rewrite(data, offsets, needs, _notable(), out, places)
    cleaned = large_strings(out[: places[-1]], places)
    composes = (needs & COMPOSE) != 0
    return compose(cleaned, composes) if composes.any() else cleaned


_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_LOWS = np.uint64(0x7F7F7F7F7F7F7F7F)
_SPACES = np.uint64(0x2020202020202020)


@lru_cache(maxsize=1)
def _notable() -> UInt8[np.ndarray, " code_points"]:
    """1 for each code point that some rule looks at; a text of others needs nothing."""
    table = (tables().marks != 0).astype(np.uint8)
    for code in range(0x10000):
        table[code] |= is_space.py_func(code) or is_break.py_func(code) or _is_removed.py_func(code)
    return table


@kernel
def _is_plain(word):
    """Whether all eight bytes are printable ASCII (0x20 to 0x7E)."""
    below = (word - _SPACES) & ~word
    delete = word ^ _LOWS
    return (word | below | ((delete - _ONES) & ~delete)) & _HIGHS == np.uint64(0)


@kernel
def is_space(code):
    """Whether a code point is white space, as above; line ends are not."""
    if code < 0x1680:
        return code == 32 or code == 9 or code == 0xA0
    if code < 0x3000:
        is_general = 0x2000 <= code <= 0x200A or 0x2028 <= code <= 0x2029
        return is_general or code == 0x202F or code == 0x205F or code == 0x1680
    return code == 0x3000


@kernel
def is_break(code):
    """Whether a code point ends a line, as above."""
    return 10 <= code <= 13 or code == 0x85


@kernel
def _is_removed(code):
    if code < 0x20:
        return code != 9 and not is_break(code)
    return (0x7F <= code <= 0x9F and code != 0x85) or code == 0xFEFF


@kernel
def _scan_one(data, first, end, notable, marks, may_compose):
    """Which rules a text may need: never too few."""
    needs = CLEAN
    if first == end:
        return needs
    i = first
    was_space = True  # a line end or white space would be the first thing in the text
    was_break = was_two_breaks = True
    mark_before = np.uint8(0)
    while i < end:
        if i + 8 <= end and _is_plain(load_uint64(data, i)):
            if i == first and data[i] == 32:
                needs |= DIRTY
            was_space = data[i + 7] == 32
            was_break = was_two_breaks = False
            mark_before = np.uint8(0)
            i += 8
            continue
        code, width = code_point(data, i)
        if code >= LIMIT or not notable[code]:
            was_space = was_break = was_two_breaks = False
            mark_before = np.uint8(0)
        elif code == 10:
            if was_space or was_two_breaks:
                needs |= DIRTY
            was_two_breaks = was_break
            was_break = True
            was_space = False
            mark_before = np.uint8(0)
        else:
            is_removed = _is_removed(code)
            was_space = is_space(code)
            if (was_space and i == first) or is_removed or is_break(code):
                needs |= DIRTY
            was_break = was_two_breaks = False
            if may_compose and not is_removed:
                # What is removed brings its neighbours together.
                mark = marks[code]
                if mark == MAY_CHANGE or (mark != 0 and mark < mark_before):
                    needs |= COMPOSE
                mark_before = mark
        i += width
    if was_space or was_break:
        needs |= DIRTY
    return needs


@kernel
def _scan(data, offsets, notable, marks, may_compose, needs):
    for i in range(len(needs)):
        needs[i] = _scan_one(data, offsets[i], offsets[i + 1], notable, marks, may_compose)


@kernel
def _rewrite_one(data, i, end, notable, out, base):
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
                while last > at - 8 and out[last - 1] == 32:
                    last -= 1
                # Eight spaces are kept only if something follows them on the line.
                if last > at - 8:
                    kept = last
                continue
        code, width = code_point(data, i)
        if (code >= LIMIT or not notable[code]) and breaks == 0 and kept > base:
            for k in range(width):
                out[at] = data[i + k]
                at += 1
            kept = at
        elif is_break(code):
            if code == 13 and i + 1 < end and data[i + 1] == 10:
                width = 2
            breaks += 1
            at = kept
        elif not _is_removed(code):
            space = is_space(code)
            if kept > base:
                if breaks > 0 and at == kept:
                    for _ in range(min(breaks, 2)):
                        out[at] = 10
                        at += 1
            else:
                at = base
            if not (space and kept == base):
                for k in range(width):
                    out[at] = data[i + k]
                    at += 1
            if not space:
                kept = at
                breaks = 0
        i += width
    return kept


@kernel
def _rewrite(data, offsets, needs, notable, out, places):
    at = np.int64(0)
    places[0] = 0
    for i in range(len(needs)):
        if needs[i] & DIRTY:
            at = _rewrite_one(data, offsets[i], offsets[i + 1], notable, out, at)
        else:
            at = copy_bytes(data, offsets[i], offsets[i + 1], out, at)
        places[i + 1] = at
