r"""Where lines and paragraphs begin and end, and which slice they belong to.

A *line* ends at "\n", "\r\n" or "\r", which is no part of it; one file may mix them. JSON Lines too: no JSON string
holds a "\r" as it is. A line of nothing but white space (space, \t, \v, \f) is blank and no document. A *paragraph* is
a run of lines that are not blank, from the first byte of the first line to the last byte of the last one. Both belong
to the slice that holds their first byte:

    slice [0, 4) | slice [4, 9)            "ab\ncd\n\nef"      lines: ab, cd | ef        paragraphs: ab-cd | ef

A reader of [4, 9) starts at byte 3, drops what it finds up to the first line end ("cd" is the other slice's), and reads
on behind byte 9 until its last document ends. So any split of a file gives the same documents. A split between "\r" and
"\n" makes no second line end: whoever meets the "\r" looks at what follows it.

Everything here counts code units of 1, 2 or 4 bytes (UTF-8 and its like, UTF-16, UTF-32). Only files of 1-byte units
start elsewhere than at 0. Cost: a search from each block's end and one pass of a kernel, whatever a line's length.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.kernels import copy_bytes, kernel, load_uint64, trailing_zeros, zero_bytes
from mlm_data.text.streams import ByteStream

SPACES = b" \t\v\f"
OVERHANG = 64 << 10  # bytes at a time behind a slice's end: most documents end soon

_FEEDS, _RETURNS = np.uint64(0x0A0A0A0A0A0A0A0A), np.uint64(0x0D0D0D0D0D0D0D0D)
_SIXTEENS, _HIGHS = np.uint64(0x1010101010101010), np.uint64(0x8080808080808080)

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

    def unit(self, character: str) -> bytes:
        """The bytes of an ASCII character."""
        return character.encode(self.codec)

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
    parts: list[bytes] = []
    base = start
    for at, piece in _pieces(stream, units, start, end, size):
        if not parts:
            base = at
        is_last = end is not None and not beyond and at + len(piece) >= end
        cut = _behind_next_end(piece, units, max(0, end - 1 - at)) if is_last else _behind_last_end(piece, units)
        if cut < 0:
            parts.append(piece)
            continue
        parts.append(piece[:cut])
        yield _without_mark(base, b"".join(parts), units)
        if is_last:
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


def find_lines(data: UInt8[np.ndarray, " units"], *, has_returns: bool = True) -> tuple[Places, Places]:
    """First and one-past-last unit of each line that is not blank, without its line end.

    `has_returns` False says that there is no CR in `data`: LF is then the only unit to look for.
    """
    most = int(_count_ends(data) if has_returns else np.count_nonzero(data == 10)) + 1
    starts, ends = np.empty(most, np.int64), np.empty(most, np.int64)
    num_lines = (_lines if has_returns else _lines_of_feeds)(data, starts, ends)
    return starts[:num_lines], ends[:num_lines]


def find_paragraphs(data: UInt8[np.ndarray, " units"], *, has_returns: bool = True) -> tuple[Places, Places]:
    """First and one-past-last unit of each paragraph; `has_returns` as in `find_lines`."""
    starts, ends = find_lines(data, has_returns=has_returns)
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
    stream: ByteStream, units: CodeUnits, start: int, end: int | None, size: int
) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) from the first line of [start, end) on, in whole code units; none parts a CR from its LF."""
    is_skipping = start > 0
    carriage_return = units.unit("\r")
    left = b""
    while True:
        step = size if end is None else min(size, end - stream.at) if stream.at < end - 1 else OVERHANG
        piece = stream.read(step)
        if not piece:
            break
        piece = left + piece if left else piece
        whole = len(piece) - len(piece) % units.width
        if piece[whole - units.width : whole] == carriage_return:
            whole -= units.width
        piece, left = (piece[:whole], piece[whole:]) if whole < len(piece) else (piece, b"")
        at = stream.at - len(left) - len(piece)
        if is_skipping:
            cut = _behind_next_end(piece, units, 0)
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


def _behind_next_end(data: bytes, units: CodeUnits, start: int) -> int:
    """Behind the first line end at or after `start`, or -1."""
    feed = _find(data, units.unit("\n"), start, len(data))
    place = _find(data, units.unit("\r"), start, feed if feed >= 0 else len(data))
    if place < 0 or place + units.width == feed:
        place = feed
    return place if place < 0 else place + units.width


def _behind_last_end(data: bytes, units: CodeUnits) -> int:
    """Behind the last line end, or -1."""
    feed = _rfind(data, units.unit("\n"), 0)
    place = max(feed, _rfind(data, units.unit("\r"), feed + 1))
    return place if place < 0 else place + units.width


