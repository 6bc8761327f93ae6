"""The words engine gives the reference's ids and word starts: everywhere, whatever its table holds."""

import json
from pydoc_data import topics

import pyarrow as pa
import pytest

from mlm_data.config import SpecialTokens, TokenizerTraining
from mlm_data.tokens.engine import from_bytes, load_tokenizer, make_engine
from mlm_data.tokens.train import train_tokenizer

TEXTS = list(topics.topics.values())
WHERE = {
    "bert-uncased": ("tok/bert_vocab/bert-base-uncased-vocab.txt", {}),
    "bert-cased": ("tok/bert_vocab/bert-base-cased-vocab.txt", {}),
    "minilm": ("tok/minilm", {}),
}


@pytest.fixture(scope="session")
def trained():
    """Freshly trained tokenizers by name, each trained once."""
    known = {}

    def one(kind, change=None, **settings):
        key = json.dumps([kind, settings])
        if key not in known:
            texts = iter([pa.array(TEXTS, pa.large_string())])
            known[key] = train_tokenizer(texts, TokenizerTraining(kind=kind, vocab_size=1500, **settings))
        settings = json.loads(known[key])
        if change:
            change(settings)
        return from_bytes(json.dumps(settings).encode())

    return one


def bert(**normalizer):
    def change(settings):
        settings["normalizer"] |= normalizer

    return change


BERTS = [
    bert(),
    bert(lowercase=False),
    bert(strip_accents=True, lowercase=False),
    bert(strip_accents=False, lowercase=True),
    bert(clean_text=False),
    bert(handle_chinese_chars=False),
    lambda settings: settings.update(normalizer=None),
    lambda settings: settings["model"].update(max_input_chars_per_word=7),
]


@pytest.mark.parametrize("change", BERTS)
def test_bert_is_exact(trained, border_texts, differing, change):
    reference = trained("wordpiece", change)
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, border_texts(1, 1500, TEXTS))
    assert not differing(reference, engine, TEXTS[:30])
    assert engine.num_asked > 0


@pytest.mark.corpora
@pytest.mark.parametrize("name", WHERE)
def test_known_tokenizers_are_exact(corpora, border_texts, differing, name):
    path, special = WHERE[name]
    reference = load_tokenizer(corpora / path, SpecialTokens(**special))
    assert not differing(reference, make_engine(reference, "words"), border_texts(2, 1500, TEXTS))
