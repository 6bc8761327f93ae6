"""The HF engine and the choice of an engine."""

import json
import threading

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.errors import TokenizerError
from mlm_data.tokens import huggingface as module
from mlm_data.tokens.bert import bert_settings
from mlm_data.tokens.engine import HuggingFaceEngine, from_bytes, make_engine
from mlm_data.types import id_type


def reference(size=0):

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "."]
    names += [f"x{i}" for i in range(size)]
    settings = bert_settings({name: i for i, name in enumerate(names)}, names[:5], lowercase=True)
    return from_bytes(json.dumps(settings).encode())


def strings(*texts):
    return pa.array(texts, pa.large_string())


def test_ids_offsets_and_word_starts():
    encoded = HuggingFaceEngine(reference()).encode(strings("ab a.", "", "[MASK]b"))
    assert encoded.ids.tolist() == [5, 7, 5, 8, 1, 1, 1, 6]
    assert encoded.offsets.tolist() == [0, 4, 4, 8]
    assert encoded.word_starts.tolist() == [True, False, True, True, True, True, True, True]
    assert (encoded.ids.dtype, encoded.offsets.dtype, encoded.word_starts.dtype) == (np.uint16, np.int64, bool)


def test_no_texts_and_no_tokens():
    engine = HuggingFaceEngine(reference())
    for texts in (strings(), strings("", " ")):
        encoded = engine.encode(texts)
        assert len(encoded.ids) == len(encoded.word_starts) == 0
        assert encoded.offsets.tolist() == [0] * (len(texts) + 1)


def test_slices_and_chunks(monkeypatch):
    """However the texts are cut into calls, the ids are the same."""
    texts = strings("b", *["a ab. " * i for i in range(30)])
    engine = HuggingFaceEngine(reference())
    whole = engine.encode(texts)
    monkeypatch.setattr(module, "CHUNK_BYTES", 16)
    again = engine.encode(texts)
    part = engine.encode(texts.slice(7, 12))
    assert np.array_equal(again.ids, whole.ids)
    assert np.array_equal(again.offsets, whole.offsets)
    assert np.array_equal(part.ids, whole.ids[whole.offsets[7] : whole.offsets[19]])
    assert np.array_equal(part.offsets, whole.offsets[7:20] - whole.offsets[7])


def test_large_vocabularies_have_wide_ids():
    assert id_type(65536) is np.uint16
    assert id_type(65537) is np.uint32
    assert HuggingFaceEngine(reference(70_000)).encode(strings("a")).ids.dtype == np.uint32


def test_threads_share_an_engine():
    engine, texts = HuggingFaceEngine(reference()), strings(*["a ab. " * i for i in range(200)])
    expected, results = engine.encode(texts), [None] * 4

    def run(i):
        results[i] = engine.encode(texts)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.array_equal(result.ids, expected.ids) for result in results)


def test_the_choice_says_why():
    engine = make_engine(reference(), "huggingface")
    assert (engine.name, engine.why) == ("huggingface", "the configuration asks for it")


def test_words_is_refused_where_it_is_not_exact():

    settings = json.loads(reference().json_bytes)
    settings["pre_tokenizer"] = {"type": "Digits", "individual_digits": True}
    strange = from_bytes(json.dumps(settings).encode())
    with pytest.raises(TokenizerError, match=r"set tokenizer\.engine to auto or huggingface"):
        make_engine(strange, "words")
    assert make_engine(strange, "auto").name == "huggingface"
    assert make_engine(strange, "auto").why


PREPEND = [{"type": "Prepend", "prepend": "\u2581"}]
PREPEND.append({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"})
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
NEVER = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


@pytest.mark.parametrize(
    ("steps", "pre_tokenizer"),
    [(PREPEND, None), ([], METASPACE), ([], {"type": "Sequence", "pretokenizers": [METASPACE]}), (PREPEND, NEVER)],
    ids=["llama 2", "llama 2, not legacy", "in a sequence", "gemma"],
)
def test_words_that_are_not_split_at_spaces(steps, pre_tokenizer):
    """Spaces become marks before the model, and the whole text is one piece."""
    pieces = ["<unk>", "<pad>", "<mask>", "\u2581", "\u2581the", "\u2581cat", "s", "a", "t"]
    model = {"type": "Unigram", "unk_id": 0, "vocab": [[piece, -1.0] for piece in pieces]}
    settings = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    settings |= {
        "pre_tokenizer": pre_tokenizer,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "post_processor": None,
        "decoder": None,
    }
    engine = make_engine(from_bytes(json.dumps(settings | {"model": model}).encode()))
    encoded = engine.encode(strings("the cats sat"))
    assert encoded.ids.tolist() == [4, 5, 6, 3, 6, 7, 8]
    assert encoded.word_starts.tolist() == [True, True, False, True, False, False, False]
