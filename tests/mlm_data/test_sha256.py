"""Two hashes at once are those of hashlib, whatever the pieces are and whichever way they are taken."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import config

from mlm_data import sha256
from mlm_data.sha256 import is_paired, sha256_both

BORDERS = [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 1000]
pieces = st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(BORDERS).map(bytes)), max_size=6)


def plain(stream) -> bytes:
    return hashlib.sha256(b"".join(stream)).digest()


@given(pieces, pieces)
@settings(deadline=None)  # the kernel is compiled
def test_pieces_of_any_size(left, right):
    assert sha256_both(left, right) == (plain(left), plain(right))


@pytest.mark.parametrize("one", BORDERS)
def test_every_padding(one):
    for other in BORDERS:
        left, right = [b"\x80" * one], [bytes(i % 251 for i in range(other))]
        assert sha256_both(left, right) == (plain(left), plain(right))


def test_what_has_bytes_is_a_piece():
    values = np.arange(100, dtype="<i8")
    stream = [values.data, pa.py_buffer(values), memoryview(b"abc"), bytearray(b"x" * 65), values[:0].data]
    assert sha256_both(stream, [])[0] == plain(bytes(piece) for piece in stream)


def test_one_after_the_other_where_there_are_no_instructions(monkeypatch):
    monkeypatch.setattr(sha256, "is_paired", lambda: False)
    assert sha256_both([b"a", b"b"], [b"c" * 100]) == (plain([b"ab"]), plain([b"c" * 100]))


@pytest.mark.parametrize(
    ("name", "features", "paired"),
    [("x86-64-v3", "+avx2,+sha", True), ("x86-64-v3", "+avx2", False), ("generic", None, False), (None, "", False)],
)
def test_machine_code_for_another_processor_has_only_its_instructions(monkeypatch, name, features, paired):
    monkeypatch.setattr(config, "CPU_NAME", name)
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    assert is_paired.__wrapped__() == paired


def test_constants_are_those_of_the_standard():
    assert [sha256._START[0], sha256._START[7]] == [0x6A09E667, 0x5BE0CD19]
    assert [sha256._ROUNDS[0], sha256._ROUNDS[63]] == [0x428A2F98, 0xC67178F2]
