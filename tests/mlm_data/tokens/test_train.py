"""Training gives the same file everywhere, and says clearly when it can't."""

import hashlib
import json
import os
import subprocess
import sys
from pydoc_data import topics

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import TokenizerTraining
from mlm_data.errors import TokenizerError
from mlm_data.tokens import train as tokenizers
from mlm_data.tokens import train_unigram
from mlm_data.tokens.engine import from_bytes, make_engine
from mlm_data.tokens.train import SPECIALS, count_characters, train_tokenizer

KINDS = ["wordpiece", "bpe", "unigram", "characters"]
ACCENTS = "Größe naïve façade Ελλάδα Москва 日本語 한국어 ﬁn 👍🏽 \u0301 "
TEXTS = [*topics.topics.values(), ACCENTS * 3]

SCRIPT = """
import hashlib, sys
from pydoc_data import topics
import pyarrow as pa
from mlm_data.config import TokenizerTraining
from mlm_data.tokens.train import train_tokenizer
texts = list(topics.topics.values())
if sys.argv[1] == "reversed":
    texts.reverse()
size = int(sys.argv[2])
for kind in ("wordpiece", "bpe", "unigram", "characters"):
    batches = (pa.array(texts[i : i + size], pa.large_string()) for i in range(0, len(texts), size))
    print(hashlib.sha256(train_tokenizer(batches, TokenizerTraining(kind=kind, vocab_size=1500))).hexdigest())
"""


def train(texts, **settings):
    return train_tokenizer(iter([pa.array(texts, pa.large_string())]), TokenizerTraining(**settings))


def test_three_processes_make_the_same_file():
    """Other hash seeds, other numbers of threads, another order and other batches of the texts."""
    runs = []
    for seed, threads, order, size in (("0", "1", "as they are", 1000), ("17", "2", "reversed", 7), ("4", "5", "", 40)):
        environment = os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
        command = [sys.executable, "-c", SCRIPT, order, str(size)]
        runs.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    results = [run.communicate()[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(results[0]) == len(KINDS)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_tokenizer_is_whole(kind):
    data = train(TEXTS, kind=kind, vocab_size=2000)
    ref = from_bytes(data)
    assert [ref.tokens[i] for i in range(5)] == SPECIALS
    assert (ref.roles.pad, ref.roles.unk, ref.roles.cls, ref.roles.sep, ref.roles.mask) == (0, 1, 2, 3, 4)
    assert (1500 if kind != "characters" else 50) < ref.vocab_size <= 2000
    assert len(set(ref.tokens)) == ref.vocab_size
    assert len(json.loads(data)["added_tokens"]) == 5
    encoded = make_engine(ref, "huggingface").encode(pa.array(["The function returns a value."], pa.large_string()))
    assert len(encoded.ids) < (12 if kind != "characters" else 30)
    assert not np.isin(encoded.ids, ref.special_ids).any()
    assert ref.encode_masked("a [MASK] b").tolist()[:: len(ref.encode_masked("a [MASK] b")) - 1] == [2, 3]


def test_wordpiece_knows_lower_case():
    lower = from_bytes(train(TEXTS, vocab_size=1000))
    cased = from_bytes(train(TEXTS, vocab_size=1000, lowercase=False))
    assert not any(token != token.lower() for token in lower.tokens[5:])
    assert any(token != token.lower() for token in cased.tokens[5:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""], ["", " \n\t "]])
def test_nothing_to_train_on(kind, texts):
    with pytest.raises(TokenizerError, match="nothing to train a tokenizer on"):
        train(texts, kind=kind, vocab_size=300)
    with pytest.raises(TokenizerError, match="nothing to train a tokenizer on"):
        train_tokenizer(iter([]), TokenizerTraining(kind=kind, vocab_size=300))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["a", "ab ab ab", "日本 日本", "\0 a \0", "a" * 100_000, "[MASK] [MASK]"])
def test_tiny_and_strange_corpora_still_make_a_tokenizer(kind, text):
    data = train([text], kind=kind, vocab_size=300)
    ref = from_bytes(data)
    assert ref.roles.mask == 4
    encoded = make_engine(ref, "huggingface").encode(pa.array([text], pa.large_string()))
    assert len(encoded.ids) > 0
    assert not np.isin(encoded.ids, [0, 2, 3, 4]).any()


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(TokenizerError, match="bpe needs at least 261, got 100"):
        train(TEXTS, kind="bpe", vocab_size=100)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_the_smallest_vocabulary(kind):
    assert from_bytes(train(TEXTS, kind=kind, vocab_size=64)).vocab_size <= 64


CHINESE = "".join(map(chr, range(0x4E00, 0x4E00 + 2200)))


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_the_alphabet_has_no_limit_but_the_vocabulary(kind):
    texts = [CHINESE[i : i + 40] for i in range(0, len(CHINESE), 40)] * 6
    settings = TokenizerTraining(kind=kind, vocab_size=4000, coverage=1.0)
    found = tokenizers.train(iter([pa.array(texts, pa.large_string())]), settings)
    assert found.alphabet[1:] == (2200, 1.0, 0)
    ref = from_bytes(found.json_bytes)
    assert set(CHINESE) <= set(ref.tokens)
    assert not np.isin(make_engine(ref).encode(pa.array(texts, pa.large_string())).ids, [1]).any()


