r"""JSON Lines: the wanted fields of each line, found by a kernel and checked by Python's `json` where that is unsure.

The kernel walks a line once by the grammar of RFC 8259 and notes where the values of the wanted top-level fields lie:

    {"text": "a\nb", "n": {"x": [1]}}      wanted: text, n      ->      (ESCAPED, 10..14), (CONTAINER, 22..32)

It takes only what it is sure of. Anything else (an error, an escape in a key, a surrogate that is alone) is decided by
Python's decoder, one line at a time: so one bad line costs one line. What is accepted is what `json.loads` accepts, NaN
and Infinity too, and of equal keys the last wins. Two bounds do not depend on the machine: an integer may have any
number of digits, and a value at most 64 levels of brackets.

Where an object has no field "a.b", that means field "b" of the object in its field "a": the kernel walks that one, too.

The text may be put together, of several fields and of lists: see `parts`. Other wanted values become text so: strings
as they are, null as null, everything else as it is written, without the white space between tokens. Cost: eight bytes
at a time inside strings; over 1 GB/s where most of a line is text.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int8, Int64, UInt8

from mlm_data.hashing import string_buffers
from mlm_data.text.encodings import BAD_UTF8, NOT_TEXT, NOT_TEXT_DETAIL
from mlm_data.text.json_kernels import CONTAINER, ESCAPED, MAX_DEPTH, MISSING, NULL, PLAIN, copy_values, scan_lines
from mlm_data.text.parts import SEPARATOR, NotTextError, Values, find_parts, join, text_parts
from mlm_data.text.utf8 import TEXT, check_texts, is_no_text

BAD_JSON, NO_TEXT, NOT_A_STRING = "bad_json", "no_text_field", "text_not_a_string"


class _Number(str):
    """A number or a constant as it is written; no string, though Python would take it for one."""


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_TOKENS = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\n\r]+', re.DOTALL)
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Fields:
    """The lines that hold a text, in order, and why the others don't."""

    lines: Int64[np.ndarray, " documents"]
    text: pa.LargeStringArray  # no nulls
    others: tuple[pa.LargeStringArray, ...]  # null where a line has no such field, or null in it
    problems: tuple[tuple[int, str, str], ...]  # (line, reason, detail), in order
    num_objects: int  # lines that are objects, with a text or without
    present: Mapping[str, int]  # in how many of them each wanted field is, null or not


def read_fields(
    data: UInt8[np.ndarray, " bytes"],
    starts: Int64[np.ndarray, " lines"],
    ends: Int64[np.ndarray, " lines"],
    *,
    text_field: str | Sequence[str],
    other_fields: Sequence[str] = (),
    replace: bool = False,
) -> Fields:
    """Read JSON lines data[start:end], none of them blank.

    Args:
        text_field: one name, or several whose texts are joined.
        replace: bytes that are no UTF-8, and lone surrogates in the text, become U+FFFD; otherwise such a line is a
            problem, `bad_utf8`. In other fields lone surrogates always become U+FFFD.
    """
    text_fields = (text_field,) if isinstance(text_field, str) else tuple(text_field)
    names = list(dict.fromkeys((*text_fields, *other_fields)))
    is_sure = check_texts(data, starts, ends) == TEXT
    kinds, firsts, lasts = _find_values(data, starts, ends, names, is_sure)
    lines = np.arange(len(starts))
    first = Values(lines, kinds[0], firsts[0], lasts[0])
    is_joined = len(text_fields) > 1 or "[]" in text_fields[0] or first[is_sure].begin_with(data, "[").any()
    objects = Values(lines, kinds[0], starts, ends)[is_sure]
    found = [find_parts(data, objects, name, is_sure) for name in text_fields] if is_joined else []
    # Only now it is known which lines Python must decide.
    slow = [
        _read_slowly(line, data[starts[line] : ends[line]].tobytes(), text_fields, other_fields, replace)
        for line in np.flatnonzero(~is_sure).tolist()
    ]
    has_field = is_sure & (kinds[: len(names)] != MISSING)
    if is_joined:
        parts, wrong = _in_order(found, is_sure)
        has_text = is_sure & _are_among(lines, parts.lines) & ~_are_among(lines, wrong.lines)
        for row, values in enumerate(found):
            has_field[row] |= is_sure & (_are_among(lines, values[0].lines) | _are_among(lines, values[1].lines))
        text = join(data, parts[has_text[parts.lines]], np.flatnonzero(has_text))
        has_nul = np.ones(len(text), np.bool_)
    else:
        wrong = first[is_sure & (first.kinds != MISSING)]
        has_text = is_sure & ((first.kinds == PLAIN) | (first.kinds == ESCAPED))
        text, has_nul = _column(data, kinds[0, has_text], firsts[0, has_text], lasts[0, has_text])
    problems = _no_texts(data, np.flatnonzero(is_sure & ~has_text), text_fields, wrong, first)
    if has_nul.any():
        values, offsets = string_buffers(text)
        is_text = check_texts(values, offsets[:-1], offsets[1:]) == TEXT
        problems += [(line, NOT_TEXT, NOT_TEXT_DETAIL) for line in np.flatnonzero(has_text)[~is_text].tolist()]
        text = text.filter(pa.array(is_text))
        has_text[has_text] = is_text

    rows = [names.index(name) for name in other_fields]
    columns = [text, *(_column(data, kinds[i, has_text], firsts[i, has_text], lasts[i, has_text])[0] for i in rows)]
    present = Counter({name: int(has.sum()) for name, has in zip(names, has_field, strict=True)})
    good = [line for line in slow if line.values is not None]
    with_text = np.concatenate([np.flatnonzero(has_text), np.array([line.number for line in good], np.int64)])
    if good:
        order = np.argsort(with_text)
        more = [pa.array(values, pa.large_string()) for values in zip(*(line.values for line in good), strict=True)]
        columns = [pa.concat_arrays([fast, slow]).take(order) for fast, slow in zip(columns, more, strict=True)]
        with_text = with_text[order]
    for line in slow:
        present.update(line.present)
        if line.problem is not None:
            problems.append((line.number, *line.problem))
    num_objects = int(is_sure.sum()) + sum(line.is_object for line in slow)
    return Fields(with_text, columns[0], tuple(columns[1:]), tuple(sorted(problems)), num_objects, dict(present))


