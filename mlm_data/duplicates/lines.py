r"""Boilerplate lines: who has the same line as many others before.

Menus, notices and licence lines stand in thousands of documents that are no duplicates otherwise. Of the lines that are
equal, the first `max_copies` in reading order stay, by (unit, document, line); the others are cut.

A line ends at a line feed. Its white space at both ends doesn't count; what is left must have `min_chars` characters,
so blank lines are never duplicates. Lines are cut whole, with one line feed, so nothing else of a text changes:

    max_copies = 1     "Home | About | Contact us\n\nIt rained."   ->  stays
                       "It snowed.\nHome | About | Contact us"     ->  "It snowed."

Lines are hashed to 128 bits (`hashing`), as documents are, and gathered by a partition of one half; only the other half
goes along, so that a line crosses in 9 bytes and not in 17. With P partitions two different lines are taken for one
with a probability of 1 in 2^64 P, which matters only if together they occur more than `max_copies` times: among 10^11
different lines in 4,096 partitions 0.07 such pairs are expected (n^2 / 2 / 2^64 P). Only records whose hash occurs more
than `max_copies` times are looked at closely. Cost: one pass over the text, one sort of 8 bytes a record.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64

from mlm_data.characters import code_point
from mlm_data.duplicates.records import partition
from mlm_data.hashing import Hashes, hash_spans, large_strings, string_buffers
from mlm_data.kernels import copy_bytes, grown, kernel

ALGORITHM_VERSION = 1  # enters cache keys: count up when other lines are found or cut

SEEN = np.dtype([("h1", "<u8"), ("h2", "<u8"), ("unit", "<i4"), ("document", "<i4"), ("line", "<i8")])
Seen = np.ndarray  # of SEEN

# What a partition gets to know of a line: `h1`.
RECORD = np.dtype([("hash", "<u8"), ("unit", "<i4"), ("document", "<i4"), ("line", "<i8")])
Records = np.ndarray  # of RECORD

# The lines of a unit that are to go, sorted by (document, line).
CUT = np.dtype([("unit", "<i4"), ("document", "<i4"), ("line", "<i8")])
Cuts = np.ndarray  # of CUT


class Lines(NamedTuple):
    """Lines that may be duplicates, text by text."""

    hashes: Hashes
    number: Int64[np.ndarray, " documents"]  # among all lines of its text, from 0
    places: Int64[np.ndarray, " texts+1"]  # where the lines of each text begin


def line_hashes(texts: pa.LargeStringArray, *, min_chars: int) -> Lines:
    r"""The hash of each line that has `min_chars` characters (at least 1) without the white space around it.

    >>> lines = line_hashes(pa.array(["Contents\n\n  Contents  ", "x"], pa.large_string()), min_chars=3)
    >>> lines.number.tolist(), lines.places.tolist(), bool((lines.hashes[0] == lines.hashes[1]).all())
    ([0, 2], [0, 2, 2], True)
    """
    data, offsets = string_buffers(texts)
    starts, ends, number, places = _find_lines(data, offsets, max(1, min_chars))
    return Lines(hash_spans(data, starts, ends), number, places)


def pack_lines(lines: Lines, unit: int, documents: Int32[np.ndarray, " texts"]) -> Seen:
    """The lines of some documents of one unit."""
    records = np.empty(len(lines.number), SEEN)
    records["h1"], records["h2"] = lines.hashes[:, 0], lines.hashes[:, 1]
    records["unit"], records["line"] = unit, lines.number
    records["document"] = np.repeat(documents, np.diff(lines.places))
    return records


def partition_lines(seen: Seen, num_partitions: int) -> list[Records]:
    """The records of each partition, in their order. All equal lines fall into the same one."""
    parts = []
    for part in partition(seen, "h2", num_partitions):
        records = np.empty(len(part), RECORD)
        records["hash"] = part["h1"]
        for name in ("unit", "document", "line"):
            records[name] = part[name]
        parts.append(records)
    return parts


def choose_cuts(records: Records, *, max_copies: int) -> Cuts:
    """The lines of one partition to cut, sorted by (unit, document, line); records may come in any order, and twice."""
    assert max_copies > 0, "the first of equal lines stays"
    order = np.argsort(records["hash"], kind="stable")
    keys = records["hash"][order]
    borders = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.empty(0, np.int64)
    counts = np.diff(np.append(borders, len(keys)))
    some = records[order[np.repeat(counts > max_copies, counts)]]
    some = some[np.lexsort([some[name] for name in ("line", "document", "unit", "hash")])]
    some = some[~_equals_before(some, *(RECORD.names or ()))]
    same_line = _equals_before(some, "hash")
    places = np.arange(len(some))
    first = np.maximum.accumulate(np.where(same_line, 0, places)) if len(some) else places
    some = some[places - first >= max_copies]
    some = some[np.lexsort([some[name] for name in ("line", "document", "unit")])]
    cuts = np.empty(len(some), CUT)
    for name in CUT.names or ():
        cuts[name] = some[name]
    return cuts


def cut_lines(
    texts: pa.LargeStringArray,
    text: Int32[np.ndarray, " cuts"],
    line: Int64[np.ndarray, " cuts"],
) -> tuple[pa.LargeStringArray, Int64[np.ndarray, " texts"]]:
    """The texts without these lines, and how many characters each lost; (text, line) are sorted, each once.

    What is left is joined by line feeds as it was; white space that has become the first or last of a text is not
    taken away, nor blank lines that have become neighbours: `normalize` does that.
    """
    data, offsets = string_buffers(texts)
    borders = np.searchsorted(text, np.arange(len(texts) + 1))
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    places = np.zeros(len(texts) + 1, np.int64)
    removed = np.zeros(len(texts), np.int64)
    _cut(data, offsets, borders, line, out, places, removed)
    return large_strings(out[: places[-1]].copy(), places), removed


def _equals_before(records: Records, *names: str) -> Bool[np.ndarray, " records"]:
    """Whether a record equals the one before in all of these fields; the first one doesn't."""
    equals = np.ones(len(records), np.bool_)
    equals[:1] = False
    for name in names:
        equals[1:] &= records[name][1:] == records[name][:-1]
    return equals