def _find(data: bytes, unit: bytes, start: int, end: int) -> int:
    place = data.find(unit, start, end)
    while place >= 0 and place % len(unit):
        place = data.find(unit, place + 1, end)
    return place


def _rfind(data: bytes, unit: bytes, start: int) -> int:
    place = data.rfind(unit, start)
    while place >= 0 and place % len(unit):
        place = data.rfind(unit, start, place + len(unit) - 1)
    return place


def _without_mark(base: int, data: bytes, units: CodeUnits) -> Block:
    mark = len(units.mark) if base == 0 else 0
    return Block(base + mark, data[mark:] if mark else data)


def _join(blocks: list[Block]) -> Block:
    return Block(blocks[0].offset, b"".join(block.data for block in blocks))


def _follows_blank_line(stream: ByteStream, units: CodeUnits, place: int) -> bool:
    """Whether the line before the one that begins at `place` is blank, or there is none."""
    end = place - (2 if stream.peek_back(max(0, place - 2), place) == b"\r\n" else 1)
    while end > 0:
        start = max(0, end - 4096)
        before = stream.peek_back(start, end).rstrip(SPACES)
        if before:
            return before.endswith((b"\n", b"\r")) or (start == 0 and before == units.mark)
        end = start
    return True


@kernel
def _is_space(unit):
    return unit == 32 or unit == 9 or unit == 11 or unit == 12


@kernel
def _is_end(unit):
    return unit == 10 or unit == 13


@kernel
def _count_ends(data):
    """How many LF and CR there are: at least the number of line ends."""
    count = 0
    for i in range(len(data)):
        count += (data[i] == 10) | (data[i] == 13)
    return count


@kernel
def _end_from(data, i):
    """The first LF or CR at or after i, or the length: eight bytes at a time."""
    n = len(data)
    while i + 8 <= n:
        word = load_uint64(data, i)
        # Both are below 16, as little else of a text is: one test for most words.
        if (word - _SIXTEENS) & ~word & _HIGHS:
            found = zero_bytes(word ^ _FEEDS) | zero_bytes(word ^ _RETURNS)
            if found:
                return i + (trailing_zeros(found) >> 3)
        i += 8
    while i < n and not _is_end(data[i]):
        i += 1
    return i


@kernel
def _behind_end(data, i):
    """Behind the line end that begins at i: CR LF is one."""
    return i + 2 if data[i] == 13 and i + 1 < len(data) and data[i + 1] == 10 else i + 1


@kernel
def _feed_from(data, i):
    """The first LF at or after i, or the length: eight bytes at a time."""
    n = len(data)
    while i + 8 <= n:
        found = zero_bytes(load_uint64(data, i) ^ _FEEDS)
        if found:
            return i + (trailing_zeros(found) >> 3)
        i += 8
    while i < n and data[i] != 10:
        i += 1
    return i


@kernel
def _lines_of_feeds(data, starts, ends):
    """`_lines` where no unit is CR."""
    count = 0
    i = 0
    n = len(data)
    while i < n:
        end = _feed_from(data, i)
        first = i
        while first < end and _is_space(data[first]):
            first += 1
        if first < end:
            starts[count] = i
            ends[count] = end
            count += 1
        i = end + 1
    return count


@kernel
def _lines(data, starts, ends):
    count = 0
    i = 0
    n = len(data)
    while i < n:
        end = _end_from(data, i)
        first = i
        while first < end and _is_space(data[first]):
            first += 1
        if first < end:
            starts[count] = i
            ends[count] = end
            count += 1
        i = _behind_end(data, end)
    return count


@kernel
def _merge_lines(data, starts, ends):
    """Join lines with nothing but one line end between them; in place."""
    count = 0
    for i in range(len(starts)):
        if count > 0:
            end = ends[count - 1]
            gap = starts[i] - end
            if gap == 1 or (gap == 2 and data[end] == 13 and data[end + 1] == 10):
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
        if end == n or _is_end(data[end]):
            return i
        end = _end_from(data, end)
        if end == n:
            break
        i = _behind_end(data, end)
    return n


@kernel
def _behind_last_blank_line(data):
    """Behind the line end of the last blank line, or 0."""
    end = len(data)
    while end > 0:
        if _is_end(data[end - 1]):
            first = end - 1
            if first > 0 and data[first] == 10 and data[first - 1] == 13:
                first -= 1
            while first > 0 and _is_space(data[first - 1]):
                first -= 1
            if first == 0 or _is_end(data[first - 1]):
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
