"""Folded words against a plain Python twin, and the table against this Python's Unicode."""

import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.duplicates.words import (
    ALONE,
    BREAK,
    LIMIT,
    MOST_AT_ONCE,
    SKIP,
    folding,
    next_words,
    ngram,
    power,
    word_hashes,
)
from mlm_data.seeds import mix

MASK = 2**64 - 1
FACTOR, BASE = 0x9DDFEA08EB382D69, 0xD1342543DE82EF95


def strings(*texts):
    return pa.array(texts, pa.large_string())


def is_skipped(letter):
    category, number, code = unicodedata.category(letter), unicodedata.combining(letter), ord(letter)
    selectors = 0xFE00 <= code <= 0xFE0F or code >= 0xE0100 or code in (0x34F, 0x180B, 0x180C, 0x180D, 0x180F)
    is_accent = number == 1 or 10 <= number <= 36 or number >= 200
    return category in ("Me", "Cf") or (category == "Mn" and (is_accent or selectors))


def is_part(letter):
    return unicodedata.category(letter)[0] in "LNM" and not is_skipped(letter)


def is_alone(letter):
    """By the names that Unicode gives to scripts without spaces."""
    scripts = "CJK HIRAGANA KATAKANA BOPOMOFO YI THAI LAO MYANMAR KHMER".split()
    name = unicodedata.name(letter, "")
    return any(name.startswith((f"{script} ", f"{script}-")) for script in scripts)


@cache
def folded(letter):
    """What a code point stands for: a tuple of code points, (SKIP,) or (BREAK,)."""
    if is_skipped(letter):
        return (SKIP,)
    twice = letter
    for _ in range(2):
        twice = unicodedata.normalize("NFKD", twice).casefold()
    parts = [part for part in unicodedata.normalize("NFKD", twice) if is_part(part)]
    return tuple(ord(part) | (ALONE if is_alone(part) else 0) for part in parts) or (BREAK,)


def words_of(text):
    """The folded words of a text, as tuples of code points, with their characters' places."""
    words, spans, word = [], [], []

    def close():
        if word:
            words.append(tuple(word))
        word.clear()

    for place, letter in enumerate(text):
        for part in folded(letter):
            if part == SKIP:
                if word:
                    spans[-1][1] = place + 1
            elif part == BREAK:
                close()
            elif part & ALONE:
                close()
                words.append((part,))
                spans.append([place, place + 1])
            else:
                if not word:
                    spans.append([place, place + 1])
                word.append(part)
                spans[-1][1] = place + 1
    close()
    return words, spans


def hash_of(word):
    state = 0
    for part in word:
        state = ((state ^ part) * FACTOR) & MASK
    return int(mix(np.uint64(state)))


def hashes_of(text):
    return [hash_of(word) for word in words_of(text)[0]]


def entries(code):
    """What the table says of a code point."""
    point = int(folding().points[code])
    if point >= 0:
        return (point,)
    first = -point
    return tuple(folding().expansions[first : first + folding().expansions[first - 1]].tolist())


def test_the_table_is_that_of_unicode():
    """By the stability policy a later version treats assigned code points alike; what is new to the table breaks."""
    for code in range(LIMIT):
        letter = chr(code)
        if unicodedata.category(letter) in ("Cn", "Cs", "Co") or 0xAC00 <= code < 0xD7A4:
            continue
        found = tuple(entry & ~ALONE for entry in entries(code))
        expected = tuple(entry & ~ALONE for entry in folded(letter))
        assert found == expected or (found == (BREAK,) and unicodedata.unidata_version > "14"), hex(code)


@pytest.mark.parametrize(
    ("letters", "alone"),
    [("漢字々〇かカㇰㄅꀀกາကកﾊ豈\U00020000", True), ("aé1ßабعא한ᄀकা༠ⰰ\U00010400", False)],
)
def test_who_is_a_word_alone(letters, alone):
    hashes, places = word_hashes(strings(*letters, *(2 * letter for letter in letters)))
    assert np.diff(places).tolist() == [1] * len(letters) + [2 if alone else 1] * len(letters)
    assert len(hashes) == places[-1]


