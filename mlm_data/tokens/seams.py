"""Seams: where a long word may be cut, so that its parts can be normalized one by one.

The rule. Between two characters that stand alone, normalizing the whole is normalizing both sides:

    N(left + right) = N(left) + N(right)        "…a|b…"  yes     "…e|U+0301…"  no, the accent belongs to the e

A character stands alone if nothing joins it to a neighbour: it is a letter, number or sign of Unicode 3.2, whose
properties no later version changes; it is no conjoining jamo, no regional indicator and nothing else that the graphemes
of UAX #29 or the compositions of UAX #15 tie to what is before or after it; and all that stays true after each
step of the normalizer. A step that replaces strings must have none that holds the character at that step.

HF keeps two places in the text for each byte while it normalizes, 16 bytes or more, so a word of 50 MB would take a
gigabyte; in parts it takes its own size. A word without a seam stays whole: right, but not small.
"""

import json
import unicodedata
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tokenizers import Tokenizer
from tokenizers.normalizers import Normalizer

from mlm_data.tokens.classes import CLINGING_LETTERS, HOLDING_LETTERS

PART_BYTES = 1 << 18  # of text that is normalized in one call
# Hangul jamo that join into syllables, compatibility and halfwidth ones because they normalize to such.
JAMO = {*range(0x1100, 0x1200), *range(0x3131, 0x318F), *range(0xA960, 0xA980), *range(0xD7B0, 0xD800)}
JAMO |= set(range(0xFFA0, 0xFFDD))
SYLLABLES = range(0xAC00, 0xD7A4)  # these begin with a jamo that joins nothing before it
REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
TIED = CLINGING_LETTERS | HOLDING_LETTERS | JAMO | set(REGIONAL_INDICATORS)


class Seams:
    """Normalizes long words in parts.

    Args:
        steps: a normalizer's steps as in a tokenizer.json, without Sequences.
    """

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self._steps = [(_normalizer(step), set(step.get("pattern", {}).get("String", ""))) for step in steps]
        self._alone = cache(self._stands_alone)

    def normalize(self, word: UInt8[np.ndarray, " bytes"]) -> bytearray:
        """The normalized bytes of valid UTF-8 without white space."""
        data, result, start = word.data, bytearray(), 0
        while start < len(data):
            end = self._seam(data, start + PART_BYTES)
            part = bytes(data[start:end]).decode()
            for step, _ in self._steps:
                part = step.normalize_str(part)
            result += part.encode()
            start = end
        return result

    def _seam(self, data: memoryview, place: int) -> int:
        """The first seam at `place` or behind it, or the word's end."""
        before = ""
        place = _character_start(data, place)
        while place < len(data):
            end = _character_start(data, place + 1)
            character = bytes(data[place:end]).decode()
            if self._alone(character):
                if before and self._alone(before):
                    return place
                before = character
            else:
                before = ""
            place = end
        return len(data)

    def _stands_alone(self, character: str) -> bool:
        current = character
        if not _is_free(character):
            return False
        for step, replaced in self._steps:
            if replaced & set(current):
                return False
            current = step.normalize_str(current)
            if ord(character) in SYLLABLES and current == unicodedata.normalize("NFD", character):
                continue  # jamo, but the first one joins nothing before it and the last one no syllable after it
            first, rest = current[:1] or " ", current[1:]
            if not _is_free(first) or not all(_is_free(c) or unicodedata.category(c)[0] == "M" for c in rest):
                return False
        return True


def _is_free(character: str) -> bool:
    """Whether graphemes and compositions tie a character to none before it, and to nothing but marks after it."""
    point = ord(character)
    if unicodedata.ucd_3_2_0.category(character)[0] not in "LNPS" or point in TIED:
        return False
    whole = unicodedata.normalize("NFKD", character)
    return point in SYLLABLES or not (any(c.isspace() for c in whole) or TIED & set(map(ord, whole)))


def _character_start(data: memoryview, place: int) -> int:
    while place < len(data) and data[place] & 0xC0 == 0x80:
        place += 1
    return min(place, len(data))


def _normalizer(step: dict[str, Any]) -> Normalizer:
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    return Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [], "normalizer": step, "model": model})
    ).normalizer
