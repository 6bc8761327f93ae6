"""Compressed streams that break: what is lost is told, as far as anybody can know."""

import bz2
import gzip
import lzma
import os

import pytest
import zstandard

from mlm_data.text.blocks import truncated
from mlm_data.text.streams import ByteStream
from mlm_data.types import Slice

CODECS = {"gzip": gzip.compress, "zstd": zstandard.compress, "bzip2": bz2.compress, "xz": lzma.compress}
TEXT = os.urandom(200_000).hex().encode()  # every byte of it compresses to about half a byte


def open_stream(path, data, codec):
    path.write_bytes(data)
    piece = Slice(
        input=0,
        source="s",
        path=str(path),
        format="text",
        compression=codec,
        start=0,
        end=len(data),
        num_bytes=len(data),
        identity="",
    )
    return piece, ByteStream(piece)


def read_broken(path, data, codec):
    """(bytes that could be read, the quarantined rest)."""
    piece, stream = open_stream(path, data, codec)
    with stream:
        read = stream.read_all()
        return read, truncated(piece, stream, 10)


@pytest.mark.parametrize("codec", CODECS)
def test_a_sound_stream_lost_nothing(tmp_path, codec):
    _, stream = open_stream(tmp_path / "a", CODECS[codec](TEXT), codec)
    with stream:
        assert stream.read_all() == TEXT
        assert (stream.damage, stream.lost_bytes) == ("", 0)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "xz"])
def test_the_rest_of_a_corrupt_stream_is_estimated_from_its_compressed_bytes(tmp_path, codec):
    if codec == "zstd":
        packed = bytearray(zstandard.ZstdCompressor(write_content_size=False).compress(TEXT))
    else:
        packed = bytearray(CODECS[codec](TEXT))
    if codec == "xz":  # a stream of one block is checked only at its end: damage the second of two streams
        packed = bytearray(lzma.compress(TEXT[: len(TEXT) // 2]) + lzma.compress(TEXT[len(TEXT) // 2 :]))
    middle = len(packed) * 6 // 10
    packed[middle : middle + 5000] = bytes(5000)
    read, item = read_broken(tmp_path / "a", bytes(packed), codec)
    assert item.lost_bytes == pytest.approx(len(TEXT) - len(read), rel=0.25)
    assert f"about {item.lost_bytes} bytes behind it are lost" in item.detail
    assert item.num_bytes == len(read) - 10


def test_a_zstandard_frame_says_how_long_it_is(tmp_path):
    packed = zstandard.compress(b"first\n") + zstandard.compress(TEXT)
    read, item = read_broken(tmp_path / "a", packed[: len(packed) // 3], "zstd")
    assert len(read) + item.lost_bytes == 6 + len(TEXT)
    assert "zstd stream ends too early" in item.detail


@pytest.mark.parametrize("codec", ["gzip", "bzip2", "xz"])
def test_of_a_download_that_ended_nothing_is_known(tmp_path, codec):
    packed = CODECS[codec](TEXT)
    _, item = read_broken(tmp_path / "a", packed[: len(packed) // 2], codec)
    assert item.lost_bytes is None
    assert item.detail == f"the {codec} stream ends too early; how much is lost can't be told"


def test_a_stream_that_is_corrupt_from_its_first_byte(tmp_path):
    _, item = read_broken(tmp_path / "a", b"\x1f\x8b\x08" + b"\xff" * 100, "gzip")
    assert item.lost_bytes is None
