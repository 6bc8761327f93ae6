"""Families of tokenizers whose pieces are independent, and how to recognize them.

`find_family` looks at the normalizer, the pre-tokenizer and the model as HF `tokenizers` writes them out. It
is strict: a setting that it hasn't been taught means that the tokenizer belongs to no family, with one sentence
that says why.
"""

import json
from typing import Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.tokens.ask import Answers, Pipeline, texts_of
from mlm_data.tokens.bits import lean_kernel
from mlm_data.tokens.classes import SURVIVES, VANISHES, separated_classes
from mlm_data.tokens.emit import code_point
from mlm_data.tokens.reference import Reference
from mlm_data.tokens.scan_separated import scan_separated
from mlm_data.tokens.table import View
from mlm_data.tokens.wordpiece import WordPiece, gather

Bytes = UInt8[np.ndarray, " bytes"]
Places = Int64[np.ndarray, " pieces"]


class Family(Protocol):
    """How one kind of tokenizer cuts texts into independent pieces, and whom to ask about a piece."""

    def scan(self, data, bounds, view: View, out, holes, hashes, ends, state) -> None:
        """Run the scanner; see `emit.py` for its contract."""
        ...

    def learn(self, point: int) -> None:
        """Read off the class of a code point that the scanner stopped at."""
        ...

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        """Answers for distinct pieces."""
        ...


def find_family(reference: Reference) -> tuple[Family | None, str]:
    """The family of a tokenizer, or None; and why, as half a sentence."""
    settings = json.loads(reference.raw_tokenizer.to_str())
    normalizer, pre_tokenizer = settings["normalizer"] or {}, settings["pre_tokenizer"] or {}
    added = [token for token in settings["added_tokens"] if token["content"]]
    model = settings["model"]["type"]
    if pre_tokenizer.get("type") == "BertPreTokenizer" and model == "WordPiece":
        if normalizer.get("type", "BertNormalizer") != "BertNormalizer":
            return None, f"BERT's words under a {normalizer['type']} normalizer"
        if added:
            return None, f"BERT's words beside added tokens such as {added[0]['content']!r}"
        return BertWords(reference, lowercase=normalizer.get("lowercase", False)), "BERT's words (WordPiece)"
    return None, f"{model} after {pre_tokenizer.get('type', 'no')} pre-tokenizer"


class Words:
    """Words between spaces and single characters, asked of the whole pipeline."""

    def __init__(self, reference: Reference, *, isolates: bool) -> None:
        tokenizer = reference.raw_tokenizer
        self._table = separated_classes(tokenizer.normalizer, tokenizer.pre_tokenizer, careful=not isolates)
        self._pipeline = Pipeline(reference)
        self._isolates = isolates

    def scan(self, data, bounds, view: View, out, holes, hashes, ends, state) -> None:
        scan_separated(data, bounds, self._table.classes, self._isolates, *view, out, holes, hashes, ends, state)

    def learn(self, point: int) -> None:
        self._table.learn(point)

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        return self._pipeline.ask(texts_of(data, starts, lengths))


class BertWords(Words):
    """BERT's words. Plain ones are normalized in one call and answered by `wordpiece.py`."""

    def __init__(self, reference: Reference, *, lowercase: bool) -> None:
        super().__init__(reference, isolates=True)
        self._model = WordPiece(reference)
        self._normalizer = reference.raw_tokenizer.normalizer
        self._lowercase = lowercase

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        kinds = np.empty(len(starts), np.int64)
        piece_kinds(data, starts, lengths, self._table.classes, self._model.max_chars, kinds)
        parts, groups = [], [np.flatnonzero(kinds == kind) for kind in range(4)]
        for kind, group in enumerate(groups):
            if not len(group):
                continue
            if kind == STRANGE or not self._model.usable:
                parts.append((group, self._pipeline.ask(texts_of(data, starts[group], lengths[group]))))
            elif kind == TOO_LONG:
                ids = np.full(len(group), self._model.unknown, np.uint32)
                parts.append((group, Answers(ids, np.arange(len(group) + 1, dtype=np.int64))))
            else:
                parts.append((group, self._plain(data, starts[group], lengths[group], ascii_only=kind == ASCII)))
        return _merged(parts, len(starts))

    def _plain(self, data: Bytes, starts: Places, lengths: Places, *, ascii_only: bool) -> Answers:
        words, bounds = np.empty(int(lengths.sum()), np.uint8), np.zeros(len(starts) + 1, np.int64)
        if ascii_only:
            gather(data, starts, lengths, self._lowercase, words, bounds)
        else:
            # Plain words hold no space before or after, so spaces can keep them apart.
            joined = " ".join(texts_of(data, starts, lengths))
            normal = [word.encode() for word in self._normalizer.normalize_str(joined).split(" ")]
            assert len(normal) == len(starts)
            words = np.frombuffer(b"".join(normal), np.uint8)
            np.cumsum([len(word) for word in normal], out=bounds[1:])
        return self._model.ask(words, bounds)


STRANGE, ASCII, PLAIN, TOO_LONG = 0, 1, 2, 3


@lean_kernel
def piece_kinds(data, starts, lengths, classes, max_chars, kinds):
    """What is known of each piece: ASCII letters and digits; plain characters; too long a word; or nothing."""
    for i in range(starts.size):
        end = starts[i] + lengths[i]
        place = starts[i]
        plain = True
        is_ascii = True
        chars = 0
        while place < end:
            point, length = code_point(data, place, end)
            kind = classes[point]
            is_ascii = is_ascii and (48 <= point <= 57 or 65 <= point <= 90 or 97 <= point <= 122)
            plain = plain and (kind & (SURVIVES | VANISHES)) != 0
            chars += (kind & SURVIVES) != 0
            place += length
        if not plain:
            kinds[i] = STRANGE
        elif chars > max_chars:
            kinds[i] = TOO_LONG
        elif is_ascii:
            kinds[i] = ASCII
        else:
            kinds[i] = PLAIN


def _merged(parts: list[tuple[Places, Answers]], count: int) -> Answers:
    """Answers of groups of pieces, in the pieces' own order."""
    if len(parts) == 1:
        return parts[0][1]
    sizes = np.zeros(count, np.int64)
    for group, answers in parts:
        sizes[group] = np.diff(answers.bounds)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    ids = np.empty(bounds[-1], np.uint32)
    for group, answers in parts:
        counts = np.diff(answers.bounds)
        within = np.arange(len(answers.ids)) - np.repeat(answers.bounds[:-1], counts)
        ids[np.repeat(bounds[group], counts) + within] = answers.ids
    return Answers(ids, bounds)
