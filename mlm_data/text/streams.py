"""The bytes of a slice as a stream: plain or compressed, local or remote.

A compressed stream that ends early or is corrupt is no error here: what was read before the break stays, and `damage`
says what happened. Gzip members and Zstandard frames (skippable ones too) that follow each other read as one stream.

What the break took is estimated: where the bytes behind it are there but can't be read, as many times their number as
was read before from each compressed byte; where a Zstandard frame says how long it is, the rest of it. Of a download
that simply ends nothing is known.

Formats with a member for each record, such as WARC, can go on behind a break: `ByteStream.resume`.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import zstandard

from mlm_data.errors import InputError
from mlm_data.stores.folder import explain, open_input
from mlm_data.text.compression import CODECS, CORRUPT, decompressed_head
from mlm_data.types import Slice

FEED = 64 << 10  # compressed bytes at a time: what a corrupt stream can lose of the good data before the break
SEARCH = 1 << 20  # compressed bytes looked through at a time for the next member
MAX_BREAKS = 1000  # that a stream goes on behind: each may cost reading `SEARCH` bytes twice
TRIAL = 4 << 10  # compressed bytes of a member to be tried; a member of WARC shows its first line within them
AIM = 4 << 20  # decompressed bytes at a time; the feed shrinks where text is packed very densely


class ByteStream:
    """Reads a slice's file from a place on. `at` is the place of the next byte, in the decompressed file.

    Raises (from the constructor and from `read`):
        InputError: if the file can't be opened or read.
    """

    def __init__(self, piece: Slice, start: int = 0) -> None:
        self.source = piece.source
        self.at = start
        self.damage = ""  # why the stream ended early; empty while all is well
        self.lost_bytes: int | None = 0  # decompressed bytes behind the damage, as estimated; None: nobody knows
        self.broken_at = start  # where the first document begins that the damage took; set by who cuts documents
        self._path = piece.path
        self._ahead = b""
        self._file = open_input(piece.path, whole=True)
        self._decoder = (
            _Decoder(piece.compression, self._read_raw, self._seek, piece.end) if piece.compression else None
        )
        assert start == 0 or self._decoder is None, "a compressed file has no places to start from"
        if start:
            self._seek(start)

    def __enter__(self) -> "ByteStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """The next bytes, about `size` of them; b"" at the end."""
        ahead, self._ahead = self._ahead, b""
        data = self._read(size - len(ahead)) if len(ahead) < size else b""
        data = ahead + data if ahead else data
        self.at += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer where the stream ends, without moving."""
        while len(self._ahead) < size and (data := self._read(size - len(self._ahead))):
            self._ahead += data
        return self._ahead[:size]

    def read_all(self) -> bytes:
        """Everything that is left."""
        return b"".join(iter(lambda: self.read(AIM), b""))

    def peek_back(self, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file that is not compressed, without moving."""
        self._seek(start)
        data = self._read_raw(end - start)
        self._seek(self.at)
        return data

    def resume(self, begins: bytes) -> bool:
        """Behind damage, go on at the next member whose content begins so; False if there is none.

        The place of what is read then goes on counting from the break: it is the place in what could be read. Behind
        `MAX_BREAKS` breaks a stream has ended, and no more of it is unpacked twice than it has bytes.
        """
        if self._decoder is None or not self.damage or not self._decoder.resume(begins):
            return False
        self.damage, self.lost_bytes = "", 0
        return True

    def _seek(self, place: int) -> None:
        self._guard(lambda: self._file.seek(place))

    def _read(self, size: int) -> bytes:
        if self._decoder is None:
            return self._read_raw(size)
        data = self._decoder.read(size)
        self.damage, self.lost_bytes = self._decoder.damage, self._decoder.lost_bytes
        return data

    def _read_raw(self, size: int) -> bytes:
        return self._guard(lambda: self._file.read(size))

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (OSError, pa.ArrowInvalid) as error:
            reason = explain(error, self._path, "read") if isinstance(error, OSError) else error
            raise InputError(str(reason)) from error


class _Decoder:
    """One codec's members or frames, one after another, as one stream."""

    def __init__(
        self, compression: str, read_raw: Callable[[int], bytes], seek: Callable[[int], None], num_bytes: int
    ) -> None:
        self.damage = ""
        self.lost_bytes: int | None = 0
        self._num_bytes = num_bytes  # of the compressed file
        self._consumed = 0  # compressed bytes that were read without an error
        self._produced = 0
        self._frame_end: int | None = None  # `_produced` at the end of this member, where that is known
        self._make = CODECS[compression].decoder
        self._name = compression
        self._read_raw = read_raw
        self._seek = seek
        self._fetched = 0  # where the next compressed byte is read from the file
        self._member = 0  # where this member begins there
        self._breaks = 0  # that were gone on behind
        self._spare = num_bytes  # compressed bytes that may still be read twice
        self._decoder: Any = None  # None: between two members
        self._left = memoryview(b"")  # compressed bytes not yet fed
        self._feed = 4096
        self._members = 0
        self._done = False

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        num_bytes = 0
        while num_bytes < size and not self._done:
            part = self._step()
            parts.append(part)
            num_bytes += len(part)
        return b"".join(parts)

    def _step(self) -> bytes:
        raw = self._next_raw()
        if not raw:
            self._done = True
            if self._decoder is not None:
                self._break("ends too early", None)
            return b""
        if self._decoder is None:
            # Padding after the last member, as tar and tapes leave it, is not data.
            raw = raw if self._members == 0 else memoryview(bytes(raw).lstrip(b"\0"))
            if not raw:
                return b""
            self._member = self._fetched - len(self._left) - len(raw)
            self._decoder = self._make()
            self._members += 1
            size = _content_size(raw) if self._name == "zstd" else None
            self._frame_end = None if size is None else self._produced + size
        try:
            out = self._decoder.decompress(raw)
        except CORRUPT as error:
            self._done = True
            rest = self._num_bytes - self._consumed
            self._break(f"is corrupt: {error}", self._produced * rest // self._consumed if self._produced else None)
            return b""
        self._consumed += len(raw)
        self._produced += len(out)
        if self._decoder.eof:
            unused = self._decoder.unused_data or b""
            self._consumed -= len(unused)
            self._left = memoryview(unused + self._left)
            self._decoder = None
        self._feed = max(64, min(FEED, len(raw) * AIM // max(1, len(out))))
        return out

    def resume(self, begins: bytes) -> bool:
        """See `ByteStream.resume`."""
        if self._breaks == MAX_BREAKS:
            return False
        self._breaks += 1
        # What is broken may have been read on into members behind it: look from its own beginning on.
        broken = self._fetched - len(self._left)
        start = self._member + 1
        if broken - start > self._spare:
            start = broken
        self._spare -= broken - start
        place = self._find_member(start, begins)
        self._decoder, self._left, self._done = None, memoryview(b""), place < 0
        if place < 0:
            return False
        self._seek(place)
        self._fetched, self._consumed = place, max(1, place)
        self.damage, self.lost_bytes, self._members = "", 0, 0
        return True

    def _find_member(self, start: int, begins: bytes) -> int:
        """Where the next member lies in the file whose content begins so; -1 if there is none."""
        self._seek(start)
        data = b""
        while True:
            more = self._read_raw(SEARCH)
            data += more
            for found in CODECS[self._name].magic.finditer(data):
                place = found.start()
                if more and place > len(data) - TRIAL:
                    break
                if decompressed_head(data[place : place + TRIAL], self._name, len(begins)) == begins:
                    return start + place
            if not more:
                return -1
            keep = max(0, len(data) - TRIAL)
            data, start = data[keep:], start + keep

    def _break(self, why: str, lost_bytes: int | None) -> None:
        self.damage = f"the {self._name} stream {why}"
        known = None if self._frame_end is None else self._frame_end - self._produced
        self.lost_bytes = max((lost for lost in (known, lost_bytes) if lost is not None), default=None)

    def _next_raw(self) -> memoryview:
        if not self._left:
            self._left = memoryview(self._read_raw(1 << 20))
            self._fetched += len(self._left)
        raw, self._left = self._left[: self._feed], self._left[self._feed :]
        return raw


def _content_size(head: memoryview) -> int | None:
    """How long a Zstandard frame says its content is; None where it doesn't say (RFC 8878, section 3.1.1.1)."""
    try:
        size = zstandard.frame_content_size(bytes(head[:18]))
    except zstandard.ZstdError:
        return None
    return size if size >= 0 else None
