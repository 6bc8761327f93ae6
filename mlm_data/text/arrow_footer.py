"""Rows and bytes of each record batch of an Arrow IPC file, from its metadata alone.

Arrow's own readers load a batch to say how many rows it has; to know at which row the thousandth batch begins, that
is a thousand loads. The footer (Arrow's File.fbs and Message.fbs, in FlatBuffers' encoding) says where each
batch's message lies, and the message begins with its length:

    ... message | body | message | body ... | footer | int32 length of footer | ARROW1
"""

import struct

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

MAGIC = b"ARROW1"  # an IPC stream has none: it begins with a message

_BLOCK = np.dtype([("offset", "<i8"), ("metadata", "<i4"), ("padding", "<i4"), ("body", "<i8")])
_FOOTER_BATCHES = 3  # which fields of these tables
_MESSAGE_HEADER = 2
_BATCH_LENGTH = 0


def batch_blocks(stream: pa.NativeFile) -> np.ndarray:
    """Where the batches of an IPC file lie: `offset`, `metadata` and `body` in bytes, one entry for each.

    Raises:
        pyarrow.ArrowInvalid: this is no whole Arrow file.
    """
    try:
        tail = len(MAGIC) + 4
        stream.seek(stream.size() - tail)
        length, magic = struct.unpack("<i6s", stream.read(tail))
        if magic != MAGIC:
            raise ValueError("no magic")
        stream.seek(stream.size() - tail - length)
        footer = stream.read(length)
        root = struct.unpack_from("<I", footer)[0]
        place = _field(footer, root, _FOOTER_BATCHES)
        if not place:
            return np.empty(0, _BLOCK)
        place += struct.unpack_from("<I", footer, place)[0]
        (count,) = struct.unpack_from("<I", footer, place)
        return np.frombuffer(footer, _BLOCK, count, place + 4)
    except (struct.error, ValueError, OSError) as error:
        raise pa.ArrowInvalid("its end is damaged or missing") from error


def batch_rows(stream: pa.NativeFile, blocks: np.ndarray) -> Int64[np.ndarray, " batches"]:
    """How many rows each of these batches has.

    Raises:
        pyarrow.ArrowInvalid: a message is damaged.
    """
    rows = np.empty(len(blocks), np.int64)
    for i, block in enumerate(blocks):
        try:
            stream.seek(int(block["offset"]))
            message = stream.read(int(block["metadata"]))
            # A marker and the length go before it; files of Arrow 0.14 and earlier have no marker.
            start = 8 if message[:4] == b"\xff\xff\xff\xff" else 4
            table = start + struct.unpack_from("<I", message, start)[0]
            header = _field(message, table, _MESSAGE_HEADER)
            header += struct.unpack_from("<I", message, header)[0]
            place = _field(message, header, _BATCH_LENGTH)
            rows[i] = struct.unpack_from("<q", message, place)[0] if place else 0
        except (struct.error, OSError) as error:
            raise pa.ArrowInvalid(f"the metadata of batch {i} is damaged") from error
    return rows


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table lies; 0 if it has its default."""
    (back,) = struct.unpack_from("<i", data, table)
    (size,) = struct.unpack_from("<H", data, table - back)
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", data, table - back + entry)[0] if entry < size else 0
    return table + offset if offset else 0
