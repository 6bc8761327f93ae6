"""The wire format of protocol buffers: what it holds, and every way to be broken."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.tokens.wire import fields, float32


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300)))))
def test_fields_come_back(values):
    data = b""
    for number, value in values:
        kind = 0 if isinstance(value, int) else 2
        data += varint(number << 3 | kind) + (varint(value) if kind == 0 else varint(len(value)) + value)
    assert list(fields(data)) == values


def test_fixed_sizes():
    data = bytes([1 << 3 | 5]) + struct.pack("<f", -2.5) + bytes([2 << 3 | 1]) + struct.pack("<d", 1.0)
    (_, four), (_, eight) = fields(data)
    assert float32(four) == -2.5
    assert len(eight) == 8
    for wrong in (eight, 7):
        with pytest.raises(ValueError, match="should be a float"):
            float32(wrong)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x08", "byte 1: it ends within a number"),
        (b"\x08" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x12\x05ab", "a field of 5 bytes, and 2 are left"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "are left"),
        (b"\x0d\x00\x00", "a field of 4 bytes, and 2 are left"),
        (b"\x0b", "wire type 3 is unknown"),
        (b"\x0f", "wire type 7 is unknown"),
        (b"\x00", "0 is no number of a field"),
    ],
)
def test_what_is_no_message(data, problem):
    with pytest.raises(ValueError, match=problem):
        list(fields(data))


@given(st.binary(max_size=60))
def test_any_bytes_end_well(data):
    with contextlib.suppress(ValueError):
        list(fields(data))
