r"""Lines that are taken out of texts: C4's rules and RefinedWeb's, as edits. What they take away is counted.

An edit is no score: `quality` says what C4's rules would leave of a text, this module leaves it. Both run the same
kernel. Words are what stands between white space: a language that writes none (`quality_languages.SPACELESS`) would
lose nearly everything, so texts of which such a language is known are left as they are.

**c4** (Raffel et al. 2020, section 2.2, as datatrove 0.10 runs it). For each line of `str.splitlines`, stripped:

1. a word of more than 1,000 characters: the line goes;
2. `[12]`, `[]`, `[edit]` and `[citation needed]` are deleted (the white space before them stays);
3. the line goes if it doesn't end in one of . ? ! " ' now, or ends in `...`;
4. fewer than 3 words, counted before step 2: it goes;
5. it says "javascript", in capitals or not: it goes;
6. it says "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies" or "use cookies": it
   goes.

What is left is joined with single line feeds, and stripped. Blank lines go with the rest. C4 also drops whole documents
("lorem ipsum", a curly bracket, too few sentences): those are scores. Hard-wrapped text loses most of its lines
here: see `characters_removed`.

**refinedweb** (Penedo et al. 2023, appendix G.2, as DCLM runs it: Li et al. 2024). For each line between line feeds
that isn't blank, stripped:

1. more than half of its characters are upper case: it goes;
2. all of its characters are decimal digits: it goes;
3. it is a counter, such as "3 likes" or "1.2K views": it goes;
4. it has only one word: it goes.

Blank lines stay, one in a row. RefinedWeb drops a document of whose words these rules take away more than 5 %:
`loses_too_many_words` says which. Differences: its edits of short lines ("Read more...", "items in cart") aren't among
them; DCLM doesn't strip lines before it measures them; digits of other kinds than decimal (such as superscripts) are
none.

Cost: 3 to 5 looks at each byte of a text, whatever the lines are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64, UInt8

from mlm_data.characters import code_point
from mlm_data.curation.character_classes import BREAK, DIGIT, LETTER, SPACE, UPPER, character_classes
from mlm_data.curation.pieces import count_characters, find_line_feed, strip
from mlm_data.curation.quality_languages import LANGUAGES, language_indexes
from mlm_data.hashing import string_buffers
from mlm_data.kernels import copy_bytes, lean_kernel, range_mask, read_only, trailing_zeros
from mlm_data.quality_settings import MILLION, C4Settings

ALGORITHM_VERSION = 1  # enters cache keys: count up when any text comes out differently

Edit = Literal["c4", "refinedweb"]

_PHRASES = (
    *("lorem ipsum", "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies"),
    *("use of cookies", "use cookies"),
)
_LOREM_IPSUM, _JAVASCRIPT, _POLICIES = 1, 2, 0xFC  # bits of phrases, in their order
_CITATIONS = ("edit]", "citation needed]")
_COUNTED = (
    *("likes", "shares", "comments", "retweets", "reposts", "quotes", "bookmarks", "upvotes", "downvotes"),
    *("downloads", "views", "followers"),
)
MAX_WORDS_REMOVED = 0.05  # RefinedWeb's limit

_LINES, _KEPT_LINES, _WORDS, _KEPT_WORDS, _CHARACTERS, _KEPT_CHARACTERS, _LOREM_LINES, _CURLY_LINES = range(8)


@dataclass(frozen=True, kw_only=True)
class EditCounts:
    """What one edit found and took away, for each text."""

    num_lines: Int32[np.ndarray, " texts"]
    num_lines_removed: Int32[np.ndarray, " texts"]
    num_words: Int32[np.ndarray, " texts"]
    num_words_removed: Int32[np.ndarray, " texts"]
    characters_removed: Int32[np.ndarray, " texts"]


@dataclass(frozen=True, kw_only=True)
class EditedTexts:
    """Texts after all edits, as many as before and in the same order; some may be empty now."""

    texts: pa.LargeStringArray
    characters_removed: Int32[np.ndarray, " texts"]  # by all edits
    by_edit: Mapping[str, EditCounts]


@dataclass(frozen=True, kw_only=True)
class C4Lines:
    """What C4's line rules leave of texts, and what is said in the lines that they look at last."""

    data: UInt8[np.ndarray, " bytes"]
    offsets: Int64[np.ndarray, " texts+1"]
    counts: EditCounts
    num_lorem_ipsum_lines: Int32[np.ndarray, " texts"]
    num_curly_bracket_lines: Int32[np.ndarray, " texts"]


