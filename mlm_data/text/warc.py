r"""Records of a WARC file, whole or damaged (ISO 28500:2017, which is WARC 1.1; 1.0; 0.17 and 0.18 of older crawls).

    WARC/1.0\r\n                                    a record begins with such a line,
    WARC-Type: conversion\r\n                       goes on with fields
    Content-Length: 5\r\n
    \r\n                                            to an empty line,
    Hello\r\n\r\n                                   and has a block of Content-Length bytes, then two line ends

Each record is checked: behind its block the next one must begin, or the file end. Where that is not so, what can be
read is read, and the rest is told of as broken records, with their places:

    bytes that are no record            skipped to the next line that begins a record
    a record begins inside of a block   Content-Length is wrong: the block is broken, and the record inside is the next
    a member of gzip is damaged         go on at the next one that begins with a record: see `ByteStream.resume`
    the file ends inside of a record    `truncated`, as with every stream that breaks off

A block of more than `max_bytes` is skipped, not kept: `too_large`. Memory is a few times that, whatever is in the file;
each byte is looked at a fixed number of times.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mlm_data.text.streams import ByteStream

BAD_WARC, TOO_LARGE, TRUNCATED = "bad_warc", "too_large", "truncated"

MAX_HEADER_BYTES = 64 << 10  # of a record's fields; real ones have a thousandth of it
READ_BYTES = 1 << 20
BEGIN = b"WARC/"
_WRONG_LENGTH = "Content-Length is {}, but the next record begins before"

_VERSION = re.compile(rb"WARC/(?:0\.1[78]|1\.[01])[ \t]*\r?\n")
_RECORD = re.compile(rb"\n(WARC/(?:0\.1[78]|1\.[01])[ \t]*\r?\n)")
_LONGEST_VERSION = 32  # bytes within which `_RECORD` matches; with more blanks behind the number it is no record
_END_OF_FIELDS = re.compile(rb"\r?\n\r?\n")
_LINE_ENDS = re.compile(rb"[\r\n]*")


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record, or bytes where one should be."""

    offset: int  # of its first byte, in the decompressed file
    num_bytes: int  # of all of it, as far as it was read
    fields: Mapping[str, str] = field(default_factory=dict)  # names in lower case; of equal ones the first
    block: bytes = b""
    problem: tuple[str, str] | None = None  # (reason, detail), if it can't be read
    lost_bytes: int | None = 0  # as in `mlm_data.types.Quarantined`


def read_records(stream: ByteStream, *, max_bytes: int) -> Iterator[Record]:
    """All records of a stream, in order, those that are broken too.

    `num_bytes` of the records add up to the stream's bytes, but for line ends between them.

    Raises:
        InputError: the file can't be read.
    """
    source = _Source(stream)
    while True:
        record = _next_record(source, max_bytes)
        if record is not None and not source.has_ended:
            yield record
            continue
        if record is not None and (record.problem is None or not stream.damage):
            yield record
            record = None
        if not stream.damage:
            return
        # The stream broke off: inside of this record, or before the first byte of another one.
        record = record or Record(offset=source.offset, num_bytes=0, problem=(TRUNCATED, "a record can't be read"))
        assert record.problem is not None
        detail, lost = f"{record.problem[1]}; {stream.damage}", stream.lost_bytes
        if not source.resume():
            yield replace(record, problem=(TRUNCATED, detail), lost_bytes=lost)
            return
        yield replace(record, problem=(BAD_WARC, f"{detail}; read on at the next record"), lost_bytes=0)


def parse_fields(head: bytes) -> dict[str, str]:
    r"""Fields `name: value`, one a line, as WARC and HTTP have them; lines that begin with white space go on.

    Of equal names the first counts. Lines without a colon are passed over.

    >>> parse_fields(b"Content-Type: text/html;\r\n charset=utf-8\r\nno field\r\n")
    {'content-type': 'text/html; charset=utf-8'}
    """
    lines: list[bytes] = []
    for line in head.split(b"\n"):
        if line[:1] in (b" ", b"\t") and lines:
            lines[-1] += b" " + line.strip()
        else:
            lines.append(line.rstrip())
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            try:
                text = value.strip().decode()
            except UnicodeDecodeError:
                text = value.strip().decode("latin-1")
            fields.setdefault(name.strip().decode("latin-1").lower(), text)
    return fields


