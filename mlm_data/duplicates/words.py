r"""Words as duplicates are looked for: without case, accents and punctuation, each a hash of 64 bits.

A word is a longest run of letters, digits and the marks that belong to them. `folding.txt`, from the Unicode Character
Database, says for each code point which of four it is:

- part of a word, and what it is folded to: lower case, no compatibility forms (NFKD and case folding, twice, as in the
  Unicode Standard, definition D146), without what is skipped. `Ä` is `a`, `ﬁ` is `fi`, `①` is `1`.
- skipped, between the letters of a word: accents and other marks above, below and through a letter, the vowel points
  of Hebrew and Arabic, which writers leave out at will, and format characters such as the soft hyphen. Vowel signs of
  Indic scripts stay: without them the words would be others.
- a word of its own, in scripts that set no spaces: Han, kana, Bopomofo, Yi, Thai, Lao, Khmer, Myanmar and their kin.
  There an n-gram of words is one of characters.
- an end of words: everything else.

    "It's a naïve ﬁle: 漢字."  ->  it  s  a  naive  file  漢  字

Python's and pyarrow's own tables change with their versions, so they are not asked. Hangul syllables fall into letters
by arithmetic (Unicode Standard, section 3.12).

The hash of a word is h = (h ^ c) * FACTOR over its code points, mixed at the end (as FNV-1a, Fowler, Noll, Vo, with
another factor and code points instead of bytes). Nothing protects it from somebody who wants two words to collide.
An *n-gram* is the hash w1 B^(n-1) + ... + wn of n words one after another (Karp and Rabin 1987), modulo 2^64.

Cost: one look at each byte; memory is the caller's buffers, however long a text is.
"""

from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, UInt64

from mlm_data.characters import code_point
from mlm_data.hashing import string_buffers
from mlm_data.kernels import kernel, read_only
from mlm_data.seeds import mix

ALGORITHM_VERSION = 1  # enters cache keys: count up when any word or hash comes out differently

LIMIT = 0x30000  # from here on code points are treated by rule
FACTOR = np.uint64(0x9DDFEA08EB382D69)
BASE = np.uint64(0xD1342543DE82EF95)  # B

# What `Folding.points` holds beside folded code points.
BREAK, SKIP = 0, 1
ALONE = 1 << 22  # this bit: a word of its own
_HANGUL, _NUM_HANGUL = 0xAC00, 11172


class Folding(NamedTuple):
    """For each code point below LIMIT: BREAK, SKIP, a code point (perhaps | ALONE), or -1 - its place in the other."""

    points: Int32[np.ndarray, " code_points"]
    expansions: Int32[np.ndarray, " expanded"]  # a length, then as many entries as in `points`


@lru_cache(maxsize=1)
def folding() -> Folding:
    """What `folding.txt` says."""
    kinds = np.zeros(LIMIT, np.int32)
    to: dict[int, tuple[int, ...]] = {}
    text = resources.files("mlm_data.duplicates").joinpath("folding.txt").read_text("ascii")
    for entry in (entry for line in text.splitlines() if line[:1] != "#" for entry in line.split()):
        span, is_folded, target = entry.partition(">")
        if not is_folded:
            span, _, target = entry.partition(":")
        span, _, step = span.partition("/")
        first, _, last = span.partition("-")
        codes = range(int(first, 16), int(last or first, 16) + 1, int(step or 1))
        if is_folded:
            letters = [int(letter, 16) for letter in target.split("+")]
            to.update({code: (letters[0] + code - codes[0], *letters[1:]) for code in codes})
        else:
            kinds[codes] = {"s": SKIP, "w": 2, "a": ALONE}[target]
    points = np.where(kinds > SKIP, np.arange(LIMIT) | (kinds & ALONE), kinds).astype(np.int32)
    expansions: list[int] = []
    folded = points.copy()
    for code, targets in to.items():
        whole = [int(points[target]) for target in targets]
        if len(whole) == 1:
            folded[code] = whole[0]
        else:
            folded[code] = -1 - len(expansions)
            expansions += [len(whole), *whole]
    return Folding(read_only(folded), read_only(np.array(expansions, np.int32)))


def word_hashes(texts: pa.LargeStringArray) -> tuple[UInt64[np.ndarray, " words"], Int64[np.ndarray, " texts+1"]]:
    """The hash of every word of some texts, and where in them each text's words begin. For short texts: 8 bytes a word.

    >>> hashes, places = word_hashes(pa.array(["It's a NAÏVE file", "naive"], pa.large_string()))
    >>> places.tolist(), bool(hashes[3] == hashes[5])
    ([0, 5, 6], True)
    """
    data, offsets = string_buffers(texts)
    # A code point of three bytes stands for 6 words at most. Memory that is not written to is not taken.
    hashes = np.empty(int(offsets[-1] - offsets[0]) * 2 + 1, np.uint64)
    places = np.zeros(len(texts) + 1, np.int64)
    _all_words(data, offsets, *folding(), hashes, places)
    return hashes[: places[-1]].copy(), places


