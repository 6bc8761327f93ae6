r"""Where lines and paragraphs begin and end, and which slice they belong to.

A *line* ends at "\n"; a "\r" before it is no part of it. A line of nothing but white space (space, \t, \v, \f, \r) is
blank and no document. A *paragraph* is a run of lines that are not blank, from the first byte of the first line to the
last byte of the last one. Both belong to the slice that holds their first byte:

    slice [0, 4) | slice [4, 9)            "ab\ncd\n\nef"      lines: ab, cd | ef        paragraphs: ab-cd | ef

A reader of [4, 9) starts at byte 3, drops what it finds up to the first line end ("cd" is the other slice's), and reads
on behind byte 9 until its last document ends. So any split of a file gives the same documents.

Everything here counts code units of 1, 2 or 4 bytes (UTF-8 and its like, UTF-16, UTF-32). Only files of 1-byte units
start elsewhere than at 0. Cost: a search from each block's end and one pass of a kernel, whatever a line's length.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.kernels import copy_bytes, kernel, load_uint64, trailing_zeros, zero_bytes
from mlm_data.text.streams import ByteStream

SPACES = b" \t\r\v\f"
OVERHANG = 64 << 10  # bytes at a time behind a slice's end: most documents end soon

Places = Int64[np.ndarray, " documents"]


@dataclass(frozen=True)
class CodeUnits:
    """How a file's bytes make code units: their width in bytes, their order, and the byte order mark that was found."""

    width: int = 1
    big_endian: bool = False
    mark: bytes = b""

    @property
    def codec(self) -> str:
        """Python's name of the encoding; of width 1, any encoding that keeps ASCII."""
        return "utf-8" if self.width == 1 else f"utf-{8 * self.width}-{'be' if self.big_endian else 'le'}"

    def narrow(self, data: bytes) -> UInt8[np.ndarray, " units"]:
        """One byte for each code unit, the same where it is ASCII; a cut unit at the end is left out."""
        if self.width == 1:
            return np.frombuffer(data, np.uint8)
        whole = memoryview(data)[: len(data) // self.width * self.width]
        wide = np.frombuffer(whole, f"{'>' if self.big_endian else '<'}u{self.width}")
        return np.minimum(wide, 255).astype(np.uint8)


@dataclass(frozen=True)
class Block:
    """Whole lines: `data` begins at byte `offset` of the file."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


def line_blocks(
    stream: ByteStream, units: CodeUnits, start: int, end: int | None, size: int, *, beyond: bool = False
) -> Iterator[Block]:
    """Blocks of about `size` bytes with the lines whose first byte is in [start, end); None: to the end of the file.

    The stream must stand at max(0, start - 1). `beyond`: go on to the end of the file, in small steps behind `end`.
    Of a damaged stream the unfinished last line is left out, and `stream.broken_at` says where it began.
    """
    newline = "\n".encode(units.codec)
    parts: list[bytes] = []
    base = start
    for at, piece in _pieces(stream, units, newline, start, end, size):
        if not parts:
            base = at
        last_end = end if end is not None and not beyond and at + len(piece) >= end else None
        cut = _rfind(piece, newline) if last_end is None else _find(piece, newline, max(0, last_end - 1 - at))
        if cut < 0:
            parts.append(piece)
            continue
        parts.append(piece[:cut])
        yield _without_mark(base, b"".join(parts), units)
        if last_end is not None:
            return
        base = at + cut
        parts = [piece[cut:]] if cut < len(piece) else []
    if stream.damage:
        stream.broken_at = base if parts else stream.at
    elif parts:
        yield _without_mark(base, b"".join(parts), units)


def paragraph_blocks(stream: ByteStream, units: CodeUnits, start: int, end: int | None, size: int) -> Iterator[Block]:
    """Blocks that no paragraph crosses, with at least the paragraphs whose first byte is in [start, end).

    The last one may hold paragraphs behind `end`: they are not this slice's. Damage is treated as in `line_blocks`.
    """
    parts: list[Block] = []
    is_inside = start > 0
    for lines in line_blocks(stream, units, start, end, size, beyond=True):
        block = lines
        if is_inside and not _follows_blank_line(stream, units, block.offset):
            # The paragraph that goes on here is another slice's.
            skipped = _first_blank_line(units.narrow(block.data)) * units.width
            block = Block(block.offset + skipped, block.data[skipped:])
            if end is not None and block.offset >= end:
                return
            if not block.data:
                continue
        is_inside = False
        cut = _behind_last_blank_line(units.narrow(block.data)) * units.width
        if cut == 0:
            parts.append(block)
            continue
        parts.append(Block(block.offset, block.data[:cut]))
        yield _join(parts)
        if end is not None and block.offset + cut >= end:
            return
        parts = [Block(block.offset + cut, block.data[cut:])] if cut < len(block.data) else []
    if stream.damage:
        stream.broken_at = parts[0].offset if parts else stream.broken_at
    elif parts:
        yield _join(parts)


def find_lines(data: UInt8[np.ndarray, " units"]) -> tuple[Places, Places]:
    """First and one-past-last unit of each line that is not blank, without its line end (LF or CR LF)."""
    starts = np.empty(int(np.count_nonzero(data == 10)) + 1, np.int64)
    ends = np.empty_like(starts)
    num_lines = _lines(data, starts, ends)
    return starts[:num_lines], ends[:num_lines]


def find_paragraphs(data: UInt8[np.ndarray, " units"]) -> tuple[Places, Places]:
    """First and one-past-last unit of each paragraph."""
    starts, ends = find_lines(data)
    kept = _merge_lines(data, starts, ends)
    return starts[:kept], ends[:kept]


def gather(
    data: UInt8[np.ndarray, " bytes"], starts: Places, ends: Places
) -> tuple[UInt8[np.ndarray, " kept"], Int64[np.ndarray, " documents+1"]]:
    """The pieces data[start:end], one after another, and their offsets."""
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(ends - starts, out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.uint8)
    _gather(data, starts, ends, out)
    return out, offsets


def _pieces(
    stream: ByteStream, units: CodeUnits, newline: bytes, start: int, end: int | None, size: int
) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) from the first line of [start, end) on, in whole code units."""
    is_skipping = start > 0
    left = b""
    while True:
        step = size if end is None else min(size, end - stream.at) if stream.at < end - 1 else OVERHANG
        piece = stream.read(step)
        if not piece:
            break
        piece = left + piece if left else piece
        left = piece[len(piece) - len(piece) % units.width :]
        piece = piece[: len(piece) - len(left)]
        at = stream.at - len(left) - len(piece)
        if is_skipping:
            cut = _find(piece, newline, 0)
            if cut < 0:
                continue
            is_skipping = False
            at, piece = at + cut, piece[cut:]
            if end is not None and at >= end:
                return
        if piece:
            yield at, piece
    if left and not is_skipping:
        yield stream.at - len(left), left


def _find(data: bytes, newline: bytes, start: int) -> int:
    """Behind the first newline at or after `start`, or -1."""
    place = data.find(newline, start)
    while place >= 0 and place % len(newline):
        place = data.find(newline, place + 1)
    return place if place < 0 else place + len(newline)


def _rfind(data: bytes, newline: bytes) -> int:
    """Behind the last newline, or -1."""
    place = data.rfind(newline)
    while place >= 0 and place % len(newline):
        place = data.rfind(newline, 0, place + len(newline) - 1)
    return place if place < 0 else place + len(newline)


def _without_mark(base: int, data: bytes, units: CodeUnits) -> Block:
    mark = len(units.mark) if base == 0 else 0
    return Block(base + mark, data[mark:] if mark else data)


def _join(blocks: list[Block]) -> Block:
    return Block(blocks[0].offset, b"".join(block.data for block in blocks))


def _follows_blank_line(stream: ByteStream, units: CodeUnits, place: int) -> bool:
    """Whether the line before the one that begins at `place` is blank, or there is none."""
    end = place - 1  # its newline
    while end > 0:
        start = max(0, end - 4096)
        before = stream.peek_back(start, end).rstrip(SPACES)
        if before:
            return before.endswith(b"\n") or (start == 0 and before == units.mark)
        end = start
    return True


@kernel
def _is_space(unit):
    return unit == 32 or (9 <= unit <= 13 and unit != 10)


@kernel
def _newline_from(data, i):
    """The first line feed at or after i, or the length: eight bytes at a time."""
    n = len(data)
    while i + 8 <= n:
        found = zero_bytes(load_uint64(data, i) ^ np.uint64(0x0A0A0A0A0A0A0A0A))
        if found:
            return i + (trailing_zeros(found) >> 3)
        i += 8
    while i < n and data[i] != 10:
        i += 1
    return i


@kernel
def _lines(data, starts, ends):
    count = 0
    i = 0
    n = len(data)
    while i < n:
        end = _newline_from(data, i)
        first = i
        while first < end and _is_space(data[first]):
            first += 1
        if first < end:
            starts[count] = i
            ends[count] = end - 1 if end < n and data[end - 1] == 13 else end
            count += 1
        i = end + 1
    return count


@kernel
def _merge_lines(data, starts, ends):
    """Join lines with nothing but one line end between them; in place."""
    count = 0
    for i in range(len(starts)):
        if count > 0:
            before = ends[count - 1]
            before += data[before] == 13
            if before + 1 == starts[i]:
                ends[count - 1] = ends[i]
                continue
        starts[count] = starts[i]
        ends[count] = ends[i]
        count += 1
    return count


@kernel
def _first_blank_line(data):
    """Where the first blank line begins, or the length."""
    i = 0
    n = len(data)
    while i < n:
        end = i
        while end < n and _is_space(data[end]):
            end += 1
        if end == n or data[end] == 10:
            return i
        i = _newline_from(data, end) + 1
    return n


@kernel
def _behind_last_blank_line(data):
    """Behind the newline of the last blank line, or 0."""
    end = len(data)
    while end > 0:
        if data[end - 1] == 10:
            first = end - 1
            while first > 0 and _is_space(data[first - 1]):
                first -= 1
            if first == 0 or data[first - 1] == 10:
                return end
            end = first
        else:
            end -= 1
    return 0


@kernel
def _gather(data, starts, ends, out):
    at = 0
    for i in range(len(starts)):
        at = copy_bytes(data, starts[i], ends[i], out, at)
