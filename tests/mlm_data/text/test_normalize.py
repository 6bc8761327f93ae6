"""Normalization against a plain twin, its rules one by one, and the tables against Unicode's own data."""

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.config import CleanSettings
from mlm_data.text.normalize import normalize

NFC, PLAIN = CleanSettings(), CleanSettings(unicode="none")
SPACE = "\t \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def strings(*texts):
    return pa.array(texts, pa.large_string())


def twin(text, config=NFC):
    """The module's rules as four regular expressions."""
    text = re.sub("\r\n|[\r\v\f\x85]", "\n", text)
    text = re.sub("[\0-\x08\x0e-\x1f\x7f-\x9f\ufeff]", "", text)
    text = re.sub(f"[{SPACE}]+\n", "\n", text)
    text = re.sub("\n{3,}", "\n\n", text)
    text = re.sub(f"^[{SPACE}\n]+|[{SPACE}\n]+\\Z", "", text)
    return unicodedata.normalize("NFC", text) if config.unicode == "NFC" else text


# Characters at the borders of every rule, mixed with runs that take the fast way.
special = st.sampled_from(
    [
        *"\0\x07\x08\t\n\v\f\r\x0e\x1f \x7f\x80\x84\x85\x86\x9f\xa0\u1680\u2000\u200a\u200b\u2028\u2029\u202f\u205f",
        *"\u3000\ufeff\ufffd\u0301\u0338e=\u1100\u1161\u11a8\u0958\u212b\U0001f600\U000e0001",
        *["plain words of text", " " * 8, "\n" * 4, "\r\n", "\u6f22\u5b57", "\u0915\u094d\u0937"],
    ]
)
texts = st.lists(special | st.text(max_size=3), max_size=12).map("".join)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\vb\fc\x85d", "a\nb\nc\nd"),
        ("a\0b\x07c\x7fd\x80e\ufefff", "abcdef"),
        ("a\tb", "a\tb"),
        ("a \t\u3000\nb", "a\nb"),
        ("a\n  b", "a\n  b"),
        ("a\n \n\t\n\n  b", "a\n\n  b"),
        ("\n  a\n\n", "a"),
        ("   ", ""),
        ("", ""),
        ("e\u0301", "\u00e9"),
        ("e\x07\u0301", "\u00e9"),
        ("a\u200bb\u200dc\ufffd", "a\u200bb\u200dc\ufffd"),
        ("\ufeff a \r\n\r\n\n\nb\x07e\u0301 ", "a\n\nb\u00e9"),
    ],
)
def test_rules(before, after):
    assert normalize(strings(before), NFC).to_pylist() == [after]
    assert twin(before) == after


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=6), st.sampled_from([NFC, PLAIN]))
def test_equals_its_twin(batch, config):
    assert normalize(strings(*batch), config).to_pylist() == [twin(text, config) for text in batch]


@settings(deadline=None)
@given(st.lists(texts, max_size=6), st.integers(0, 6))
def test_doing_it_twice_changes_nothing_and_neighbours_do_not_matter(batch, cut):
    once = normalize(strings(*batch), NFC)
    again = normalize(once, NFC)
    assert again.equals(once)
    whole = strings(*batch)
    parts = normalize(whole.slice(0, cut), NFC).to_pylist() + normalize(whole.slice(cut), NFC).to_pylist()
    assert parts == once.to_pylist()


def test_clean_texts_are_returned_as_they_are():
    clean = strings(
        "A line.\nAnother line,\twith a tab.\n\nAnd \u201cmore\u201d\u2014caf\u00e9.", "", "\u6f22\u5b57 \u0440"
    )
    assert normalize(clean, NFC) is clean
    empty = strings()
    assert normalize(empty, NFC) is empty


def test_only_wanted_texts_are_composed():
    assert normalize(strings("e\u0301", "a "), PLAIN).to_pylist() == ["e\u0301", "a"]


def test_long_runs_of_white_space_cost_one_pass():
    spaces = " " * 2_000_000
    assert normalize(strings(f"a\r{spaces}b{spaces}\n", spaces), NFC).to_pylist() == [f"a\n{spaces}b", ""]


def test_marks_that_a_removed_control_kept_apart():
    assert normalize(strings("a\u0301\x07\u0323", "a\u0301\u0323"), NFC).to_pylist() == ["\u1ea1\u0301"] * 2


@pytest.mark.corpora
def test_equals_its_twin_on_real_text(corpora):
    files = [*corpora.glob("unicode/**/*.txt"), *sorted(corpora.glob("ml_udhr/**/*.txt"))[::10]]
    files += sorted(corpora.glob("en_classic_books_md/**/*.md"))[:4]
    batch = [path.read_bytes().decode("utf-8", "replace") for path in files]
    assert batch
    assert normalize(strings(*batch), NFC).to_pylist() == [twin(text) for text in batch]
