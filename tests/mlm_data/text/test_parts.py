"""Texts that are put together: the kernels, the columns of tables and plain Python agree."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlm_data.config import BuildConfig, InputSettings, semantic
from mlm_data.errors import ConfigError, InputError
from mlm_data.settings import parse_settings
from mlm_data.text.json_lines import read_fields
from mlm_data.text.parts import NotTextError, split_name, text_parts
from mlm_data.text.tables import _documents, _text, check_columns
from mlm_data.types import Slice


def read_json(objects, *fields, replace=False):
    """(texts by line, reasons by line), of objects or of lines as they are."""
    lines = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in objects]
    ends = np.cumsum([len(line) + 1 for line in lines], dtype=np.int64) - 1
    starts = ends - np.array([len(line) for line in lines], np.int64)
    data = np.frombuffer(b"\n".join(lines) + b"\n", np.uint8)
    found = read_fields(data, starts, ends, text_field=fields, replace=replace)
    assert found.num_objects <= len(lines)
    texts = dict(zip(found.lines.tolist(), found.text.to_pylist(), strict=True))
    return texts, {line: reason for line, reason, _ in found.problems}


def at(value, name):
    """What a name without lists leads to; "" where there is nothing."""
    if name in value:
        return value[name]
    first, dot, rest = name.partition(".")
    return at(value[first], rest) if dot and isinstance(value.get(first), dict) else ""


def twin(value, fields):
    """The text of one object, or the reason why it has none."""
    try:
        parts = [part for name in fields for part in text_parts(value, name)]
    except NotTextError:
        return "text_not_a_string"
    if not parts:
        is_null = len(fields) == 1 and at(value, fields[0]) is None
        return "text_not_a_string" if is_null else "no_text_field"
    return "\n\n".join(part for part in parts if part)


@pytest.mark.parametrize(
    ("value", "fields", "text"),
    [
        ({"title": "A", "abstract": "b"}, ["title", "abstract"], "A\n\nb"),
        ({"abstract": "b", "title": "A"}, ["title", "abstract"], "A\n\nb"),
        ({"title": None, "abstract": "b"}, ["title", "abstract"], "b"),
        ({"title": "", "abstract": "b"}, ["title", "abstract"], "b"),
        ({"abstract": "b"}, ["title", "abstract"], "b"),
        ({"title": "", "abstract": ""}, ["title", "abstract"], ""),
        ({"title": None}, ["title", "abstract"], "no_text_field"),
        ({"title": "A", "abstract": 3}, ["title", "abstract"], "text_not_a_string"),
        ({"text": ["a", None, "", "b"]}, ["text"], "a\n\nb"),
        ({"text": [["a", "b"], "c", [["d"], []]]}, ["text"], "a\n\nb\n\nc\n\nd"),
        ({"text": []}, ["text"], "no_text_field"),
        ({"text": [None]}, ["text"], "no_text_field"),
        ({"text": ["a", 1]}, ["text"], "text_not_a_string"),
        ({"text": ["a", {"b": "c"}]}, ["text"], "text_not_a_string"),
        ({"text": ["a"]}, ["text[]"], "a"),
        ({"text": "a"}, ["text[]"], "text_not_a_string"),
        ({"m": [{"role": "user", "c": "Q"}, {"c": "A"}]}, ["m[].c"], "Q\n\nA"),
        ({"m": [{"c": None}, None, {"x": 1}, {"c": "A"}]}, ["m[].c"], "A"),
        ({"m": [{"c": ["p", "q"]}, {"c": "A"}]}, ["m[].c"], "p\n\nq\n\nA"),
        ({"m": [{"c": 'a "\\ \n é 😀'}]}, ["m[].c"], 'a "\\ \n é 😀'),
        ({"m": [{"c": "A"}, "B"]}, ["m[].c"], "text_not_a_string"),
        ({"m": {"c": "A"}}, ["m[].c"], "text_not_a_string"),
        ({"m": []}, ["m[].c"], "no_text_field"),
        ({"m": [{"c": "A"}]}, ["m.c"], "no_text_field"),
        ({"a": {"b": [{"c": {"d": "x"}}, {"c": {"d": "y"}}]}}, ["a.b[].c.d"], "x\n\ny"),
        ({"a": [{"b": [{"c": "x"}, {"c": "y"}]}, {"b": []}, {"b": [{"c": "z"}]}]}, ["a[].b[].c"], "x\n\ny\n\nz"),
        ({"a": [["x"], ["y", "z"]]}, ["a[][]"], "x\n\ny\n\nz"),
        ({"m[].c": "as written", "m": [{"c": "A"}]}, ["m[].c"], "as written"),
        ({"s": "system", "m": [{"c": "Q"}, {"c": "A"}]}, ["s", "m[].c"], "system\n\nQ\n\nA"),
    ],
)
def test_texts_that_are_put_together(value, fields, text):
    for line in (value, json.dumps(value, ensure_ascii=False, indent=1).replace("\n", " ").encode()):
        texts, reasons = read_json([line], *fields)
        assert {**texts, **reasons} == {0: text}
    assert twin(value, fields) == text
    # Decided by Python: a key with an escape.
    slow = json.dumps(value).encode()[:-1] + rb', "\u0071": 0}'
    texts, reasons = read_json([slow, slow.replace(b"\\u0071", b"q")], *fields)
    assert {**texts, **reasons} == {0: text, 1: text}


keys = st.sampled_from(["a", "b", "c", "a.b", "a[]", "a[].b"])
strings = st.sampled_from(["", "s", 'q"\\\n', "ü😀", "\ud800"])
values = st.recursive(
    st.none() | strings | st.sampled_from([1, 2.5, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
names = st.lists(
    st.sampled_from(["a", "b", "a.b", "a[].b", "a[].b[]", "a[][]", "a[].b.c", "a.b[].c", "[]"]),
    min_size=1,
    max_size=3,
    unique=True,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.dictionaries(keys, values, max_size=3), max_size=4), names, st.booleans())
@example([{"a": [{"b": "x"}, {"b": ["y", ["z"]]}]}, {"a": [{"b": "\ud800"}]}, {"a": "s"}], ["a[].b", "a"], False)
@example([{"a": {"a": None, "b": None}}, {"a": {"b": None}, "a.b": "x"}], ["a.b"], False)
def test_lines_of_json_against_python(objects, fields, ascii_only):
    lines = [json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass") for value in objects]
    texts, reasons = read_json(lines, *fields, replace=False)
    for number, value in enumerate(objects):
        expected = twin(value, fields)
        is_lone = "\ud800" in json.dumps(value, ensure_ascii=False)
        if is_lone and not ascii_only:
            expected = "bad_utf8"  # the line itself is none
        elif "\ud800" in expected:
            expected = "bad_utf8"
        assert (texts[number] if number in texts else reasons[number]) == expected


def test_order_and_counts_over_many_lines():
    objects = [{"m": [{"c": f"{i}-{k}"} for k in range(i % 4)], "n": i} for i in range(50)]
    texts, reasons = read_json(objects, "m[].c")
    assert texts == {i: "\n\n".join(f"{i}-{k}" for k in range(i % 4)) for i in range(50) if i % 4}
    assert reasons == dict.fromkeys(range(0, 50, 4), "no_text_field")


def test_what_is_wrong_is_shown():
    data = b'{"m": [{"c": {"x": [1, 2]}}]}'
    found = read_fields(np.frombuffer(data, np.uint8), np.array([0]), np.array([len(data)]), text_field=("t", "m[].c"))
    assert found.problems == ((0, "text_not_a_string", "field 't', 'm[].c' holds {\"x\": [1, 2]}"),)
    assert found.present == {"t": 0, "m[].c": 1}


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a", ("a", 0, None)), ("a.b", ("a", 0, "b")), ("a[].b.c", ("a", 1, "b.c")), ("a[][]", ("a", 2, None))],
)
def test_names(name, parts):
    assert split_name(name) == parts


# --- settings ---------------------------------------------------------------------------------------------------


def configured(**fields):
    values = {"inputs": [{"path": "x"} | fields], "output": "o", "tokenizer": {"train": {}}}
    return parse_settings(BuildConfig, values, where="test")


def test_one_field_in_a_list_is_that_field():
    assert configured(text_field=["text"]) == configured(text_field="text")
    assert semantic(configured(text_field=["text"])) == semantic(configured())
    assert semantic(configured())["inputs"][0]["text_field"] == "text"
    assert "max_truncated" not in semantic(configured())
    assert InputSettings(path="x", text_field=("a", "b")).text_fields == ("a", "b")


@pytest.mark.parametrize(("fields", "message"), [([], "name at least one field"), (["a", "a"], "names a field twice")])
def test_fields_that_can_not_be(fields, message):
    with pytest.raises(ConfigError, match=message):
        configured(text_field=fields)


# --- tables -----------------------------------------------------------------------------------------------------


PIECE = Slice(
    input=0,
    source="s",
    path="s",
    format="parquet",
    compression="",
    start=0,
    end=1,
    num_bytes=1,
    identity="",
)


def read_rows(rows, **fields):
    """The batch that a table's rows become."""
    batch = rows if isinstance(rows, pa.RecordBatch) else pa.RecordBatch.from_pylist(rows)
    settings_ = InputSettings(path="x", **fields)
    check_columns(batch.schema, settings_, "table")
    return _documents(PIECE, settings_, 0, batch, _text(batch, settings_), False)


