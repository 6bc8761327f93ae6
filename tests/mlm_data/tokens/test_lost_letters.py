"""Letters without case that normalization takes away are found, with an example; nothing else is."""

import pyarrow as pa
import pytest
from tokenizers import normalizers

from mlm_data.tokens.lost_letters import lost_letters, may_lose_letters

UNCASED = normalizers.BertNormalizer(lowercase=True)
KEPT = normalizers.BertNormalizer(lowercase=True, strip_accents=False)


def lost(normalizer, *texts):
    return lost_letters([pa.array(texts, pa.large_string())], normalizer)


@pytest.mark.parametrize(
    ("text", "script", "before", "after"),
    [
        ("क कु", "Devanagari", "\u0915\u0941", "\u0915"),
        ("が", "Hiragana", "が", "か"),
        ("バス", "Katakana", "バ", "ハ"),
        ("בִּ", "Hebrew", "\u05d1\u05b4\u05bc", "ב"),
        ("ខ្មែរ", "Khmer", "\u1781\u17d2", "\u1781"),
        ("بِ", "Arabic", "\u0628\u0650", "\u0628"),
    ],
)
def test_marks_that_go(text, script, before, after):
    found = lost(UNCASED, text)
    assert [(one.script, one.before, one.after) for one in found] == [(script, before, after)]
    assert not lost(KEPT, text)


def test_vowel_signs_that_take_space_go_where_all_marks_do():
    """BERT's step leaves them; the one that is called StripAccents does not."""
    assert not lost(UNCASED, "की")
    (found,) = lost(normalizers.StripAccents(), "की")
    assert str(found).startswith("normalization changes letters of Devanagari, की -> क, in 1 of 1")


@pytest.mark.parametrize(
    "text", ["Größe NAÏVE café", "ặệ", "Ελλάδα", "ёлка й", "가나다", "漢字 ﷺ", "12 ½ ①", "👍🏽", ""]
)
def test_what_is_no_loss(text):
    assert not lost(UNCASED, text)
    assert not lost(normalizers.NFKC(), text, "ｶﾞ ำ ﻻ")
    assert not lost(None, text)


def test_words_are_counted_by_script_and_the_frequent_come_first():
    found = lost(UNCASED, "が が が ぎ か", "कु कु क hello कु")
    assert [(one.script, one.num_changed, one.num_words) for one in found] == [
        ("Hiragana", 4, 5),
        ("Devanagari", 3, 4),
    ]
    assert "letters of Devanagari, कु -> क, in 3 of 4 of its words" in str(found[1])
    assert "strip_accents" in str(found[1])


def test_a_letter_that_goes_whole():
    found = lost(normalizers.Replace("字", ""), "漢字")
    assert (found[0].before, found[0].after) == ("漢字", "漢")


def test_whether_to_look_at_texts_at_all():
    assert may_lose_letters(UNCASED)
    assert may_lose_letters(normalizers.StripAccents())
    assert not any(map(may_lose_letters, (KEPT, None, normalizers.NFC(), normalizers.NFKC())))
