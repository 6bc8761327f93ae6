"""Responses of HTTP/1 as a web archive stores them: the head, and the body as it was before it was sent (RFC 9112).

Archives are not what servers are: some decode a body and leave the fields as they were. So a body that is not chunked,
or not compressed, though its fields say so, is taken as it is; of one that breaks off, what came before is kept. That
is what browsers do.

A few kilobytes may unpack to terabytes. No more than `max_bytes` are ever made; a longer body is a `TooLargeError`.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import zstandard

from mlm_data.text.warc import parse_fields

WINDOW = 8 << 20  # of Zstandard; RFC 9659: a larger one is no content coding of the web
STEP = 1 << 16
MAX_CODINGS = 3  # around each other: each may unpack to `max_bytes`

_STATUS = re.compile(rb"HTTP/[0-9.]+[ \t]+([0-9]{3})[^\n]*\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n|\Z")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]{0,4096})?\r?\n")


class TooLargeError(ValueError):
    """A body has more bytes than may be read."""


class BadResponseError(ValueError):
    """No response of HTTP, or in a coding that isn't known."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """A response whose body is decoded."""

    status: int
    fields: Mapping[str, str]  # names in lower case
    body: bytes


def read_head(block: bytes) -> tuple[int, dict[str, str], int]:
    """(status, fields, where the body begins) of a response.

    Raises:
        BadResponseError: the block doesn't begin with a status line.
    """
    status = _STATUS.match(block)
    if not status:
        raise BadResponseError("a response without a status line")
    end = _END_OF_HEAD.search(block, status.end() - 2)
    assert end, "the expression matches the end, too"
    return int(status[1]), parse_fields(block[status.end() : end.start()]), end.end()


def decode_body(body: bytes, fields: Mapping[str, str], *, max_bytes: int) -> bytes:
    """The body without its transfer and content codings: chunked; gzip, deflate, br, zstd.

    Raises:
        TooLargeError: it has more than `max_bytes`.
        BadResponseError: a coding is not known.
    """
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = _unchunk(body)
    codings = [coding.strip().lower() for coding in fields.get("content-encoding", "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        raise BadResponseError(f"{len(codings)} content codings")
    for coding in reversed(codings):
        body = _decompress(body, coding, max_bytes)
    if len(body) > max_bytes:
        raise TooLargeError(f"a body of {len(body)} bytes; at most {max_bytes} are read")
    return body


def _unchunk(body: bytes) -> bytes:
    parts, at = [], 0
    view = memoryview(body)
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        if size == 0:
            break
        parts.append(view[found.end() : found.end() + size])
        at = found.end() + size
        at += 2 if body[at : at + 2] == b"\r\n" else 1 if body[at : at + 1] == b"\n" else 0
    else:
        if not parts:
            return body
    return b"".join(parts)


def _decompress(body: bytes, coding: str, max_bytes: int) -> bytes:
    """Unpack; the body itself where its first bytes are not packed so."""
    make = _CODINGS.get(coding)
    if make is None:
        raise BadResponseError(f"content coding {coding[:40]!r} is not known")
    out, num_bytes = [], 0
    try:
        reader = make(body)
        while part := reader.read(STEP):
            out.append(part)
            num_bytes += len(part)
            if num_bytes > max_bytes:
                raise TooLargeError(f"a body that unpacks to more than {max_bytes} bytes")
    except (zlib.error, zstandard.ZstdError, OSError, pa.ArrowInvalid):
        if not out:
            return body
    return b"".join(out)


class _Inflate:
    """A stream of gzip or zlib, read in steps of bounded size. Members of gzip that follow each other are one."""

    def __init__(self, body: bytes, wbits: int) -> None:
        self._wbits = wbits
        self._decoder = zlib.decompressobj(wbits)
        self._body = memoryview(body)
        self._at = 0

    def read(self, size: int) -> bytes:
        while True:
            if self._decoder.eof:
                if self._wbits != _GZIP or bytes(self._body[self._at : self._at + 2]) != b"\x1f\x8b":
                    return b""
                self._decoder = zlib.decompressobj(self._wbits)
            step = self._body[self._at : self._at + STEP]
            data = self._decoder.decompress(step, size)
            self._at += len(step) - len(self._decoder.unconsumed_tail) - len(self._decoder.unused_data)
            if data or not step:
                return data


_GZIP, _ZLIB, _RAW = 31, 15, -15


def _deflate(body: bytes) -> _Inflate:
    """RFC 9110 means zlib's format, and some servers send bare DEFLATE."""
    is_zlib = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _Inflate(body, _ZLIB if is_zlib else _RAW)


def _zstd(body: bytes) -> Any:
    return zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(body, read_across_frames=True)


_CODINGS: dict[str, Callable[[bytes], Any]] = {
    "gzip": lambda body: _Inflate(body, _GZIP),
    "x-gzip": lambda body: _Inflate(body, _GZIP),
    "deflate": _deflate,
    "br": lambda body: pa.CompressedInputStream(pa.BufferReader(body), "brotli"),
    "zstd": _zstd,
}