@kernel
def _is_white(code):
    """White space within a line, as `normalize` has it, and the other line ends."""
    if code < 0x80:
        return code == 32 or 9 <= code <= 13
    if code < 0x2000:
        return code == 0x85 or code == 0xA0 or code == 0x1680
    return code <= 0x200A or code == 0x2028 or code == 0x2029 or code == 0x202F or code == 0x205F or code == 0x3000


@kernel
def _stripped(data, i, end):
    """(first byte, byte behind the last, characters) of data[i:end] without white space at its ends."""
    first = behind = i
    num_chars = kept = 0
    while i < end:
        code, width = code_point(data, i)
        i += width
        if _is_white(code):
            if num_chars == 0:
                first = behind = i
                continue
            num_chars += 1
        else:
            num_chars += 1
            kept = num_chars
            behind = i
    return first, behind, kept


@kernel
def _line_end(data, i, end):
    while i < end and data[i] != 10:
        i += 1
    return i


@kernel
def _find_lines(data, offsets, min_chars):
    room = 1024
    starts, ends, number = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    places = np.zeros(len(offsets), np.int64)
    total = 0
    for t in range(len(offsets) - 1):
        i, end = offsets[t], offsets[t + 1]
        line = 0
        while i < end:
            line_end = _line_end(data, i, end)
            # A character has at least one byte.
            if line_end - i >= min_chars:
                first, behind, num_chars = _stripped(data, i, line_end)
                if num_chars >= min_chars:
                    if total == room:
                        room *= 2
                        starts, ends, number = grown(starts, room), grown(ends, room), grown(number, room)
                    starts[total], ends[total], number[total] = first, behind, line
                    total += 1
            i = line_end + 1
            line += 1
        places[t + 1] = total
    return starts[:total], ends[:total], number[:total], places


@kernel
def _num_chars(data, i, end):
    count = 0
    while i < end:
        count += (data[i] & 0xC0) != 0x80
        i += 1
    return count


@kernel
def _cut(data, offsets, borders, lines, out, places, removed):
    at = np.int64(0)
    for t in range(len(removed)):
        start, end = offsets[t], offsets[t + 1]
        first = at
        if borders[t] == borders[t + 1]:
            at = copy_bytes(data, start, end, out, at)
            places[t + 1] = at
            continue
        i, line, cut = start, 0, borders[t]
        is_empty = True
        while i <= end:
            line_end = _line_end(data, i, end)
            if cut < borders[t + 1] and lines[cut] == line:
                cut += 1
            else:
                if not is_empty:
                    out[at] = 10
                    at += 1
                at = copy_bytes(data, i, line_end, out, at)
                is_empty = False
            i = line_end + 1
            line += 1
        places[t + 1] = at
        removed[t] = _num_chars(data, start, end) - _num_chars(out, first, at)
