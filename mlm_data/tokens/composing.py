"""Texts that NFC may change, found without normalizing them.

The rule (Unicode Standard Annex 15, sec. 9, "quick check"): a text is NFC if all its characters are starters
that are NFC themselves and can't join one before them. A text without *risky* characters is therefore its own normal
form; the others are given to the tokenizer's own normalizer, for its Unicode version decides.

    "café" (é composed)  no risk      "cafe" + U+0301  risky, becomes "café"      U+0958  risky: becomes two characters

Which are risky is asked of the tokenizer's normalizer *and* of Python's tables: what either of them doubts is risky.
"""

import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt8
from tokenizers import normalizers

from mlm_data.kernels import lean_kernel, load_uint64
from mlm_data.tokens.classes import UNKNOWN, ClassTable
from mlm_data.tokens.emit import any_code_point

SAFE, RISKY = 1, 2
HIGH = np.uint64(0x8080808080808080)


class NFC:
    """The NFC step of one tokenizer."""

    def __init__(self, normalizer: normalizers.Normalizer) -> None:
        self._normalizer = normalizer
        self._table = ClassTable(lambda characters: [RISKY if self._is_risky(c) else SAFE for c in characters])

    def _is_risky(self, character: str) -> bool:
        unassigned = unicodedata.category(character) in ("Cn", "Co")
        joins = unicodedata.combining(character) != 0 or character in joining()
        return unassigned or joins or self._normalizer.normalize_str(character) != character

    def risky(
        self, data: UInt8[np.ndarray, " bytes"], bounds: Int64[np.ndarray, " texts+1"]
    ) -> Bool[np.ndarray, " texts"]:
        """Which texts the normalizer may change."""
        result = np.zeros(len(bounds) - 1, bool)
        while True:
            point = find_risky(data, bounds, self._table.classes, result)
            if point < 0:
                return result
            self._table.learn(int(point))

    def normalize(self, texts: pa.LargeStringArray, which: Bool[np.ndarray, " texts"]) -> pa.LargeStringArray:
        """Normalize these texts; the array itself where nothing changes."""
        places = np.flatnonzero(which)
        old = texts.take(pa.array(places)).to_pylist()
        new = [self._normalizer.normalize_str(text) for text in old]
        if new == old:
            return texts
        normal = pa.array(new, pa.large_string())
        order = np.arange(len(texts))
        order[places] = len(texts) + np.arange(len(places))
        return pa.concat_arrays([texts, normal]).take(pa.array(order))


@cache
def joining() -> frozenset[str]:
    """Characters that may compose with one before them, starters too."""
    found = {chr(point) for point in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # Hangul
    for point in range(0x110000):
        parts = unicodedata.decomposition(chr(point)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


@lean_kernel
def find_risky(data, bounds, classes, result):
    """Set result[text]; returns a code point whose class must be learnt first, or -1."""
    for text in range(bounds.size - 1):
        if result[text]:
            continue
        place = bounds[text]
        end = bounds[text + 1]
        while place < end:
            if place + 8 <= end and load_uint64(data, place) & HIGH == 0:
                place += 8
                continue
            point, length = any_code_point(data, place, end)
            kind = classes[point]
            if kind == UNKNOWN:
                return point
            if kind == RISKY:
                result[text] = True
                break
            place += length
    return -1
