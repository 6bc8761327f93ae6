"""The JSON kernels against Python's decoder: never more accepted, never another value."""

import json
import re

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlm_data.text.json_kernels import MISSING, scan_lines
from mlm_data.text.json_lines import read_fields


def places(lines):
    ends = np.cumsum([len(line) + 1 for line in lines], dtype=np.int64) - 1
    starts = ends - np.array([len(line) for line in lines], np.int64)
    return np.frombuffer(b"\n".join(lines) + b"\n", np.uint8), starts, ends


def read(lines, *others, replace=False):
    data, starts, ends = places(lines)
    return read_fields(data, starts, ends, text_field="text", other_fields=others, replace=replace)


def is_sure(line):
    """What the kernel alone says."""
    data, starts, ends = places([line])
    sure = np.ones(1, np.bool_)
    kinds, firsts, lasts = np.zeros((1, 1), np.int8), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64)
    scan_lines(data, starts, ends, np.frombuffer(b"text", np.uint8), np.array([4]), sure, kinds, firsts, lasts)
    return bool(sure[0]), kinds[0, 0] != MISSING


class Raw(str):
    """A number or constant as it is written."""


DECODER = json.JSONDecoder(parse_int=Raw, parse_float=Raw, parse_constant=Raw)


def compact(value):
    """A decoded value as JSON; only right where strings have no escapes but those that `json.dumps` writes."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{compact(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def is_no_text(data):
    controls = sum(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in data)
    return 0 in data and controls > len(data) / 10


class NotTextError(Exception):
    """Something else stands where a string should be."""


def strings(value):
    """The strings of a value, by the plain rule."""
    if value is None:
        return []
    if isinstance(value, list):
        return [part for item in value for part in strings(item)]
    if isinstance(value, Raw) or not isinstance(value, str):
        raise NotTextError
    return [value]


def expected(line):
    """(text, other) of one line, or the reason why it has no text."""
    if is_no_text(line):
        return "not_text"
    try:
        value = DECODER.decode(line.decode())
    except UnicodeDecodeError:
        return "bad_utf8"
    except ValueError:
        return "bad_json"
    if not isinstance(value, dict):
        return "bad_json"
    if "text" not in value:
        return "no_text_field"
    text, other = value["text"], value.get("x")
    try:
        parts = strings(text)
    except NotTextError:
        return "text_not_a_string"
    if not parts:
        return "text_not_a_string" if text is None else "no_text_field"
    text = "\n\n".join(part for part in parts if part)
    if re.search("[\ud800-\udfff]", text):
        return "bad_utf8"
    if is_no_text(text.encode()):
        return "not_text"
    if other is not None and (isinstance(other, Raw) or not isinstance(other, str)):
        other = compact(other)
    return text, None if other is None else re.sub("[\ud800-\udfff]", "\ufffd", other)


def check(lines):
    fields = read(lines, "x")
    pairs = zip(fields.text.to_pylist(), fields.others[0].to_pylist(), strict=True)
    found = dict(zip(fields.lines.tolist(), pairs, strict=True))
    reasons = {line: reason for line, reason, _ in fields.problems}
    assert [found.get(i) or reasons[i] for i in range(len(lines))] == [expected(line) for line in lines]
    assert fields.lines.tolist() == sorted(found)


plain = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\\x7f\u2028\u2029'), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | plain
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain, inner, max_size=4))
objects = st.dictionaries(st.sampled_from(["text", "x", "y"]), values, max_size=3)
spaces = st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", "\r : ")])
good = st.builds(lambda value, gaps: json.dumps(value, separators=gaps, ensure_ascii=False).encode(), objects, spaces)


@settings(max_examples=100, deadline=None)
@given(st.lists(good, max_size=5))
@example([b'{"text": "a", "text": "b", "x": null}', b'{"x": 1.50, "text": ""}', b'{"text":"a","x":-0}'])
def test_objects(lines):
    check(lines)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.booleans())
def test_strings_with_any_escapes(text, ascii_only):
    line = json.dumps({"text": text}, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    check([line])


# Small pieces of JSON, well and badly put together.
pieces = st.sampled_from(
    [
        *'{}[]:, "',
        *['{"text":', '"text"', '"a"', '"x"', '"y":', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00\\ud83d"'],
        *["null", "true", "false", "nul", "NaN", "-Infinity", "0", "-1", "01", "1.", "1.5", "1e5", "1E+5", ".5", "-"],
        *[
            '"\\n\\t\\"\\\\\\/\\b\\f\\r"',
            '"\\x"',
            '"\\u12"',
            '"\\',
            '"\t"',
            "\u00e9",
            '"\u6f22"',
            '{"text":"a"',
            "}}",
            "[[",
            "]]",
        ],
    ]
)
mangled = st.lists(pieces, max_size=9).map(lambda parts: "".join(parts).encode())
cut = st.builds(lambda line, a, b: line[:a] + line[a + b :], good, st.integers(0, 40), st.integers(0, 3))


@settings(max_examples=300, deadline=None)
@given(st.lists(mangled | cut, max_size=4))
def test_whatever_is_accepted_is_what_python_accepts(lines):
    for line in lines:
        if expected(line) != "bad_utf8" and is_sure(line)[0]:
            assert isinstance(expected(line), tuple) or expected(line) in ("no_text_field", "text_not_a_string")
    fields = read(lines, "x")
    reasons = {line: reason for line, reason, _ in fields.problems}
    texts = dict(zip(fields.lines.tolist(), fields.text.to_pylist(), strict=True))
    for i, line in enumerate(lines):
        twin = expected(line)
        assert (texts[i] if i in texts else reasons[i]) == (twin[0] if isinstance(twin, tuple) else twin)


@settings(max_examples=200, deadline=None)
@given(good)
def test_ordinary_lines_never_need_python(line):
    has_odd = b"NaN" in line or b"Infinity" in line or b"\\" in line
    assert has_odd or is_sure(line)[0]


def test_bytes_that_are_no_utf8():
    lines = [b'{"text": "a\xff"}', b'{"text": "b"}', b'{"text": "c", "x": "\xed\xa0\x80"}']
    fields = read(lines)
    assert fields.text.to_pylist() == ["b"]
    assert [(line, reason) for line, reason, _ in fields.problems] == [(0, "bad_utf8"), (2, "bad_utf8")]
    replaced = read(lines, "x", replace=True)
    assert replaced.text.to_pylist() == ["a\ufffd", "b", "c"]
    assert replaced.others[0].to_pylist() == [None, None, "\ufffd\ufffd\ufffd"]
    assert not replaced.problems


def test_lone_surrogates():
    lines = [rb'{"text": "a\ud800b"}', rb'{"text": "c", "x": "\udc00"}', rb'{"text": "\udc00\ud800"}']
    fields = read(lines, "x")
    assert (fields.text.to_pylist(), fields.others[0].to_pylist()) == (["c"], ["\ufffd"])
    assert [reason for _, reason, _ in fields.problems] == ["bad_utf8", "bad_utf8"]
    assert read(lines, replace=True).text.to_pylist() == ["a\ufffdb", "c", "\ufffd\ufffd"]


def test_depth():
    """64 levels and no more, wherever a line is decided: Python's own limit depends on who calls."""

    def deep(inner, levels, key=b"x"):
        return b'{"text": "a", "' + key + b'": ' + b"[" * levels + inner + b"]" * levels + b"}"

    for key in (b"x", rb"\u0078"):
        lines = [
            deep(b"1", 64, key),
            deep(b"", 64, key),
            deep(b"1", 65, key),
            deep(b"", 65, key),
            deep(b"", 10**5, key),
        ]
        assert [is_sure(line)[0] for line in lines] == [key == b"x"] * 2 + [False] * 3
        fields = read(lines, "x")
        assert [len(value) for value in fields.others[0].to_pylist()] == [129, 128]
        detail = "more than 64 levels of brackets"
        assert list(fields.problems) == [(line, "bad_json", detail) for line in (2, 3, 4)]