def edit_lines(
    texts: pa.LargeStringArray, edits: tuple[Edit, ...], languages: Sequence[str] | pa.Array | None = None
) -> EditedTexts:
    r"""The texts after these edits, one after the other.

    Args:
        texts: cleaned texts.
        edits: which, in this order.
        languages: the texts' BCP 47 codes; None: not known.

    >>> edited = edit_lines(pa.array(["MENU\nThis is a line. [1]\nThis is another one."], pa.large_string()), ("c4",))
    >>> edited.texts.to_pylist(), edited.characters_removed.tolist()
    (['This is another one.'], [25])
    """
    by_edit: dict[str, EditCounts] = {}
    removed = np.zeros(len(texts), np.int32)
    has_words = np.array([language.has_words for language in LANGUAGES])
    untouched = ~has_words[language_indexes(languages, len(texts))]
    for edit in edits:
        data, offsets = string_buffers(texts)
        if edit == "c4":
            left = c4_lines(data, offsets[:-1], offsets[1:], C4Settings(), untouched)
            counts, kept, places = left.counts, left.data, left.offsets
        else:
            counts, kept, places = _refinedweb_lines(data, offsets[:-1], offsets[1:], untouched)
        by_edit[edit] = counts
        removed += counts.characters_removed
        texts = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(places), pa.py_buffer(kept))
    return EditedTexts(texts=texts, characters_removed=removed, by_edit=by_edit)


def loses_too_many_words(counts: EditCounts, *, share: float = MAX_WORDS_REMOVED) -> Bool[np.ndarray, " texts"]:
    """Of which texts an edit took more than this share of the words: RefinedWeb drops those."""
    return counts.num_words_removed.astype(np.int64) * MILLION > round(share * MILLION) * counts.num_words.astype(
        np.int64
    )


def c4_lines(
    data: UInt8[np.ndarray, " bytes"],
    starts: Int64[np.ndarray, " texts"],
    ends: Int64[np.ndarray, " texts"],
    settings: C4Settings,
    untouched: Bool[np.ndarray, " texts"],
) -> C4Lines:
    """What C4's line rules leave of each text data[start:end], under these settings; of untouched ones everything."""
    num = len(starts)
    out = np.empty(int((ends - starts).sum()), np.uint8)
    places = np.zeros(num + 1, np.int64)
    counts = np.zeros((num, 8), np.int32)
    dropping = (_JAVASCRIPT if settings.javascript_lines else 0) | (_POLICIES if settings.policy_lines else 0)
    phrases, borders, firsts, seconds = _phrase_tables()
    _c4(
        data, starts, ends, untouched, character_classes(), phrases, borders, firsts, seconds, _citations(),
        settings.terminal_punctuation, settings.min_words_per_line, settings.max_word_chars, np.uint8(dropping),
        out, places, counts,
    )  # fmt: skip
    return C4Lines(
        data=read_only(out[: places[-1]]),
        offsets=read_only(places),
        counts=_edit_counts(counts),
        num_lorem_ipsum_lines=np.ascontiguousarray(counts[:, _LOREM_LINES]),
        num_curly_bracket_lines=np.ascontiguousarray(counts[:, _CURLY_LINES]),
    )


