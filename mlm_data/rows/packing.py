"""Cut documents into segments, and pack segments into rows of exactly L token places.

The rule. One row at a time, longest first, over a histogram of lengths. A row begins with the longest segment left. If
one segment fills it exactly, that is taken; if two do, these two; else the longest that fits, and again. L = 8, lengths
5 3 6 2 3 2:

    row 0:  6, room 2:  2 fills it        [6 2]
    row 1:  5, room 3:  3 fills it        [5 3]
    row 2:  3, room 5:  no one and no two; the longest that fits is 2        [3 2]

Equal lengths go in document order. At last the order is made canonical: rows by their first segment, segments in a row
as in their documents: [5 3] [6 2] [3 2], so order = 0 1 | 2 3 | 4 5.

A row holds at most `max_segments`. So that short segments don't all meet in the last rows, each row takes its share
early: with n segments left for r rows, all but `keep` of its ceil(n / r) segments are the shortest ones there are.
Which `keep` is best, and whether the two that fill a row should be as equal or as unequal as possible, depends on the
histogram: a few pairs of answers are tried until the rows are at most one more than the lower bound, else the best is
kept. Where short segments prevail, a second way is tried: all of them, longest first, each into the emptiest row
(Graham 1969, Bounds on multiprocessing timing anomalies: LPT).

Best-fit decreasing (Johnson 1973) is the usual rule, and the special case `keep` = all, without looking for pairs: it
needs 0 to 7 % more rows for paragraphs of books. Filling bin after bin is the minimum bin slack of Gupta and Ho 1999.

Cost: about 5 ns per segment and try, at most 8 tries; the search for a pair is bounded, and usually short.
Everything is deterministic.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int32, Int64

from mlm_data.errors import FormatError
from mlm_data.kernels import kernel, read_only
from mlm_data.rows.arrays import row_arrays
from mlm_data.types import Roles, Rows, TokenIds

MIN_PIECE = 32  # tokens: a shorter last piece has too little context to learn from
ALL = 2**20
# (keep, equal) of `_row_by_row`, in the order in which they are tried; found on paragraphs, books, lines and reviews.
STRATEGIES = ((4, True), (4, False), (3, False), (2, False), (5, True), (5, False), (2, True), (ALL, True))
PAIR_STEPS = 1024  # lengths to look at for two segments that fill a row; dense histograms need few
CROWDED = 0.4  # of the segments that the fewest possible rows may hold: above it they may be too many for some rows
NUM_BANDS = 16  # of the histogram of segment lengths


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Pieces of documents, in document order. Lengths count content tokens: no specials."""

    document: Int32[np.ndarray, " segments"]
    start: Int32[np.ndarray, " segments"]  # place of the first token in its document
    length: Int32[np.ndarray, " segments"]
    num_truncated_tokens: int  # cut off and in no segment
    num_empty_documents: int  # without a token, so without a segment

    def __len__(self) -> int:
        return self.length.size


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Row r holds segments order[row_offsets[r]:row_offsets[r + 1]]."""

    order: Int32[np.ndarray, " segments"]
    row_offsets: Int32[np.ndarray, " rows+1"]

    def __len__(self) -> int:
        return self.row_offsets.size - 1


def cut_documents(
    offsets: Int64[np.ndarray, " documents+1"],
    word_starts: Bool[np.ndarray, " tokens"],
    *,
    capacity: int,
    long_documents: Literal["split", "truncate"] = "split",
    min_piece: int = MIN_PIECE,
) -> Segments:
    """Cut documents into segments of at most `capacity` tokens.

    A longer document is cut at the last word start that fits; a word longer than the capacity is cut hard. A last
    piece under `min_piece` tokens shares with the one before: both are cut again at the word start nearest to their
    middle. With `truncate` only the first piece is kept.

    Args:
        offsets: document d owns tokens offsets[d]:offsets[d + 1].
        word_starts: True where a token begins a word.
        capacity: tokens that fit between the special tokens of a row: L - num_specials.
        long_documents: what to do with a document above the capacity.
        min_piece: in tokens.

    Raises:
        ValueError: if the capacity is below 1, or a document has 2**31 tokens (a bug of the caller).
    """
    lengths = np.diff(offsets)
    if capacity < 1 or (lengths.size and int(lengths.max()) >= 2**31):
        raise ValueError(f"capacity {capacity}, longest document {lengths.max(initial=0)} tokens: out of range")
    # Two neighbouring pieces hold more than `capacity` tokens together, so a document has at most 2n / capacity + 2.
    room = int(np.sum(np.where(lengths > capacity, 2 * lengths // capacity + 2, 1)))
    document, start, length = (np.empty(room, np.int32) for _ in range(3))
    count, truncated = _cut(
        read_only(offsets.astype(np.int64, copy=False)),
        read_only(word_starts),
        capacity,
        long_documents == "truncate",
        min_piece,
        document,
        start,
        length,
    )
    return Segments(
        document=document[:count].copy(),
        start=start[:count].copy(),
        length=length[:count].copy(),
        num_truncated_tokens=int(truncated),
        num_empty_documents=int(np.count_nonzero(lengths == 0)),
    )


def pack(lengths: Int32[np.ndarray, " segments"], *, sequence_length: int, max_segments: int) -> Packing:
    """Pack segments into rows, in canonical order: see the module's head.

    Args:
        lengths: of the segments in document order, special tokens included; 1 to `sequence_length` each.
        sequence_length: token places of a row.
        max_segments: the most segments that a row may hold.

    Raises:
        ValueError: if a length is out of range (a bug of the caller).
    """
    if lengths.size and not 1 <= int(lengths.min()) <= int(lengths.max()) <= sequence_length:
        raise ValueError(f"segment lengths {lengths.min()} to {lengths.max()} don't fit rows of {sequence_length}")
    if not lengths.size:
        return Packing(order=np.zeros(0, np.int32), row_offsets=np.zeros(1, np.int32))
    lengths = read_only(lengths)
    by_length, ends = _sort_by_length(lengths, sequence_length)
    bound = lower_bound(lengths, sequence_length=sequence_length, max_segments=max_segments)
    row, num_rows = _row_by_row(by_length, ends, sequence_length, max_segments, *STRATEGIES[0])
    for strategy in STRATEGIES[1:]:
        if num_rows <= bound + 1:
            break
        other, num_other = _row_by_row(by_length, ends, sequence_length, max_segments, *strategy)
        if num_other < num_rows:
            row, num_rows = other, num_other
    if num_rows > bound + 1 and lengths.size > CROWDED * max_segments * bound:
        row, num_rows = _balance(lengths, by_length, sequence_length, max_segments, row, bound, num_rows)
    order, row_offsets = _canonical(row, num_rows)
    return Packing(order=order, row_offsets=row_offsets)


def lower_bound(lengths: Int32[np.ndarray, " segments"], *, sequence_length: int, max_segments: int) -> int:
    """No packing has fewer rows: Martello and Toth 1990, Knapsack problems, sec. 8.3.2 (L2), or the bound on segments.

    L2 is at least ceil(tokens / L). It also knows that segments above L / 2 can't share a row, and that segments below
    k can't lie beside those above L - k, for every k.
    """
    counts = np.bincount(lengths, minlength=sequence_length + 1)
    number = np.concatenate([[0], np.cumsum(counts)])  # number[l]: segments shorter than l
    tokens = np.concatenate([[0], np.cumsum(counts * np.arange(sequence_length + 1))])
    half = sequence_length // 2 + 1
    k = np.arange(half)
    long = number[-1] - number[half]
    room = (number[sequence_length - k + 1] - number[half]) * sequence_length - (
        tokens[sequence_length - k + 1] - tokens[half]
    )  # beside segments above L / 2 and up to L - k
    short = tokens[half] - tokens[k]  # segments from k to L / 2
    rows = long + np.maximum(0, -((room - short) // sequence_length))
    return int(max(rows.max(), -(-lengths.size // max_segments)))


def fill_rows(
    ids: TokenIds,
    offsets: Int64[np.ndarray, " documents+1"],
    word_starts: Bool[np.ndarray, " tokens"],
    segments: Segments,
    packing: Packing,
    *,
    sequence_length: int,
    roles: Roles,
) -> Rows:
    """Write the packed rows, straight from the documents' token buffer.

    Returns:
        Rows whose segments are [CLS] content [SEP] (where the tokenizer has those roles), then [PAD]; their documents
        are numbered as in `offsets`, their ids have the type of `ids`.
    """
    num_rows = len(packing)
    tokens = np.full((num_rows, sequence_length), roles.pad, ids.dtype)
    bits = np.zeros((num_rows, sequence_length // 8), np.uint8)
    _fill(
        read_only(ids),
        read_only(offsets.astype(np.int64, copy=False)),
        read_only(word_starts),
        read_only(segments.document),
        read_only(segments.start),
        read_only(segments.length),
        read_only(packing.order),
        read_only(packing.row_offsets),
        roles.cls,
        roles.sep,
        tokens,
        bits,
    )
    return Rows(
        tokens=tokens,
        segment_offsets=packing.row_offsets,
        segment_lengths=segments.length[packing.order] + np.int32(roles.num_specials),
        segment_documents=segments.document[packing.order],
        segment_starts=segments.start[packing.order],
        word_starts=bits,
    )


def take_out(
    rows: Rows,
    offsets: Int64[np.ndarray, " documents+1"],
    ids: TokenIds,
    word_starts: Bool[np.ndarray, " tokens"],
    *,
    roles: Roles,
) -> None:
    """The inverse of `fill_rows`: copy what rows hold of each document to its places in a buffer of all documents.

    Args:
        rows: any rows of a shard; all of them fill the buffer, if no document was truncated.
        offsets: document d gets ids[offsets[d]:offsets[d + 1]].
        ids: filled where these rows hold a token.
        word_starts: likewise: True where a token begins a word.
        roles: of the tokenizer; tells whether segments begin with [CLS] and end with [SEP].

    Raises:
        FormatError: if a segment doesn't fit its row or its document.
    """
    if ids.size != offsets[-1] or word_starts.size != ids.size or rows.segment_offsets[-1] > rows.segment_lengths.size:
        raise ValueError(f"{ids.size} places for {offsets[-1]} tokens (a bug of the caller)")
    bad = _take_out(
        row_arrays(rows), read_only(offsets), np.int64(roles.cls >= 0), np.int64(roles.sep >= 0), ids, word_starts
    )
    if bad >= 0:
        raise FormatError(f"row {bad}: a segment doesn't fit its row or its document: run premask verify")


@dataclass(frozen=True, kw_only=True)
class PackingStatistics:
    """How full the rows are. Counts of several shards add up with `+`."""

    sequence_length: int
    num_rows: int
    num_rows_bound: int  # the fewest possible, shard by shard
    num_segments: int
    num_tokens: int  # places in segments, special tokens included
    max_segments: int  # in any row
    lengths: tuple[int, ...]  # band b counts segments of b * L / 16 < length <= (b + 1) * L / 16

    @property
    def fullness(self) -> float:
        """Share of token places that are not padding."""
        return self.num_tokens / (self.num_rows * self.sequence_length) if self.num_rows else 0.0

    def __add__(self, other: "PackingStatistics") -> "PackingStatistics":
        if self.sequence_length != other.sequence_length:
            raise ValueError(f"rows of {self.sequence_length} and of {other.sequence_length} tokens don't add up")
        return PackingStatistics(
            sequence_length=self.sequence_length,
            num_rows=self.num_rows + other.num_rows,
            num_rows_bound=self.num_rows_bound + other.num_rows_bound,
            num_segments=self.num_segments + other.num_segments,
            num_tokens=self.num_tokens + other.num_tokens,
            max_segments=max(self.max_segments, other.max_segments),
            lengths=tuple(a + b for a, b in zip(self.lengths, other.lengths, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        return {**vars(self), "lengths": list(self.lengths)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "PackingStatistics":
        return cls(**{**value, "lengths": tuple(value["lengths"])})


def statistics(
    lengths: Int32[np.ndarray, " segments"], packing: Packing, *, sequence_length: int, max_segments: int
) -> PackingStatistics:
    """What `plan` and the manifest say about a packing; arguments as for `pack`."""
    bands = np.bincount((lengths.astype(np.int64) - 1) * NUM_BANDS // sequence_length, minlength=NUM_BANDS)
    return PackingStatistics(
        sequence_length=sequence_length,
        num_rows=len(packing),
        num_rows_bound=lower_bound(lengths, sequence_length=sequence_length, max_segments=max_segments),
        num_segments=int(lengths.size),
        num_tokens=int(lengths.sum(dtype=np.int64)),
        max_segments=int(np.diff(packing.row_offsets).max(initial=0)),
        lengths=tuple(int(count) for count in bands),
    )


@kernel
def _cut(offsets, word_starts, capacity, truncate, min_piece, document, start, length):
    """Fill the three output arrays: (segments written, tokens cut off)."""
    count, truncated = 0, 0
    for d in range(offsets.size - 1):
        first, end = offsets[d], offsets[d + 1]
        at = first
        while end > at:
            piece = end - at
            if piece > capacity:
                piece = _piece(word_starts, at, end, capacity, 0 if truncate else min_piece)
            document[count], start[count], length[count] = d, at - first, piece
            count += 1
            at += piece
            if truncate:
                truncated += end - at
                break
    return count, truncated


@kernel
def _piece(word_starts, at, end, capacity, min_piece):
    """Length of the next piece of a text that is longer than the capacity."""
    cut = at + capacity
    while cut > at and not word_starts[cut]:
        cut -= 1
    if cut == at:  # a word longer than the capacity
        cut = at + capacity
    if end - cut >= min_piece or end - cut > capacity:
        return cut - at
    # The rest would be too short: share. Both pieces must fit; nearest to the middle, of two the earlier.
    middle = at + (end - at) // 2
    for distance in range(capacity + 1):
        for place in (middle - distance, middle + distance):
            if end - capacity <= place <= at + capacity and at < place < end and word_starts[place]:
                return place - at
    return middle - at


@kernel
def _sort_by_length(lengths, sequence_length):
    """Segments from long to short, equals in order; and where each length ends: ends[l] for length l."""
    counts = np.zeros(sequence_length + 2, np.int64)
    for length in lengths:
        counts[length] += 1
    ends = np.zeros(sequence_length + 2, np.int64)
    total = 0
    for length in range(sequence_length, -1, -1):
        counts[length], total = total, total + counts[length]
        ends[length] = total
    by_length = np.empty(lengths.size, np.int32)
    for segment in range(lengths.size):
        by_length[counts[lengths[segment]]] = segment
        counts[lengths[segment]] += 1
    return by_length, ends


@kernel
def _row_by_row(by_length, ends, sequence_length, max_segments, keep, equal):
    """Row of every segment, and the number of rows. `keep` and `equal` choose a strategy: see the module's head."""
    row_of = np.empty(by_length.size, np.int32)
    left = np.empty(sequence_length + 1, np.int64)  # segments of each length that are in no row yet
    left[0] = 0
    tokens = 0
    for length in range(1, sequence_length + 1):
        left[length] = ends[length] - ends[length + 1]
        tokens += length * left[length]
    num_left, num_rows, longest, shortest = by_length.size, 0, sequence_length, 1
    while num_left:
        while left[longest] == 0:
            longest -= 1
        share = -(-num_left // max(1, -(-tokens // sequence_length)))
        room, held, length = sequence_length, 0, longest
        while True:
            row_of[by_length[ends[length] - left[length]]] = num_rows
            left[length] -= 1
            num_left -= 1
            tokens -= length
            room -= length
            held += 1
            if held == max_segments or num_left == 0:
                break
            while left[shortest] == 0:
                shortest += 1
            if room < shortest:
                break
            if left[room]:
                length = room
            elif share - held > keep and 4 * shortest <= room:
                length = shortest
            else:
                length = 0
                if held + 2 <= max_segments:
                    length = _longer_of_two(left, room, shortest, longest, equal)
                if length == 0:
                    length = min(room, longest)
                    while left[length] == 0:
                        length -= 1
        num_rows += 1
    return row_of, num_rows


@kernel
def _longer_of_two(left, room, shortest, longest, equal):
    """The longer of two segments that fill the room exactly, as equal or as unequal as can be; 0 if there are none."""
    low, high = (room + 1) // 2, min(room - shortest, longest)
    for step in range(min(high - low + 1, PAIR_STEPS)):
        length = low + step if equal else high - step
        if left[length] and left[room - length] > (2 * length == room):
            return length
    return 0


@kernel
def _balance(lengths, by_length, sequence_length, max_segments, row_of, low, high):
    """Search, by bisection, a packing with fewer rows than `high`; `row_of`, which has `high`, if there is none."""
    best = row_of
    for _ in range(8):
        num_rows = (low + high) // 2
        if num_rows >= high:
            break
        other = _worst_fit(lengths, by_length, sequence_length, max_segments, num_rows)
        if other.size:
            best, high = other, num_rows
        else:
            low = num_rows + 1
    return best, high


@kernel
def _worst_fit(lengths, by_length, sequence_length, max_segments, num_rows):
    """Lay segments, long to short, each into the row with the most room (first in, first out); empty: no fit."""
    row_of = np.empty(by_length.size, np.int32)
    used = np.zeros(num_rows, np.int32)
    after = np.arange(1, num_rows + 1, dtype=np.int32)  # the next row in the same list
    after[num_rows - 1] = -1
    first = np.full(sequence_length + 1, -1, np.int32)
    last = np.full(sequence_length + 1, -1, np.int32)
    first[sequence_length], last[sequence_length] = 0, num_rows - 1
    room = sequence_length
    for segment in by_length:
        while room > 0 and first[room] < 0:
            room -= 1
        left = room - lengths[segment]
        if left < 0 or room == 0:
            return row_of[:0]
        row = first[room]
        first[room] = after[row]
        row_of[segment] = row
        used[row] += 1
        if used[row] < max_segments and left > 0:
            after[row] = -1
            if first[left] < 0:
                first[left] = row
            else:
                after[last[left]] = row
            last[left] = row
    return row_of


@kernel
def _canonical(row_of, num_rows):
    """Renumber rows by their first segment; list each row's segments in order."""
    number = np.full(num_rows, -1, np.int32)
    row_offsets = np.zeros(num_rows + 1, np.int32)
    seen = 0
    for row in row_of:
        if number[row] < 0:
            number[row] = seen
            seen += 1
        row_offsets[number[row] + 1] += 1
    for row in range(num_rows):
        row_offsets[row + 1] += row_offsets[row]
    place = row_offsets[:-1].copy()
    order = np.empty(row_of.size, np.int32)
    for segment in range(row_of.size):
        row = number[row_of[segment]]
        order[place[row]] = segment
        place[row] += 1
    return order, row_offsets


@kernel
def _fill(ids, offsets, word_starts, document, start, length, order, row_offsets, cls, sep, tokens, bits):
    """Write tokens (already [PAD]) and word-start bits (already 0) of all rows."""
    width = tokens.shape[1]
    flags = np.zeros(width, np.uint8)
    for row in range(tokens.shape[0]):
        out, line = tokens[row], bits[row]
        flags[:] = 0
        at = 0
        for i in range(row_offsets[row], row_offsets[row + 1]):
            segment = order[i]
            source = offsets[document[segment]] + start[segment]
            if cls >= 0:
                out[at] = cls
                at += 1
            size = int(length[segment])
            # Slices from 0 on: LLVM copies them with vectors, as no place can be negative.
            copy, marks = out[at : at + size], flags[at : at + size]
            content, begins = ids[source : source + size], word_starts[source : source + size]
            for j in range(size):
                copy[j] = content[j]
            for j in range(size):
                marks[j] = begins[j]
            at += size
            if sep >= 0:
                out[at] = sep
                at += 1
        for byte in range(width // 8):
            packed = np.uint8(0)
            for bit in range(8):
                packed |= flags[8 * byte + bit] << np.uint8(bit)
            line[byte] = packed


@kernel
def _take_out(rows, offsets, has_cls, has_sep, ids, word_starts):
    """Copy each segment's content to its place in its document; returns the first row that breaks a bound, or -1."""
    tokens, segment_offsets, segment_lengths, segment_documents, segment_starts, bits = rows
    num_rows, length = tokens.shape
    num_documents = offsets.size - 1
    flags = np.zeros(length, np.bool_)
    for row in range(num_rows):
        line = tokens[row]
        for byte in range(length // 8):
            packed = bits[row, byte]
            for bit in range(8):
                flags[8 * byte + bit] = packed >> np.uint8(bit) & np.uint8(1)
        at = np.int64(0)
        for s in range(segment_offsets[row], segment_offsets[row + 1]):
            size = np.int64(segment_lengths[s]) - has_cls - has_sep
            d = np.int64(segment_documents[s])
            if size < 0 or at + segment_lengths[s] > length or d < 0 or d >= num_documents:
                return row
            target = offsets[d] + segment_starts[s]
            if segment_starts[s] < 0 or target + size > offsets[d + 1]:
                return row
            content = at + has_cls
            copy, begins = ids[target : target + size], word_starts[target : target + size]
            piece, marks = line[content : content + size], flags[content : content + size]
            for j in range(size):
                copy[j] = piece[j]
            for j in range(size):
                begins[j] = marks[j]
            at += segment_lengths[s]
    return -1
