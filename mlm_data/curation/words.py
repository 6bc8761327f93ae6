"""The words of texts, as the quality rules count them: one scan, four facts about each word.

A word is what stands between white space (Unicode's White_Space), with its punctuation: `"Yes,"` is one word.
`spacy_words` cuts these further, as spaCy does. For each word there are a 64-bit hash of its bytes, its length in
characters, and flags:

    HAS_LETTER      a character is a letter
    HAS_TEXT        a character is no punctuation: see `character_classes`
    ENDS_SENTENCE   the word ends a sentence, if another word of the line follows
    STARTS_LINE     a line break (as in Python's `str.splitlines`) or the text's beginning lies before it
    CANNOT_START    no sentence begins with it: it is punctuation alone

A word ends a sentence if its last character is a mark of Unicode's Sentence_Terminal (`. ! ?` and their likes in other
scripts), with closing quotes and brackets behind it or not. A full stop doesn't if it is part of an ellipsis (`...`),
if only one letter stands between it and the one before or the word's beginning (`J.`, `U.S.`, `e.g.`), or if the word
is one of ABBREVIATIONS.

    'He said "No."  Mr. Ray left.'  ->  He | said | "No."* | Mr. | Ray | left.*          (* ENDS_SENTENCE): 2 sentences

The cost is one look at each byte, 2 to 3 ns on a core; memory is 21 bytes a word.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt64

from mlm_data.characters import code_point
from mlm_data.curation.character_classes import BREAK, CLOSER, LETTER, PUNCTUATION, SPACE, TERMINAL, character_classes
from mlm_data.kernels import folded, lean_kernel, load_uint64, read_only

HAS_LETTER, HAS_TEXT, ENDS_SENTENCE, STARTS_LINE, CANNOT_START = 1, 2, 4, 8, 16

ABBREVIATIONS = (
    *("Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "St.", "Jr.", "Sr.", "Messrs.", "Rev.", "Gen.", "Gov.", "Sen.", "Rep."),
    *("Capt.", "Col.", "Lt.", "Sgt.", "Mt.", "vs.", "etc.", "cf.", "Inc.", "Ltd.", "Co.", "Corp."),
    *("Bros.", "Fig.", "Figs.", "Jan.", "Feb.", "Mar.", "Apr.", "Jun.", "Jul.", "Aug.", "Sep.", "Sept.", "Oct."),
    *("Nov.", "Dec.", "Sec.", "Art.", "Vol.", "pp.", "approx.", "Bd.", "bzw.", "Nr.", "usw.", "vgl.", "ca.", "Mme."),
)

_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_END = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of a batch of texts: text t owns those from offsets[t] to offsets[t + 1]."""

    offsets: Int64[np.ndarray, " texts+1"]
    hashes: UInt64[np.ndarray, " words"]
    chars: Int32[np.ndarray, " words"]
    flags: UInt8[np.ndarray, " words"]
    places: Int64[np.ndarray, " words"]  # of the first byte


