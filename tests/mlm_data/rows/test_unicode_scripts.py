"""Scripts of tokens against Unicode's own names of characters, as far as this Python knows them."""

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from mlm_data.rows.unicode_scripts import SCRIPTS, char_script, script_table, text_scripts, token_scripts

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


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", "symbols"),
        (" !? ", "symbols"),
        ("12 34", "digits"),
        ("A word, 漢", "Latin"),
        ("これは日本語です", "Kana"),
        ("12345678 ж", "Cyrillic"),
        ("漢字", "Han"),
        ("हिन्दी", "Indic"),
        ("\U0001f600\U0001f600 é", "Latin"),
    ],
)
def test_the_script_of_a_text_is_that_of_most_letters(text, script):
    assert SCRIPTS[text_scripts(pa.array([text], pa.large_string()))[0]] == script


@given(st.lists(st.text(max_size=40)), st.integers(0, 3))
def test_scripts_of_texts_agree_with_those_of_their_characters(texts, first):
    array = pa.array(["x"] * first + texts, pa.large_string()).slice(first)
    for text, found in zip(texts, text_scripts(array).tolist(), strict=True):
        looked_at = text.encode()[:64].decode(errors="ignore")
        codes = [char_script(char) for char in looked_at]
        letters = [code for code in codes if code >= SCRIPTS.index("Latin")]
        best = max(set(letters), key=lambda code: (letters.count(code), -code)) if letters else int(1 in codes)
        assert found == best


def test_the_table_of_scripts_covers_unicode():
    table = script_table()
    assert len(table) == 0x110000
    assert all(table[ord(char)] == char_script(char) for char in "Aaж7!漢あ가\U0001f600\U0010ffff")
