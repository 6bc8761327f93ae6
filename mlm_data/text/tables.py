"""Tables as documents: what Parquet and Arrow files have in common. `offset` is the row in the file.

The text column may be a string or bytes, dictionary-encoded or not, or a list of them; or the text is put together: see
`parts`. Other fields become strings: strings as they are, bytes as hexadecimal digits, lists and structs as compact
JSON, everything else as Arrow prints it (1, 1.5, true, 2024-01-31). Where there is no column "a.b", that means field b
of the struct a. A column that is not there, or that is there twice, is refused.
"""

import json
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlm_data.config import InputSettings
from mlm_data.errors import InputError
from mlm_data.hashing import large_strings, string_buffers
from mlm_data.stores.folder import open_input
from mlm_data.text.batches import batch, other_fields, quarantined
from mlm_data.text.encodings import BAD_UTF8, NOT_TEXT, NOT_TEXT_DETAIL
from mlm_data.text.field_names import hint, names_in_schema
from mlm_data.text.json_lines import NO_TEXT, NOT_A_STRING
from mlm_data.text.parts import array_parts, is_list, join_arrays, split_name
from mlm_data.text.utf8 import BAD_BYTES, GARBAGE, check_texts
from mlm_data.types import Documents, FieldCounts, Quarantined, Slice

_DIGITS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), "S2")


class ReadBatches(Protocol):
    """Yields (number of its first row in the file, record batch) for each batch of a slice."""

    def __call__(
        self, stream: pa.NativeFile, piece: Slice, settings: InputSettings, batch_bytes: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]: ...


def read_table(
    piece: Slice, settings: InputSettings, read: ReadBatches, *, batch_bytes: int, replace: bool
) -> Iterator[Documents]:
    """The documents of a slice of a table.

    Raises:
        InputError: the file is damaged, or has no column of strings for the text.
    """
    try:
        with open_input(piece.path, whole=True) as stream:
            for first_row, rows in read(stream, piece, settings, batch_bytes):
                for start, part, text in _cut(rows, _text(rows, settings), batch_bytes):
                    yield _documents(piece, settings, first_row + start, part, text, replace)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{piece.path}: can't read this {piece.format} file: {first_line(error)}") from error


def check_columns(schema: pa.Schema, settings: InputSettings, path: str) -> None:
    """Refuse a table without a column for the text, the id or a field to keep, or with two of one name.

    Raises:
        InputError: names the nearest column.
    """
    for name in settings.text_fields:
        kind = _check_column(schema, name, "text_field", path)
        while is_list(kind):
            kind = kind.value_type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(kind) or pa.types.is_null(kind)):
            known = hint(name, names_in_schema(schema))
            raise InputError(f"{path}: column {name!r} is {kind}, not text: {known}. Set text_field")
    roles = dict.fromkeys(settings.keep_fields, "keep_fields")
    roles |= {settings.id_field: "id_field"} if settings.id_field is not None else {}
    roles |= {settings.word_field: "word_field"} if settings.word_field is not None else {}
    for name, role in roles.items():
        _check_column(schema, name, role, path)
        if not _top_level(schema, name):
            raise InputError(f"{path}: {role} {name!r} is in a list of many: name a column that has one value a row")


def _check_column(schema: pa.Schema, name: str, role: str, path: str) -> pa.DataType:
    kind = _find_type(list(schema), name)
    if kind is None:
        what = {"text_field": " for the text", "id_field": " for the ids"}.get(role, " to keep")
        raise InputError(f"{path}: no column {name!r}{what}: {hint(name, names_in_schema(schema))}. Set {role}")
    column = name if name in schema.names else split_name(name)[0]
    if schema.names.count(column) > 1:
        raise InputError(f"{path}: {schema.names.count(column)} columns are called {column!r}: rename all but one")
    return kind


def _find_type(fields: list[pa.Field], name: str) -> pa.DataType | None:
    """The type of a field of a table or struct, whose name is read as in `parts`; None if there is none."""
    types = {field.name: field.type for field in fields}
    if name in types:
        return types[name]
    base, levels, rest = split_name(name)
    kind = types.get(base)
    for _ in range(levels):
        kind = kind.value_type if kind is not None and is_list(kind) else None
    if kind is None or rest is None:
        return kind
    return _find_type(list(kind), rest) if pa.types.is_struct(kind) else None


def present_columns(schema: pa.Schema, settings: InputSettings) -> list[str]:
    """The columns that hold the wanted fields."""
    wanted = (*settings.text_fields, *other_fields(settings))
    return list(dict.fromkeys(name if name in schema.names else split_name(name)[0] for name in wanted))


def _top_level(schema: pa.Schema, name: str) -> str:
    """The column of a field: its own, or for "a.b" the struct a that has a field b; "" if there is none."""
    if name in schema.names:
        return name
    head, _, rest = name.partition(".")
    if not rest or schema.names.count(head) != 1:
        return ""
    kind = schema.field(head).type
    return head if pa.types.is_struct(kind) and _top_level(pa.schema(list(kind)), rest) else ""


def _column(rows: pa.RecordBatch, name: str) -> pa.Array:
    """A field's values, wherever `_top_level` finds it."""
    if name in rows.schema.names:
        return rows.column(name)
    head, _, rest = name.partition(".")
    struct = rows.column(head)
    inner = pa.RecordBatch.from_arrays(struct.flatten(), schema=pa.schema(list(struct.type)))
    return _column(inner, rest)


