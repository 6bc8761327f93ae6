r"""A text that is put together: of several fields, of the strings of a list, of a field of all structs in a list.

    text_field: [title, abstract]          {"title": "A", "abstract": "b"}                          A, blank line, b
    text_field: messages[].content         {"messages": [{"content": "A"}, {"content": "b"}]}       A, blank line, b
    text_field: lines                      {"lines": ["A", null, "b"]}                              A, blank line, b

A name is read as it is written first: a field that is called "a.b" or "a[].b" wins. Otherwise "a.b" is field b of the
object in field a, and "a[].b" field b of each object in the list in field a. At the end of a name a list stands for its
items, lists in it for theirs. The parts are joined by a blank line; null and empty ones are left out. Where a part
should be and something else is (a number, an object), the document has no text: nothing is left out in silence.

`find_parts` does this for lines of JSON with kernels, a level of lists or objects at a time; `text_parts` for one value
as Python has it; `array_parts` for a column of a table.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int8, Int64, UInt8

from mlm_data.hashing import string_buffers
from mlm_data.text.json_kernels import CONTAINER, ESCAPED, MISSING, NULL, PLAIN, join_parts, scan_items, scan_lines

SEPARATOR = "\n\n"

_NAME = re.compile(r"([^.]*?)((?:\[\])*)(?:\.(.*))?", re.DOTALL)


class NotTextError(ValueError):
    """A value that is no part of a text; its text says what it is."""


@dataclass(frozen=True)
class Values:
    """Values of JSON in a buffer: the line of each, its kind, and where it lies."""

    lines: Int64[np.ndarray, " values"]
    kinds: Int8[np.ndarray, " values"]
    firsts: Int64[np.ndarray, " values"]
    lasts: Int64[np.ndarray, " values"]

    def __getitem__(self, which: np.ndarray) -> "Values":
        return Values(self.lines[which], self.kinds[which], self.firsts[which], self.lasts[which])

    def __add__(self, other: "Values") -> "Values":
        columns = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return Values(*map(np.concatenate, columns))

    def begin_with(self, data: UInt8[np.ndarray, " bytes"], bracket: str) -> Bool[np.ndarray, " values"]:
        """Which of them are a list ("["), or an object ("{")."""
        found = self.kinds == CONTAINER
        found[found] = data[self.firsts[found]] == ord(bracket)
        return found


def split_name(name: str) -> tuple[str, int, str | None]:
    """(field, levels of lists in it, name inside of those or None).

    >>> split_name("messages[].content")
    ('messages', 1, 'content')
    """
    base, lists, rest = _NAME.fullmatch(name).groups()
    return base, len(lists) // 2, rest


def find_parts(
    data: UInt8[np.ndarray, " bytes"], objects: Values, name: str, is_sure: Bool[np.ndarray, " lines"]
) -> tuple[Values, Values]:
    """(parts, what stands where a part should be) of a field of objects, in order.

    Clears `is_sure` for lines that Python must decide.
    """
    found, wrong = _field(data, objects, name, is_sure)
    while (is_list := found.begin_with(data, "[")).any():
        found = _items(data, found, is_list, is_sure)
    is_part = (found.kinds == PLAIN) | (found.kinds == ESCAPED)
    return found[is_part], wrong + found[~is_part & (found.kinds != NULL)]


def join(
    data: UInt8[np.ndarray, " bytes"], parts: Values, lines: Int64[np.ndarray, " documents"]
) -> pa.LargeStringArray:
    """The parts of each of these lines, joined; the parts are in order of their lines."""
    part_offsets = np.zeros(len(lines) + 1, np.int64)
    part_offsets[:-1] = np.searchsorted(parts.lines, lines)
    part_offsets[-1] = len(parts.lines)
    out = np.empty(int((parts.lasts - parts.firsts).sum()) + len(SEPARATOR) * len(parts.lines), np.uint8)
    offsets = np.zeros(len(lines) + 1, np.int64)
    join_parts(data, parts.kinds, parts.firsts, parts.lasts, part_offsets, offsets, out)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[-1]])]
    return pa.Array.from_buffers(pa.large_string(), len(lines), buffers)


def text_parts(value: object, name: str) -> list[str]:
    """The parts of a field of one object, as Python's `json` decodes it.

    Raises:
        NotTextError: something else stands where a part should be.
    """
    return [part for found in _reach(value, name) for part in _strings(found)]


def _field(
    data: UInt8[np.ndarray, " bytes"], objects: Values, name: str, is_sure: Bool[np.ndarray, " lines"]
) -> tuple[Values, Values]:
    """(values of a field, what stands where a list or an object should be) of objects, lists in it not yet opened."""
    base, levels, rest = split_name(name)
    names = [name] if base == name else [name, base]
    keys = np.frombuffer("".join(names).encode(), np.uint8)
    key_ends = np.cumsum([len(part.encode()) for part in names])
    shape = (len(names), len(objects.lines))
    kinds, firsts, lasts = np.zeros(shape, np.int8), np.empty(shape, np.int64), np.empty(shape, np.int64)
    sure = np.ones(len(objects.lines), np.bool_)
    scan_lines(data, objects.firsts, objects.lasts, keys, key_ends, sure, kinds, firsts, lasts)
    is_sure[objects.lines[~sure]] = False
    own, outer = kinds[0] != MISSING, kinds[-1] != MISSING
    as_written = Values(objects.lines, kinds[0], firsts[0], lasts[0])[own & sure]
    if base == name:
        return as_written, as_written[:0]
    found = Values(objects.lines, kinds[-1], firsts[-1], lasts[-1])[outer & ~own & sure]
    wrong = found[:0]
    for _ in range(levels):
        is_list = found.begin_with(data, "[")
        wrong += found[~is_list & (found.kinds != NULL)]
        found = _items(data, found[is_list], is_list[is_list], is_sure)
    if rest is not None:
        is_object = found.begin_with(data, "{")
        if levels:
            wrong += found[~is_object & (found.kinds != NULL)]
        found, more = _field(data, found[is_object], rest, is_sure)
        wrong += more
    merged = as_written + found
    return merged[np.argsort(merged.lines, kind="stable")], wrong


def _items(
    data: UInt8[np.ndarray, " bytes"],
    values: Values,
    is_list: Bool[np.ndarray, " values"],
    is_sure: Bool[np.ndarray, " lines"],
) -> Values:
    """The values with the lists among them opened."""
    nothing = np.empty(0, np.int64)
    arguments = (data, values.kinds, values.firsts, values.lasts, is_list)
    num_items = scan_items(*arguments, nothing, nothing.astype(np.int8), nothing, nothing, np.empty(0, np.bool_))
    owners, firsts, lasts = (np.empty(num_items, np.int64) for _ in range(3))
    kinds, is_lone = np.empty(num_items, np.int8), np.zeros(num_items, np.bool_)
    scan_items(*arguments, owners, kinds, firsts, lasts, is_lone)
    lines = values.lines[owners]
    is_sure[lines[is_lone]] = False  # a surrogate that is alone
    return Values(lines, kinds, firsts, lasts)


def _reach(value: object, name: str) -> list[object]:
    if not isinstance(value, dict):
        return []
    base, levels, rest = split_name(name)
    if name in value or base == name:
        return [value[name]] if name in value else []
    found = [value[base]] if base in value else []
    for _ in range(levels):
        found = [item for outer in found if outer is not None for item in _as(list, outer)]
    if rest is None:
        return found
    if levels:
        found = [_as(dict, item) for item in found if item is not None]
    return [inner for item in found for inner in _reach(item, rest)]


def _as(kind: type, value: object) -> object:
    if not isinstance(value, kind):
        raise NotTextError(_shown(value))
    return value


def _strings(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [part for item in value for part in _strings(item)]
    if type(value) is not str:
        raise NotTextError(_shown(value))
    return [value]


def _shown(value: object) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def array_parts(
    columns: Mapping[str, pa.Array], name: str, rows: Int64[np.ndarray, " rows"]
) -> tuple[Int64[np.ndarray, " parts"], pa.LargeBinaryArray]:
    """(row of each, parts) of a field of a table's or a struct's columns, in order; the types must fit the name."""
    if name in columns:
        return _open_all(columns[name], rows)
    base, levels, rest = split_name(name)
    array = columns[base]
    for _ in range(levels):
        array, rows = _open(array, rows)
    if rest is None:
        return _open_all(array, rows)
    return array_parts(dict(zip(array.type.names, array.flatten(), strict=True)), rest, rows)


def join_arrays(
    found: Sequence[tuple[Int64[np.ndarray, " parts"], pa.LargeBinaryArray]], num_rows: int
) -> pa.LargeBinaryArray:
    """The parts of all fields of each row, joined; null where there is none."""
    rows = np.concatenate([rows for rows, _ in found])
    values = pa.concat_arrays([array for _, array in found])
    data, offsets = string_buffers(values)
    order = np.argsort(rows, kind="stable")
    parts = Values(rows, np.full(len(rows), PLAIN, np.int8), offsets[:-1], offsets[1:])[order]
    text = join(data, parts, np.arange(num_rows))
    has_text = np.zeros(num_rows, np.bool_)
    has_text[rows] = True
    _, text_offsets, text_data = text.buffers()
    validity = pa.py_buffer(np.packbits(has_text, bitorder="little"))
    return pa.Array.from_buffers(pa.large_binary(), num_rows, [validity, text_offsets, text_data])


def is_list(kind: pa.DataType) -> bool:
    """Whether values of this type stand for their items."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(matches(kind) for matches in (*kinds, pa.types.is_list_view, pa.types.is_large_list_view))


def _open(array: pa.Array, rows: Int64[np.ndarray, " rows"]) -> tuple[pa.Array, Int64[np.ndarray, " items"]]:
    """The items of a column of lists, and the row of each."""
    if array.null_count:  # what a null holds may be counted as items, or not
        is_there = array.is_valid()
        array, rows = array.filter(is_there), rows[is_there.to_numpy(zero_copy_only=False)]
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        array = array.cast(pa.large_list(array.type.value_type))
    parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    return pc.list_flatten(array), rows[parents]


def _open_all(
    array: pa.Array, rows: Int64[np.ndarray, " rows"]
) -> tuple[Int64[np.ndarray, " parts"], pa.LargeBinaryArray]:
    while is_list(array.type):
        array, rows = _open(array, rows)
    if pa.types.is_null(array.type):
        return rows[:0], pa.array([], pa.large_binary())
    is_there = array.is_valid()
    strings = array.filter(is_there).cast(pa.large_binary())
    return rows[is_there.to_numpy(zero_copy_only=False)], strings
