"""Words as spaCy's English tokenizer cuts them, for who wants to count as datatrove does.

spaCy cuts each stretch between white space by itself, so its answer about a stretch can be remembered: it is asked once
for each different one, and most of a text costs a look-up. Punctuation marks become words (`"Yes,"` is four), so do
parts of contractions (`do` and `n't`).

A sentence ends at a word that is one of the marks of spaCy's `sentencizer` and begins at the next word that is no
punctuation; that is the sentencizer's rule (spaCy 3.8, `sentencizer.pyx`).

The cost is about 0.1 ms for a stretch that is met for the first time, and 5 us for each different one of a batch: 3 to
13 MB/s once most are known. What is remembered is bounded, and never changes an answer.
"""

import threading
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.curation.words import (
    CANNOT_START,
    ENDS_SENTENCE,
    HAS_LETTER,
    HAS_TEXT,
    STARTS_LINE,
    Words,
    scan_words,
)
from mlm_data.errors import ConfigError
from mlm_data.kernels import kernel, read_only

_REMEMBERED = 2**20  # stretches, about 200 MB
_AT_ONCE = 1000  # stretches that spaCy cuts in one call


def cut_words(words: Words, data: UInt8[np.ndarray, " bytes"]) -> Words:
    """The tokens of words of `scan_words`, in which none of them is empty.

    `places` are those of the words that tokens were cut from.

    Raises:
        ConfigError: spaCy isn't installed.
    """
    values, first, number = np.unique(words.hashes, return_index=True, return_inverse=True)
    stretches = [_text(data, int(words.places[word]), int(words.chars[word])) for word in first]
    tokens, borders, flags = _cutter().cut(values, stretches)
    text = " ".join(tokens).encode()
    whole = np.array([0, len(text)], np.int64)
    cut = scan_words(read_only(np.frombuffer(text, np.uint8)), whole[:1], whole[1:])
    assert len(cut.hashes) == len(tokens), "a token has no white space and isn't empty"
    flags |= cut.flags & np.uint8(HAS_LETTER | HAS_TEXT)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(borders)[number])])
    total = int(offsets[-1])
    hashes, chars = np.empty(total, np.uint64), np.empty(total, np.int32)
    all_flags, places = np.empty(total, np.uint8), np.empty(total, np.int64)
    _spread(
        number.astype(np.int64), borders, cut.hashes, cut.chars, flags, words.flags, words.places, hashes, chars,
        all_flags, places,
    )  # fmt: skip
    return Words(offsets=offsets[words.offsets], hashes=hashes, chars=chars, flags=all_flags, places=places)


def _text(data: UInt8[np.ndarray, " bytes"], place: int, num_chars: int) -> str:
    """So many characters from a place on: none takes more than four bytes."""
    return data[place : place + 4 * num_chars].tobytes().decode("utf-8", "ignore")[:num_chars]


class _Cutter:
    """spaCy's tokenizer, and what it has said."""

    def __init__(self) -> None:
        try:
            import spacy
            from spacy.pipeline import Sentencizer
        except ImportError as error:
            raise ConfigError("quality: `words: spacy` needs spaCy: pip install 'premask[spacy]'") from error
        self._pipeline: Any = spacy.blank("en")
        self._marks = frozenset(Sentencizer().punct_chars)
        self._known: dict[int, tuple[tuple[str, int], ...]] = {}
        self._lock = threading.Lock()  # spaCy's own caches aren't made for threads

    def cut(
        self, values: np.ndarray, stretches: list[str]
    ) -> tuple[list[str], Int64[np.ndarray, " borders"], UInt8[np.ndarray, " tokens"]]:
        """(tokens of all stretches, where those of each begin, flags); `values` name the stretches."""
        keys = values.tolist()
        with self._lock:
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            new = [place for place, key in enumerate(keys) if key not in self._known]
            for start in range(0, len(new), _AT_ONCE):
                self._ask([(keys[place], stretches[place]) for place in new[start : start + _AT_ONCE]])
            answers = [self._known[key] for key in keys]
        borders = np.concatenate(
            [np.zeros(1, np.int64), np.cumsum([len(answer) for answer in answers], dtype=np.int64)]
        )
        tokens = [token for answer in answers for token, _ in answer]
        flags = np.array([flag for answer in answers for _, flag in answer], np.uint8)
        return tokens, borders, flags

    def _ask(self, stretches: list[tuple[int, str]]) -> None:
        ends = np.cumsum([len(stretch) + 1 for _, stretch in stretches])
        found: list[list[tuple[str, int]]] = [[] for _ in stretches]
        with self._pipeline.memory_zone():
            said = self._pipeline.tokenizer(" ".join(stretch for _, stretch in stretches))
            places = np.searchsorted(ends, [token.idx for token in said], side="right")
            for token, place in zip(said, places.tolist(), strict=True):
                is_mark = token.text in self._marks
                flag = (ENDS_SENTENCE if is_mark else 0) | (CANNOT_START if is_mark or token.is_punct else 0)
                found[place].append((token.text, flag))
        for (key, _), tokens in zip(stretches, found, strict=True):
            self._known[key] = tuple(tokens)


@cache
def _cutter() -> _Cutter:
    return _Cutter()


@kernel
def _spread(
    number, borders, token_hashes, token_chars, token_flags, flags, places, out_hashes, out_chars, out_flags, out_places
):
    """To each word the tokens of its stretch; a line begins with the first token of its first word."""
    at = 0
    for word in range(len(number)):
        line = flags[word] & STARTS_LINE
        for token in range(borders[number[word]], borders[number[word] + 1]):
            out_hashes[at] = token_hashes[token]
            out_chars[at] = token_chars[token]
            out_flags[at] = token_flags[token] | line
            out_places[at] = places[word]
            line = np.uint8(0)
            at += 1
