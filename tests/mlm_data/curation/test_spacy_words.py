"""spaCy is asked once for each different stretch; the words are those that it finds in the whole text."""

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.curation import spacy_words
from mlm_data.curation.quality import quality_scores
from mlm_data.curation.words import STARTS_LINE, hash_words, scan_words
from mlm_data.hashing import string_buffers
from mlm_data.quality_settings import QualitySettings

spacy = pytest.importorskip("spacy")

TEXTS = [
    "He said, \"No way!\"  Mr. Ray can't leave... (yet).\n\nIt's 3 p.m. - isn't it?\tJ. U.S. end.Next e.g. this",
    "Cost: $5.50/kg; see https://example.org/a?b=1, or mail me@example.org :) :-( <b>x</b> {curly} [1] #tag a--b",
    "",
    "   \n ",
    "Ünïcödé 中文。日本 «oui» l'été don’t I’m we'll 10km 5% ½ \U0001f600\U0001f600 ¡hola! ... …",
    ": ) ' ' \" . . ! ? ( ( we ' ll can not cannot gonna",
]


def cut(texts: list[str]):
    data, offsets = string_buffers(pa.array(texts, pa.large_string()))
    return spacy_words.cut_words(scan_words(data, offsets[:-1], offsets[1:]), data)


@pytest.fixture(scope="module")
def pipeline():
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    return pipeline


def test_words_are_those_of_the_whole_text(pipeline):
    found = cut(TEXTS)
    plain = [[token.text.strip() for token in pipeline(text) if token.text.strip()] for text in TEXTS]
    assert found.offsets.tolist() == np.cumsum([0, *map(len, plain)]).tolist()
    assert found.hashes.tolist() == hash_words([token for tokens in plain for token in tokens]).tolist()
    assert found.chars.tolist() == [len(token) for tokens in plain for token in tokens]


def test_a_line_begins_with_one_word():
    found = cut(['"One, two."\n(three) four'])
    assert np.flatnonzero(found.flags & STARTS_LINE).tolist() == [0, 6]


def test_sentences_are_those_of_the_sentencizer(pipeline):
    lines = [
        'He said "No." Then he left.',
        "Is it so? It is! Ok.",
        "Mr. Ray lives in the U.S. and so on... well. (Yes.) No.",
        'One. - two. "three" four. \' .',
        "No end. of it etc. and end.",
    ]
    settings = QualitySettings.model_validate(["c4", {"words": "spacy"}])
    found = quality_scores(pa.array(lines, pa.large_string()), settings)["c4.num_sentences"]
    assert found.tolist() == [len(list(pipeline(line).sents)) for line in lines]


def test_forgetting_changes_nothing(monkeypatch):
    before = cut(TEXTS)
    monkeypatch.setattr(spacy_words, "_REMEMBERED", 3)
    monkeypatch.setattr(spacy_words, "_AT_ONCE", 2)
    after = cut(TEXTS)
    assert before.hashes.tolist() == after.hashes.tolist()
    assert before.flags.tolist() == after.flags.tolist()