def _refinedweb_lines(
    data: UInt8[np.ndarray, " bytes"],
    starts: Int64[np.ndarray, " texts"],
    ends: Int64[np.ndarray, " texts"],
    untouched: Bool[np.ndarray, " texts"],
) -> tuple[EditCounts, np.ndarray, np.ndarray]:
    num = len(starts)
    out = np.empty(int((ends - starts).sum()), np.uint8)
    places = np.zeros(num + 1, np.int64)
    counts = np.zeros((num, 8), np.int32)
    names, borders = _packed(_COUNTED)
    _refinedweb(data, starts, ends, untouched, character_classes(), names, borders, out, places, counts)
    return _edit_counts(counts), out[: places[-1]], places


def _edit_counts(counts: np.ndarray) -> EditCounts:
    return EditCounts(
        num_lines=np.ascontiguousarray(counts[:, _LINES]),
        num_lines_removed=counts[:, _LINES] - counts[:, _KEPT_LINES],
        num_words=np.ascontiguousarray(counts[:, _WORDS]),
        num_words_removed=counts[:, _WORDS] - counts[:, _KEPT_WORDS],
        characters_removed=counts[:, _CHARACTERS] - counts[:, _KEPT_CHARACTERS],
    )


@cache
def _packed(strings: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(all bytes, borders of each string)."""
    borders = np.cumsum([0, *map(len, strings)], dtype=np.int64)
    return read_only(np.frombuffer("".join(strings).encode(), np.uint8)), read_only(borders)


@cache
def _phrase_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(bytes, borders, which phrases begin with a byte, which have it second): one bit each, in capitals or not."""
    data, borders = _packed(_PHRASES)
    firsts, seconds = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    for bit, phrase in enumerate(_PHRASES):
        for table, letter in ((firsts, phrase[0]), (seconds, phrase[1])):
            table[[ord(letter), ord(letter.upper())]] |= 1 << bit
    return data, borders, read_only(firsts), read_only(seconds)


@cache
def _citations() -> np.ndarray:
    return _packed(_CITATIONS)[0]


@lean_kernel
def _lower(byte):
    return byte | 0x20 if 0x41 <= byte <= 0x5A else byte


@lean_kernel
def _matches(data, i, end, pattern, first, last):
    """Whether data from i on is pattern[first:last], in capitals or not."""
    if end - i < last - first:
        return False
    for k in range(last - first):  # noqa: SIM110 (numba)
        if _lower(data[i + k]) != pattern[first + k]:
            return False
    return True


@lean_kernel
def _is_exactly(data, i, end, pattern, first, last):
    if end - i < last - first:
        return False
    for k in range(last - first):  # noqa: SIM110 (numba)
        if data[i + k] != pattern[first + k]:
            return False
    return True


@lean_kernel
def _count_line_words(data, start, end, classes):
    """(words, characters of the longest one, whether there is a bracket that may begin a citation)."""
    num_words = 0
    longest = 0
    length = 0
    has_bracket = False
    i = start
    while i < end:
        code = np.int64(data[i])
        width = 1
        if code >= 0x80:
            code, width = code_point(data, i)
        if classes[code] & SPACE:
            length = 0
        else:
            if length == 0:
                num_words += 1
            length += 1
            if length > longest:
                longest = length
            has_bracket |= code == 0x5B
        i += width
    return num_words, longest, has_bracket


@lean_kernel
def _copy_without_citations(data, i, end, classes, citations, out, at):
    """Write a line without `[12]`, `[]`, `[edit]` and `[citation needed]`; return the place behind it."""
    while i < end:
        if data[i] == 0x5B:
            stop = i + 1
            while stop < end:
                code, width = code_point(data, stop)
                if classes[code] & DIGIT == 0:
                    break
                stop += width
            if stop < end and data[stop] == 0x5D:
                i = stop + 1
                continue
            if stop < end and stop == i + 1:
                if _is_exactly(data, i + 1, end, citations, 0, 5):
                    i += 6
                    continue
                if _is_exactly(data, i + 1, end, citations, 5, len(citations)):
                    i += 1 + len(citations) - 5
                    continue
            # Digits behind a bracket that isn't closed aren't looked at again.
            at = copy_bytes(data, i, stop, out, at)
            i = stop
            continue
        out[at] = data[i]
        at += 1
        i += 1
    return at


@lean_kernel
def _said(data, start, end, phrases, borders, firsts, seconds):
    """(one bit for each phrase that a line says, whether it has a curly bracket)."""
    said = np.uint8(0)
    for i in range(start, end - 1):
        may_say = firsts[data[i]] & seconds[data[i + 1]]
        if may_say:
            for phrase in range(len(borders) - 1):
                bit = np.uint8(1 << phrase)
                if may_say & bit and _matches(data, i, end, phrases, borders[phrase], borders[phrase + 1]):
                    said |= bit
    has_curly = False
    i = start
    while i < end:
        if i + 64 <= len(data):
            place = trailing_zeros(range_mask(data, i, 0, 0x7B, 1) | np.uint64(1 << 63))
            has_curly |= i + place < end and data[i + place] == 0x7B
            i += 64
        else:
            has_curly |= data[i] == 0x7B
            i += 1
    return said, has_curly


@lean_kernel
def _c4_line(
    data, start, end, classes, phrases, borders, firsts, seconds, citations, terminal, min_words, max_chars, dropping,
    out, base, at, counts,
):  # fmt: skip
    """Write a line behind out[base:at], if it stays; return the place behind it."""
    counts[_LINES] += 1
    start, end = strip(data, start, end, classes)
    if start == end:
        return at
    num_words, longest, has_bracket = _count_line_words(data, start, end, classes)
    counts[_WORDS] += num_words
    if longest > max_chars or num_words < min_words:
        return at
    line = at
    if at > base:
        out[at] = 10
        line += 1
    if has_bracket:
        stop = _copy_without_citations(data, start, end, classes, citations, out, line)
    else:
        stop = copy_bytes(data, start, end, out, line)
    if terminal:
        if stop == line:
            return at
        last = out[stop - 1]
        if not (last == 0x2E or last == 0x3F or last == 0x21 or last == 0x22 or last == 0x27):
            return at
        if stop - line >= 3 and last == 0x2E and out[stop - 2] == 0x2E and out[stop - 3] == 0x2E:
            return at
    said, has_curly = _said(out, line, stop, phrases, borders, firsts, seconds)
    if said & _LOREM_IPSUM:
        counts[_LOREM_LINES] += 1
    if said & dropping & _JAVASCRIPT:
        return at
    if has_curly:
        counts[_CURLY_LINES] += 1
    if said & dropping:
        return at
    counts[_KEPT_LINES] += 1
    counts[_KEPT_WORDS] += num_words
    return stop


@lean_kernel
def _c4(
    data, starts, ends, untouched, classes, phrases, borders, firsts, seconds, citations, terminal, min_words,
    max_chars, dropping, out, places, counts,
):  # fmt: skip
    at = np.int64(0)
    for text in range(len(starts)):
        base = at
        end = ends[text]
        line = i = starts[text]
        count = counts[text]
        count[_CHARACTERS] = count_characters(data, line, end)
        if untouched[text]:
            at = copy_bytes(data, line, end, out, at)
            count[_KEPT_CHARACTERS] = count[_CHARACTERS]
            places[text + 1] = at
            continue
        while i < end:
            if i + 64 <= len(data):
                others = ~range_mask(data, i, 0, 0x20, 0x60)
                if others == 0:
                    i += 64
                    continue
                i += trailing_zeros(others)
                if i >= end:
                    break
            byte = data[i]
            width = 1
            is_break = False
            if byte >= 0x80:
                code, width = code_point(data, i)
                is_break = classes[code] & BREAK != 0
            elif byte < 0x20:
                is_break = classes[byte] & BREAK != 0
            if is_break:
                at = _c4_line(
                    data, line, i, classes, phrases, borders, firsts, seconds, citations, terminal, min_words,
                    max_chars, dropping, out, base, at, count,
                )  # fmt: skip
                if byte == 13 and i + 1 < end and data[i + 1] == 10:
                    i += 1
                line = i + width
            i += width
        if line < end:
            at = _c4_line(
                data, line, end, classes, phrases, borders, firsts, seconds, citations, terminal, min_words,
                max_chars, dropping, out, base, at, count,
            )  # fmt: skip
        # A citation at a line's beginning may leave white space there.
        first, last = strip(out, base, at, classes)
        if first > base:
            for k in range(last - first):
                out[base + k] = out[first + k]
        at = base + (last - first)
        count[_KEPT_CHARACTERS] = count_characters(out, base, at)
        places[text + 1] = at


@lean_kernel
def _is_word(code, classes):
    return classes[code] & (LETTER | DIGIT) != 0 or code == 0x5F


@lean_kernel
def _is_counter(data, i, end, classes, names, borders):
    """Whether a line is a number, one of k m b or none, white space, and one of the names: `3 likes`, `1.2K views!`."""
    while i < end:
        code, width = code_point(data, i)
        if _is_word(code, classes):
            break
        i += width
    has_digit = False
    while i < end:
        code, width = code_point(data, i)
        is_digit = classes[code] & DIGIT != 0
        if not is_digit and not (has_digit and (code == 0x2C or code == 0x2E)):
            break
        has_digit = True
        i += width
    if not has_digit or i >= end:
        return False
    byte = _lower(data[i])
    if byte == 0x6B or byte == 0x6D or byte == 0x62:
        i += 1
    name = i
    while name < end:
        code, width = code_point(data, name)
        if classes[code] & SPACE == 0:
            break
        name += width
    if name == i:
        return False
    for k in range(len(borders) - 1):
        if _matches(data, name, end, names, borders[k], borders[k + 1]):
            rest = name + borders[k + 1] - borders[k]
            is_end = True
            while rest < end:
                code, width = code_point(data, rest)
                if _is_word(code, classes):
                    is_end = False
                    break
                rest += width
            return is_end
    return False


@lean_kernel
def _refinedweb(data, starts, ends, untouched, classes, names, borders, out, places, counts):
    at = np.int64(0)
    for text in range(len(starts)):
        base = at
        end = ends[text]
        line = starts[text]
        count = counts[text]
        count[_CHARACTERS] = count_characters(data, line, end)
        if untouched[text]:
            at = copy_bytes(data, line, end, out, at)
            count[_KEPT_CHARACTERS] = count[_CHARACTERS]
            places[text + 1] = at
            continue
        is_after_blank = False
        while line < end:
            stop = find_line_feed(data, line, end)
            count[_LINES] += 1
            first, last = strip(data, line, stop, classes)
            if first == last:
                is_after_blank = True
                count[_KEPT_LINES] += 1
                line = stop + 1
                continue
            num_words = num_chars = num_upper = num_digits = 0
            was_space = True
            i = first
            while i < last:
                code = np.int64(data[i])
                width = 1
                if code >= 0x80:
                    code, width = code_point(data, i)
                kind = classes[code]
                num_chars += 1
                num_upper += kind & UPPER != 0
                num_digits += kind & DIGIT != 0
                is_space = kind & SPACE != 0
                num_words += was_space and not is_space
                was_space = is_space
                i += width
            count[_WORDS] += num_words
            is_cut = num_words < 2 or 2 * num_upper > num_chars or num_digits == num_chars
            if not is_cut and num_digits > 0:
                is_cut = _is_counter(data, first, last, classes, names, borders)
            if not is_cut:
                if at > base:
                    out[at] = 10
                    at += 1
                    if is_after_blank:
                        out[at] = 10
                        at += 1
                is_after_blank = False
                at = copy_bytes(data, line, stop, out, at)
                count[_KEPT_LINES] += 1
                count[_KEPT_WORDS] += num_words
            line = stop + 1
        count[_KEPT_CHARACTERS] = count_characters(out, base, at)
        places[text + 1] = at
