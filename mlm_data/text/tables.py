"""Tables as documents: what Parquet and Arrow files have in common. `offset` is the row in the file.

The text column may be a string or bytes, dictionary-encoded or not. Other fields become strings: strings as they are,
lists and structs as compact JSON, everything else as Arrow prints it (1, 1.5, true, 2024-01-31). Where there is no
column "a.b", that means field b of the struct a.
"""

import difflib
import json
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlm_data.config import InputSettings
from mlm_data.errors import InputError
from mlm_data.hashing import string_buffers
from mlm_data.stores.folder import open_input
from mlm_data.text.batches import batch, other_fields, quarantined
from mlm_data.text.encodings import BAD_UTF8, NOT_TEXT, NOT_TEXT_DETAIL
from mlm_data.text.json_lines import NOT_A_STRING
from mlm_data.text.utf8 import BAD_BYTES, NO_TEXT, check_texts
from mlm_data.types import Documents, Slice


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
        with open_input(piece.path) as stream:
            for first_row, rows in read(stream, piece, settings, batch_bytes):
                for start, part in _cut(rows, settings.text_field, batch_bytes):
                    yield _documents(piece, settings, first_row + start, part, replace)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{piece.path}: can't read this {piece.format} file: {first_line(error)}") from error


def check_columns(schema: pa.Schema, settings: InputSettings, path: str) -> None:
    """Refuse a table without a column of strings for the text.

    Raises:
        InputError: names the nearest column.
    """
    field = settings.text_field
    if not _top_level(schema, field):
        nearest = difflib.get_close_matches(field, schema.names, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"columns: {', '.join(schema.names[:20])}"
        raise InputError(f"{path}: no column {field!r} for the text: {hint} Set text_field")
    if schema.names.count(field) > 1:
        raise InputError(f"{path}: {schema.names.count(field)} columns are called {field!r}: rename all but one")
    kind = _column(pa.RecordBatch.from_pylist([], schema=schema), field).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (_is_text(kind) or pa.types.is_null(kind)):
        raise InputError(f"{path}: column {field!r} is {kind}, not text: set text_field to a column of strings")


def present_columns(schema: pa.Schema, settings: InputSettings) -> list[str]:
    """The columns that hold the wanted fields."""
    wanted = [_top_level(schema, name) for name in (settings.text_field, *other_fields(settings))]
    return list(dict.fromkeys(name for name in wanted if name))


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


def _cut(rows: pa.RecordBatch, text_field: str, batch_bytes: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Parts of about `batch_bytes` of text each."""
    column = _column(rows, text_field)
    if pa.types.is_null(column.type) or rows.num_rows < 2:
        yield 0, rows
        return
    lengths = pc.binary_length(column.cast(pa.large_binary()))
    ends = np.cumsum(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    start = 0
    while start < rows.num_rows:
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + batch_bytes, side="right")))
        yield start, rows.slice(start, end - start)
        start = end


def _documents(piece: Slice, settings: InputSettings, first_row: int, rows: pa.RecordBatch, replace: bool) -> Documents:
    column = _column(rows, settings.text_field)
    places = np.arange(first_row, first_row + len(column))
    is_text = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_null(column.type):
        is_text[:] = False
    bad = [
        quarantined(piece, int(place), NOT_A_STRING, f"field {settings.text_field!r} holds null")
        for place in places[~is_text]
    ]
    raw = column.cast(pa.large_binary()).filter(is_text)
    data, offsets = string_buffers(raw)
    kinds = check_texts(data, offsets[:-1], offsets[1:])
    places = places[is_text]
    is_good = kinds != NO_TEXT
    bad += [quarantined(piece, int(place), NOT_TEXT, NOT_TEXT_DETAIL) for place in places[~is_good]]
    if not replace:
        detail = "bytes that are no UTF-8"
        bad += [quarantined(piece, int(place), BAD_UTF8, detail) for place in places[kinds == BAD_BYTES]]
        is_good &= kinds != BAD_BYTES
    if not is_good.all():
        raw, kinds, places = raw.filter(is_good), kinds[is_good], places[is_good]
        is_text[is_text] = is_good
    bad.sort(key=lambda item: item.offset)
    if (kinds == BAD_BYTES).any():
        text = pa.array([value.as_py().decode(errors="replace") for value in raw], pa.large_string())
    else:
        text = pa.Array.from_buffers(pa.large_string(), len(raw), raw.buffers(), 0, raw.offset)
    others = [_as_strings(rows, name).filter(is_text) for name in other_fields(settings)]
    return batch(piece, settings, tuple(bad), rows.nbytes, text, places, others)


def _is_text(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(matches(kind) for matches in (*kinds, pa.types.is_string_view, pa.types.is_binary_view))


def _as_strings(rows: pa.RecordBatch, name: str) -> pa.Array:
    if not _top_level(rows.schema, name) or rows.schema.names.count(name) > 1:
        return pa.nulls(rows.num_rows, pa.string())
    column = _column(rows, name)
    if pa.types.is_nested(column.type):
        values = (None if value is None else _compact_json(value) for value in column.to_pylist())
        return pa.array(values, pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())


def _compact_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def first_line(error: Exception) -> str:
    """An exception's message, or its name where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