def _find_values(
    data: UInt8[np.ndarray, " bytes"],
    starts: Int64[np.ndarray, " lines"],
    ends: Int64[np.ndarray, " lines"],
    names: Sequence[str],
    is_sure: Bool[np.ndarray, " lines"],
) -> tuple[Int8[np.ndarray, "names lines"], Int64[np.ndarray, "names lines"], Int64[np.ndarray, "names lines"]]:
    """Kind and place of each wanted value; clears `is_sure` where Python must decide."""
    parts = {name: name.partition(".") for name in names if "." in name}
    wanted = list(dict.fromkeys([*names, *(head for head, _, _ in parts.values())]))
    keys = np.frombuffer("".join(wanted).encode(), np.uint8)
    key_ends = np.cumsum([len(name.encode()) for name in wanted])
    kinds = np.zeros((len(wanted), len(starts)), np.int8)
    firsts = np.empty(kinds.shape, np.int64)
    lasts = np.empty(kinds.shape, np.int64)
    scan_lines(data, starts, ends, keys, key_ends, is_sure, kinds, firsts, lasts)
    for name, (head, _, rest) in parts.items():
        own, outer = wanted.index(name), wanted.index(head)
        lines = np.flatnonzero(is_sure & (kinds[own] == MISSING) & (kinds[outer] == CONTAINER))
        lines = lines[data[firsts[outer, lines]] == ord("{")]
        sure = np.ones(len(lines), np.bool_)
        inner = _find_values(data, firsts[outer, lines], lasts[outer, lines], [rest], sure)
        for target, values in zip((kinds, firsts, lasts), inner, strict=True):
            target[own, lines] = values[0]
        is_sure[lines[~sure]] = False
    num_names = len(names)
    return kinds[:num_names], firsts[:num_names], lasts[:num_names]


def _in_order(found: Sequence[tuple[Values, Values]], is_sure: Bool[np.ndarray, " lines"]) -> tuple[Values, Values]:
    """The parts of all fields, and all that is wrong, by line and then by field; only of lines that are sure."""
    merged = []
    for kind in zip(*found, strict=True):
        values = sum(kind[1:], kind[0])
        values = values[is_sure[values.lines]]
        merged.append(values[np.argsort(values.lines, kind="stable")])
    return merged[0], merged[1]


def _are_among(lines: Int64[np.ndarray, " lines"], chosen: Int64[np.ndarray, " chosen"]) -> Bool[np.ndarray, " lines"]:
    found = np.zeros(len(lines), np.bool_)
    found[chosen] = True
    return found


def _no_texts(
    data: UInt8[np.ndarray, " bytes"],
    lines: Int64[np.ndarray, " lines"],
    text_fields: Sequence[str],
    wrong: Values,
    first: Values,
) -> list[tuple[int, str, str]]:
    """Why these lines have no text: the first value that is none, or nothing is there."""
    problems = []
    for line, place in zip(lines.tolist(), np.searchsorted(wrong.lines, lines).tolist(), strict=True):
        raw = None
        if place < len(wrong.lines) and wrong.lines[place] == line:
            raw = data[wrong.firsts[place] : wrong.lasts[place]].tobytes().decode()
        elif len(text_fields) == 1 and first.kinds[line] == NULL:
            raw = "null"
        problems.append((line, *_no_text(text_fields, raw)))
    return problems


def _no_text(text_fields: Sequence[str], raw: str | None) -> tuple[str, str]:
    """(reason, detail)."""
    names = ", ".join(map(repr, text_fields))
    if raw is None:
        return NO_TEXT, f"no text in field {names}"
    return NOT_A_STRING, f"field {names} holds {raw[:40]}"


