"""The rules that packed rows keep, whoever asks: a build before it publishes, `verify` when it reads them again.

One pass over the tokens finds every breach. A rule has a line for people; the first row that breaks it is named and the
others are counted. Cost: about 1 GB/s on one core.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32, Int64

from mlm_data.kernels import kernel, read_only
from mlm_data.rows.arrays import row_arrays
from mlm_data.types import Roles, Rows

(NO_CONTENT, TOO_LONG, NO_DOCUMENT, OUTSIDE, PADDING, FOREIGN, NO_CLS, NO_SEP, SPECIAL_INSIDE, WORD_AT_SPECIAL) = range(
    10
)
LINES = (
    "a segment has no content",
    "its segments are longer than the row",
    "a segment names a document that is not there",
    "a segment lies outside its document",
    "padding holds something else than [PAD]",
    "a token is not in the vocabulary",
    "a segment has no [CLS] in its place",
    "a segment has no [SEP] in its place",
    "a special token stands inside a segment",
    "a word starts at a special token or padding",
)


def row_problems(
    rows: Rows,
    num_tokens: Int32[np.ndarray, " documents"],
    *,
    roles: Roles,
    vocab_size: int,
    first: int = 0,
) -> Iterator[str]:
    """One line for each rule that some row breaks.

    Args:
        rows: any rows of one shard.
        num_tokens: content tokens of each of the shard's documents.
        first: number of the first row, for the lines.
    """
    # In the tokens' own type, and one for a role that there isn't: so many comparisons at once are one instruction.
    inside = np.array([roles.pad if role < 0 else role for role in (roles.cls, roles.sep, roles.mask)])
    firsts, counts = _find(
        row_arrays(rows),
        read_only(np.ascontiguousarray(num_tokens, np.int32)),
        roles.cls,
        roles.sep,
        rows.tokens.dtype.type(roles.pad),
        inside.astype(rows.tokens.dtype),
        vocab_size,
    )
    for line, row, count in zip(LINES, firsts.tolist(), counts.tolist(), strict=True):
        if count:
            yield problem_line(first + row, line, count)


def problem_line(row: int, problem: str, count: int) -> str:
    """A rule that some rows break: the first of them, and how many there are.

    >>> problem_line(7, "its swaps are not in order", 2)
    'row 7: its swaps are not in order (2 such rows)'
    """
    return f"row {row}: {problem}" + (f" ({count} such rows)" if count > 1 else "")


def document_problems(
    content: Int64[np.ndarray, " documents"], num_tokens: Int32[np.ndarray, " documents"], *, is_whole: bool
) -> Iterator[str]:
    """One line if rows hold more, or with `is_whole` less, of some document than it has.

    Args:
        content: content tokens of each document that rows hold.
    """
    wrong = np.flatnonzero(content != num_tokens if is_whole else content > num_tokens)
    if wrong.size:
        one = wrong[0]
        yield f"document {one}: has {num_tokens[one]} tokens, rows hold {content[one]} of it ({wrong.size} such)"


def add_content(content: Int64[np.ndarray, " documents"], rows: Rows, roles: Roles) -> None:
    """Add the content tokens of each document that these rows hold."""
    _add_content(content, read_only(rows.segment_documents), read_only(rows.segment_lengths), roles.num_specials)


@kernel
def _add_content(content, documents, lengths, num_specials):
    for s in range(documents.size):
        if 0 <= documents[s] < content.size:
            content[documents[s]] += lengths[s] - num_specials


@kernel
def _find(rows, num_tokens, cls, sep, pad, specials, vocab_size):
    tokens, segment_offsets, segment_lengths, segment_documents, segment_starts, word_starts = rows
    num_rows, length = tokens.shape
    firsts = np.zeros(10, np.int64)
    counts = np.zeros(10, np.int64)
    broken = np.zeros(10, np.bool_)
    num_specials = np.int64(cls >= 0) + np.int64(sep >= 0)
    for row in range(num_rows):
        line, bits = tokens[row], word_starts[row]
        broken[:] = False
        at = np.int64(0)
        for s in range(segment_offsets[row], segment_offsets[row + 1]):
            size = np.int64(segment_lengths[s])
            if size <= num_specials:
                broken[NO_CONTENT] = True
            document, start = segment_documents[s], np.int64(segment_starts[s])
            if document < 0 or document >= num_tokens.size:
                broken[NO_DOCUMENT] = True
            elif start < 0 or start + size - num_specials > num_tokens[document]:
                broken[OUTSIDE] = True
            if size < 0 or at + size > length:
                broken[TOO_LONG] = True
                break
            begin, end = at, at + size
            if cls >= 0 and size > 0:
                if np.int64(line[begin]) != cls:
                    broken[NO_CLS] = True
                if bits[begin >> 3] >> np.uint8(begin & 7) & np.uint8(1):
                    broken[WORD_AT_SPECIAL] = True
                begin += 1
            if sep >= 0 and end > begin:
                end -= 1
                if np.int64(line[end]) != sep:
                    broken[NO_SEP] = True
                if bits[end >> 3] >> np.uint8(end & 7) & np.uint8(1):
                    broken[WORD_AT_SPECIAL] = True
            if _holds(line[begin:end], pad, specials[0], specials[1], specials[2]):
                broken[SPECIAL_INSIDE] = True
            at += size
        if not broken[TOO_LONG]:
            for i in range(at, length):
                if line[i] != pad:
                    broken[PADDING] = True
                if bits[i >> 3] >> np.uint8(i & 7) & np.uint8(1):
                    broken[WORD_AT_SPECIAL] = True
        if _highest(line) >= vocab_size:
            broken[FOREIGN] = True
        for rule in range(10):
            if broken[rule]:
                if counts[rule] == 0:
                    firsts[rule] = row
                counts[rule] += 1
    return firsts, counts


@kernel
def _holds(tokens, first, second, third, fourth):
    """Whether one of four ids is among some tokens."""
    found = False
    for i in range(tokens.size):
        token = tokens[i]
        found |= (token == first) | (token == second) | (token == third) | (token == fourth)
    return found


@kernel
def _highest(tokens):
    highest = tokens[0]
    for i in range(tokens.size):
        highest = max(highest, tokens[i])
    return np.int64(highest)
