"""The user's words beside a text: found where they fit, beside a plain twin; quarantined where they don't."""

import json
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.config import BuildConfig, CleanSettings
from mlm_data.errors import ConfigError
from mlm_data.settings import parse_settings
from mlm_data.text.normalize import normalize
from mlm_data.text.word_borders import WORDS_DO_NOT_FIT, find_borders, with_borders
from mlm_data.types import Documents
from tests.pipelines.small_corpus import settings as small_settings

CLEAN = CleanSettings()


def found(text, words, clean=CLEAN):
    """The places of one document, None where its words don't fit."""
    texts = normalize(pa.array([text], pa.large_string()), clean)
    lists = pa.array([words], pa.large_list(pa.large_string()))
    places, offsets, fits = find_borders(texts, lists, clean)
    assert offsets.tolist() == [0, len(places)]
    return places.tolist() if fits[0] else None


@pytest.mark.parametrize(
    ("text", "words", "places"),
    [
        ("我爱 自然语言处理", ["我", "爱", "自然语言", "处理"], [0, 1, 3, 7]),
        ("New York is big", ["New York", "is", "big"], [0, 9, 12]),
        ("  a\r\n\r\n\r\n\r\nb ", ["a", " b"], [0, 3]),
        ("cafe\u0301 noir", ["cafe\u0301", "noir"], [0, 5]),
        ("caf\u00e9 noir", ["cafe\u0301", "noir"], [0, 5]),
        ("ab", ["", "a", " ", "b", ""], [0, 1]),
        ("", [], []),
        ("a\x07b", ["a", "b"], [0, 1]),
        ("😀字b", ["😀", "字b"], [0, 1]),
        ("ab", ["a"], None),
        ("ab", ["a", "b", "c"], None),
        ("ab", ["b", "a"], None),
        ("ab", [], None),
        ("", ["a"], None),
        ("cafe\u0301", ["cafe", "\u0301"], None),  # NFC joins them
    ],
)
def test_words_and_where_they_begin(text, words, places):
    assert found(text, words) == places


def plain(text, words):
    """The rule in words, for text without controls."""
    text = normalize(pa.array([text], pa.large_string()), CLEAN)[0].as_py()
    dense = [i for i, character in enumerate(text) if not character.isspace()]
    places, at = [], 0
    for word in ("".join(unicodedata.normalize("NFC", word).split()) for word in words):
        if not word:
            continue
        if "".join(text[i] for i in dense[at : at + len(word)]) != word:
            return None
        places.append(dense[at])
        at += len(word)
    return places if at == len(dense) else None


@given(st.lists(st.text("ab \n中é\u3000e\u0301", max_size=4), max_size=6), st.integers(0, 3), st.randoms())
@settings(max_examples=300, deadline=None)
def test_the_kernel_finds_what_the_rule_says(words, spoilt, random):
    text = "".join(word + random.choice(["", " ", "\n"]) for word in words)
    if words and spoilt == 0:
        words = [*words]
        words[random.randrange(len(words))] += "b"
    assert found(text, words) == plain(text, words)


def batch(*pairs):
    table = pa.RecordBatch.from_pydict(
        {
            "text": pa.array([text for text, _ in pairs], pa.large_string()),
            "offset": pa.array(np.arange(len(pairs)) * 10),
            "words": pa.array([words for _, words in pairs], pa.string()),
        }
    )
    return Documents(source="a.jsonl", table=table)


def test_what_does_not_fit_is_quarantined_and_the_rest_stays():
    deep = "[" * 100_000
    documents = with_borders(
        batch(
            ("我爱", '["我","爱"]'),
            ("b", None),
            ("c", '"c"'),
            ("d", '["d",1]'),
            ("e", '["x"]'),
            ("f", "no json"),
            ("g", '["\\ud800"]'),
            ("h", deep),
            ("好 吗", json.dumps(["好", "吗"])),
        ),
        "seg",
        CLEAN,
    )
    assert documents.table.column("text").to_pylist() == ["我爱", "好 吗"]
    assert documents.table.column("words").to_pylist() == [[0, 1], [0, 2]]
    assert {item.reason for item in documents.quarantined} == {WORDS_DO_NOT_FIT}
    assert [(item.offset, item.detail) for item in documents.quarantined] == [
        (10, "field 'seg': there is none"),
        (20, "field 'seg': no list of words"),
        (30, "field 'seg': no list of words"),
        (40, "field 'seg': its words are not the text"),
        (50, "field 'seg': no list of words"),
        (60, "field 'seg': a surrogate that is alone"),
        (70, "field 'seg': no list of words"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clean": {"privacy": ["email"]}}, "clean.privacy edits texts"),
        ({"clean": {"lines": ["refinedweb"]}}, "clean.lines edits texts"),
        ({"clean": {"fix_encoding": True}}, "clean.fix_encoding edits texts"),
        ({"deduplicate": {"lines": {}}}, "deduplicate.lines edits texts"),
        ({"decontaminate": {"against": "x", "action": "cut"}}, "decontaminate.action: cut edits texts"),
    ],
)
def test_edits_of_texts_are_refused_beside_words(tmp_path, changes, message):
    inputs = [{"path": "a.jsonl", "word_field": "words"}]
    with pytest.raises(ConfigError, match=message):
        parse_settings(BuildConfig, small_settings(tmp_path, inputs=inputs, **changes), where="test")