def scan_words(
    data: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " texts"], ends: Int64[np.ndarray, " texts"]
) -> Words:
    """The words of each text data[start:end] of well-formed UTF-8."""
    most = int(((ends - starts + 1) // 2).sum())  # a word takes a byte and a space
    offsets = np.zeros(len(starts) + 1, np.int64)
    hashes, chars = np.empty(most, np.uint64), np.empty(most, np.int32)
    flags, places = np.empty(most, np.uint8), np.empty(most, np.int64)
    _scan(
        data, starts, ends, character_classes(), word_table(ABBREVIATIONS), offsets, hashes, chars, flags, places
    )  # fmt: skip
    num = int(offsets[-1])
    return Words(offsets=offsets, hashes=hashes[:num], chars=chars[:num], flags=flags[:num], places=places[:num])


def scan_flags(
    data: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " texts"], ends: Int64[np.ndarray, " texts"]
) -> tuple[Int64[np.ndarray, " texts+1"], UInt8[np.ndarray, " words"]]:
    """(offsets, flags) as `scan_words` has them, for a third less time."""
    offsets, flags = np.zeros(len(starts) + 1, np.int64), np.empty(int(((ends - starts + 1) // 2).sum()), np.uint8)
    none = np.empty(0, np.uint64), np.empty(0, np.int32), flags, np.empty(0, np.int64)
    _scan(data, starts, ends, character_classes(), word_table(ABBREVIATIONS), offsets, *none)
    return offsets, flags[: offsets[-1]]


def hash_words(words: Iterable[str]) -> UInt64[np.ndarray, " words"]:
    """The hashes that `scan_words` gives to these words."""
    encoded = [word.encode() for word in words]
    ends = np.cumsum([len(word) for word in encoded], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
    out = np.empty(len(ends), np.uint64)
    _hash_all(read_only(np.frombuffer(b"".join(encoded), np.uint8)), starts, ends, out)
    return out


@cache
def word_table(words: tuple[str, ...]) -> UInt64[np.ndarray, " slots"]:
    """An open-addressing table of the words' hashes for `slot_of`; read-only. At most a quarter of it is filled."""
    table = np.zeros(max(8, 1 << (4 * len(words)).bit_length()), np.uint64)
    for value in hash_words(words):
        slot = int(value) & (len(table) - 1)
        while table[slot] != 0:
            slot = (slot + 1) & (len(table) - 1)
        table[slot] = value
    return read_only(table)


@lean_kernel
def slot_of(value, table):
    """Inside kernels: where a hash stands in a `word_table`; -1: nowhere."""
    mask = np.int64(len(table) - 1)
    slot = np.int64(value & np.uint64(mask))
    while table[slot] != 0:
        if table[slot] == value:
            return slot
        slot = (slot + 1) & mask
    return np.int64(-1)


@lean_kernel
def hash_span(data, start, end):
    """Inside kernels: 64 bits of data[start:end], never 0: multiply and fold eight bytes at a time, as wyhash does."""
    value = np.uint64(end - start) * _MULTIPLY_END
    while start + 8 <= end:
        value = folded(value ^ load_uint64(data, start), _MULTIPLY)
        start += 8
    if start < end:
        rest = np.uint64(0)
        if start + 8 <= len(data):
            rest = load_uint64(data, start) & ((np.uint64(1) << np.uint64(8 * (end - start))) - np.uint64(1))
        else:
            for k in range(end - start):
                rest |= np.uint64(data[start + k]) << np.uint64(8 * k)
        value = folded(value ^ rest, _MULTIPLY)
    return max(folded(value ^ _MULTIPLY, _MULTIPLY_END), np.uint64(1))


@lean_kernel
def _hash_all(data, starts, ends, out):
    for i in range(len(out)):
        out[i] = hash_span(data, starts[i], ends[i])


@lean_kernel
def _scan(data, starts, ends, classes, abbreviations, offsets, hashes, chars, flags, places):
    num = 0
    for text in range(len(starts)):
        i = starts[text]
        end = ends[text]
        line = STARTS_LINE
        while i < end:
            # White space before the word.
            code = np.int64(data[i])
            width = 1
            if code >= 0x80:
                code, width = code_point(data, i)
            kind = classes[code]
            if kind & SPACE:
                if kind & BREAK:
                    line = STARTS_LINE
                i += width
                continue
            first = i
            num_chars = 0
            seen = np.uint8(0)
            shared = np.uint8(PUNCTUATION)
            is_end = False
            stop_at = np.int64(-1)  # of the full stop that ends the sentence
            since = 0  # characters since the word's beginning or the last full stop
            while True:
                seen |= kind
                shared &= kind
                num_chars += 1
                if kind & TERMINAL:
                    if code == 46:
                        is_end = since > 1
                        stop_at = i
                        since = -1
                    else:
                        is_end = True
                        stop_at = np.int64(-1)
                elif kind & CLOSER == 0:
                    is_end = False
                since += 1
                i += width
                if i >= end:
                    break
                code = np.int64(data[i])
                width = 1
                if code >= 0x80:
                    code, width = code_point(data, i)
                kind = classes[code]
                if kind & SPACE:
                    break
            if is_end and stop_at >= 0 and slot_of(hash_span(data, first, stop_at + 1), abbreviations) >= 0:
                is_end = False
            flag = line
            if seen & LETTER:
                flag |= HAS_LETTER
            if shared & PUNCTUATION:
                flag |= CANNOT_START
            else:
                flag |= HAS_TEXT
            if is_end:
                flag |= ENDS_SENTENCE
            flags[num] = flag
            if len(hashes) > 0:
                hashes[num] = hash_span(data, first, i)
                chars[num] = num_chars
                places[num] = first
            num += 1
            line = 0
        offsets[text + 1] = num
