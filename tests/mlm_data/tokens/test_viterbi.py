"""Unigram's best cut gives what HF's model gives: ties, unknown characters, unknowns that together are a piece."""

import json
import random

import numpy as np
import pytest

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


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_those_of_hf(seed):
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


def test_unknowns_that_together_are_a_piece():
    """Two unknown characters cost less than the piece, but HF finds the piece by the fused text."""
    ref = reference([["a", -1.0], ["xy", -1000.0], ["b", -990.0]])
    assert ask(ref, ["axya", "axa", "xyx"]) == [ref.raw_tokenizer.encode(word).ids for word in ("axya", "axa", "xyx")]


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
