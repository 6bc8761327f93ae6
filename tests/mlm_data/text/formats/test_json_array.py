"""JSON arrays, and objects over several lines."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.text.formats import json_array
from tests.mlm_data.text.formats.reading import read, reasons, texts


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "file"


VALUES = [{"text": f"text {i} \u00e9\u6f22", "n": {"a": [i, {"text": "inner"}]}} for i in range(50)]


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("batch_bytes", [37, 8 << 20])
def test_each_element_is_a_document(path, indent, encoding, batch_bytes):
    data = json.dumps(VALUES, indent=indent, ensure_ascii=False).encode(encoding)
    rows, bad = read(path, data, "json", batch_bytes=batch_bytes, keep_fields=["n"])
    assert not bad
    assert [row["text"] for row in rows] == [value["text"] for value in VALUES]
    assert rows[3]["keep.n"] == '{"a":[3,{"text":"inner"}]}'
    if encoding == "utf-8":
        assert all(data[row["offset"] :].startswith(b"{") for row in rows)


def test_objects_over_several_lines(path):
    data = "\n".join(json.dumps(value, indent=2) for value in VALUES).encode()
    found = read(path, data, "json", batch_bytes=50, compress=True)
    assert texts(found) == [value["text"] for value in VALUES]
    assert not found[1]


@pytest.mark.parametrize("data", [b"", b"[]", b" [ ] \n", b"[\n]\n[]"])
def test_nothing_in_it(path, data):
    assert read(path, data, "json") == ([], [])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ('{"text": "not closed}', "bad_json"),
        ('{"text": "a", "n": [1, 2}', "bad_json"),
        ('{"text": "no brace"', "bad_json"),
        ('{"text": "a" "b"}', "bad_json"),
        ('{"text": "tab\t"}', "bad_json"),
        ('{"text": tru}', "bad_json"),
        ("nonsense", "bad_json"),
        ("3", "bad_json"),
        ('["text"]', "bad_json"),
        ('{"url": "u"}', "no_text_field"),
        ('{"text": null}', "text_not_a_string"),
        ('{"text": "\\ud800"}', "bad_utf8"),
    ],
)
@pytest.mark.parametrize("indent", ["", "    "])
@pytest.mark.parametrize("batch_bytes", [11, 8 << 20])
def test_a_bad_element_costs_one_element(path, wrong, reason, indent, batch_bytes):
    elements = [
        '{"text": "one", "n": [{"text": "inner"}]}',
        wrong,
        '{"text": "two"}',
        wrong,
        wrong,
        '{"text": "three"}',
    ]
    data = ("[\n" + ",\n".join(indent + element for element in elements) + "\n]\n").encode()
    found = read(path, data, "json", batch_bytes=batch_bytes)
    assert texts(found) == ["one", "two", "three"]
    assert [kind for _, kind in reasons(found)] == [reason] * 3
    assert reasons(found)[0][0] == data.index(wrong.encode())


def test_what_is_no_value_at_all_goes_to_the_next_object(path):
    data = b'[\n{"text": "one"},\n@,\n@,\n{"text": "two"}\n]'
    found = read(path, data, "json")
    assert texts(found) == ["one", "two"]
    assert reasons(found) == [(data.index(b"@"), "bad_json")]


def test_a_bad_element_of_a_single_line(path):
    data = b'[{"text": "one"}, {"text": "broken"" }, {"text": "two"}]'
    found = read(path, data, "json")
    assert texts(found) == ["one", "two"]
    assert reasons(found) == [(data.index(b'{"text": "broken'), "bad_json")]


@pytest.mark.parametrize(
    ("data", "kept", "bad"),
    [
        (b'[{"text": "one"}, {"text": "tw', ["one"], (18, "truncated")),
        (b'[{"text": "one"},\n', ["one"], (17, "truncated")),
        (b'[{"text": "one"}', ["one"], (16, "truncated")),
        (b'{\n"text": "one"', [], (0, "truncated")),
        (b'[{"text": "one"}]\n<html>', ["one"], (18, "bad_json")),
        (b'[{"text": "one"}, {"text": "a\nb"}]', ["one"], (18, "bad_json")),
    ],
)
def test_what_is_cut_off_or_left_over_is_named(path, data, kept, bad):
    found = read(path, data, "json")
    assert texts(found) == kept
    assert reasons(found) == [bad]


def test_arrays_one_after_another(path):
    assert texts(read(path, b'[{"text": "a"}]\n[{"text": "b"}]', "json")) == ["a", "b"]


def test_memory_is_bounded_by_the_longest_element(path, monkeypatch):
    monkeypatch.setattr(json_array, "MAX_RECORD_BYTES", 1000)
    data = b'[{"text": "one"}, {"n": [' + b"1, " * 2000 + b'2], "text": "long"}, {"text": "three"}]'
    found = read(path, data, "json", batch_bytes=100)
    assert texts(found) == ["one"]
    assert reasons(found) == [(18, "bad_json")]
    assert "nothing behind it is read" in found[1][0].detail


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
objects = st.builds(lambda text, rest: rest | {"text": text}, st.text("ab\"\\{}[],:\n é", max_size=9),
                    st.dictionaries(st.text(max_size=4), values, max_size=3))  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(objects, max_size=6), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 40))
def test_what_python_writes_comes_back(path, written, indent, ascii_only, batch_bytes):
    data = json.dumps(written, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    rows, bad = read(path, data, "json", batch_bytes=batch_bytes)
    assert not bad
    assert [row["text"] for row in rows] == [value["text"] for value in written]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*'{}[],:"', "\\", "\n", '{"text": "a"}', "1"]), max_size=20).map("".join),
    st.integers(1, 9),
)
def test_any_bytes_end_and_are_accounted_for(path, text, batch_bytes):
    data = text.encode()
    assert read(path, data, "json", batch_bytes=batch_bytes) == read(path, data, "json")
