"""The engine that asks HF `tokenizers` about every text: slow and certain."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, Integer
from tokenizers import Encoding, Tokenizer

from mlm_data.errors import TokenizerError
from mlm_data.hashing import string_buffers
from mlm_data.kernels import lean_kernel
from mlm_data.tokens.reference import Reference
from mlm_data.types import Encoded, id_type

LONG_WORD = 1000  # bytes between white space; HF takes 0.03 s for such a word
CHUNK_BYTES = 1 << 20  # of text per call of HF: what it returns takes about 100 times a token's text


class HuggingFaceEngine:
    """HF `tokenizers`, in chunks. Slow and certain.

    Args:
        long_words: whom to ask about texts with a word of more than LONG_WORD bytes, where HF's own search for its
            pieces takes the cube of its length: minutes for 30,000 characters.
    """

    name = "huggingface"

    def __init__(
        self,
        reference: Reference,
        why: str = "it was asked for",
        long_words: Callable[[pa.LargeStringArray], Encoded] | None = None,
    ) -> None:
        self.why = why
        self._long_words = long_words
        self._tokenizer = reference.raw_tokenizer
        self._where = reference.where
        self._renumber = reference.renumber
        self._dtype = id_type(reference.vocab_size)
        # Where texts aren't split at spaces a whole text is one piece; then the mark of a space is what begins a word.
        marks = np.array([token.startswith(("\u2581", "\u0120")) for token in reference.tokens])
        self._marks = None if _splits_at_spaces(self._tokenizer) else marks

    def encode(self, texts: pa.LargeStringArray) -> Encoded:
        """Ids of each text, as the reference gives them."""
        if self._long_words is not None and len(texts):
            long = np.zeros(len(texts), bool)
            find_long_words(*string_buffers(texts), LONG_WORD, long)
            if long.any():
                which = pa.array(long)
                return interleaved(
                    self._asked_all(texts.filter(pc.invert(which))), self._long_words(texts.filter(which)), long
                )
        return self._asked_all(texts)

    def encode_words(self, texts: pa.LargeStringArray, words: pa.LargeListArray) -> Encoded:
        """Ids of each text, and words where the caller has them.

        A token begins a word if a word begins in it: it is the first token that reaches behind the word's first
        character. So a token over a border begins a word, and of the bytes of one character the first one does. The
        first token of a text always begins one.

        Args:
            texts: what to encode.
            words: of each text the characters at which its words begin, rising.
        """
        return self._asked_all(texts, words)

    def _asked_all(self, texts: pa.LargeStringArray, words: pa.LargeListArray | None = None) -> Encoded:
        ids: list[np.ndarray] = []
        starts: list[np.ndarray] = []
        counts: list[int] = []
        for chunk in _chunks(texts):
            for encoding in self._asked(chunk):
                piece = np.array(encoding.ids, np.int64)
                piece = piece if self._renumber is None else self._renumber[piece]
                if words is None:
                    begins = np.diff(np.array(encoding.word_ids, np.int64), prepend=-1) != 0
                    begins = begins if self._marks is None else begins | self._marks[piece]
                else:
                    ends = np.array([end for _, end in encoding.offsets], np.int64)
                    begins = _begin_words(ends, words[len(counts)].values.to_numpy())
                ids.append(piece.astype(self._dtype))
                starts.append(begins)
                counts.append(len(piece))
        return Encoded(
            ids=np.concatenate(ids) if ids else np.empty(0, self._dtype),
            offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            word_starts=np.concatenate(starts) if starts else np.empty(0, bool),
        )

    def _asked(self, chunk: list[str]) -> list[Encoding]:
        try:
            return self._tokenizer.encode_batch(chunk, add_special_tokens=False)
        except Exception as error:  # tokenizers raises plain Exception
            raise TokenizerError(
                f"{self._where}: HF tokenizers has no ids for a text: {str(error)[:200]}: "
                "give its model an unknown token that stands for such characters"
            ) from error


def _begin_words(
    ends: Int64[np.ndarray, " tokens"], words: Integer[np.ndarray, " words"]
) -> Bool[np.ndarray, " tokens"]:
    """Which tokens begin a word: those that end first behind a word's first character."""
    begins = np.zeros(len(ends) + 1, np.bool_)
    begins[np.searchsorted(np.maximum.accumulate(ends), words, side="right")] = True
    begins[0] = True
    return begins[:-1]


def _splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """False without a pre-tokenizer, and with one that only writes marks (Metaspace or ByteLevel that don't split)."""
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    text = "a b" if normalizer is None else normalizer.normalize_str("a b")
    return pre_tokenizer is not None and len(pre_tokenizer.pre_tokenize_str(text)) > 1


def _chunks(texts: pa.LargeStringArray) -> Iterator[list[str]]:
    """Lists of texts of about CHUNK_BYTES together; one long text is a list of its own."""
    if not len(texts):
        return
    _, bounds = string_buffers(texts)
    group = (bounds[:-1] - bounds[0]) // CHUNK_BYTES
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(texts)]
    for start, end in itertools.pairwise(edges):
        yield texts.slice(start, end - start).to_pylist()


def interleaved(certain: Encoded, others: Encoded, left: Bool[np.ndarray, " texts"]) -> Encoded:
    """Two parts of a batch in the batch's order."""
    sizes = np.empty(len(left), np.int64)
    sizes[~left], sizes[left] = np.diff(certain.offsets), np.diff(others.offsets)
    mask = np.repeat(left, sizes)
    ids, starts = np.empty(len(mask), certain.ids.dtype), np.empty(len(mask), bool)
    ids[~mask], ids[mask] = certain.ids, others.ids
    starts[~mask], starts[mask] = certain.word_starts, others.word_starts
    return Encoded(ids=ids, offsets=np.concatenate([[0], np.cumsum(sizes)]), word_starts=starts)


@lean_kernel
def find_long_words(data, bounds, longest, result):
    """Set result[text] where more than `longest` bytes follow each other without white space of ASCII."""
    for text in range(bounds.size - 1):
        run = 0
        for place in range(bounds[text], bounds[text + 1]):
            byte = data[place]
            run = 0 if byte == 32 or 9 <= byte <= 13 else run + 1
            if run > longest:
                result[text] = True
                break
