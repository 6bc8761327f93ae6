"""Encodings: what is declared is checked, what isn't is found."""

import codecs
import sys

import pytest

from mlm_data.config import InputSettings
from mlm_data.errors import ConfigError
from mlm_data.text import charset
from mlm_data.text.charset import Charset, decode, find_charset, with_found_encoding
from mlm_data.types import Slice

RUSSIAN = "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью.\n" * 3
FRENCH = "Tous les êtres humains naissent libres et égaux en dignité et en droits, « déjà » dit-il à l’été.\n" * 3
JAPANESE = "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。\n" * 3


@pytest.mark.parametrize(
    ("data", "header", "expected"),
    [
        (codecs.BOM_UTF8 + b"caf\xc3\xa9", "charset=latin-1", Charset("utf-8", "mark")),
        (codecs.BOM_UTF16_LE + "café".encode("utf-16-le"), "", Charset("utf-16-le", "mark")),
        ("<p>Wide text, without a mark.</p>".encode("utf-16-be"), "", Charset("utf-16-be", "zeros")),
        (JAPANESE.encode("iso2022_jp"), "", Charset("iso2022_jp", "escapes")),
        (b"plain ASCII", "text/html; charset=koi8-r", Charset("utf-8", "utf-8")),
        (RUSSIAN.encode(), "text/html; charset=windows-1251", Charset("utf-8", "utf-8")),  # a lie
        (RUSSIAN.encode("koi8-r"), 'text/html; charset="KOI8-R"', Charset("koi8-r", "declared")),
        (FRENCH.encode("cp1252"), "text/html;charset=iso-8859-1", Charset("cp1252", "declared")),
        (JAPANESE.encode("cp932"), "charset=x-sjis", Charset("cp932", "declared")),
        # Declared, and not true.
        (RUSSIAN.encode("cp1251"), "text/html; charset=iso-8859-1", Charset("cp1251", "detector")),
        (RUSSIAN.encode("cp1251"), "text/html; charset=utf-8", Charset("cp1251", "detector")),
        (JAPANESE.encode("euc_jp"), "charset=utf-8", Charset("euc_jis_2004", "detector")),
        (RUSSIAN.encode("cp1251"), "charset=no-such-thing", Charset("cp1251", "detector")),
        (RUSSIAN.encode("cp1251"), "charset=hex", Charset("cp1251", "detector")),
        (RUSSIAN.encode("cp1251"), "", Charset("cp1251", "detector")),
        (b"caf\xe9 au lait", "", Charset("cp1252", "default")),
        # One stray byte in UTF-8, and a page that was cut.
        (RUSSIAN.encode() + b"\xe9", "", Charset("utf-8", "utf-8")),
        (RUSSIAN.encode()[:-2], "charset=utf-8", Charset("utf-8", "utf-8")),
        (b"", "", Charset("utf-8", "utf-8")),
    ],
)  # fmt: skip
def test_order_of_rules(data, header, expected):
    assert find_charset(data, header=header) == expected


@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="windows-1251">',
        "<META content='text/html; charset=windows-1251' http-equiv=Content-Type>",
        '<?xml version="1.0" encoding="windows-1251"?>',
        '<meta charset = " windows-1251 ">',
    ],
)
def test_a_page_says_it_itself(head):
    page = (head + "<p>да").encode("cp1251")  # too short for a detector
    assert find_charset(page, is_html=True) == Charset("cp1251", "declared")
    assert find_charset(page, is_html=False) != Charset("cp1251", "declared")


def test_header_and_page_that_contradict_each_other_decide_nothing():
    page = b"<meta charset=iso-8859-2>" + RUSSIAN.encode("koi8-r")
    assert find_charset(page, header="charset=iso-8859-1", is_html=True) == Charset("koi8-r", "detector")


def test_tags_are_no_text():
    page = (
        b"<div class='a long name of a class'><script>var x = 'nothing';</script>" * 300
        + "<p>да, это он</p>".encode("cp1251") * 9
    )
    assert find_charset(page, is_html=True) == Charset("cp1251", "detector")


