"""Documents of ids as other tools store them, to documents of content: what stands around texts is taken off.

The rule, by id:

    [CLS], [SEP], [PAD], and tokens named as separators   end a document; what is between two of them is a document
    [UNK]                                                 content, as in a build
    [MASK]                                                refused, unless labels say what it hides (`read_hf.restore`)
    other special tokens                                  refused: nobody knows what they meant
    ids below 0, from the vocabulary's size on, or that no token has   refused

A worked trace, [CLS] = 2, [SEP] = 3, [PAD] = 0:

    2 17 18 3  2 21 3 0 0     ->     17 18 | 21          both with the number of the document that they came from

So packed rows become documents again, and so does what a tool has put `[CLS] ... [SEP]` around, or an end of text
behind. A document of which nothing is left is counted, and dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from mlm_data.errors import ConfigError, InputError
from mlm_data.exchange.tokens import TokenBatch
from mlm_data.hashing import hash_spans
from mlm_data.kernels import read_only
from mlm_data.tokens.reference import Reference
from mlm_data.types import TokenIds, id_type

CONTENT, BORDER, REFUSED = range(3)


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Content of some documents: piece p owns ids[offsets[p]:offsets[p + 1]], at least one token."""

    ids: TokenIds
    offsets: Int64[np.ndarray, " pieces+1"]
    documents: Int64[np.ndarray, " pieces"]  # number in its file of the document that each was cut from
    own_ids: Sequence[str] | None
    num_empty: int  # documents without a piece

    def __len__(self) -> int:
        return self.documents.size

    def hashes(self) -> UInt64[np.ndarray, " pieces 2"]:
        """The pieces' ids: a hash of their tokens as uint32, whatever width they are stored in."""
        data = np.ascontiguousarray(self.ids, dtype="<u4").view(np.uint8)
        return hash_spans(read_only(data), read_only(self.offsets[:-1] * 4), read_only(self.offsets[1:] * 4))


def token_rules(reference: Reference, separators: Sequence[str] = ()) -> UInt8[np.ndarray, " vocabulary"]:
    """What each id is: `CONTENT`, `BORDER` or `REFUSED`.

    Args:
        reference: the tokenizer.
        separators: tokens that end a document, beside [CLS], [SEP] and [PAD].

    Raises:
        ConfigError: if a separator is no token, or [MASK].
    """
    roles = reference.roles
    rules = np.zeros(reference.vocab_size, np.uint8)
    rules[[number for number, token in enumerate(reference.tokens) if not token]] = REFUSED
    rules[reference.special_ids] = REFUSED
    rules[[role for role in (roles.cls, roles.sep, roles.pad) if role >= 0]] = BORDER
    if roles.unk >= 0:
        rules[roles.unk] = CONTENT
    for token in separators:
        if token not in reference.tokens or not token:
            raise ConfigError(f"--separator {token!r}: no token of {reference.where}")
        if reference.tokens.index(token) == roles.mask:
            raise ConfigError(f"--separator {token!r}: it hides a token, and ends no document")
        rules[reference.tokens.index(token)] = BORDER
    return rules


def cut(batch: TokenBatch, rules: UInt8[np.ndarray, " vocabulary"], reference: Reference, *, where: str) -> Pieces:
    """Check the ids of some documents, and cut them into pieces.

    Raises:
        InputError: for ids that can't be; names the first one.
    """
    ids, offsets = batch.ids, batch.offsets
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= rules.size):
        place = int(np.argmax((ids < 0) | (ids >= rules.size)))
        raise InputError(
            f"{_place(batch, place, where)} holds id {ids[place]}, and the vocabulary of {reference.where} has "
            f"{rules.size} ids: was it made with another tokenizer?"
        )
    found = rules[ids]
    if (found == REFUSED).any():
        place = int(np.argmax(found == REFUSED))
        raise InputError(f"{_place(batch, place, where)} holds id {ids[place]}, {_why(reference, int(ids[place]))}")
    is_content = found == CONTENT
    begins = np.zeros(ids.size, bool)
    begins[offsets[:-1][offsets[:-1] < ids.size]] = True
    begins[1:] |= ~is_content[:-1]
    starts = np.flatnonzero(begins & is_content)
    documents = np.searchsorted(offsets, starts, side="right") - 1
    kept = np.concatenate([[0], np.cumsum(is_content)])
    return Pieces(
        ids=ids[is_content].astype(id_type(reference.vocab_size)),
        offsets=np.append(kept[starts], kept[-1]),
        documents=documents + batch.first,
        own_ids=None if batch.own_ids is None else [batch.own_ids[document] for document in documents.tolist()],
        num_empty=offsets.size - 1 - np.unique(documents).size,
    )


def _place(batch: TokenBatch, place: int, where: str) -> str:
    return f"{where}: document {batch.first + int(np.searchsorted(batch.offsets, place, side='right')) - 1}"


def _why(reference: Reference, number: int) -> str:
    token = reference.tokens[number]
    if not token:
        return f"which no token of {reference.where} has: was it made with another tokenizer?"
    if number == reference.roles.mask:
        return f"{token}, and no column `labels` says what it hides: export or tokenize without masks"
    return f"the special token {token}: add --separator '{token}' to cut documents there, or tokenize without it"
