r"""Normalization Form C (Unicode Standard Annex 15), from tables of our own.

Python's tables change with Python, and up to pyarrow 25 `utf8_normalize` leaves letters taken apart: so that a text has
the same bytes on every machine, `canonical.txt` holds what is needed of the Unicode Character Database. By Unicode's
stability policy a later version only adds characters.

A code point is *stable* if its class is 0 and it never joins with the one before: a text may be cut before it. So
only the stretches from one stable code point to the next are worked on, and only where there is more than that one:

    c  a  f  e U+0301  !        f|e U+0301|!        take apart: e U+0301    sort by class    join: U+00E9

The quick check (annex 15, section 9) says which texts need no work at all: no code point that may join or change, and
classes that never fall between two of class 0. Hangul joins by arithmetic (Unicode Standard, section 3.12). Cost: a
table look-up for each code point; a run of n marks is sorted in O(n).
"""

from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64, UInt8

from mlm_data.characters import code_point
from mlm_data.hashing import large_strings, string_buffers
from mlm_data.kernels import copy_bytes, kernel
from mlm_data.text.utf8 import put_code_point

LIMIT = 0x30000  # all code points from here on are stable
MAY_CHANGE = 255  # the mark of what may join with the one before, or never stays as it is
GROWTH = 3  # the most that NFC lengthens UTF-8 (annex 15, section 13.1)

_L, _V, _T, _SYLLABLES = 0x1100, 0x1161, 0x11A7, 0xAC00
_NUM_V, _NUM_T, _NUM_SYLLABLES = 21, 28, 11172


class Tables(NamedTuple):
    """For each code point below LIMIT; expansions and pairs apart."""

    marks: UInt8[np.ndarray, " code_points"]  # 0: stable; MAY_CHANGE; otherwise its class
    classes: UInt8[np.ndarray, " code_points"]  # canonical combining class
    expansion: Int32[np.ndarray, " code_points"]  # where it stands among the expansions, or -1
    expansions: Int32[np.ndarray, " expanded"]  # a length, then as many code points, taken apart wholly
    pairs: Int64[np.ndarray, " pairs"]  # first << 21 | second, sorted
    composites: Int32[np.ndarray, " pairs"]


@lru_cache(maxsize=1)
def tables() -> Tables:
    """What `canonical.txt` says."""
    classes = np.zeros(LIMIT, np.uint8)
    parts: dict[int, tuple[int, ...]] = {}
    pairs: dict[int, int] = {}
    text = resources.files("mlm_data.text").joinpath("canonical.txt").read_text("ascii")
    for word in (word for line in text.splitlines() if line[:1] != "#" for word in line.split()):
        if ":" in word:
            span, number = word.split(":")
            first, _, last = span.partition("-")
            classes[int(first, 16) : int(last or first, 16) + 1] = int(number)
            continue
        code, is_composed, decomposed = word.partition("=") if "=" in word else word.partition(">")
        letters = parts[int(code, 16)] = tuple(int(letter, 16) for letter in decomposed.split("+"))
        if is_composed == "=":
            pairs[letters[0] << 21 | letters[1]] = int(code, 16)

    def apart(code: int) -> tuple[int, ...]:
        return tuple(inner for letter in parts[code] for inner in apart(letter)) if code in parts else (code,)

    expansion = np.full(LIMIT, -1, np.int32)
    expansions: list[int] = []
    for point in parts:
        expansion[point] = len(expansions)
        whole = apart(point)
        expansions += [len(whole), *whole]
    marks = classes.copy()
    marks[sorted(set(parts) - set(pairs.values()))] = MAY_CHANGE
    marks[[pair & 0x1FFFFF for pair in pairs]] = MAY_CHANGE
    marks[_V : _V + _NUM_V] = marks[_T + 1 : _T + _NUM_T] = MAY_CHANGE
    keys = np.array(sorted(pairs), np.int64)
    composites = np.array([pairs[key] for key in keys.tolist()], np.int32)
    return Tables(marks, classes, expansion, np.array(expansions, np.int32), keys, composites)


def compose(texts: pa.LargeStringArray, chosen: Bool[np.ndarray, " texts"]) -> pa.LargeStringArray:
    """The texts, the chosen ones in NFC."""
    data, offsets = string_buffers(texts)
    lengths = np.diff(offsets)
    # Memory that is not written to is not taken.
    out = np.empty(int(lengths.sum() + (GROWTH - 1) * lengths[chosen].sum()), np.uint8)
    places = np.zeros(len(texts) + 1, np.int64)
    _compose_all(data, offsets, chosen, *tables(), out, places)
    # The rest of `out` must not stay behind with the array.
    return large_strings(out[: places[-1]].copy(), places)


@kernel
def _class_of(code, classes):
    return classes[code] if code < LIMIT else np.uint8(0)


