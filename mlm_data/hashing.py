"""Hashes that name documents and files.

Documents: MurmurHash3 x64 128 (Appleby 2010, public domain, `smhasher/src/MurmurHash3.cpp`), seed 0, over the UTF-8
bytes of the cleaned text. 128 bits keep the chance of one false duplicate among 10 billion documents below 2e-19.
It is no cryptographic hash: whoever can choose documents can make two collide.

    hash128(["hello"]) -> [[0xcbd8a7b341bd9b02, 0x5b1e906a48ae1d19]]      (h1, h2)

The 16 bytes of a document id are h1 little-endian, then h2 little-endian. Cost: one pass, several GB/s on a core.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8, UInt64

from mlm_data.kernels import kernel, load_uint64, read_only

C1 = np.uint64(0x87C37B91114253D5)
C2 = np.uint64(0x4CF5AD432745937F)

Hashes = UInt64[np.ndarray, " documents 2"]


@kernel
def _final(k):
    k ^= k >> np.uint64(33)
    k *= np.uint64(0xFF51AFD7ED558CCD)
    k ^= k >> np.uint64(33)
    k *= np.uint64(0xC4CEB9FE1A85EC53)
    return k ^ (k >> np.uint64(33))


@kernel
def _rotate(x, r):
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@kernel
def _murmur(data, start, end, seed):
    h1 = np.uint64(seed)
    h2 = np.uint64(seed)
    length = end - start
    at = start
    for _ in range(length // 16):
        k1 = load_uint64(data, at)
        k2 = load_uint64(data, at + 8)
        at += 16
        h1 ^= _rotate(k1 * C1, 31) * C2
        h1 = (_rotate(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729)
        h2 ^= _rotate(k2 * C2, 33) * C1
        h2 = (_rotate(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
    k1 = np.uint64(0)
    k2 = np.uint64(0)
    rest = end - at
    for i in range(min(rest, 8)):
        k1 |= np.uint64(data[at + i]) << np.uint64(8 * i)
    for i in range(8, rest):
        k2 |= np.uint64(data[at + i]) << np.uint64(8 * (i - 8))
    h2 ^= _rotate(k2 * C2, 33) * C1
    h1 ^= _rotate(k1 * C1, 31) * C2
    h1 ^= np.uint64(length)
    h2 ^= np.uint64(length)
    h1 += h2
    h2 += h1
    h1 = _final(h1)
    h2 = _final(h2)
    h1 += h2
    h2 += h1
    return h1, h2


@kernel
def _murmur_all(data, offsets, seed, out):
    for i in range(len(offsets) - 1):
        out[i, 0], out[i, 1] = _murmur(data, offsets[i], offsets[i + 1], seed)


def hash128(values: pa.LargeStringArray | pa.LargeBinaryArray, *, seed: int = 0) -> Hashes:
    """MurmurHash3 x64 128 of each value's bytes: (h1, h2) per row. Nulls are not allowed.

    >>> [hex(h) for h in hash128(pa.array(["hello"], pa.large_string()))[0]]
    ['0xcbd8a7b341bd9b02', '0x5b1e906a48ae1d19']
    """
    data, offsets = string_buffers(values)
    out = np.empty((len(values), 2), np.uint64)
    _murmur_all(data, offsets, np.uint64(seed), out)
    return out


@kernel
def _murmur_spans(data, starts, ends, out):
    for i in range(len(starts)):
        out[i, 0], out[i, 1] = _murmur(data, starts[i], ends[i], np.uint64(0))


def hash_spans(
    data: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " spans"], ends: Int64[np.ndarray, " spans"]
) -> UInt64[np.ndarray, " spans 2"]:
    """What `hash128` gives for data[start:end] of each span, without an array around it."""
    out = np.empty((len(starts), 2), np.uint64)
    _murmur_spans(data, starts, ends, out)
    return out


def hash_bytes(data: bytes) -> int:
    """64 bits (h1 of MurmurHash3 x64 128) of a short string of bytes, such as a path."""
    return int(hash128(pa.array([data], pa.large_binary()))[0, 0])


def hash_buffer(data: pa.Buffer) -> str:
    """MurmurHash3 x64 128 of some bytes in hexadecimal, at several GB/s: against accidents, not against forgers."""
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    whole = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])
    return "".join(f"{part:016x}" for part in hash128(whole)[0].tolist())


def ids_to_arrow(ids: Hashes) -> pa.FixedSizeBinaryArray:
    """Document ids as Arrow: 16 bytes each, h1 little-endian, then h2 little-endian."""
    values = np.ascontiguousarray(ids, dtype="<u8")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(values), [None, pa.py_buffer(values)])


def ids_from_arrow(ids: pa.FixedSizeBinaryArray) -> Hashes:
    """The inverse of `ids_to_arrow`; zero-copy. Nulls are not allowed."""
    assert ids.type == pa.binary(16), ids.type
    assert ids.null_count == 0, "every document has an id"
    values = np.frombuffer(ids.buffers()[1] or b"", np.uint8)[16 * ids.offset : 16 * (ids.offset + len(ids))]
    return values.view("<u8").reshape(-1, 2)


def string_buffers(
    values: pa.LargeStringArray | pa.LargeBinaryArray,
) -> tuple[UInt8[np.ndarray, " bytes"], Int64[np.ndarray, " values+1"]]:
    """The bytes and offsets behind large strings, zero-copy and read-only, for kernels; offsets need not begin at 0.

    Nulls are not allowed: what they hold is undefined.
    """
    assert pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type), values.type
    assert values.null_count == 0, "nulls have no text"
    if len(values) == 0:
        return read_only(np.empty(0, np.uint8)), read_only(np.zeros(1, np.int64))
    _, offsets, data = values.buffers()
    places = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    return read_only(np.frombuffer(data or b"", np.uint8)), read_only(places)


def large_strings(values: object, offsets: Int64[np.ndarray, " values+1"]) -> pa.LargeStringArray:
    """Strings around a buffer of UTF-8, zero-copy; the inverse of `string_buffers`."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)
