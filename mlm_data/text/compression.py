"""One record for each compression that a file may be under: its name, its extension, its first bytes, its decoder."""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zstandard

from mlm_data.errors import ConfigError

CORRUPT = (
    zlib.error,
    OSError,
    EOFError,
    lzma.LZMAError,
    zstandard.ZstdError,
    ValueError,
    RuntimeError,
)  # what decoders raise
LONGEST_WINDOW = 1 << 31  # what `zstd --long=31` needs


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A compression. `decoder` makes an object as of `zlib.decompressobj`, for one member or frame."""

    name: str
    extension: str
    magic: re.Pattern[bytes]  # matched at the first byte
    decoder: Callable[[], Any]


def _lz4() -> Any:
    try:
        import lz4.frame
    except ImportError:
        raise ConfigError("files under lz4 are read with the package lz4: pip install 'premask[web]'") from None
    return lz4.frame.LZ4FrameDecompressor()


CODECS = {
    codec.name: codec
    for codec in (
        Codec(
            name="gzip",
            extension="gz",
            magic=re.compile(rb"\x1f\x8b\x08"),
            decoder=lambda: zlib.decompressobj(wbits=31),
        ),
        Codec(
            name="zstd",
            extension="zst",
            magic=re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),  # the second: a frame to be skipped
            decoder=lambda: zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW).decompressobj(),
        ),
        Codec(
            name="bzip2",
            extension="bz2",
            magic=re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
            decoder=bz2.BZ2Decompressor,
        ),
        Codec(
            name="xz",
            extension="xz",
            magic=re.compile(rb"\xfd7zXZ\0"),
            decoder=lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ),
        ),
        Codec(
            name="lz4",
            extension="lz4",
            magic=re.compile(rb"\x04\x22\x4d\x18"),
            decoder=_lz4,
        ),
    )
}
BY_EXTENSION = {codec.extension: codec.name for codec in CODECS.values()}


def decompressed_head(raw: bytes, name: str, size: int) -> bytes:
    """What the first bytes of a compressed file hold, up to about `size`; less where they are damaged."""
    out, left = b"", raw
    while left and len(out) < size:
        decoder = CODECS[name].decoder()
        # Small steps: a few bytes may hold gigabytes, and what lies before damage is wanted.
        while left and len(out) < size and not decoder.eof:
            try:
                out += decoder.decompress(left[:64])
            except CORRUPT:
                return out[:size]
            left = left[64:]
        left = (decoder.unused_data or b"") + left  # lz4 has None before the end
    return out[:size]


def by_magic(head: bytes) -> str:
    """The compression that a file's first bytes show; "" for none."""
    return next((codec.name for codec in CODECS.values() if codec.magic.match(head)), "")