@kernel
def word_end(hashed):
    """For kernels: the hash of a word from its state."""
    return mix(hashed)


MOST_AT_ONCE = 16  # words that one code point may end and stand for: one more than the longest expansion has


@kernel
def next_words(data, i, end, points, expansions, hashes, count, spans):
    """For kernels: write the hashes of the next words of data[i:end] to hashes[count:], as many as there is room for.

    Returns (the place behind what was read, the number of hashes in all). It stops between two words, with fewer than
    MOST_AT_ONCE places left, or at the end. `spans` gets the first byte and the one behind the last of each word, if it
    has rows.
    """
    full = len(hashes) - MOST_AT_ONCE
    has_spans = len(spans) > 0
    hashed = np.uint64(0)
    start = i
    behind = np.int64(-1)  # the last letter of the word that is open, or -1
    while i < end:
        c = data[i]
        if c < 0x80:
            point = points[c]
            if point != BREAK:
                if behind < 0:
                    start = i
                hashed = (hashed ^ np.uint64(point)) * FACTOR
                i += 1
                behind = i
                continue
            if behind >= 0:
                hashes[count] = word_end(hashed)
                if has_spans:
                    spans[count, 0], spans[count, 1] = start, behind
                count += 1
                hashed = np.uint64(0)
                behind = np.int64(-1)
                if count >= full:
                    return i, count
            i += 1
            continue
        code, width = code_point(data, i)
        first, last = np.int64(0), np.int64(1)
        entry = np.int64(BREAK)
        syllable = code - _HANGUL
        if code >= LIMIT:
            if code < 0x40000:
                entry = code | ALONE
            elif 0xE0000 <= code < 0xE0200:
                entry = np.int64(SKIP)
        elif 0 <= syllable < _NUM_HANGUL:
            last = np.int64(3) if syllable % 28 else np.int64(2)
        else:
            entry = np.int64(points[code])
            if entry < 0:
                first = -entry
                last = first + expansions[first - 1]
        for k in range(first, last):
            if last - first > 1:
                if 0 <= syllable < _NUM_HANGUL:
                    if k == 0:
                        entry = 0x1100 + syllable // 588
                    elif k == 1:
                        entry = 0x1161 + syllable % 588 // 28
                    else:
                        entry = 0x11A7 + syllable % 28
                else:
                    entry = np.int64(expansions[k])
            if entry == SKIP:
                if behind >= 0:
                    behind = i + width
                continue
            is_alone = (entry & ALONE) != 0
            if behind >= 0 and (entry == BREAK or is_alone):
                hashes[count] = word_end(hashed)
                if has_spans:
                    spans[count, 0], spans[count, 1] = start, behind
                count += 1
                hashed = np.uint64(0)
                behind = np.int64(-1)
            if is_alone:
                hashes[count] = word_end(np.uint64(entry) * FACTOR)
                if has_spans:
                    spans[count, 0], spans[count, 1] = i, i + width
                count += 1
            elif entry != BREAK:
                if behind < 0:
                    start = i
                hashed = (hashed ^ np.uint64(entry)) * FACTOR
                behind = i + width
        i += width
        if count >= full and behind < 0:
            return i, count
    if behind >= 0:
        hashes[count] = word_end(hashed)
        if has_spans:
            spans[count, 0], spans[count, 1] = start, behind
        count += 1
    return i, count


@kernel
def _all_words(data, offsets, points, expansions, hashes, places):
    buffer = np.empty(4096, np.uint64)
    spans = np.empty((0, 2), np.int64)
    at = np.int64(0)
    for t in range(len(places) - 1):
        i, end = offsets[t], offsets[t + 1]
        while i < end:
            i, count = next_words(data, i, end, points, expansions, buffer, np.int64(0), spans)
            hashes[at : at + count] = buffer[:count]
            at += count
        places[t + 1] = at


@kernel
def power(n):
    """For kernels: BASE to the n-th, modulo 2^64."""
    product = np.uint64(1)
    for _ in range(n):
        product *= BASE
    return product


@kernel
def ngram(words, first, behind):
    """For kernels: the hash of words[first:behind] as one n-gram."""
    total = np.uint64(0)
    for k in range(first, behind):
        total = total * BASE + words[k]
    return total