@pytest.mark.parametrize(("kind", "room"), [("wordpiece", 295), ("unigram", 294), ("characters", 295)])
def test_characters_without_room_are_counted(kind, room):
    texts = pa.array([CHINESE] * 3, pa.large_string())
    settings = TokenizerTraining(kind=kind, vocab_size=300, coverage=1.0)
    found = tokenizers.train(iter([texts]), settings)
    assert len(found.alphabet.characters) == room
    assert f"no room for {2200 - room:,} more: raise vocab_size" in str(found.alphabet)
    assert from_bytes(found.json_bytes).vocab_size <= 300


def test_what_never_stands_inside_a_word_has_one_token():
    tokens = from_bytes(train(["字ab, 典cd! " * 9], vocab_size=100)).tokens
    assert {"字", "典", ",", "!", "a", "##a", "d", "##d"} <= set(tokens)
    assert not {"##字", "##典", "##,", "##!"} & set(tokens)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_rare_characters_are_left_out(kind):
    texts = ["aaaa bbbb " * 1000 + "q"]
    assert "q" not in "".join(from_bytes(train(texts, kind=kind, vocab_size=100)).tokens[5:])
    assert "q" in "".join(from_bytes(train(texts, kind=kind, vocab_size=100, coverage=1.0)).tokens[5:])


def test_byte_level_tokenizers_need_no_alphabet():
    found = tokenizers.train(iter([pa.array(["ab"], pa.large_string())]), TokenizerTraining(kind="bpe", vocab_size=300))
    assert found.alphabet is None


def test_a_character_of_rare_words_alone_has_its_piece(monkeypatch):
    monkeypatch.setattr(tokenizers, "MOST_WORDS", 2)
    texts = ["often " * 50 + "other " * 40 + "xylophone"]
    tokens = from_bytes(train(texts, kind="unigram", vocab_size=100, coverage=1.0)).tokens
    assert set("oftenhrxylp") <= set(tokens)


def test_pieces_fit_the_word_table():
    """Longer ones would send every word to HF, whose search takes the cube of a word's length."""
    ref = from_bytes(train([("\u0e01\u0e02\u0e03" * 66 + " ") * 50], vocab_size=500))
    assert max(len(token.encode()) for token in ref.tokens) <= 255


def test_characters_are_counted():
    text = "aab é 日本 👍 \u0301"
    counts = np.zeros(0x110000, np.int64)
    count_characters(np.frombuffer(text.encode(), np.uint8), counts)
    assert {chr(i): int(counts[i]) for i in np.flatnonzero(counts)} == {c: text.count(c) for c in set(text)}


def test_slices_of_arrays_train_the_same():
    whole = pa.array(["noise noise noise", *TEXTS, "noise"], pa.large_string())
    part = train_tokenizer(iter([whole.slice(1, len(TEXTS))]), TokenizerTraining(vocab_size=500))
    assert hashlib.sha256(part).digest() == hashlib.sha256(train(TEXTS, vocab_size=500)).digest()


def test_unigram_estimates_what_it_says():
    """Expected counts over all ways to cut a word, against a sum over all of them."""
    text = "abab"
    pieces = {"a": -1.0, "b": -1.5, "ab": -1.2, "bab": -2.0, "aba": -2.5}
    names = list(pieces)
    edges = np.full((len(text), train_unigram.LONGEST), -1, np.int32)
    for place in range(len(text)):
        for size in range(1, len(text) - place + 1):
            if text[place : place + size] in pieces:
                edges[place, size - 1] = names.index(text[place : place + size])
    scores = np.array(list(pieces.values()))
    bounds, counts = np.array([0, len(text)]), np.array([3])
    expected, used = np.zeros(len(names)), np.zeros(len(names))
    train_unigram.expect(bounds, counts, edges, scores, expected)
    train_unigram.best_path(bounds, counts, edges, scores, used)

    def cuts(rest):
        if not rest:
            yield []
        for name in names:
            if rest.startswith(name):
                yield from ([name, *cut] for cut in cuts(rest[len(name) :]))

    ways = [(cut, np.exp(sum(pieces[name] for name in cut))) for cut in cuts(text)]
    total = sum(weight for _, weight in ways)
    want = [3 * sum(weight * cut.count(name) for cut, weight in ways) / total for name in names]
    assert np.allclose(expected, want)
    assert used.tolist() == [3 * max(ways, key=lambda way: way[1])[0].count(name) for name in names]


def test_digamma():
    """psi(1) is minus Euler's constant, psi(x + 1) = psi(x) + 1 / x."""
    x = np.array([0.5, 1.0, 2.5, 30.0])
    assert np.allclose(train_unigram.digamma(np.array([1.0])), -0.5772156649015329, atol=1e-9)
    assert np.allclose(train_unigram.digamma(x + 1), train_unigram.digamma(x) + 1 / x, atol=1e-9)
