"""Reads the wire format of protocol buffers: fields of a message, without a schema and without a library.

A message is a row of fields; each begins with a varint that holds its number and its wire type:

    0  a varint         7 bits a byte, the lowest first; the high bit says that more follow; at most 10 bytes
    1  8 bytes          5  4 bytes
    2  a varint, then so many bytes: a string, bytes, or a message of its own

    08 96 01            field 1, varint 150
    12 02 68 69         field 2, the bytes "hi"

Groups (types 3 and 4) are long deprecated, and refused. Every length is checked against what is left, so a broken or
hostile file costs no more than its own size.
Source: "Encoding", Protocol Buffers documentation, protobuf.dev.
"""

import struct
from collections.abc import Iterator

Value = int | bytes


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field, in order: varints as unsigned integers, all else as bytes.

    Raises:
        ValueError: if it is no message; the text says at which byte.

    >>> list(fields(bytes.fromhex("089601 1202 6869")))
    [(1, 150), (2, b'hi')]
    """
    place = 0
    while place < len(data):
        start = place
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if not 1 <= number < 1 << 29:
            raise ValueError(f"byte {start}: {number} is no number of a field")
        if kind == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"byte {start}: wire type {kind} is unknown")
        if size > len(data) - place:
            raise ValueError(f"byte {start}: a field of {size} bytes, and {len(data) - place} are left")
        yield number, data[place : place + size]
        place += size


def float32(value: Value) -> float:
    """A field of 4 bytes as a float."""
    if not isinstance(value, bytes) or len(value) != 4:
        raise ValueError("a field that should be a float is none")
    return struct.unpack("<f", value)[0]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    result = 0
    for i in range(10):
        if place + i >= len(data):
            raise ValueError(f"byte {place}: it ends within a number")
        byte = data[place + i]
        result |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return result, place + i + 1
    raise ValueError(f"byte {place}: a number of more than 10 bytes")
