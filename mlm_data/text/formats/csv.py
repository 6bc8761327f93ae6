r"""CSV and TSV (RFC 4180): a header row with the names of the columns, and a document a row.

A field may stand in quotes; a quote in it is doubled, and delimiters and line ends in it are part of it. A quote that
does not begin a field is a character as any other. A row ends at LF, CRLF or CR; blank lines are none. As Python's
`csv` reads in its strict mode, which is the oracle of the tests.

    id,text\n1,"a ""b"",\nc"\n          ->          id: 1, text: a "b",\nc

`offset` is the byte at which the row begins. A row that can't be right is quarantined, `bad_csv`: a number of fields
other than the header's, text behind a closing quote, a quote that is not closed within 64 MiB. The latter two cost
their first line alone: what follows it is read as rows again, so that one forgotten quote does not take a whole file.

A file is one slice: whether a line end is in quotes is known only from its beginning. Cost: one pass of a kernel over
bytes, eight at a time, and one copy of the wanted columns.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int8, Int64

from mlm_data.config import InputSettings
from mlm_data.errors import InputError
from mlm_data.kernels import read_only
from mlm_data.text.batches import batch, other_fields, quarantined
from mlm_data.text.blocks import truncated
from mlm_data.text.csv_kernels import COUNT, DOUBLED, GOOD, QUOTE, UNCLOSED, count_line_ends, scan_rows
from mlm_data.text.encodings import decode, find_encoding
from mlm_data.text.field_names import hint
from mlm_data.text.formats.record import Format
from mlm_data.text.parts import SEPARATOR
from mlm_data.text.streams import ByteStream
from mlm_data.text.window import MAX_RECORD_BYTES, Window
from mlm_data.types import Documents, Quarantined, Slice

BAD_CSV = "bad_csv"
DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class _Rows:
    """The rows at the beginning of a window; places count bytes of it."""

    starts: Int64[np.ndarray, " rows"]
    states: Int8[np.ndarray, " rows"]
    counts: Int64[np.ndarray, " rows"]  # fields
    firsts: Int64[np.ndarray, "wanted rows"]
    lasts: Int64[np.ndarray, "wanted rows"]
    flags: Int8[np.ndarray, "wanted rows"]
    end: int  # behind the last of them


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    delimiter = ord(settings.delimiter or DELIMITERS[piece.format])
    wanted = [*settings.text_fields, *other_fields(settings)]
    with ByteStream(piece) as stream:
        window = Window(stream, settings.encoding, batch_bytes)
        header, line = _read_header(window, delimiter, piece.path), 1
        if header is not None:
            names, end = header
            columns = _find_columns(names, settings, piece.path)
            slots = np.full(len(names), -1, np.int64)
            places = sorted(set(columns.values()))
            slots[places] = np.arange(len(places))
            of_field = [places.index(columns[name]) for name in wanted]
            line += _drop(window, end)
        is_cut = False  # the window begins inside of a line that was given up
        while header is not None:
            if is_cut:
                line += _drop(window, _line_end(window))
                is_cut = not window.data and not window.is_last
            rows = _find_rows(window, delimiter, slots)
            if rows.end:
                is_cut = bool(len(rows.starts)) and rows.states[-1] == UNCLOSED and rows.end == len(window.data)
                made = _documents(piece, settings, window, rows, of_field, len(names), line, replace)
                line += _drop(window, rows.end)
                yield batch(piece, settings, made[0], window.count(), *made[1:])
            if window.is_last:
                break
            window.grow()
        broken = (truncated(piece, stream, window.offset),) if stream.damage else ()
        window.drop(len(window.data))
        rest = window.count()
    if broken or rest:
        yield batch(piece, settings, broken, rest)


def _check_head(head: bytes, settings: InputSettings, path: str, delimiter: str) -> None:
    """Refuse a file without the wanted columns, if the whole header row is here."""
    units, codec = find_encoding(head[:4], settings.encoding)
    data = head[len(units.mark) :]
    char = settings.delimiter or delimiter
    rows = _scan(read_only(units.narrow(data)), ord(char), np.empty(0, np.int64), is_last=False, max_rows=1)
    if len(rows.starts):
        names = _names(data[rows.starts[0] * units.width : rows.end * units.width], codec, char, path)
        _find_columns(names, settings, path)


def _read_header(window: Window, delimiter: int, path: str) -> tuple[list[str], int] | None:
    """(names of the columns, bytes of the window up to the end of the row); None for a file of nothing."""
    while True:
        data = read_only(window.units.narrow(window.data))
        is_last = window.is_last and not window.damage
        rows = _scan(data, delimiter, np.empty(0, np.int64), is_last=is_last, max_rows=1)
        if len(rows.starts) or window.is_last:
            break
        window.grow()
    if not len(rows.starts):
        return None
    width = window.units.width
    row = window.data[rows.starts[0] * width : rows.end * width]
    return _names(row, window.codec, chr(delimiter), path), rows.end * width


def _names(row: bytes, codec: str, delimiter: str, path: str) -> list[str]:
    try:
        text = row.decode(codec)
        limit = csv.field_size_limit(len(text) + 1)
        try:
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        finally:
            csv.field_size_limit(limit)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: its header row is not {codec}: set the input's `encoding`") from error
    except (csv.Error, StopIteration) as error:
        raise InputError(f"{path}: its header row can't be read: {error}: write the columns' names there") from error


def _find_columns(names: Sequence[str], settings: InputSettings, path: str) -> dict[str, int]:
    """Where each wanted field stands.

    Raises:
        InputError: there is no such column, or there are two; names the nearest.
    """
    roles = [("text_field", name) for name in settings.text_fields]
    roles += [("id_field", settings.id_field)] if settings.id_field is not None else []
    roles += [("keep_fields", name) for name in settings.keep_fields]
    for role, name in roles:
        if names.count(name) > 1:
            raise InputError(f"{path}: {names.count(name)} columns are called {name!r}: rename all but one")
        if name not in names:
            other = next((char for char in ";\t|," if len(names) == 1 and char in names[0]), "")
            remedy = f"or delimiter: {other!r}, which stands in its header" if other else ""
            raise InputError(f"{path}: no column {name!r}: {hint(name, names)}. Set {role}{' ' * bool(remedy)}{remedy}")
    return {name: names.index(name) for _, name in roles}


def _find_rows(window: Window, delimiter: int, slots: Int64[np.ndarray, " columns"]) -> _Rows:
    """The rows of a window that are whole, or given up; places in bytes."""
    units = read_only(window.units.narrow(window.data))
    max_rows = int(count_line_ends(units, len(units))) + 1
    rows = _scan(units, delimiter, slots, is_last=window.is_last and not window.damage, max_rows=max_rows)
    width = window.units.width
    if width == 1:
        return rows
    return _Rows(
        rows.starts * width, rows.states, rows.counts, rows.firsts * width, rows.lasts * width, rows.flags,
        rows.end * width,
    )  # fmt: skip


def _scan(
    units: np.ndarray, delimiter: int, slots: Int64[np.ndarray, " columns"], *, is_last: bool, max_rows: int
) -> _Rows:
    num_slots = int(slots.max(initial=-1)) + 1
    starts, counts = np.empty(max_rows, np.int64), np.empty(max_rows, np.int64)
    states = np.empty(max_rows, np.int8)
    firsts, lasts = np.empty((num_slots, max_rows), np.int64), np.empty((num_slots, max_rows), np.int64)
    flags = np.empty((num_slots, max_rows), np.int8)
    found, end = scan_rows(
        units, delimiter, slots, is_last, MAX_RECORD_BYTES, max_rows, starts, states, counts, firsts, lasts, flags
    )
    return _Rows(
        starts[:found], states[:found], counts[:found], firsts[:, :found], lasts[:, :found], flags[:, :found], int(end)
    )


def _documents(
    piece: Slice,
    settings: InputSettings,
    window: Window,
    rows: _Rows,
    of_field: Sequence[int],
    num_columns: int,
    line: int,
    replace: bool,
) -> tuple[tuple[Quarantined, ...], pa.LargeStringArray, Int64[np.ndarray, " documents"], list[pa.Array]]:
    """(quarantined, texts, offsets, other columns)."""
    sizes = np.diff(rows.starts, append=rows.end)
    offsets = rows.starts + window.offset
    bad = []
    for i in np.flatnonzero(rows.states != GOOD).tolist():
        detail = _detail(int(rows.states[i]), int(rows.counts[i]), num_columns)
        here = line + _count_lines(window, int(rows.starts[i]))
        bad.append(quarantined(piece, int(offsets[i]), BAD_CSV, f"line {here}: {detail}", int(sizes[i])))
    good = np.flatnonzero(rows.states == GOOD)
    is_kept = np.ones(len(good), np.bool_)
    columns = {}
    for slot in dict.fromkeys(of_field):
        firsts, lasts = rows.firsts[slot, good], rows.lasts[slot, good]
        texts, kept, problems = decode(window.data, firsts, lasts, window.codec, replace)
        for i, reason, detail in problems:
            if is_kept[i]:
                bad.append(quarantined(piece, int(offsets[good[i]]), reason, detail, int(sizes[good[i]])))
            is_kept[i] = False
        columns[slot] = _single_quotes(texts, (rows.flags[slot, good[kept]] & DOUBLED) > 0), kept
    values = []
    for slot in of_field:
        texts, kept = columns[slot]
        values.append(texts if is_kept.all() else texts.filter(pa.array(is_kept[kept])))
    bad.sort(key=lambda item: item.offset)
    num_texts = len(settings.text_fields)
    text = values[0] if num_texts == 1 else _join(values[:num_texts])
    return tuple(bad), text, offsets[good[is_kept]], values[num_texts:]


def _detail(state: int, count: int, num_columns: int) -> str:
    if state == COUNT:
        return f"{count} fields, but the header has {num_columns}"
    if state == QUOTE:
        return f"text behind the closing quote of field {count + 1}: double a quote that is part of a field"
    assert state == UNCLOSED
    return f"field {count + 1} begins with a quote that is not closed, or is longer than {MAX_RECORD_BYTES >> 20} MiB"


def _single_quotes(texts: pa.LargeStringArray, is_doubled: Bool[np.ndarray, " rows"]) -> pa.LargeStringArray:
    if not is_doubled.any():
        return texts
    mask = pa.array(is_doubled)
    return pc.replace_with_mask(texts, mask, pc.replace_substring(texts.filter(mask), '""', '"'))


def _join(columns: Sequence[pa.LargeStringArray]) -> pa.LargeStringArray:
    """The texts of several columns, with a blank line between them; empty ones are left out."""
    full = [pc.if_else(pc.equal(column, ""), None, column) for column in columns]
    joined = pc.binary_join_element_wise(*full, pa.scalar(SEPARATOR, pa.large_string()), null_handling="skip")
    return joined.cast(pa.large_string())


def _count_lines(window: Window, end: int) -> int:
    """Line ends in the first `end` bytes."""
    return int(count_line_ends(read_only(window.units.narrow(window.data)), end // window.units.width))


def _line_end(window: Window) -> int:
    """Where the first line end of a window is, or its length, in bytes."""
    units = window.units.narrow(window.data)
    ends = np.flatnonzero((units == 10) | (units == 13))
    return int(ends[0]) * window.units.width if len(ends) else len(window.data)


def _drop(window: Window, num_bytes: int) -> int:
    """Take bytes off the front; returns the number of line ends among them."""
    lines = _count_lines(window, num_bytes)
    window.drop(num_bytes)
    return lines


def _format(name: str, extensions: tuple[str, ...]) -> Format:
    def check_head(head: bytes, settings: InputSettings, path: str) -> None:
        _check_head(head, settings, path, DELIMITERS[name])

    return Format(
        name=name,
        extensions=extensions,
        settings=frozenset({"text_field", "id_field", "keep_fields", "encoding", "delimiter"}),
        check_head=check_head,
        read=_read,
    )


CSV = _format("csv", ("csv",))
TSV = _format("tsv", ("tsv", "tab"))