def test_room_in_the_buffer_suffices():
    """A code point never ends in an open word behind a word of its own, and never stands for too many."""
    expansions, place = folding().expansions.tolist(), 0
    while place < len(expansions):
        entries = expansions[place + 1 : place + 1 + expansions[place]]
        assert not any(entry & ALONE for entry in entries) or entries[-1] & ALONE
        assert sum(entry & ALONE != 0 for entry in entries) + 1 <= MOST_AT_ONCE
        assert all(entry > SKIP for entry in entries)
        place += 1 + len(entries)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It's a naïve ﬁle: 漢字.", "IT’S A NAI\u0308VE FILE 漢 字"),
        ("Straße", "STRASSE"),
        ("co\u00adoperate", "cooperate"),
        ("x² ½ ①", "x2 12 1"),
        ("한국어", "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"),
        ("שָׁלוֹם مُحَمَّد", "שלום محمد"),
        ("ΟΔΟΣ", "οδος"),
        ("ｱｲｳ", "アイウ"),
        ("e\u0301", "é"),
    ],
)
def test_folded_alike(one, other):
    hashes, places = word_hashes(strings(one, other))
    np.testing.assert_array_equal(hashes[: places[1]], hashes[places[1] :])
    assert places[1] > 0


@pytest.mark.parametrize(
    ("one", "other"), [("कि", "की"), ("กา", "กิ"), ("か", "が"), ("resume", "résumés"), ("12", "1 2")]
)
def test_folded_apart(one, other):
    hashes, places = word_hashes(strings(one, other))
    assert hashes[: places[1]].tolist() != hashes[places[1] :].tolist()


pieces = st.sampled_from(
    "aAéß \u0301\u00ad.,-'1½ﬁ漢かﾊ㌀กำ한ᄀक\u093f\U0001d400\U00020000\U00030000\U000e0100\U0001f600\n"
)
texts = st.lists(st.text(pieces, max_size=30) | st.text(max_size=10), max_size=5)


BY_RULE = set("한\U00030000\U000e0100")


def is_known(letter):
    """Whether the table and this Python's Unicode say the same, which they don't of what only one of them knows."""
    return letter in BY_RULE or (ord(letter) < LIMIT and folded(letter) == entries(ord(letter)))


@settings(max_examples=300, deadline=None)
@given(texts)
def test_hashes_equal_the_twin(texts):
    texts = ["".join(filter(is_known, text)) for text in texts]
    hashes, places = word_hashes(strings("x", *texts).slice(1))
    expected = [hashes_of(text) for text in texts]
    assert np.diff(places).tolist() == [len(words) for words in expected]
    assert hashes.tolist() == [value for words in expected for value in words]


def scanned(text, room):
    """Words and spans of one text, read with a small buffer."""
    data = np.frombuffer(text.encode(), np.uint8)
    hashes, spans = np.empty(room + MOST_AT_ONCE, np.uint64), np.empty((room + MOST_AT_ONCE, 2), np.int64)
    words, places, i = [], [], 0
    while i < len(data):
        i, count = next_words(data, i, len(data), *folding(), hashes, 0, spans)
        words += hashes[:count].tolist()
        places += spans[:count].tolist()
    return words, places


@settings(max_examples=200, deadline=None)
@given(st.text(pieces, max_size=60), st.integers(1, 5))
def test_a_small_buffer_gives_the_same_words_and_their_bytes(text, room):
    words, spans = scanned(text, room)
    assert words == word_hashes(strings(text))[0].tolist()
    starts = np.cumsum([0, *(len(c.encode()) for c in text)])
    assert spans == [[int(starts[first]), int(starts[behind])] for first, behind in words_of(text)[1]]


def test_unassigned_planes():
    places = word_hashes(strings("\U00031000\U00031001", "\U000e0101", "\U00050000 \U0010ffff"))[1]
    assert np.diff(places).tolist() == [2, 0, 0]


@given(st.lists(st.integers(0, MASK), min_size=1, max_size=9))
def test_an_ngram_is_a_polynomial(words):
    total = 0
    for word in words:
        total = (total * BASE + word) & MASK
    assert ngram(np.array(words, np.uint64), 0, len(words)) == total
    assert power(len(words)) == pow(BASE, len(words), 2**64)
