"""Hashes that name documents, files and tables.

Documents: MurmurHash3 x64 128 (Appleby 2010, public domain, `smhasher/src/MurmurHash3.cpp`), seed 0, over the UTF-8
bytes of the cleaned text. 128 bits keep the chance of one false duplicate among 10 billion documents below 2e-19.
It is no cryptographic hash: whoever can choose documents can make two collide.

    hash128(["hello"]) -> [[0xcbd8a7b341bd9b02, 0x5b1e906a48ae1d19]]      (h1, h2)

The 16 bytes of a document id are h1 little-endian, then h2 little-endian. Cost: one pass, several GB/s on a core.

Tables: SHA-256 over the *values* in a canonical layout, so that chunks, slices, dictionary encoding, codec and file
writer do not matter, while types, column names, column order and nulls do. The bytes that are hashed, every integer
little-endian, a *string* being its length in bytes (u64) and its UTF-8:

    table    string "premask.table.1" · string domain · u64 rows · u64 columns · then each column:
    column   string name · array
    array    string type · u64 nulls · if nulls > 0: one byte for each value, 1 valid, 0 null · then, by type:
      fixed width        u64 bytes · values (a bool is one byte; a null is zeros)
      string, binary     u64 bytes · int64 offsets from 0, one more than values · u64 bytes · data (a null is empty)
      list               u64 bytes · int64 offsets from 0, one more than values · array of the items (a null is empty)
      fixed size list    array of the items of the valid values
      struct             for each field: string name · array (null where the struct is)
      dictionary         as the array of its values · null type: nothing more

The type is Arrow's name for it without child names and nullability: `list<int32>`, `fixed_size_list<uint16>[512]`,
`fixed_size_binary[16]`, `struct<a: string>`. Offsets are
int64 for `string` and `large_string` alike, but the names differ.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt8, UInt64

from mlm_data.kernels import kernel, load_uint64

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


def hash_bytes(data: bytes) -> int:
    """64 bits (h1 of MurmurHash3 x64 128) of a short string of bytes, such as a path."""
    return int(hash128(pa.array([data], pa.large_binary()))[0, 0])


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
    """The bytes and offsets behind large strings, zero-copy, for kernels; offsets need not begin at 0.

    Nulls are not allowed: what they hold is undefined.
    """
    assert pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type), values.type
    assert values.null_count == 0, "nulls have no text"
    if len(values) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, data = values.buffers()
    places = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    return np.frombuffer(data or b"", np.uint8), places


def table_hash(table: pa.Table, domain: str) -> bytes:
    """SHA-256 (32 bytes) of a table's values in the canonical layout of this module, keyed by `domain`.

    Equal for equal values, however they are chunked, sliced, dictionary-encoded or were stored.
    """
    hasher = hashlib.sha256()
    for text in ("premask.table.1", domain):
        _add_string(hasher, text)
    _add_number(hasher, table.num_rows)
    _add_number(hasher, table.num_columns)
    for field, column in zip(table.schema, table.columns, strict=True):
        _add_string(hasher, field.name)
        _add_array(hasher, _plain(column.chunks, field.type), _plain_type(field.type))
    return hasher.digest()


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain(chunks: Iterable[pa.Array], kind: pa.DataType) -> list[pa.Array]:
    if not pa.types.is_dictionary(kind):
        return [chunk for chunk in chunks if len(chunk)]
    # Not dictionary_decode(): it fails where a null index lies beside an empty dictionary.
    return [chunk.cast(kind.value_type) for chunk in chunks if len(chunk)]


def _type_name(kind: pa.DataType) -> str:
    kind = _plain_type(kind)
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_type_name(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_large_list(kind):
        return f"large_list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {_type_name(field.type)}" for field in kind) + ">"
    return str(kind)


def _add_number(hasher: "hashlib._Hash", number: int) -> None:
    hasher.update(struct.pack("<Q", number))


def _add_string(hasher: "hashlib._Hash", text: str) -> None:
    data = text.encode()
    _add_number(hasher, len(data))
    hasher.update(data)


def _add_array(hasher: "hashlib._Hash", chunks: Sequence[pa.Array], kind: pa.DataType) -> None:
    _add_string(hasher, _type_name(kind))
    num_nulls = sum(chunk.null_count for chunk in chunks)
    _add_number(hasher, num_nulls)
    if num_nulls:
        for chunk in chunks:
            hasher.update(_bytes_of_bools(chunk.is_valid()))
    if pa.types.is_null(kind):
        return
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or _is_large(kind):
        _add_strings(hasher, chunks, kind)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _add_offsets(hasher, [pc.fill_null(pc.list_value_length(chunk), 0) for chunk in chunks])
        _add_items(hasher, chunks, kind)
    elif pa.types.is_fixed_size_list(kind):
        _add_items(hasher, chunks, kind)
    elif pa.types.is_struct(kind):
        parts = [chunk.flatten() for chunk in chunks]
        for i, field in enumerate(kind):
            _add_string(hasher, field.name)
            _add_array(hasher, _plain([part[i] for part in parts], field.type), _plain_type(field.type))
    else:
        _add_fixed(hasher, chunks, kind)


def _add_items(hasher: "hashlib._Hash", chunks: Sequence[pa.Array], kind: pa.DataType) -> None:
    # flatten() leaves out what lies under nulls.
    _add_array(hasher, _plain([chunk.flatten() for chunk in chunks], kind.value_type), _plain_type(kind.value_type))


def _add_offsets(hasher: "hashlib._Hash", lengths: Sequence[pa.Array]) -> int:
    """Hash int64 offsets from 0; return the last one."""
    _add_number(hasher, 8 * (1 + sum(len(part) for part in lengths)))
    hasher.update(bytes(8))
    total = 0
    for part in lengths:
        places = np.cumsum(part.to_numpy(zero_copy_only=False), dtype="<i8") + total
        hasher.update(places)
        total = int(places[-1])
    return total


def _is_large(kind: pa.DataType) -> bool:
    return pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)


def _add_strings(hasher: "hashlib._Hash", chunks: Sequence[pa.Array], kind: pa.DataType) -> None:
    total = _add_offsets(hasher, [pc.fill_null(pc.binary_length(chunk), 0) for chunk in chunks])
    _add_number(hasher, total)
    width = np.dtype("<i8" if _is_large(kind) else "<i4")
    for chunk in (chunk.drop_null() for chunk in chunks):
        if len(chunk) and chunk.buffers()[2] is not None:
            places = np.frombuffer(chunk.buffers()[1], width)
            start, end = int(places[chunk.offset]), int(places[chunk.offset + len(chunk)])
            hasher.update(chunk.buffers()[2].slice(start, end - start))


def _add_fixed(hasher: "hashlib._Hash", chunks: Sequence[pa.Array], kind: pa.DataType) -> None:
    if pa.types.is_boolean(kind):
        _add_number(hasher, sum(len(chunk) for chunk in chunks))
        for chunk in chunks:
            hasher.update(_bytes_of_bools(pc.fill_null(chunk, False)))
        return
    try:
        width = kind.byte_width
    except ValueError as error:
        raise TypeError(f"no canonical layout for {kind}") from error
    _add_number(hasher, width * sum(len(chunk) for chunk in chunks))
    for chunk in chunks:
        values = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)[width * chunk.offset :][: width * len(chunk)]
        if chunk.null_count:
            values = np.where(_bytes_of_bools(chunk.is_valid())[:, None], values.reshape(-1, width), np.uint8(0))
        hasher.update(np.ascontiguousarray(values))


def _bytes_of_bools(values: pa.BooleanArray) -> UInt8[np.ndarray, " values"]:
    return values.cast(pa.uint8()).to_numpy(zero_copy_only=False)
