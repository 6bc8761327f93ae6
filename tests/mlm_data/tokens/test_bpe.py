"""Merging in place gives what HF's BPE gives, in windows too."""

import json
import random
from pydoc_data import topics

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import TokenizerTraining
from mlm_data.tokens import bpe as module
from mlm_data.tokens.ask import ByteModel
from mlm_data.tokens.bpe import BPE
from mlm_data.tokens.engine import from_bytes
from mlm_data.tokens.train import train_tokenizer


@pytest.fixture(scope="module")
def reference():
    texts = pa.array(list(topics.topics.values()), pa.large_string())
    return from_bytes(train_tokenizer(iter([texts]), TokenizerTraining(kind="bpe", vocab_size=1500)))


def pieces(seed, count, longest):
    rng = random.Random(seed)
    words = " the of returns__init__ object'classmethod"
    for _ in range(count):
        size = rng.randrange(1, longest)
        alphabet = rng.choice(["a", "ab", "et", "etaoin shr", words, "=-", "é漢e", "\x00\xff\x80"])
        if rng.random() < 0.5:
            yield "".join(rng.choice(alphabet) for _ in range(size)).encode()[:size]
        else:
            yield (alphabet * size).encode()[:size]


def ask(model, items):
    lengths = np.array([len(item) for item in items], np.int64)
    data = np.frombuffer(b"".join(items), np.uint8)
    return model.ask(data, np.cumsum(lengths) - lengths, lengths)


def test_answers_are_those_of_hf(reference):
    items = list(pieces(1, 400, 60))
    got, want = ask(BPE(reference), items), ByteModel(reference).ask(items)
    assert np.array_equal(got.ids, want.ids)
    assert np.array_equal(got.bounds, want.bounds)


@pytest.mark.parametrize("window", [24, 64, 512])
def test_windows_change_nothing(reference, monkeypatch, window):
    """Long pieces are merged window by window; the seams must not show, or the model must say that it can't."""
    monkeypatch.setattr(module, "WINDOW", window)
    model, hf, answered = BPE(reference), ByteModel(reference), 0
    for item in pieces(window, 150, 40 * window if window < 512 else 3000):
        got = ask(model, [item])
        if got is not None:
            assert np.array_equal(got.ids, hf.ask([item]).ids), item
            answered += 1
    assert answered > 130


def test_what_it_leaves_to_hf(reference):
    settings = json.loads(reference.json_bytes)
    settings["model"]["ignore_merges"] = True
    assert not BPE(from_bytes(json.dumps(settings).encode())).usable
    settings = json.loads(reference.json_bytes)
    settings["model"]["vocab"] = {t: i for t, i in settings["model"]["vocab"].items() if t != "q"}
    settings["model"]["merges"] = [m for m in settings["model"]["merges"] if not any("q" in part for part in m)]
    settings["model"]["vocab"]["filler"] = reference.tokens.index("q")
    model = BPE(from_bytes(json.dumps(settings).encode()))
    assert model.usable
    assert ask(model, [b"aqua"]) is None  # a byte without a token: HF decides
    assert ask(model, [b"abba"]) is not None


def test_a_rank_that_comes_twice(reference):
    """The table of merges keeps the last of two equal pairs, as HF's does."""
    settings = json.loads(reference.json_bytes)
    merges = settings["model"]["merges"]
    settings["model"]["merges"] = [*merges, merges[3], merges[0]]
    twice = from_bytes(json.dumps(settings).encode())
    items = list(pieces(5, 200, 40))
    assert np.array_equal(ask(BPE(twice), items).ids, ByteModel(twice).ask(items).ids)
