"""Unigram's best cut gives what HF's model gives: ties, unknown characters, unknowns that together are a piece."""

import json
import random

import numpy as np
import pytest

from mlm_data.tokens import viterbi as module
from mlm_data.tokens.engine import from_bytes
from mlm_data.tokens.viterbi import Viterbi


def reference(pieces, **model):
    model = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [["<unk>", 0.0], ["<pad>", 0.0], ["<mask>", 0.0], *pieces],
        **model,
    }
    settings = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "pre_tokenizer": None}
    settings |= {"normalizer": None, "post_processor": None, "decoder": None, "model": model}
    return from_bytes(json.dumps(settings).encode())


def ask(ref, words):
    data = [word.encode() for word in words]
    bounds = np.concatenate([[0], np.cumsum([len(word) for word in data])]).astype(np.int64)
    answers = Viterbi(ref).ask(np.frombuffer(b"".join(data), np.uint8), bounds)
    ids = answers.ids & 0x7FFFFFFF
    assert (answers.ids[answers.bounds[:-1]] >> 31).all()
    return [ids[a:b].tolist() for a, b in zip(answers.bounds, answers.bounds[1:], strict=False)]


@pytest.mark.parametrize("short", [0, 7, 4096])  # bytes of a word up to which pieces are kept
@pytest.mark.parametrize("seed", range(12))
def test_answers_are_those_of_hf(seed, short, monkeypatch):
    monkeypatch.setattr(module, "SHORT", short)
    rng = random.Random(seed)
    alphabet = "abcé漢▁" if seed % 2 else "ab"
    pieces = {"".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 5))) for _ in range(40)}
    # Whole numbers make ties; very bad pieces let unknowns win.
    scores = [float(-rng.randrange(1, 5)) if seed % 3 else -30.0 * rng.random() for _ in pieces]
    ref = reference([[piece, score] for piece, score in zip(sorted(pieces), scores, strict=True)])
    words = ["".join(rng.choice(alphabet + "xy") for _ in range(rng.randrange(1, 20))) for _ in range(500)]
    got = ask(ref, words)
    want = [encoding.ids for encoding in ref.raw_tokenizer.encode_batch(words, add_special_tokens=False)]
    assert got == want


@pytest.mark.parametrize("short", [0, 4096])
def test_unknowns_that_together_are_a_piece(short, monkeypatch):
    """Two unknown characters cost less than the piece, but HF finds the piece by the fused text."""
    monkeypatch.setattr(module, "SHORT", short)
    ref = reference([["a", -1.0], ["xy", -1000.0], ["b", -990.0]])
    assert ask(ref, ["axya", "axa", "xyx"]) == [ref.raw_tokenizer.encode(word).ids for word in ("axya", "axa", "xyx")]


@pytest.mark.parametrize("longest", [3, 4, 7, 8, 255, 256, 300])
def test_words_and_pieces_of_every_length(longest):
    """Pieces that fill the ring of sums, lengths of more than a byte, and words about as long as what is kept."""
    rng = random.Random(longest)
    pieces = {"a", "b", "é", "ab", "a" * longest, "ba" * (longest // 2), "é" * (longest // 2)}
    ref = reference([[piece, -rng.random() * len(piece)] for piece in sorted(pieces)])
    words = ["a" * size for size in (*range(1, 40), 254, 255, 256, 257, 299, 300, 301, 1000)]
    for size in (module.SHORT - 1, module.SHORT, module.SHORT + 1, 3 * module.SHORT):
        words += ["a" * size, "ba" * (size // 2), "".join(rng.choice("aabéx") for _ in range(size))]
    assert ask(ref, words) == [ref.raw_tokenizer.encode(word).ids for word in words]


def test_scores_are_those_that_hf_holds():
    """HF reads some numbers one unit in the last place off; sums that would tie then don't."""
    rng = random.Random(0)
    for _ in range(40):
        one = -rng.random() * 20
        ref = reference([["-", one], ["--", one * 1.1], ["---", one * 1.5]])
        words = ["-" * length for length in range(1, 60)]
        assert ask(ref, words) == [ref.raw_tokenizer.encode(word).ids for word in words]


def test_what_it_leaves_to_hf():
    assert not Viterbi(reference([["a", -1.0]], byte_fallback=True)).usable
    assert Viterbi(reference([["a", -1.0]])).usable