class _Source:
    """What is read of a stream and not yet cut into records: data[at:], which begins at byte `offset`."""

    def __init__(self, stream: ByteStream) -> None:
        self.data, self.at = b"", 0
        self.offset = stream.at
        self.is_last = False  # nothing comes behind `data`: the stream has ended, or broken off
        self._stream = stream

    @property
    def num_left(self) -> int:
        return len(self.data) - self.at

    @property
    def has_ended(self) -> bool:
        return self.is_last and not self.num_left

    def fill(self, size: int) -> bool:
        """Have `size` bytes at least; False where the stream ends before."""
        if self.num_left < size and not self.is_last:
            parts, have = [self.data[self.at :]], self.num_left
            while have < size and not self.is_last:
                parts.append(self._stream.read(READ_BYTES))
                self.is_last = not parts[-1]
                have += len(parts[-1])
            self.data, self.at = b"".join(parts), 0
        return self.num_left >= size

    def drop(self, size: int) -> None:
        self.at += size
        self.offset += size

    def drop_to(self, place: int) -> None:
        """Drop what lies before data[place]."""
        self.drop(place - self.at)

    def skip_line_ends(self) -> None:
        while self.fill(1):
            found = _LINE_ENDS.match(self.data, self.at)
            assert found, "the expression matches nothing, too"
            self.drop_to(found.end())
            if self.num_left:
                return

    def skip_to_record(self) -> None:
        """Drop bytes, at least one, up to the next line that begins a record."""
        while not (found := _RECORD.search(self.data, self.at)) and not self.is_last:
            self.drop(max(0, self.num_left - _LONGEST_VERSION))
            self.fill(self.num_left + 1)
        self.drop_to(found.start(1) if found else len(self.data))

    def resume(self) -> bool:
        if not self._stream.resume(BEGIN):
            return False
        self.data, self.at, self.offset = b"", 0, self._stream.at
        self.is_last = False
        return True


def _next_record(source: _Source, max_bytes: int) -> Record | None:
    """The next record; None at the end of the stream, or where it breaks off between two."""
    source.skip_line_ends()
    if source.has_ended:
        return None
    start = source.offset
    source.fill(MAX_HEADER_BYTES)
    version = _VERSION.match(source.data, source.at)
    if not version:
        source.skip_to_record()
        return _problem(source, start, BAD_WARC, "no record of WARC begins here")
    end = _END_OF_FIELDS.search(source.data, version.end() - 2, source.at + MAX_HEADER_BYTES)
    if not end:
        if source.is_last and source.num_left < MAX_HEADER_BYTES and not _RECORD.search(source.data, source.at):
            source.drop(source.num_left)
            return _problem(source, start, TRUNCATED, "the file ends within the fields of a record", lost=None)
        source.skip_to_record()
        return _problem(source, start, BAD_WARC, f"no empty line ends the fields within {MAX_HEADER_BYTES >> 10} KiB")
    fields = parse_fields(source.data[version.end() : end.start()])
    length = fields.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,18}", length):
        source.skip_to_record()
        return _problem(source, start, BAD_WARC, f"Content-Length is {length[:40]!r}")
    source.drop_to(end.end())
    return _with_block(source, start, fields, int(length), max_bytes)


def _with_block(source: _Source, start: int, fields: Mapping[str, str], length: int, max_bytes: int) -> Record:
    if length > max_bytes:
        return _skip_block(source, start, fields, length, max_bytes)
    is_whole = source.fill(length)
    if not is_whole or not _is_at_border(source, length):
        # An honest block ends at line ends and the next record, or at the end of the file.
        inner = _RECORD.search(source.data, source.at, source.at + length + _LONGEST_VERSION)
        if inner and inner.start(1) < source.at + length:
            source.drop_to(inner.start(1))
            return _problem(source, start, BAD_WARC, _WRONG_LENGTH.format(length), fields)
    place = source.at
    block = source.data[place : place + length]
    source.drop(len(block))
    if not is_whole:
        detail = f"the file ends after {len(block)} of the {length} bytes of a record"
        return _problem(source, start, TRUNCATED, detail, fields, lost=length - len(block))
    return Record(offset=start, num_bytes=source.offset - start, fields=fields, block=block)


def _is_at_border(source: _Source, length: int) -> bool:
    source.fill(length + 64)
    behind = source.data[source.at + length : source.at + length + 64].lstrip(b"\r\n")
    return behind.startswith(BEGIN) or (not behind and source.is_last)


def _skip_block(source: _Source, start: int, fields: Mapping[str, str], length: int, max_bytes: int) -> Record:
    """Pass over a block that is too long to be kept; where another record begins in it, its length is wrong."""
    end = source.offset + length
    while True:
        inner = _RECORD.search(source.data, source.at, source.at + end - source.offset)
        if inner:
            source.drop_to(inner.start(1))
            return _problem(source, start, BAD_WARC, _WRONG_LENGTH.format(length), fields)
        if source.offset + source.num_left >= end:
            source.drop(end - source.offset)
            detail = f"a record of {length} bytes; at most {max_bytes} are read"
            return _problem(source, start, TOO_LARGE, detail, fields)
        if source.is_last:
            missing = end - source.offset - source.num_left
            source.drop(source.num_left)
            detail = f"the file ends after {length - missing} of the {length} bytes of a record"
            return _problem(source, start, TRUNCATED, detail, fields, lost=None)
        source.drop(max(0, source.num_left - _LONGEST_VERSION))
        source.fill(source.num_left + 1)


def _problem(
    source: _Source,
    start: int,
    reason: str,
    detail: str,
    fields: Mapping[str, str] | None = None,
    *,
    lost: int | None = 0,
) -> Record:
    num_bytes = source.offset - start
    return Record(offset=start, num_bytes=num_bytes, fields=fields or {}, problem=(reason, detail), lost_bytes=lost)
