import numpy as np
import pyarrow as pa
import pytest

from mlm_data.curation import quality
from mlm_data.curation.quality import quality_scores, score_schema
from mlm_data.errors import ConfigError
from mlm_data.quality_settings import PRESETS, QualitySettings
from tests.mlm_data.curation import plain_quality
from tests.mlm_data.curation.test_rules import FAMILIES

ALL = QualitySettings.model_validate(list(PRESETS))
TEXTS = [family(3) for reason, family in FAMILIES.items() if not reason.endswith("too_many_words")]


def score(texts: list[str], settings: QualitySettings = ALL, languages=None) -> list[dict[str, int]]:
    found = quality_scores(pa.array(texts, pa.large_string()), settings, languages)
    assert list(found) == [field.name for field in score_schema(settings.presets)]
    assert all(values.dtype == np.int32 for values in found.values())
    return [{name: int(values[text]) for name, values in found.items()} for text in range(len(texts))]


def plain(text: str) -> dict[str, int]:
    """All scores, in plain Python."""
    words, pieces = plain_quality.words(text), plain_quality.pieces(text, 30)
    left, lorem, curly, kept = plain_quality.c4(text)
    with_text = [word for word, flags in words if flags & plain_quality.HAS_TEXT]
    found: dict[str, int] = {
        "gopher_repetition.num_lines": pieces["num_pieces"],
        "gopher_repetition.num_repeated_lines": pieces["num_repeated_pieces"],
        "gopher_repetition.repeated_line_characters": pieces["repeated_piece_characters"],
        "gopher_quality.num_words": len(words),
        "gopher_quality.num_text_words": len(with_text),
        "gopher_quality.text_word_characters": sum(map(len, with_text)),
        "gopher_quality.num_alphabetic_words": sum(flags & plain_quality.HAS_LETTER for _, flags in words),
        "gopher_quality.num_stop_words": len(
            {word for word, _ in words} & set("the be to of and that have with".split())
        ),
        "c4.num_lines": pieces["num_lines"],
        "c4.num_kept_lines": len(kept),
        "c4.num_lorem_ipsum_lines": lorem,
        "c4.num_curly_bracket_lines": curly,
        "c4.num_sentences": sentences(left),
        "fineweb.num_words": len(words),
        "fineweb.num_line_characters": len(text.replace("\n", "")),
        "fineweb.num_lines": pieces["num_filled_lines"],
        "fineweb.repeated_line_characters": pieces["repeated_filled_characters"],
    }
    for n in (2, 3, 4):
        found[f"gopher_repetition.top_{n}_gram_characters"] = plain_quality.top_n_gram([w for w, _ in words], n)
    for n in range(5, 11):
        found[f"gopher_repetition.repeated_{n}_gram_characters"] = plain_quality.repeated_n_grams(
            [w for w, _ in words], n
        )
    return {
        field.name: found.get(field.name, pieces.get(field.name.partition(".")[2], -1))
        for field in score_schema(PRESETS)
    }


def sentences(text: str) -> int:
    num = 0
    is_behind_end = False
    for _, flags in plain_quality.words(text):
        if flags & plain_quality.STARTS_LINE or (is_behind_end and not flags & plain_quality.CANNOT_START):
            num += 1
            is_behind_end = False
        is_behind_end |= bool(flags & plain_quality.ENDS_SENTENCE)
    return num


def test_scores_are_those_of_plain_python():
    texts = [*TEXTS, "", "word", 'He said "No way."  Mr. Ray left. And - so did I! … ok?\nThe U.S. is big.']
    assert score(texts) == [plain(text) for text in texts]


def test_a_text_scores_alike_wherever_it_stands():
    alone = [score([text])[0] for text in TEXTS[:5]]
    assert score(TEXTS[:5]) == alone
    whole = pa.array(["x", *TEXTS[:5]], pa.large_string())[1:]
    assert quality_scores(whole, ALL)["c4.num_sentences"].tolist() == [one["c4.num_sentences"] for one in alone]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_scores_alike_alone(preset):
    alone = score(TEXTS, QualitySettings.model_validate(preset))
    assert alone == [{k: v for k, v in one.items() if k.startswith(f"{preset}.")} for one in score(TEXTS)]


def test_no_preset_no_score():
    assert quality_scores(pa.array(["a"], pa.large_string()), QualitySettings()) == {}
    assert quality_scores(pa.array([], pa.large_string()), ALL)["c4.num_sentences"].tolist() == []


def test_stop_words_are_those_of_the_language():
    found = score(["der und the of", "der und the of", "der und the"], languages=["de", "en", "fi"])
    assert [one["gopher_quality.num_stop_words"] for one in found] == [2, 2, 0]


def test_settings_that_are_scored():
    text = "Two words.\nIt is javascript.\nNo end of it\nfor use cookies."
    changed = {"terminal_punctuation": False, "min_words_per_line": 2, "javascript_lines": False, "policy_lines": False}
    for name, kept in zip(changed, (1, 1, 1, 1), strict=True):
        one = score([text], QualitySettings.model_validate({"c4": {name: changed[name]}}))[0]
        assert one["c4.num_kept_lines"] == kept
    assert score([text], QualitySettings.model_validate({"c4": changed}))[0]["c4.num_kept_lines"] == 4
    assert score([text])[0]["c4.num_kept_lines"] == 0
    short = QualitySettings.model_validate({"fineweb": {"short_line_chars": 12}})
    assert score([text], short)[0]["fineweb.num_short_lines"] == 2


def test_only_the_beginning_of_a_long_text_is_looked_at(monkeypatch):
    text = "é word. " * 100
    expected = score([text[:80]])
    monkeypatch.setattr(quality, "LOOKED_AT_BYTES", len(text[:80].encode()) + 1)  # in the middle of a character
    assert score([text]) == expected


def test_without_spacy_one_line_says_what_to_install(monkeypatch):
    from mlm_data.curation import spacy_words

    spacy_words._cutter.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    with pytest.raises(ConfigError, match=r"pip install 'premask\[spacy\]'"):
        score(["a"], QualitySettings.model_validate(["c4", {"words": "spacy"}]))


HOSTILE = {
    "one word": "a",
    "words of one letter": "a ",
    "two words": "a b ",
    "empty lines": "\n",
    "lines of one letter": "a\n",
    "rare line breaks": "\u2028",
    "brackets": "[",
    "citations that never close": "[1",
    "full stops": ".",
    "almost lorem ipsum": "lorem ipsu",
    "counters": "3 likes\n",
    "marks without letters": "\u0301",
}


@pytest.mark.parametrize("part", HOSTILE)
def test_hostile_texts_score_as_in_plain_python(part):
    text = HOSTILE[part] * 5000
    assert score([text]) == [plain(text)]