@kernel
def _take_apart(code, expansion, expansions, stretch, length):
    """Append a code point's canonical decomposition to a stretch; return the new length."""
    syllable = code - _SYLLABLES
    if 0 <= syllable < _NUM_SYLLABLES:
        stretch[length] = _L + syllable // (_NUM_V * _NUM_T)
        stretch[length + 1] = _V + syllable % (_NUM_V * _NUM_T) // _NUM_T
        if syllable % _NUM_T == 0:
            return length + 2
        stretch[length + 2] = _T + syllable % _NUM_T
        return length + 3
    place = expansion[code] if code < LIMIT else np.int32(-1)
    if place < 0:
        stretch[length] = code
        return length + 1
    for k in range(expansions[place]):
        stretch[length + k] = expansions[place + 1 + k]
    return length + expansions[place]


@kernel
def _sort_run(stretch, first, last, classes):
    """Sort marks by class, equal ones in their order: by insertion, or by counting where there are many."""
    if last - first > 32:
        begins = np.zeros(257, np.int64)
        for k in range(first, last):
            begins[np.int64(_class_of(stretch[k], classes)) + 1] += 1
        for k in range(1, 257):
            begins[k] += begins[k - 1]
        run = stretch[first:last].copy()
        for k in range(len(run)):
            number = _class_of(run[k], classes)
            stretch[first + begins[number]] = run[k]
            begins[number] += 1
        return
    for k in range(first + 1, last):
        code = stretch[k]
        number = _class_of(code, classes)
        j = k
        while j > first and _class_of(stretch[j - 1], classes) > number:
            stretch[j] = stretch[j - 1]
            j -= 1
        stretch[j] = code


@kernel
def _pair(first, second, pairs, composites):
    """What two code points join to, or -1."""
    if _L <= first < _L + 19 and _V <= second < _V + _NUM_V:
        return _SYLLABLES + ((first - _L) * _NUM_V + (second - _V)) * _NUM_T
    syllable = first - _SYLLABLES
    if 0 <= syllable < _NUM_SYLLABLES and syllable % _NUM_T == 0 and _T < second < _T + _NUM_T:
        return np.int64(first) + (second - _T)
    key = (np.int64(first) << 21) | np.int64(second)
    low, high = 0, len(pairs)
    while low < high:
        middle = (low + high) // 2
        if pairs[middle] < key:
            low = middle + 1
        else:
            high = middle
    return np.int64(composites[low]) if low < len(pairs) and pairs[low] == key else np.int64(-1)


@kernel
def _put_together(stretch, length, classes, pairs, composites):
    """Sort and join a stretch that is taken apart, in place; return its length."""
    k = 0
    while k < length:
        first = k
        while k < length and _class_of(stretch[k], classes) != 0:
            k += 1
        if k - first > 1:
            _sort_run(stretch, first, k, classes)
        k += 1
    kept = 0
    starter = -1
    before = np.int64(0)
    for k in range(length):
        code = stretch[k]
        number = np.int64(_class_of(code, classes))
        # Not blocked: nothing stands between, or only lower classes.
        if starter >= 0 and (kept - 1 == starter or before < number):
            joined = _pair(stretch[starter], code, pairs, composites)
            if joined >= 0:
                stretch[starter] = joined
                continue
        if number == 0:
            starter = kept
        before = number
        stretch[kept] = code
        kept += 1
    return kept


@kernel
def _compose_one(data, i, end, marks, classes, expansion, expansions, pairs, composites, out, at):
    stretch = np.empty(64, np.int32)
    while i < end:
        # A stretch: one code point, and all behind it that are not stable.
        first = i
        _, width = code_point(data, i)
        i += width
        count = 1
        while i < end:
            code, width = code_point(data, i)
            if code >= LIMIT or marks[code] == 0:
                break
            i += width
            count += 1
        code, width = code_point(data, first)
        if count == 1 and (code >= LIMIT or marks[code] == 0):
            for k in range(first, i):
                out[at] = data[k]
                at += 1
            continue
        if len(stretch) < 4 * count:
            stretch = np.empty(8 * count, np.int32)
        length = 0
        while first < i:
            code, width = code_point(data, first)
            length = _take_apart(code, expansion, expansions, stretch, length)
            first += width
        for k in range(_put_together(stretch, length, classes, pairs, composites)):
            at = put_code_point(np.int64(stretch[k]), out, at)
    return at


@kernel
def _compose_all(data, offsets, chosen, marks, classes, expansion, expansions, pairs, composites, out, places):
    at = np.int64(0)
    for t in range(len(chosen)):
        start, end = offsets[t], offsets[t + 1]
        if chosen[t]:
            at = _compose_one(data, start, end, marks, classes, expansion, expansions, pairs, composites, out, at)
        else:
            at = copy_bytes(data, start, end, out, at)
        places[t + 1] = at