def test_numbers_are_kept_as_written():
    digits = "9" * 5000
    line = f'{{"text": "a", "x": {digits}, "y": 1.10, "z": [ 1.0 , -0 ]}}'.encode()
    fields = read([line, line.replace(b'"a"', rb'"\ud83d\ude00"').replace(b'"y"', rb'"\u0079"')], "x", "y", "z")
    assert [column.to_pylist() for column in fields.others] == [[digits] * 2, ["1.10"] * 2, ["[1.0,-0]"] * 2]


def test_strings_keep_their_white_space_and_escapes_in_compact_json():
    line = rb'{"text": "a", "x": { "k 1" : [ "a \" b\\", "\u00e9 " ] }}'
    for more in (b"", rb', "\u0079": 0}'):
        fields = read([line[: -1 if more else None] + more], "x")
        assert fields.others[0].to_pylist() == [r'{"k 1":["a \" b\\","\u00e9 "]}']


def test_names_may_repeat_and_be_anything():
    fields = read(['{"text": "a", "t": 1, "": 2, "ü.x": 3, "textt": 4}'.encode()], "text", "", "ü.x", "t")
    assert [column.to_pylist() for column in fields.others] == [["a"], ["2"], ["3"], ["1"]]


def look_up(value, name):
    """A field of an object, or of an object in it, by Python."""
    head, dot, rest = name.partition(".")
    if name in value or not dot or not isinstance(value.get(head), dict):
        return value.get(name)
    return look_up(value[head], rest)


nested_keys = st.sampled_from(["a", "b", "c", "a.b", "b.c", "a.b.c", "", "."])
nested = st.recursive(
    st.none() | st.sampled_from(["s", "\u00fc", "\ud800"]) | st.lists(st.just({"b": "x"}), max_size=1),
    lambda inner: st.dictionaries(nested_keys, inner, max_size=4),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.dictionaries(nested_keys, nested, max_size=4), max_size=4), st.booleans())
def test_fields_of_fields(objects, escapes):
    """By the kernel, and by Python where a key has an escape."""
    names = ["a.b", "a.b.c", "b.c", "a", ".", "a..b"]
    lines = [json.dumps({"text": "t"} | value).encode() for value in objects]
    if escapes:
        lines = [line.replace(b'"text"', rb'"t\u0065xt"') for line in lines]
    fields = read(lines, *names)
    assert len(fields.text) == len(lines)
    for name, column in zip(names, fields.others, strict=True):
        for value, found in zip(objects, column.to_pylist(), strict=True):
            twin = look_up(value, name)
            if isinstance(twin, str):
                assert found == twin.replace("\ud800", "\ufffd")
            else:
                assert found == (None if twin is None else json.dumps(twin, separators=(",", ":")))


def test_a_text_in_an_object():
    lines = [b'{"doc": {"text": "a", "n": 1}}', b'{"doc": {"n": 1}}', b'{"doc": [1]}', b'{"doc": {"text": 2}}']
    data, starts, ends = places(lines)
    fields = read_fields(data, starts, ends, text_field="doc.text", other_fields=["doc.n"])
    assert (fields.text.to_pylist(), fields.others[0].to_pylist()) == (["a"], ["1"])
    assert [reason for _, reason, _ in fields.problems] == ["no_text_field", "no_text_field", "text_not_a_string"]


def test_nothing_to_read():
    fields = read([], "x")
    assert fields.text.equals(pa.array([], pa.large_string()))
    assert len(fields.others) == 1
