"""Long words are normalized in parts, and the parts' borders never show."""

import itertools
import json
import random
from pydoc_data import topics

import numpy as np
import pytest
from tokenizers import Tokenizer

from mlm_data.tokens import seams as module
from mlm_data.tokens.seams import Seams

QUOTES = {"type": "Replace", "pattern": {"String": "``"}, "content": '"'}
PAIRS = {"type": "Replace", "pattern": {"String": "ab"}, "content": "é"}
NORMALIZERS = {
    "none": [],
    "nfc": [{"type": "NFC"}],
    "nfd": [{"type": "NFD"}],
    "nfkc": [{"type": "NFKC"}],
    "nmt": [{"type": "Nmt"}, {"type": "NFKC"}],
    "albert": [QUOTES, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}],
    "replaced at the end": [
        {"type": "NFKC"},
        {"type": "Lowercase"},
        PAIRS,
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ],
}
# Jamo, syllables, marks, joiners, flags, prepended letters, vowels that join, ligatures, symbols with spaces inside.
ALPHABET = [
    *"abAB`é1漢かﾃ가각ﾡ",
    "\u1100",
    "\u1161",
    "\u11a8",
    "\u0301",
    "\u0323",
    "\u3099",
    "\uff9e",
    "\u200d",
    "\u0600",
]
ALPHABET += ["\u0d4e", "\u0e33", "\u0e01", "\u0915", "\u094d", "\u093c", "\u09c7", "\u09be", "\U0001f1e9", "\U0001f1ea"]
ALPHABET += ["\U0001f469", "\U0001f3fb", "❤", "\ufe0f", "\ufb01", "\u212b", "\u00a8", "\u0958", "\U0001d15e", "\u3131"]
ALPHABET += ["\u314f", "\uac00", "\u2126", "\u0344", "\u1e9e", "\u0130", "\u2581", "\ufdfa", "\u0f43", "\U00016d67"]


def normalizer(steps):
    settings = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}}
    settings |= {"added_tokens": [], "normalizer": {"type": "Sequence", "normalizers": steps}}
    return Tokenizer.from_str(json.dumps(settings)).normalizer


def words(seed, count):
    rng = random.Random(seed)
    letters = "".join(sorted(set("".join(topics.topics.values())))).replace(" ", "").replace("\n", "")
    for _ in range(count):
        pool = rng.choice([ALPHABET, ALPHABET, list("ab`"), list(letters)])
        yield "".join(rng.choice(pool) for _ in range(rng.randrange(1, 60)))


@pytest.mark.parametrize("name", NORMALIZERS)
def test_parts_are_the_whole(name, monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", 5)
    seams, whole = Seams(NORMALIZERS[name]), normalizer(NORMALIZERS[name])
    for word in words(1, 1500):
        got = seams.normalize(np.frombuffer(word.encode(), np.uint8)).decode()
        assert got == whole.normalize_str(word), ascii(word)


@pytest.mark.corpora
def test_parts_are_the_whole_under_t5_s_map(corpora, monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", 5)
    steps = [json.loads((corpora / "tok/ortx/tokenizer/t5-small/tokenizer.json").read_bytes())["normalizer"]]
    seams, whole = Seams(steps), normalizer(steps)
    for word in words(2, 3000):
        assert seams.normalize(np.frombuffer(word.encode(), np.uint8)).decode() == whole.normalize_str(word), ascii(
            word
        )


@pytest.mark.parametrize("pair", list(itertools.product("a漢가ж", repeat=2)))
def test_ordinary_characters_have_a_seam(pair, monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", 1)
    data = memoryview("".join(pair).encode())
    assert Seams(NORMALIZERS["albert"])._seam(data, 0) == len(pair[0].encode())


@pytest.mark.parametrize(
    "pair", ["e\u0301", "\u1100\u1161", "가\u11a8", "\u200da", "``", "\U0001f1e9\U0001f1ea", "\ufdfaa"]
)
def test_what_belongs_together_has_none(pair):
    data = pair.encode()
    assert Seams(NORMALIZERS["albert"])._seam(memoryview(data), 0) == len(data)


def test_a_replaced_string_has_none():
    assert Seams([PAIRS])._seam(memoryview(b"abab"), 0) == 4
    assert Seams([{"type": "Lowercase"}, PAIRS])._seam(memoryview(b"ABAB"), 0) == 4
    assert Seams([PAIRS])._seam(memoryview(b"abxyab"), 0) == 3
