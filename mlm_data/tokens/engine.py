"""Engines: texts to token ids. They differ in speed, never in ids.

`words` scans bytes itself and remembers each distinct word; `huggingface` asks HF `tokenizers` about every text. What
both must give is defined in `reference.py`. `auto` takes `words` wherever the tokenizer belongs to a family that it
knows, and `.why` says which it is and why.
"""

import itertools
from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from mlm_data.errors import TokenizerError
from mlm_data.tokens.families import find_family
from mlm_data.tokens.reference import Reference, from_bytes, id_type, load_tokenizer
from mlm_data.tokens.words import WordsEngine
from mlm_data.types import Encoded

__all__ = ["Engine", "HuggingFaceEngine", "Reference", "from_bytes", "load_tokenizer", "make_engine"]

CHUNK_BYTES = 1 << 20  # of text per call of HF: what it returns takes about 100 times a token's text


class Engine(Protocol):
    """Texts to ids. Safe to share among threads."""

    name: str  # words | huggingface
    why: str  # one sentence for the plan

    def encode(self, texts: pa.LargeStringArray) -> Encoded:
        """Ids of each text, without specials around it, as the reference gives them."""
        ...


class HuggingFaceEngine:
    """HF `tokenizers`, in chunks. Slow and certain."""

    name = "huggingface"

    def __init__(self, reference: Reference, why: str = "it was asked for") -> None:
        self.why = why
        self._tokenizer = reference.raw_tokenizer
        self._renumber = reference.renumber
        self._dtype = id_type(reference.vocab_size)

    def encode(self, texts: pa.LargeStringArray) -> Encoded:
        ids, starts, counts = [], [], []
        for chunk in _chunks(texts):
            for encoding in self._tokenizer.encode_batch(chunk, add_special_tokens=False):
                piece = np.array(encoding.ids, np.int64)
                ids.append((piece if self._renumber is None else self._renumber[piece]).astype(self._dtype))
                words = np.array(encoding.word_ids, np.int64)
                starts.append(np.diff(words, prepend=-1) != 0)
                counts.append(len(piece))
        return Encoded(
            ids=np.concatenate(ids) if ids else np.empty(0, self._dtype),
            offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            word_starts=np.concatenate(starts) if starts else np.empty(0, bool),
        )


def make_engine(
    reference: Reference,
    engine: Literal["auto", "words", "huggingface"] = "auto",
    *,
    budget_bytes: int = 512 << 20,
) -> Engine:
    """The engine for a tokenizer.

    Args:
        budget_bytes: memory of the word table; it bounds speed, never ids.

    Raises:
        TokenizerError: if `words` is asked for and the tokenizer belongs to no family that it knows.
    """
    if engine == "huggingface":
        return HuggingFaceEngine(reference, "the configuration asks for it")
    family, kind = find_family(reference)
    if family is not None:
        return WordsEngine(reference, family, f"the word table knows {kind}", budget_bytes)
    why = f"the word table doesn't know {kind}"
    if engine == "words":
        raise TokenizerError(f"{reference.where}: {why}: set tokenizer.engine to auto or huggingface")
    return HuggingFaceEngine(reference, why)


def _chunks(texts: pa.LargeStringArray) -> Iterator[list[str]]:
    """Lists of texts of about CHUNK_BYTES together; one long text is a list of its own."""
    if not len(texts):
        return
    bounds = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    group = (bounds[:-1] - bounds[0]) // CHUNK_BYTES
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(texts)]
    for start, end in itertools.pairwise(edges):
        yield texts.slice(start, end - start).to_pylist()
