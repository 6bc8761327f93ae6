"""Random texts that favour borders, and the comparison of an engine with the reference."""

import random
import unicodedata
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.tokens.engine import HuggingFaceEngine, Reference
from mlm_data.types import Encoded

SPACES = [
    " ",
    " ",
    " ",
    "  ",
    "   ",
    " " * 24,
    " " * 25,
    "\n",
    "\r\n",
    "\n\n",
    "\t",
    "\r",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
]
SPACES += ["\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\u2060", "\ufeff"]
MARKS = ["\u0301", "\u0300", "\u0327", "\u0338", "\u0307", "\u0345", "\u20dd", "\u0903", "\u093c", "\u094d", "\u0e33"]
MARKS += ["\u3099", "\u302e", "\ufe0f", "\u200d", "\u200c", "\u200e", "\u200f", "\u00ad", "\u0600", "\u06dd", "\u0d4e"]
MARKS += [
    "\u1161",
    "\u11a8",
    "\U0001f3fb",
    "\U000e0001",
    "\U0001d165",
    "\u0488",
    "\u05b0",
    "\u064b",
    "\uff9e",
    "\u09be",
]
LETTERS = [
    "a",
    "b",
    "s",
    "t",
    "A",
    "S",
    "Z",
    "é",
    "É",
    "ß",
    "ẞ",
    "İ",
    "ı",
    "ſ",
    "ﬁ",
    "ª",
    "²",
    "½",
    "Ⅷ",
    "①",
    "ǅ",
    "\u212b",
]
LETTERS += [
    "Σ",
    "ς",
    "я",
    "ا",
    "ש",
    "\u0958",
    "ก",
    "あ",
    "ア",
    "ｱ",
    "漢",
    "\uf900",
    "\U00020000",
    "가",
    "\u1100",
    "ﷺ",
    "℀",
]
DIGITS = ["0", "1", "7", "12", "123", "1234", "٣", "९", "𝟘", "０"]
SIGNS = [
    "'",
    "’",
    '"',
    ".",
    ",",
    "!",
    "-",
    "—",
    "_",
    "$",
    "€",
    "+",
    "=",
    "<",
    ">",
    "^",
    "`",
    "~",
    "|",
    "¿",
    "、",
    "。",
    "␀",
]
SIGNS += [
    "😀",
    "👍🏽",
    "👨\u200d👩\u200d👧",
    "🇩🇪",
    "❤️",
    "\ufffd",
    "\u2581",
    "Ġ",
    "##",
    "##s",
    "\x00",
    "\x01",
    "\x7f",
    "\x9f",
    "\ue000",
]
CONTRACTIONS = [
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'ve",
    "'ll",
    "'lL",
    "'m",
    "'d",
    "'ſ",
    "'st",
    "''s",
    "’s",
    " 's",
    "'r",
    "'v",
    "'l",
]
SPECIALS = ["[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "<mask>", "</s>", "<s>", "<pad>", "<unk>", "<|endoftext|>"]
SPECIALS += [
    "<extra_id_0>",
    "|||IP_ADDRESS|||",
    "|||EMAIL_ADDRESS|||",
    "|||IP_ADDRESS||",
    "||||IP_ADDRESS||||",
    "[unused1]",
]
WORDS = "the of and to in is was he for it with as his on be at by i this had not are but from or have an".split()
WORDS += "Hello WORLD unbelievable xyzzy qwrtp naïve café cafe\u0301 =\u0338 e\u0323\u0302 Größe".split()
WORDS += "http www com U.S.A. 3.14 C++ they which one".split()
POOLS = [SPACES, SPACES, MARKS, LETTERS, LETTERS, DIGITS, SIGNS, SIGNS, CONTRACTIONS, SPECIALS, WORDS, WORDS, WORDS]


def random_texts(seed: int, count: int, snippets: Iterable[str] = ()) -> list[str]:
    """Texts made of pieces that favour borders, of any code points, and of real snippets with things put into them."""
    rng = random.Random(seed)
    snippets = list(snippets)
    result = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.08:  # any code points
            result.append("".join(any_character(rng) for _ in range(rng.randrange(12))))
        elif kind < 0.2 and snippets:
            text = rng.choice(snippets)
            place = rng.randrange(len(text) + 1)
            text = text[place : place + rng.randrange(200)]
            for _ in range(rng.randrange(6)):
                place = rng.randrange(len(text) + 1)
                text = text[:place] + any_piece(rng) + text[place + rng.randrange(2) :]
            result.append(text)
        else:
            pieces = [any_piece(rng) for _ in range(rng.randrange(14))]
            if rng.random() < 0.03:
                pieces.append(rng.choice(LETTERS + MARKS) * rng.choice([98, 99, 100, 101, 102, 250, 256, 257, 600]))
            if rng.random() < 0.3:
                pieces = [piece + " " if rng.random() < 0.5 else piece for piece in pieces]
            result.append("".join(pieces))
    return result


def any_piece(rng: random.Random) -> str:
    piece = rng.choice(rng.choice(POOLS)) if rng.random() < 0.93 else any_character(rng)
    return piece if rng.random() < 0.95 else unicodedata.normalize(rng.choice(["NFD", "NFKD", "NFC"]), piece)


def any_character(rng: random.Random) -> str:
    while True:
        point = rng.choice(
            [rng.randrange(0x300), rng.randrange(0x3000), rng.randrange(0x20000), rng.randrange(0x110000)]
        )
        if not 0xD800 <= point < 0xE000:
            return chr(point)


def _differing(reference: Reference, engine, texts: list[str]) -> list[str]:
    """The texts for which an engine doesn't give the reference's ids and word starts."""
    if not texts:
        return []
    array = pa.array(texts, pa.large_string())
    want, got = HuggingFaceEngine(reference).encode(array), engine.encode(array)
    if all(np.array_equal(getattr(want, name), getattr(got, name)) for name in ("ids", "offsets", "word_starts")):
        return []

    def one(encoded: Encoded, i: int) -> tuple[list[int], list[bool]]:
        part = slice(encoded.offsets[i], encoded.offsets[i + 1])
        return encoded.ids[part].tolist(), encoded.word_starts[part].tolist()

    return [text for i, text in enumerate(texts) if one(want, i) != one(got, i)]


@pytest.fixture(scope="session")
def border_texts() -> Callable[..., list[str]]:
    return random_texts


@pytest.fixture(scope="session")
def differing() -> Callable[..., list[str]]:
    return _differing
