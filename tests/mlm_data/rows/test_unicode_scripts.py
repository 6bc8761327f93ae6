"""Scripts of tokens against Unicode's own names of characters, as far as this Python knows them."""

import unicodedata

import pytest
from tokenizers import pre_tokenizers

from mlm_data.rows.unicode_scripts import SCRIPTS, char_script, token_scripts

NAMED = {
    "LATIN": "Latin",
    "GREEK": "Greek",
    "COPTIC": "other",
    "CYRILLIC": "Cyrillic",
    "HEBREW": "Hebrew",
    "ARABIC": "Arabic",
    "DEVANAGARI": "Indic",
    "BENGALI": "Indic",
    "TAMIL": "Indic",
    "SINHALA": "Indic",
    "THAI": "Southeast Asian",
    "LAO": "Southeast Asian",
    "MYANMAR": "Southeast Asian",
    "KHMER": "Southeast Asian",
    "CJK": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HANGUL": "Hangul",
    "ARMENIAN": "other",
    "GEORGIAN": "other",
    "ETHIOPIC": "other",
}


def test_letters_have_the_script_of_their_names():
    seen, wrong = 0, []
    for code in range(0x110000):
        char = chr(code)
        if unicodedata.category(char) not in ("Lu", "Ll", "Lt", "Lo"):
            continue
        expected = NAMED.get(unicodedata.name(char, "?").split()[0])
        if expected:
            seen += 1
            if SCRIPTS[char_script(char)] != expected:
                wrong.append(char)
    assert seen > 100_000
    # Coptic letters in the Greek block, phonetic small capitals, and a Latin letter among the symbols.
    assert len(wrong) < 25
    assert {ord(char) >> 8 for char in wrong} <= {0x03, 0x1D, 0x21, 0xAB}


@pytest.mark.parametrize(
    ("token", "script"),
    [
        ("", "symbols"),
        ("the", "Latin"),
        ("##ing", "Latin"),
        ("#", "symbols"),
        ("2026", "digits"),
        ("２", "digits"),
        ("!?", "symbols"),
        ("2nd", "Latin"),
        ("▁мир", "Cyrillic"),
        ("«ø", "Latin"),
        ("中", "Han"),
        ("カナ", "Kana"),
        ("한", "Hangul"),
        ("مرحبا", "Arabic"),
        ("שלום", "Hebrew"),
        ("नमस्ते", "Indic"),
        ("สวัสดี", "Southeast Asian"),
        ("αβγ", "Greek"),
        ("ქართული", "other"),
        ("😀", "symbols"),
        ("\u0301", "symbols"),
    ],
)
def test_tokens(token, script):
    assert SCRIPTS[token_scripts([token])[0]] == script


def test_byte_level_tokens_are_decoded():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    assert len(alphabet) == 256
    texts = [" the", "мир", "中", " 7", "..."]
    spelled = ["".join(piece for piece, _ in _split(text)) for text in texts]
    partial = _split("中")[0][0][:2]
    scripts = token_scripts([*sorted(alphabet), *spelled, partial, "[MASK]"])
    names = [SCRIPTS[code] for code in scripts[256:]]
    assert names == ["Latin", "Cyrillic", "Han", "digits", "symbols", "bytes", "Latin"]
    assert SCRIPTS[scripts[sorted(alphabet).index("a")]] == "Latin"


def _split(text):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