CHAT = [
    {"s": "sys", "m": [{"role": "user", "c": "Q"}, {"role": "bot", "c": "A"}], "l": ["x", None, "y"], "st": {"c": "z"}},
    {"s": None, "m": [], "l": [], "st": None},
    {"s": "", "m": [{"role": "user", "c": None}], "l": None, "st": {"c": None}},
    {"s": "only", "m": None, "l": ["", "w"], "st": {"c": "v"}},
]


@pytest.mark.parametrize("fields", [["m[].c"], ["l"], ["s", "m[].c"], ["s", "l", "st.c"], ["l[]"], ["st.c", "s"]])
@pytest.mark.parametrize("sliced", [False, True])
def test_tables_as_json(fields, sliced):
    batch = pa.RecordBatch.from_pylist(CHAT)
    chat = CHAT
    if sliced:
        batch, chat = pa.RecordBatch.from_pylist(CHAT * 2).slice(3, 3), (CHAT * 2)[3:6]
    found = read_rows(batch, text_field=fields)
    expected = [twin(row, fields) for row in chat]
    texts = iter(found.table["text"].to_pylist())
    reasons = {item.offset: item.reason for item in found.quarantined}
    assert [reasons.get(i) or next(texts) for i in range(len(chat))] == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.string()),
        pa.list_(pa.large_string()),
        pa.list_(pa.binary()),
        pa.list_(pa.list_(pa.string())),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
    ],
)
def test_lists_of_every_kind(kind):
    rows = [["a", "b"], None, ["c"]]
    if pa.types.is_list(kind.value_type):
        rows = [row and [[item] for item in row] for row in rows]
    found = read_rows(pa.RecordBatch.from_arrays([pa.array(rows, kind)], ["text"]))
    assert found.table["text"].to_pylist() == ["a\n\nb", "c"]
    assert [(item.offset, item.reason) for item in found.quarantined] == [(1, "text_not_a_string")]


