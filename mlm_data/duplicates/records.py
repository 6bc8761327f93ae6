"""Packed records, which cross from step to step, little-endian and gathered by a partition of a hash.

A record is fixed-width in memory. Those that are many, one or more for each document, cross smaller, as columns: hashes
are random, and stay as they are; places are in order, so hardly more than a bit of each is news.

    4 bytes           records
    4 bytes           runs of one unit
    8 bytes a run     unit, records
    8 bytes a hash    each hash column, all records of it
    the rest          for each record in LEB128 (as in DWARF 5, section 7.6) how far it is behind the one before:
                          documents d, or where there are lines 2 l + (d > 0), then d if it isn't 0; l is a number of
                          lines, from 0 again in another document

So a signature takes 17 bytes of 24 in memory, a band 9 of 16, a line 9 to 11 of 24. A signature's hash is whole: no
document is matched that differs in one of 128 bits. A band that meets by chance costs one comparison of sketches; of
lines `lines` says how seldom it is.
"""

import struct
from collections.abc import Sequence

import numpy as np

from mlm_data.errors import FormatError
from mlm_data.kernels import kernel, read_only

Records = np.ndarray  # of a structured type


def to_bytes(records: Records) -> bytes:
    """The records' own bytes; `from_bytes` is the inverse."""
    return np.ascontiguousarray(records).tobytes()


def from_bytes(data: bytes | memoryview, kind: np.dtype) -> Records:
    """Records around the bytes, zero-copy."""
    return np.frombuffer(data, kind)


def partition(records: Records, field: str, num_partitions: int) -> list[Records]:
    """The records of each partition, in their order. Equal values of `field`, a uint64, fall into the same one.

    >>> records = np.array([(7,), (4,), (7,)], [("hash", "<u8")])
    >>> [part["hash"].tolist() for part in partition(records, "hash", 2)]
    [[4], [7, 7]]
    """
    number = (records[field] % np.uint64(num_partitions)).astype(np.int32)
    order = np.argsort(number, kind="stable")
    borders = np.searchsorted(number[order], np.arange(1, num_partitions))
    return np.split(records[order], borders)


def pack(records: Records) -> bytes:
    """Records of hashes (uint64), `unit`, `document` and perhaps `line` as columns; `unpack` is the inverse.

    They are sorted by place, if they are not.
    """
    places = [name for name in ("line", "document", "unit") if name in (records.dtype.names or ())]
    if not _is_sorted(records, places[::-1]):
        records = records[np.lexsort([records[name] for name in places])]
    starts = np.flatnonzero(np.diff(records["unit"], prepend=-1)) if len(records) else np.zeros(0, np.int64)
    runs = np.empty((len(starts), 2), "<i4")
    runs[:, 0], runs[:, 1] = records["unit"][starts], np.diff(starts, append=len(records))
    documents = records["document"].astype(np.int64)
    lines = records["line"].astype(np.int64) if "line" in places else np.zeros(0, np.int64)
    out = np.empty(len(records) * 20, np.uint8)
    size = _write_places(read_only(runs[:, 1].astype(np.int64)), read_only(documents), read_only(lines), out)
    hashes = [np.ascontiguousarray(records[name]).tobytes() for name in _hashes(records.dtype)]
    return b"".join([_HEAD.pack(len(records), len(runs)), runs.tobytes(), *hashes, out[:size].tobytes()])


def unpack(data: bytes | memoryview, kind: np.dtype) -> Records:
    """The records of `pack`, sorted by place.

    Raises:
        FormatError: the bytes are of something else.
    """
    num, num_runs = _HEAD.unpack_from(data)
    names = _hashes(kind)
    first = _HEAD.size + 8 * num_runs
    behind = first + 8 * num * len(names)
    if len(data) < behind:
        raise FormatError(f"{len(data)} bytes are too few for {num} records")
    runs = np.frombuffer(data, "<i4", 2 * num_runs, _HEAD.size).reshape(-1, 2).astype(np.int64)
    records = np.empty(num, kind)
    for place, name in enumerate(names):
        records[name] = np.frombuffer(data, "<u8", num, first + 8 * num * place)
    documents, lines = np.empty(num, np.int64), np.empty(num if "line" in (kind.names or ()) else 0, np.int64)
    rest = np.frombuffer(data, np.uint8, offset=behind)
    if runs[:, 1].sum() != num or _read_places(read_only(rest), read_only(runs[:, 1]), documents, lines) != len(rest):
        raise FormatError(f"the places of {num} records don't fill their bytes")
    records["unit"], records["document"] = np.repeat(runs[:, 0], runs[:, 1]), documents
    if len(lines):
        records["line"] = lines
    return records


_HEAD = struct.Struct("<II")


def _hashes(kind: np.dtype) -> list[str]:
    return [name for name in kind.names or () if kind[name] == np.dtype("<u8")]


def _is_sorted(records: Records, names: Sequence[str]) -> bool:
    """Whether no record comes before the one in front of it; `names` are the places, the one that counts most first."""
    equal = np.ones(max(0, len(records) - 1), np.bool_)
    for name in names:
        before, after = records[name][:-1], records[name][1:]
        if (equal & (after < before)).any():
            return False
        equal &= after == before
    return True


@kernel
def _write_places(runs, documents, lines, out):
    at = k = 0
    for run in range(len(runs)):
        document = line = np.int64(0)
        for _ in range(runs[run]):
            further = documents[k] - document
            if len(lines) > 0:
                if further > 0:
                    line = np.int64(0)
                at = _write_number(2 * (lines[k] - line) + (further > 0), out, at)
                line = lines[k]
            if len(lines) == 0 or further > 0:
                at = _write_number(further, out, at)
            document = documents[k]
            k += 1
    return at


@kernel
def _read_places(data, runs, documents, lines):
    """The place behind the last byte that was read; -1 where there are too few."""
    at = k = np.int64(0)
    for run in range(len(runs)):
        document = line = np.int64(0)
        for _ in range(runs[run]):
            is_further = True
            if len(lines) > 0:
                number, at = _read_number(data, at)
                is_further = number % 2 == 1
                line = number // 2 if is_further else line + number // 2
                lines[k] = line
            if is_further:
                number, at = _read_number(data, at)
                document += number
            if at < 0:
                return at
            documents[k] = document
            k += 1
    return at


@kernel
def _write_number(number, out, at):
    while number >= 128:
        out[at] = number & 127 | 128
        number >>= 7
        at += 1
    out[at] = number
    return at + 1


@kernel
def _read_number(data, at):
    number = np.int64(0)
    if at < 0:
        return number, at
    for shift in range(0, 63, 7):
        if at >= len(data):
            break
        number |= np.int64(data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return number, at
    return number, np.int64(-1)