def test_what_nothing_decodes_is_windows_1252(monkeypatch):
    monkeypatch.setattr(charset, "detect", lambda data, *, is_html: "")
    found = find_charset(b"caf\xe9 \x81 au lait")
    assert found == Charset("cp1252", "default")
    assert decode(b"caf\xe9 \x81", found).decode() == "café \ufffd"


def test_a_detector_is_believed_only_if_it_decodes(monkeypatch):
    class Detector:
        @staticmethod
        def detect(data, **_):
            return {"encoding": "euc_jp"}

    monkeypatch.setattr(charset, "_detector", lambda: Detector)
    assert charset.detect(b"\xe9\xff\xff") == ""


@pytest.mark.parametrize(
    ("data", "codec", "text"),
    [
        (codecs.BOM_UTF8 + b"a", "utf-8", "a"),
        (codecs.BOM_UTF16_BE + "aé".encode("utf-16-be"), "utf-16-be", "aé"),
        (b"a\xff", "utf-8", "a\ufffd"),
        (b"\xed\xa0\x80", "utf-8", "\ufffd\ufffd\ufffd"),
    ],
)
def test_decode(data, codec, text):
    assert decode(data, Charset(codec, "mark")).decode() == text


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "chardet", None)
    with pytest.raises(ConfigError, match=r"pip install 'premask\[web\]'"):
        charset.check_installed()


def slice_of(path):
    size = path.stat().st_size
    return Slice(input=0, source="s", path=str(path), format="text", compression="", start=0, end=size, num_bytes=size,
                 identity="")  # fmt: skip


@pytest.mark.parametrize(
    ("data", "encoding"),
    [(RUSSIAN.encode("koi8-r"), "koi8-r"), (RUSSIAN.encode(), "utf-8"), (b"", "utf-8"), (b"caf\xe9", None)],
)
def test_a_file_that_declares_nothing(tmp_path, data, encoding):
    (tmp_path / "a.txt").write_bytes(data)
    found = with_found_encoding(slice_of(tmp_path / "a.txt"), InputSettings(path="x"))
    assert encoding is None or found.encoding == encoding
    said = InputSettings(path="x", encoding="cp1251")
    assert with_found_encoding(slice_of(tmp_path / "a.txt"), said) is said


# --- the goal: 20 languages -------------------------------------------------------------------------------------

LEGACY = {
    "rus": ["cp1251", "koi8-r", "iso8859-5"], "ukr": ["cp1251", "koi8-u"], "bul": ["cp1251"], "tur": ["cp1254"],
    "ell_monotonic": ["cp1253", "iso8859-7"], "jpn": ["cp932", "euc_jp", "iso2022_jp"], "cmn_hant": ["big5"],
    "cmn_hans": ["gb18030", "gb2312"], "kor": ["cp949"], "heb": ["cp1255"], "arb": ["cp1256"], "tha": ["cp874"],
    "ces": ["cp1250", "iso8859-2"], "pol": ["cp1250", "iso8859-2"], "hun": ["cp1250", "iso8859-2"], "fra": ["cp1252"],
    "deu_1901": ["cp1252", "iso8859-1"], "spa": ["cp1252"], "lit": ["cp1257"], "vie": ["cp1258"], "swe": ["cp1252"],
    "slk": ["cp1250"], "ron_1993": ["iso8859-2", "cp1250"], "est": ["cp1257", "cp1252"],
}  # fmt: skip


@pytest.mark.corpora
def test_udhr_in_legacy_encodings(corpora):
    right, wrong = 0, []
    for language, encodings in LEGACY.items():
        text = (corpora / "nltk/udhr2" / f"{language}.txt").read_text(encoding="utf-8")
        for encoding in encodings:
            data = text.encode(encoding, "ignore")
            is_right = decode(data, find_charset(data)).decode() == data.decode(encoding)
            right += is_right
            wrong += [] if is_right else [(language, encoding, find_charset(data))]
    print(f"\n{right} of {right + len(wrong)} right; wrong: {wrong}")
    assert right >= 0.95 * (right + len(wrong))
