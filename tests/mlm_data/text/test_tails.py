"""Whole files are never called cut; what certainly lacks its end is."""

import bz2
import gzip
import lzma
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.text.tails import TAIL_BYTES, is_cut

CODECS = {"gzip": gzip.compress, "zstd": zstandard.compress, "bzip2": bz2.compress, "xz": lzma.compress}


NOISE = random.Random(1).randbytes(2000)  # the same always: in others "YZ", the end of xz, stands by chance


def looks_cut(codec, data):
    return is_cut(codec, data[:16], data[-TAIL_BYTES:], len(data))


@given(st.binary(max_size=300), st.integers(1, 5000), st.sampled_from(sorted(CODECS)), st.booleans())
def test_whole_files(data, times, codec, twice):
    packed = CODECS[codec](data * times)
    assert not looks_cut(codec, packed * 2 if twice else packed)


@pytest.mark.parametrize("codec", ["bzip2", "xz"])
def test_any_cut(codec):
    packed = CODECS[codec](NOISE)
    assert all(looks_cut(codec, packed[:end]) for end in range(20, len(packed)))


def test_most_small_gzip_files_that_are_cut():
    packed = gzip.compress(NOISE)
    cuts = range(100, len(packed))
    assert sum(looks_cut("gzip", packed[:end]) for end in cuts) > 0.9 * len(cuts)


def test_the_end_block_of_bgzip():
    block = gzip.compress(b"")
    extra = b"\x06\0BC\x02\0\x1b\0"
    head = block[:3] + b"\x04" + block[4:10] + extra
    end = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    body = head + gzip.compress(b"text " * 100)[10:]
    assert looks_cut("gzip", body)
    assert not looks_cut("gzip", body + end)


def test_padding_of_xz():
    assert not looks_cut("xz", lzma.compress(b"text") + bytes(4))
    assert not looks_cut("xz", bytes(100))