@dataclass(frozen=True, kw_only=True)
class _Line:
    """What Python found in a line."""

    number: int
    is_object: bool = True
    present: Sequence[str] = ()  # the wanted fields that are there
    problem: tuple[str, str] | None = None  # (reason, detail)
    values: Sequence[str | None] | None = None  # of a line with a text: the text, and the other fields


def _read_slowly(
    number: int, line: bytes, text_fields: Sequence[str], other_fields: Sequence[str], replace: bool
) -> _Line:
    if is_no_text(line):
        return _Line(number=number, is_object=False, problem=(NOT_TEXT, NOT_TEXT_DETAIL))
    try:
        text = line.decode(errors="replace" if replace else "strict")
        raws = _raw_values(text)
    except UnicodeDecodeError as error:
        problem = (BAD_UTF8, f"{error.reason} at byte {error.start} of the line")
        return _Line(number=number, is_object=False, problem=problem)
    except ValueError as error:
        return _Line(number=number, is_object=False, problem=(BAD_JSON, str(error)))
    names = dict.fromkeys((*text_fields, *other_fields))
    present = [name for name in names if _look_up(raws, name) is not None]
    value, parts = _DECODER.decode(text), []
    try:
        for name in text_fields:
            mine = text_parts(value, name)
            present += [name] if mine and name not in present else []
            parts += mine
    except NotTextError as error:
        return _Line(number=number, present=present, problem=_no_text(text_fields, str(error)))
    if not parts:
        is_null = len(text_fields) == 1 and _look_up(raws, text_fields[0]) == "null"
        return _Line(number=number, present=present, problem=_no_text(text_fields, "null" if is_null else None))
    joined = SEPARATOR.join(filter(None, parts))
    if not replace and _SURROGATES.search(joined):
        return _Line(number=number, present=present, problem=(BAD_UTF8, "a surrogate that is alone"))
    if "\0" in joined and is_no_text(joined.encode(errors="replace")):
        return _Line(number=number, present=present, problem=(NOT_TEXT, NOT_TEXT_DETAIL))
    values = [joined, *(_value_text(_look_up(raws, name)) for name in other_fields)]
    values = [value if value is None else _SURROGATES.sub("\ufffd", value) for value in values]
    return _Line(number=number, present=present, values=values)


def _raw_values(text: str) -> dict[str, str]:
    """The fields of an object, as written. Raises ValueError where `json.loads` does, or for no object."""
    if _depth(text) > MAX_DEPTH + 1:
        raise ValueError(f"more than {MAX_DEPTH} levels of brackets")
    value = _DECODER.decode(text)
    if not isinstance(value, dict):
        raise ValueError("not an object: write {...} on each line")
    raws = {}
    i = _SPACE.match(text, text.index("{") + 1).end()
    while text[i] != "}":
        key, i = json.decoder.scanstring(text, i + 1, True)
        i = _SPACE.match(text, text.index(":", i) + 1).end()
        _, end = _DECODER.raw_decode(text, i)
        raws[key] = text[i:end]
        i = _SPACE.match(text, end).end()
        if text[i] == ",":
            i = _SPACE.match(text, i + 1).end()
    return raws


def _look_up(raws: dict[str, str], name: str) -> str | None:
    """The value of a field as written, or of a field of a field."""
    head, dot, rest = name.partition(".")
    if name in raws or not dot or not raws.get(head, "").startswith("{"):
        return raws.get(name)
    return _look_up(_raw_values(raws[head]), rest)


def _depth(text: str) -> int:
    """The largest number of brackets open at once."""
    brackets = np.frombuffer(re.sub(r"[^][}{]+", "", _STRING.sub("", text)).encode(), np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    return int(np.cumsum(np.where(opens, 1, -1)).max(initial=0))


def _value_text(raw: str | None) -> str | None:
    if raw is None or raw == "null":
        return None
    return json.decoder.scanstring(raw, 1, True)[0] if raw[0] == '"' else _TOKENS.sub(r"\1", raw)


def _column(
    data: UInt8[np.ndarray, " bytes"],
    kinds: Int8[np.ndarray, " lines"],
    firsts: Int64[np.ndarray, " lines"],
    lasts: Int64[np.ndarray, " lines"],
) -> tuple[pa.LargeStringArray, Bool[np.ndarray, " lines"]]:
    """A field's values, and in which of them an escape writes a NUL."""
    has_value = (kinds != MISSING) & (kinds != NULL)
    out = np.empty(int((lasts - firsts)[has_value].sum()), np.uint8)
    offsets = np.zeros(len(kinds) + 1, np.int64)
    has_nul = np.zeros(len(kinds), np.bool_)
    copy_values(data, kinds, firsts, lasts, offsets, out, has_nul)
    validity = None if has_value.all() else pa.py_buffer(np.packbits(has_value, bitorder="little"))
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_string(), len(kinds), buffers), has_nul
