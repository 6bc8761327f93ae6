r"""JSON Lines: the wanted fields of each line, found by a kernel and checked by Python's `json` where that is unsure.

The kernel walks a line once by the grammar of RFC 8259 and notes where the values of the wanted top-level fields lie:

    {"text": "a\nb", "n": {"x": [1]}}      wanted: text, n      ->      (ESCAPED, 10..14), (CONTAINER, 22..32)

It takes only what it is sure of. Anything else (an error, an escape in a key, a surrogate that is alone) is decided by
Python's decoder, one line at a time: so one bad line costs one line. What is accepted is what `json.loads` accepts, NaN
and Infinity too, and of equal keys the last wins. Two bounds do not depend on the machine: an integer may have any
number of digits, and a value at most 64 levels of brackets.

Where an object has no field "a.b", that means field "b" of the object in its field "a": the kernel walks that one, too.

A wanted value becomes text: strings as they are, null as null, everything else as it is written, without the white
space between tokens. Cost: eight bytes at a time inside strings; over 1 GB/s where most of a line is text.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int8, Int64, UInt8

from mlm_data.text.json_kernels import CONTAINER, ESCAPED, MAX_DEPTH, MISSING, NULL, PLAIN, copy_values, scan_lines
from mlm_data.text.utf8 import are_utf8

BAD_UTF8, BAD_JSON, NO_TEXT, NOT_A_STRING = "bad_utf8", "bad_json", "no_text_field", "text_not_a_string"

_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_TOKENS = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\n\r]+', re.DOTALL)
# What the decoder itself uses: the text and the end of a string that begins before a place.
_scan_string: Callable[[str, int, bool], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Fields:
    """The lines that hold a text, in order, and why the others don't."""

    lines: Int64[np.ndarray, " documents"]
    text: pa.LargeStringArray  # no nulls
    others: tuple[pa.LargeStringArray, ...]  # null where a line has no such field, or null in it
    problems: tuple[tuple[int, str, str], ...]  # (line, reason, detail), in order


def read_fields(
    data: UInt8[np.ndarray, " bytes"],
    starts: Int64[np.ndarray, " lines"],
    ends: Int64[np.ndarray, " lines"],
    *,
    text_field: str,
    other_fields: Sequence[str] = (),
    replace: bool = False,
) -> Fields:
    """Read JSON lines data[start:end], none of them blank.

    Args:
        replace: bytes that are no UTF-8, and lone surrogates in the text, become U+FFFD; otherwise such a line is a
            problem, `bad_utf8`. In other fields lone surrogates always become U+FFFD.
    """
    names = list(dict.fromkeys((text_field, *other_fields)))
    is_sure = are_utf8(data, starts, ends)
    kinds, firsts, lasts = _find_values(data, starts, ends, names, is_sure)

    problems, slow_lines, slow_values = [], [], []
    for line in np.flatnonzero(~is_sure).tolist():
        values = _read_slowly(data[starts[line] : ends[line]].tobytes(), names, replace)
        if isinstance(values, _Problem):
            problems.append((line, values.reason, values.detail))
        else:
            slow_lines.append(line)
            slow_values.append(values)
    has_text = (kinds[0] == PLAIN) | (kinds[0] == ESCAPED)
    for line in np.flatnonzero(is_sure & ~has_text).tolist():
        raw = data[firsts[0, line] : lasts[0, line]].tobytes().decode() if kinds[0, line] != MISSING else None
        problem = _no_text(text_field, raw)
        problems.append((line, problem.reason, problem.detail))

    lines = np.flatnonzero(is_sure & has_text)
    columns = [_column(data, kinds[i, lines], firsts[i, lines], lasts[i, lines]) for i in range(len(names))]
    if slow_lines:
        lines = np.concatenate([lines, slow_lines])
        order = np.argsort(lines)
        lines = lines[order]
        more = [pa.array(values, pa.large_string()) for values in zip(*slow_values, strict=True)]
        columns = [pa.concat_arrays([fast, slow]).take(order) for fast, slow in zip(columns, more, strict=True)]
    others = tuple(columns[names.index(name)] for name in other_fields)
    return Fields(lines, columns[0], others, tuple(sorted(problems)))


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
        columns: tuple[np.ndarray, ...] = (kinds, firsts, lasts)
        for column, values in zip(columns, inner, strict=True):
            column[own, lines] = values[0]
        is_sure[lines[~sure]] = False
    num_names = len(names)
    return kinds[:num_names], firsts[:num_names], lasts[:num_names]


@dataclass(frozen=True)
class _Problem:
    reason: str
    detail: str


def _no_text(text_field: str, raw: str | None) -> _Problem:
    if raw is None:
        return _Problem(NO_TEXT, f"no field {text_field!r}")
    return _Problem(NOT_A_STRING, f"field {text_field!r} holds {raw[:40]}")


def _read_slowly(line: bytes, names: Sequence[str], replace: bool) -> list[str | None] | _Problem:
    """The wanted values of one line, the text first; or why it has no text."""
    try:
        text = line.decode(errors="replace" if replace else "strict")
    except UnicodeDecodeError as error:
        return _Problem(BAD_UTF8, f"{error.reason} at byte {error.start} of the line")
    try:
        raws = _raw_values(text)
    except ValueError as error:
        return _Problem(BAD_JSON, str(error))
    raw = _look_up(raws, names[0])
    if raw is None or raw[0] != '"':
        return _no_text(names[0], raw)
    values = [_value_text(_look_up(raws, name)) for name in names]
    if not replace and _SURROGATES.search(values[0] or ""):
        return _Problem(BAD_UTF8, "a surrogate that is alone")
    return [value if value is None else _SURROGATES.sub("\ufffd", value) for value in values]


def _raw_values(text: str) -> dict[str, str]:
    """The fields of an object, as written. Raises ValueError where `json.loads` does, or for no object."""
    if _depth(text) > MAX_DEPTH + 1:
        raise ValueError(f"more than {MAX_DEPTH} levels of brackets")
    value = _DECODER.decode(text)
    if not isinstance(value, dict):
        raise ValueError("not an object: write {...} on each line")
    raws = {}
    i = _behind_space(text, text.index("{") + 1)
    while text[i] != "}":
        key, i = _scan_string(text, i + 1, True)
        i = _behind_space(text, text.index(":", i) + 1)
        _, end = _DECODER.raw_decode(text, i)
        raws[key] = text[i:end]
        i = _behind_space(text, end)
        if text[i] == ",":
            i = _behind_space(text, i + 1)
    return raws


def _behind_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    assert found is not None, "no white space is a match, too"
    return found.end()


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
    return _scan_string(raw, 1, True)[0] if raw[0] == '"' else _TOKENS.sub(r"\1", raw)


def _column(
    data: UInt8[np.ndarray, " bytes"],
    kinds: Int8[np.ndarray, " lines"],
    firsts: Int64[np.ndarray, " lines"],
    lasts: Int64[np.ndarray, " lines"],
) -> pa.LargeStringArray:
    has_value = (kinds != MISSING) & (kinds != NULL)
    out = np.empty(int((lasts - firsts)[has_value].sum()), np.uint8)
    offsets = np.zeros(len(kinds) + 1, np.int64)
    copy_values(data, kinds, firsts, lasts, offsets, out)
    validity = None if has_value.all() else pa.py_buffer(np.packbits(has_value, bitorder="little"))
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_string(), len(kinds), buffers)
