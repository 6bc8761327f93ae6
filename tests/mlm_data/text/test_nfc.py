"""NFC against Python's own, and against Unicode's conformance test."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.text.nfc import LIMIT, MAY_CHANGE, compose, tables


def nfc(*texts):
    return compose(pa.array(texts, pa.large_string()), np.ones(len(texts), np.bool_)).to_pylist()


def assigned():
    """Code points that this Python knows; by the stability policy no later version treats them otherwise."""
    codes = (code for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    return [code for code in codes if unicodedata.category(chr(code)) != "Cn"]


def test_every_code_point_alone_and_between_marks():
    # Of the many that are alike, ideographs and syllables, some do.
    codes = [code for code in assigned() if not 0x3400 <= code < 0xF8FF or code % 29 == 0]
    codes = [code for code in codes if code < 0x1F000 or code % 101 == 0 or 0x2F800 <= code < 0x2FA20]
    for form in ("{}", "a{}\u0301", "\u0301{}\u0323", "\u1100{}\u11a8", "\uac00{}"):
        texts = [form.format(chr(code)) for code in codes]
        for text, found in zip(texts, nfc(*texts), strict=True):
            assert found == unicodedata.normalize("NFC", text), ascii(text)


def test_marks_are_those_of_unicode():
    """0 exactly where a text may be cut: class 0, stays as it is, and never the second of a pair."""
    seconds = {0x1161 + i for i in range(21)} | {0x11A8 + i for i in range(27)}
    codes = assigned()
    for code in codes:
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and unicodedata.normalize("NFC", chr(code)) == chr(code) and parts[0][0] != "<":
            seconds.add(int(parts[1], 16))
    for code in codes:
        may_change = code in seconds or unicodedata.normalize("NFC", chr(code)) != chr(code)
        mark = MAY_CHANGE if may_change else unicodedata.combining(chr(code))
        assert (tables().marks[code] if code < LIMIT else 0) == mark, hex(code)


# Letters, marks of many classes, composites, Hangul, exclusions, singletons.
pieces = st.sampled_from(
    "aeo=\u00e9\u1e69\u1ea5\u0301\u0323\u0307\u0327\u031b\u0345\u0338\u093c\u0915\u0958\u094d\u1100\u1161\u11a8\uac00\uac01"
    "\u212b\u2126\u0340\u0344\u0f71\u0f72\u0f73\u0f81\u05b7\u05bc\u05d0\ufb2e\u3099\u304b\u3070\U0001d15e\U0001d165\u1b06"
    "\U00011127\U00011131\U00011099\U000110ba\u09c7\u09be\u0b47\u0b57\u1fb7\u1f00\u03b1\u0313\u0342\U0002f800\ufe0f\u200d"
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.text(pieces, max_size=15) | st.text(max_size=6), max_size=4))
def test_equals_python(texts):
    assert nfc(*texts) == [unicodedata.normalize("NFC", text) for text in texts]


def test_long_runs_of_marks():
    text = "a" + "\u0301\u0323\u0338\u0345\u0327" * 2000 + "b"
    assert nfc(text) == [unicodedata.normalize("NFC", text)]


def test_only_chosen_texts_change():
    texts = pa.array(["e\u0301", "e\u0301", ""], pa.large_string())
    assert compose(texts, np.array([True, False, True])).to_pylist() == ["\u00e9", "e\u0301", ""]
    assert compose(texts.slice(1), np.array([True, False])).to_pylist() == ["\u00e9", ""]


def test_the_longest_growth_fits():
    assert nfc("\U0001d160" * 1000, "\u0390" * 9, "\ufb2c" * 1000) == [
        unicodedata.normalize("NFC", text) for text in ("\U0001d160" * 1000, "\u0390" * 9, "\ufb2c" * 1000)
    ]


@pytest.mark.corpora
def test_unicode_conformance(corpora):
    """NormalizationTest.txt: NFC of columns 1 to 3 is column 2, of 4 and 5 column 4."""
    rows = []
    for line in (corpora / "unicode/ucd15/NormalizationTest.txt").read_text("utf-8").splitlines():
        fields = line.partition("#")[0].split(";")
        if len(fields) > 5:
            rows.append(["".join(chr(int(code, 16)) for code in field.split()) for field in fields[:5]])
    assert len(rows) > 18_000
    for column, wanted in ((0, 1), (1, 1), (2, 1), (3, 3), (4, 3)):
        assert nfc(*(row[column] for row in rows)) == [row[wanted] for row in rows]
