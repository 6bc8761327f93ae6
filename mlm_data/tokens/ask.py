"""Asking HF `tokenizers` about pieces that the table doesn't know, many in one call.

An answer is the piece's ids with WORD_START flags. Whom to ask depends on the family: where pieces are
separated words the *whole pipeline* is asked about the raw piece (normalizing may turn it into several words, or none);
where pieces come from a byte-level pattern the *model alone* is asked about the piece's bytes, for the whole pipeline
would cut a lone piece otherwise than one in its place.
"""

import json
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8, UInt32
from tokenizers import Tokenizer

from mlm_data.characters import byte_characters
from mlm_data.tokens.reference import Reference
from mlm_data.tokens.table import WORD_START


class Answers(NamedTuple):
    """Piece i has ids[bounds[i]:bounds[i + 1]], with WORD_START flags."""

    ids: UInt32[np.ndarray, " ids"]
    bounds: Int64[np.ndarray, " pieces+1"]


class Pipeline:
    """The whole reference pipeline, asked about raw pieces."""

    def __init__(self, reference: Reference) -> None:
        self._tokenizer = reference.raw_tokenizer
        self._renumber = reference.renumber

    def ask(self, pieces: list[str]) -> Answers:
        encodings = self._tokenizer.encode_batch(pieces, add_special_tokens=False)
        lists = [encoding.ids for encoding in encodings]
        bounds = _bounds(lists)
        ids = _flat(lists, bounds, self._renumber)
        begins = np.zeros(len(ids), bool)
        begins[bounds[:-1][np.diff(bounds) > 0]] = True
        for i, encoding in enumerate(encodings):
            if len(lists[i]) > 1:
                words = encoding.word_ids
                if words[-1] != words[0]:
                    begins[bounds[i] : bounds[i + 1]] = np.diff(np.array(words), prepend=-1) != 0
        ids[begins] |= WORD_START
        return Answers(ids, bounds)


class ByteModel:
    """A byte-level model, asked about the bytes of pieces of a pattern; each piece is one word."""

    def __init__(self, reference: Reference) -> None:
        settings = dict(reference.raw_settings)
        settings["normalizer"] = settings["pre_tokenizer"] = None
        settings["added_tokens"] = []
        self._tokenizer = Tokenizer.from_str(json.dumps(settings, ensure_ascii=False))
        # Without its added tokens the model's own ids are the right ones, specials or not.
        self._alphabet = {i: ord(character) for i, character in enumerate(byte_characters())}

    def ask(self, pieces: list[bytes]) -> Answers:
        texts = [piece.decode("latin-1").translate(self._alphabet) for piece in pieces]
        lists = [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        bounds = _bounds(lists)
        ids = _flat(lists, bounds, None)
        ids[bounds[:-1][np.diff(bounds) > 0]] |= WORD_START
        return Answers(ids, bounds)


def bytes_of(
    data: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " pieces"], lengths: Int64[np.ndarray, " pieces"]
) -> list[bytes]:
    """The bytes of pieces."""
    whole = data.data
    return [
        bytes(whole[start : start + length]) for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def texts_of(
    data: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " pieces"], lengths: Int64[np.ndarray, " pieces"]
) -> list[str]:
    """The text of pieces."""
    return [piece.decode() for piece in bytes_of(data, starts, lengths)]


def _bounds(lists: list[list[int]]) -> Int64[np.ndarray, " pieces+1"]:
    result = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(item) for item in lists], out=result[1:])
    return result


def _flat(
    lists: list[list[int]], bounds: Int64[np.ndarray, " pieces+1"], renumber: Int64[np.ndarray, " ids"] | None
) -> UInt32[np.ndarray, " ids"]:
    ids = np.fromiter((number for item in lists for number in item), np.int64, bounds[-1])
    return (ids if renumber is None else renumber[ids]).astype(np.uint32)
