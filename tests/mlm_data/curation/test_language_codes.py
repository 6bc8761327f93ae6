"""One code for each language, whatever the user wrote."""

import pytest

from mlm_data.curation.language_codes import parse_language, parse_languages, shortest_code
from mlm_data.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("en", "en"), ("eng", "en"), ("EN", "en"), ("en-US", "en"), ("en_GB", "en"), (" en ", "en"),
        ("ger", "de"), ("deu", "de"), ("de-CH-1996", "de"), ("fre", "fr"), ("fra", "fr"),
        ("nb", "no"), ("nob", "no"), ("nor", "no"), ("nn", "nn"), ("nno", "nn"),
        ("zho", "zh"), ("chi", "zh"), ("cmn", "zh"), ("zh-Hant-TW", "zh"), ("zh-cmn", "zh"), ("zh-yue", "yue"),
        ("arb", "ar"), ("arz", "arz"), ("pes", "fa"), ("per", "fa"), ("fil", "tl"), ("iw", "he"), ("mo", "ro"),
        ("hbs", "sh"), ("sr-Latn", "sr"), ("kik", "ki"), ("ceb", "ceb"), ("und", "und"), ("zxx", "zxx"),
    ],
)  # fmt: skip
def test_codes(written, code):
    assert parse_language(written) == code
    assert shortest_code(code) == code


@pytest.mark.parametrize("written", ["", "e", "English", "xx", "e1", "deutsch", "-", "en us"])
def test_no_code(written):
    with pytest.raises(ConfigError, match="is no code of ISO 639 or BCP 47"):
        parse_language(written)


def test_a_language_that_the_model_does_not_know():
    known = ("de", "en", "sr")
    assert parse_language("ger", known) == "de"
    assert parse_language("hbs", known) == "sh"
    with pytest.raises(ConfigError, match="the model doesn't know 'tsn'"):
        parse_language("tsn", known)


def test_several():
    assert parse_languages(["eng", "de", "en-US"]) == ("de", "en")
    assert parse_languages(["sh"]) == ("bs", "hr", "sh", "sr")
    assert parse_languages([]) == ()
