"""The logical hash of a table.

SHA-256 over the *values* in a canonical layout, so that chunks, slices, dictionary encoding, codec and file
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
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt8


def table_hash(table: pa.Table, domain: str) -> bytes:
    """SHA-256 (32 bytes) of a table's values in the canonical layout of this module, keyed by `domain`.

    Equal for equal values, however they are chunked, sliced, dictionary-encoded or were stored.
    """
    hasher = hashlib.sha256()
    for piece in table_bytes(table, domain):
        hasher.update(piece)
    return hasher.digest()


def table_bytes(table: pa.Table, domain: str) -> Iterator[Any]:
    """What `table_hash` hashes, piece by piece: buffers of the table itself where its values lie as they must."""
    for text in ("premask.table.1", domain):
        yield _string(text)
    yield _number(table.num_rows)
    yield _number(table.num_columns)
    for field, column in zip(table.schema, table.columns, strict=True):
        yield _string(field.name)
        yield from _array(_plain(column.chunks, field.type), _plain_type(field.type))


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


def _number(number: int) -> bytes:
    return struct.pack("<Q", number)


def _string(text: str) -> bytes:
    data = text.encode()
    return _number(len(data)) + data


def _array(chunks: Sequence[pa.Array], kind: pa.DataType) -> Iterator[Any]:
    yield _string(_type_name(kind))
    num_nulls = sum(chunk.null_count for chunk in chunks)
    yield _number(num_nulls)
    if num_nulls:
        for chunk in chunks:
            yield _bytes_of_bools(chunk.is_valid()).data
    if pa.types.is_null(kind):
        return
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or _is_large(kind):
        yield from _strings(chunks, kind)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _offsets([_ends_of_lists(chunk) for chunk in chunks])
        yield from _items(chunks, kind)
    elif pa.types.is_fixed_size_list(kind):
        yield from _items(chunks, kind)
    elif pa.types.is_struct(kind):
        parts = [chunk.flatten() for chunk in chunks]
        for i, field in enumerate(kind):
            yield _string(field.name)
            yield from _array(_plain([part[i] for part in parts], field.type), _plain_type(field.type))
    else:
        yield from _fixed(chunks, kind)


def _items(chunks: Sequence[pa.Array], kind: pa.DataType) -> Iterator[Any]:
    # flatten() leaves out what lies under nulls.
    yield from _array(_plain([chunk.flatten() for chunk in chunks], kind.value_type), _plain_type(kind.value_type))


def _ends_of_lists(chunk: pa.Array) -> Int64[np.ndarray, " values"]:
    """Where each list ends, if the first begins at 0 and a null is empty."""
    if chunk.null_count:
        return _ends(pc.list_value_length(chunk))
    offsets = chunk.offsets.to_numpy()
    return np.subtract(offsets[1:], offsets[0], dtype=np.int64)


def _ends(lengths: pa.Array) -> Int64[np.ndarray, " values"]:
    return np.cumsum(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _offsets(ends: Sequence[Int64[np.ndarray, " values"]]) -> Generator[Any, None, int]:
    """int64 offsets from 0, of the ends of each chunk's values, which are changed; returns the last one."""
    yield _number(8 * (1 + sum(part.size for part in ends)))
    yield bytes(8)
    total = 0
    for part in ends:
        part += total
        yield part.astype("<i8", copy=False).data
        total = int(part[-1])
    return total


def _is_large(kind: pa.DataType) -> bool:
    return pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)


def _strings(chunks: Sequence[pa.Array], kind: pa.DataType) -> Iterator[Any]:
    total = yield from _offsets([_ends(pc.binary_length(chunk)) for chunk in chunks])
    yield _number(total)
    width = np.dtype("<i8" if _is_large(kind) else "<i4")
    for chunk in (chunk.drop_null() for chunk in chunks):
        if len(chunk) and chunk.buffers()[2] is not None:
            places = np.frombuffer(chunk.buffers()[1], width)
            start, end = int(places[chunk.offset]), int(places[chunk.offset + len(chunk)])
            yield chunk.buffers()[2].slice(start, end - start)


def _fixed(chunks: Sequence[pa.Array], kind: pa.DataType) -> Iterator[Any]:
    if pa.types.is_boolean(kind):
        yield _number(sum(len(chunk) for chunk in chunks))
        for chunk in chunks:
            yield _bytes_of_bools(pc.fill_null(chunk, False)).data
        return
    try:
        width = kind.byte_width
    except ValueError as error:
        raise TypeError(f"no canonical layout for {kind}") from error
    yield _number(width * sum(len(chunk) for chunk in chunks))
    for chunk in chunks:
        values = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)[width * chunk.offset :][: width * len(chunk)]
        if chunk.null_count:
            values = np.where(_bytes_of_bools(chunk.is_valid())[:, None], values.reshape(-1, width), np.uint8(0))
        yield np.ascontiguousarray(values).data


def _bytes_of_bools(values: pa.BooleanArray) -> UInt8[np.ndarray, " values"]:
    return values.cast(pa.uint8()).to_numpy(zero_copy_only=False)
