"""Mojibake: what ftfy mends line by line is mended, and nothing else is touched."""

import sys

import ftfy
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.errors import ConfigError
from mlm_data.text import mojibake
from mlm_data.text.mojibake import fix_mojibake

GOOD = "L’été à Paris, „schön“ — naïve Größe. Привет, мир! Ελληνικά Příliš žluťoučký kůň."
CODECS = ["latin-1", *(f"sloppy-windows-125{n}" for n in "0123 47".replace(" ", "")), "macroman", "cp437"]


def arrow(texts):
    return pa.array(texts, pa.large_string())


def by_line(text):
    return "\n".join(map(ftfy.fix_encoding, text.split("\n")))


@pytest.mark.parametrize("codec", CODECS)
def test_utf8_under_another_name_is_mended(codec):
    bad = GOOD.encode().decode(codec)
    texts, num_fixed = fix_mojibake(arrow([GOOD, f"{GOOD}\n{bad}\nplain\n{bad}", "", bad]))
    assert texts.to_pylist() == [GOOD, f"{GOOD}\n{GOOD}\nplain\n{GOOD}", "", GOOD]
    assert num_fixed.tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(
    ("bad", "good"),
    [("voilÃ  le travail", "voilà le travail"), ("qui\x92il", "qui’il"), ("Ãƒ\xa9tÃƒ\xa9", "été"), ("itâ€™s", "it’s"),
     ("quote â€œhereâ€\x9d", "quote “here”"), ("Ã�tÃ©", ftfy.fix_encoding("Ã�tÃ©"))],
)  # fmt: skip
def test_what_is_lost_or_doubled(bad, good):
    assert fix_mojibake(arrow([bad]))[0].to_pylist() == [good]


def test_good_text_is_the_same_array():
    texts = arrow([GOOD, "ASCII alone", "l’été «À» — É… ÀÉ», Ñ¡ ─┐ │ ß” “é", "", "\u0085"])
    fixed, num_fixed = fix_mojibake(texts)
    assert fixed is texts
    assert num_fixed.tolist() == [0] * 5
    assert fix_mojibake(arrow([]))[0].to_pylist() == []


def test_a_slice_of_an_array():
    bad = GOOD.encode().decode("sloppy-windows-1252")
    texts, num_fixed = fix_mojibake(arrow(["skipped", bad, "kept", bad]).slice(1, 2))
    assert texts.to_pylist() == [GOOD, "kept"]
    assert num_fixed.tolist() == [1, 0]


_CHARACTERS = st.sampled_from("aé Ãâ€™©\xa0Â\x80\x92\n�А№пµ√├⌐ÄΓ“”—π😀ßŸî")
_BROKEN = st.tuples(st.text(max_size=8), st.sampled_from(CODECS)).map(
    lambda pair: pair[0].encode(errors="ignore").decode(pair[1], "replace")
)


@settings(deadline=None)
@given(st.lists(st.lists(st.one_of(st.text(_CHARACTERS, max_size=6), _BROKEN), max_size=4).map("".join), max_size=4))
def test_nothing_else_than_ftfy_by_line(texts):
    """A line is as it was, or as ftfy makes it."""
    fixed, num_fixed = fix_mojibake(arrow(texts))
    fixed.validate(full=True)
    for text, new, count in zip(texts, fixed.to_pylist(), num_fixed.tolist(), strict=True):
        pairs = list(zip(text.split("\n"), new.split("\n"), strict=True))
        assert all(line in (old, ftfy.fix_encoding(old)) for old, line in pairs)
        assert count == sum(old != line for old, line in pairs)


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
    st.sampled_from(CODECS),
)
def test_whole_characters_are_never_missed(text, codec):
    """Every line of mojibake that ftfy would mend by decoding all of it is found."""
    if codec == "macroman":
        return  # quotes as leads don't count there
    bad = (text + "é").encode().decode(codec, "ignore")
    if bad.encode(codec, "ignore") == (text + "é").encode():
        assert fix_mojibake(arrow([bad]))[0].to_pylist() == [by_line(bad)]


def test_long_lines_stay(monkeypatch):
    monkeypatch.setattr(mojibake, "LONGEST_LINE", 10)
    assert fix_mojibake(arrow(["itâ€™s too long\ncafÃ©"]))[0].to_pylist() == ["itâ€™s too long\ncafé"]


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ConfigError, match=r"pip install 'premask\[web\]'"):
        mojibake.check_installed()


@pytest.mark.corpora
@pytest.mark.parametrize("glob", ["nltk/udhr2/*.txt", "ml_fr_eltec/*/*", "ml_de_eltec/*"])
def test_real_text(corpora, glob):
    """All lines as ftfy makes them; of clean text it makes nothing."""
    texts = []
    for path in sorted(corpora.glob(glob)):
        try:
            texts.append(path.read_bytes().decode()[:60_000])
        except (UnicodeDecodeError, IsADirectoryError):
            continue
    fixed, num_fixed = fix_mojibake(arrow(texts))
    assert fixed.to_pylist() == list(map(by_line, texts))
    assert (num_fixed > 0).sum() <= 3  # three of udhr2 have C1 controls for quotes