def test_lists_of_a_fixed_size():
    array = pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string(), 2))
    found = read_rows(pa.RecordBatch.from_arrays([array], ["text"]))
    assert found.table["text"].to_pylist() == ["a\n\nb", "c"]


def test_parts_that_are_no_utf8():
    array = pa.array([[b"a", b"\xff"], [b"b"]], pa.list_(pa.binary()))
    found = read_rows(pa.RecordBatch.from_arrays([array], ["text"]))
    assert found.table["text"].to_pylist() == ["b"]
    assert [(item.reason, item.num_bytes) for item in found.quarantined] == [("bad_utf8", 4)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_field": "m.c"}, r"no column 'm\.c' for the text: did you mean 'm\[\]\.c'\?"),
        ({"text_field": "content"}, "no column 'content' for the text: There are: s, m"),
        ({"text_field": ["s", "mm"]}, "no column 'mm' for the text: .*Set text_field"),
        ({"text_field": "m"}, r"column 'm' is struct.*, not text: There are: .*m\[\]\.c"),
        ({"text_field": "s", "id_field": "ss"}, "no column 'ss' for the ids: did you mean 's'.*Set id_field"),
        ({"text_field": "s", "keep_fields": ["st.d"]}, r"no column 'st\.d' to keep: did you mean 'st\.c'"),
        ({"text_field": "s", "keep_fields": ["m[].c"]}, "is in a list of many"),
    ],
)
def test_columns_that_are_not_there(fields, message):
    with pytest.raises(InputError, match=message):
        read_rows(CHAT, **fields)


@pytest.mark.parametrize("fields", [{"id_field": "n"}, {"keep_fields": ["n"]}, {"keep_fields": ["n.x"]}])
def test_columns_that_are_there_twice(fields):
    struct = pa.array([{"x": 1}])
    batch = pa.RecordBatch.from_arrays([pa.array(["t"]), struct, struct], ["text", "n", "n"])
    with pytest.raises(InputError, match="2 columns are called 'n': rename all but one"):
        read_rows(batch, **fields)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(2), pa.binary_view()])
@pytest.mark.parametrize("start", [0, 1])
def test_ids_of_bytes_become_hexadecimal(kind, start):
    ids = pa.array([b"\x00\xff", None, b"ab", b"\x0a\x0b"], kind)
    batch = pa.RecordBatch.from_arrays([pa.array(["t"] * 4), ids], ["text", "id"]).slice(start)
    found = read_rows(batch, id_field="id")
    assert found.table["id_field"].to_pylist() == ["00ff", None, "6162", "0a0b"][start:]
    assert found.fields.as_hex == ("id",)


def test_a_uuid_is_hexadecimal():
    ids = pa.array([bytes(range(16))], pa.uuid())
    found = read_rows(pa.RecordBatch.from_arrays([pa.array(["t"]), ids], ["text", "id"]), id_field="id")
    assert found.table["id_field"].to_pylist() == [bytes(range(16)).hex()]