def _text(rows: pa.RecordBatch, settings: InputSettings) -> pa.LargeBinaryArray:
    """The text of each row as bytes, null where there is none."""
    names = settings.text_fields
    if not _is_joined(rows.schema, settings):
        return _column(rows, names[0]).cast(pa.large_binary())
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    places = np.arange(rows.num_rows)
    return join_arrays([array_parts(columns, name, places) for name in names], rows.num_rows)


def _is_joined(schema: pa.Schema, settings: InputSettings) -> bool:
    """Whether the text may have several parts."""
    first = settings.text_fields[0]
    return len(settings.text_fields) > 1 or not _top_level(schema, first) or is_list(_find_type(list(schema), first))


def _cut(
    rows: pa.RecordBatch, text: pa.LargeBinaryArray, batch_bytes: int
) -> Iterator[tuple[int, pa.RecordBatch, pa.LargeBinaryArray]]:
    """(first row, rows, their texts): parts of about `batch_bytes` of text each."""
    if rows.num_rows < 2:
        yield 0, rows, text
        return
    lengths = pc.binary_length(text)
    ends = np.cumsum(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    start = 0
    while start < rows.num_rows:
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + batch_bytes, side="right")))
        yield start, rows.slice(start, end - start), text.slice(start, end - start)
        start = end


def _documents(
    piece: Slice,
    settings: InputSettings,
    first_row: int,
    rows: pa.RecordBatch,
    column: pa.LargeBinaryArray,
    replace: bool,
) -> Documents:
    places = np.arange(first_row, first_row + len(column))
    is_text = column.is_valid().to_numpy(zero_copy_only=False)
    bad = _without_text(piece, settings, rows, np.flatnonzero(~is_text), first_row)
    raw = column.filter(is_text)
    data, offsets = string_buffers(raw)
    kinds = check_texts(data, offsets[:-1], offsets[1:])
    places = places[is_text]
    sizes = np.diff(offsets)
    wrong = {GARBAGE: (NOT_TEXT, NOT_TEXT_DETAIL)}
    wrong |= {} if replace else {BAD_BYTES: (BAD_UTF8, "bytes that are no UTF-8")}
    is_good = ~np.isin(kinds, list(wrong))
    if not is_good.all():
        for i in np.flatnonzero(~is_good).tolist():
            bad.append(quarantined(piece, int(places[i]), *wrong[int(kinds[i])], int(sizes[i])))
        bad.sort(key=lambda item: item.offset)
        raw, kinds, places = raw.filter(pa.array(is_good)), kinds[is_good], places[is_good]
        is_text[is_text] = is_good
    if (kinds == BAD_BYTES).any():
        text = pa.array([value.as_py().decode(errors="replace") for value in raw], pa.large_string())
    else:
        text = pa.Array.from_buffers(pa.large_string(), len(raw), raw.buffers(), 0, raw.offset)
    names = other_fields(settings)
    others = [_as_strings(rows, name).filter(is_text) for name in names]
    as_hex = tuple(name for name in names if _is_binary(_column(rows, name).type))
    counts = FieldCounts(
        num_objects=rows.num_rows,
        present=dict.fromkeys((*settings.text_fields, *names), rows.num_rows),
        as_hex=as_hex,
    )
    return batch(piece, settings, tuple(bad), rows.nbytes, text, places, others, counts)


def _without_text(
    piece: Slice, settings: InputSettings, rows: pa.RecordBatch, which: np.ndarray, first_row: int
) -> list[Quarantined]:
    """The rows that have no text, and why: as in lines of JSON."""
    if not which.size:
        return []
    names = settings.text_fields
    is_null = np.zeros(rows.num_rows, np.bool_)
    if len(names) == 1 and _top_level(rows.schema, names[0]):
        is_null = _column(rows, names[0]).is_null().to_numpy(zero_copy_only=False)
    reasons = {
        True: (NOT_A_STRING, f"field {names[0]!r} holds null"),
        False: (NO_TEXT, f"no text in field {', '.join(map(repr, names))}"),
    }
    return [quarantined(piece, first_row + row, *reasons[bool(is_null[row])]) for row in which.tolist()]


def _is_text(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(matches(kind) for matches in (*kinds, pa.types.is_string_view, pa.types.is_binary_view))


def _is_binary(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes: what has no characters, such as a UUID."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(matches(kind) for matches in kinds)


def _as_strings(rows: pa.RecordBatch, name: str) -> pa.Array:
    column = _column(rows, name)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_nested(column.type):
        values = (None if value is None else _compact_json(value) for value in column.to_pylist())
        return pa.array(values, pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return _hexadecimal(column) if _is_binary(column.type) else column.cast(pa.string())


def _hexadecimal(column: pa.Array) -> pa.Array:
    """Two digits for each byte."""
    is_there = column.is_valid()
    values = pc.fill_null(column.cast(pa.large_binary()), b"")
    data, offsets = string_buffers(values)
    digits = _DIGITS[data[offsets[0] : offsets[-1]]].tobytes()
    return pc.if_else(is_there, large_strings(digits, 2 * (offsets - offsets[0])), pa.scalar(None, pa.large_string()))


def _compact_json(value: object) -> str:
    def other(inner: object) -> str:
        return inner.hex() if isinstance(inner, bytes) else str(inner)

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=other)


def first_line(error: Exception) -> str:
    """An exception's message, or its name where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
