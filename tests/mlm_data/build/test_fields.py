"""A field that no document of an input has is an error that names the nearest; one that some lack is a count."""

import json

import pytest

from mlm_data.build.estimate import estimate
from mlm_data.build.fields import absent_fields, add_counts, hexadecimal_fields
from mlm_data.build.plan import training_texts
from mlm_data.build.units import plan_units
from mlm_data.config import BuildConfig
from mlm_data.errors import InputError
from mlm_data.settings import parse_settings
from mlm_data.text.field_names import hint, names_in_json
from mlm_data.text.reading import read_unit
from mlm_data.types import FieldCounts


def configure(*inputs, **values):
    values = {"inputs": list(inputs), "output": "o", "tokenizer": {"train": {}}} | values
    return parse_settings(BuildConfig, values, where="test")


def write(path, *objects):
    path.write_text("".join(json.dumps(item) + "\n" for item in objects))
    return {"path": str(path)}


def absent(config):
    """What is absent, counted unit by unit."""
    counts = [
        (piece.input, documents.fields)
        for unit in plan_units(config).units
        for piece in unit.slices
        for documents in read_unit(unit, config)
        if documents.source == piece.source
    ]
    return absent_fields(config, add_counts(counts))


def test_a_field_in_no_document(tmp_path):
    item = write(tmp_path / "a.jsonl", {"text": "a", "id": "1"}, {"text": "b", "id": "2"}, {"id": "3"})
    assert absent(configure(item | {"id_field": "id"})) == []
    assert absent(configure(item | {"id_field": "doc_id", "keep_fields": ["lang"]})) == [
        "inputs.0.id_field: none of 3 documents has the field 'doc_id': did you mean 'id'? There are: text, id. "
        "Set id_field",
        "inputs.0.keep_fields: none of 3 documents has the field 'lang': There are: text, id. Set keep_fields",
    ]


def test_a_text_field_in_no_document(tmp_path):
    item = write(tmp_path / "a.jsonl", {"content": "a"}, {"content": "b"})
    line = "inputs.0.text_field: none of 2 documents has the field 'text': did you mean 'content'? There are: content. "
    assert absent(configure(item)) == [line + "Set text_field"]
    assert absent(configure(item | {"text_field": "content"})) == []
    assert "'title'" in absent(configure(item | {"text_field": ["title", "content"]}))[0]


@pytest.mark.parametrize("field", ["url", "meta.url"])
def test_one_document_is_enough_and_null_is_there(tmp_path, field):
    item = write(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b", "url": None, "meta": {"url": None}}, {"text": "c"})
    assert absent(configure(item | {"keep_fields": [field]})) == []


def test_one_file_of_many_is_enough(tmp_path):
    write(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    write(tmp_path / "b.jsonl", {"text": "a", "url": "u"})
    assert absent(configure({"path": str(tmp_path / "*.jsonl"), "keep_fields": ["url"]})) == []


def test_inputs_are_judged_alone(tmp_path):
    one = write(tmp_path / "a.jsonl", {"text": "a", "url": "u"})
    two = write(tmp_path / "b.jsonl", {"text": "b"})
    (line,) = absent(configure(one | {"keep_fields": ["url"]}, two | {"keep_fields": ["url"]}))
    assert line.startswith("inputs.1.keep_fields")


def test_lines_that_python_decides_count_as_well(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a", "\\u0075rl": "u", "n": NaN}\n{"text": "b", "n": NaN}\nno json\n')
    assert absent(configure({"path": str(path), "keep_fields": ["url", "n"]})) == []
    (line,) = absent(configure({"path": str(path), "keep_fields": ["x"]}))
    assert "none of 2 documents" in line


def test_no_document_at_all_proves_nothing():
    config = configure({"path": "x", "id_field": "id"})
    assert absent_fields(config, {0: FieldCounts()}) == []
    assert absent_fields(config, {}) == []


def test_counts_add_up_and_survive_json():
    one = FieldCounts(num_objects=2, present={"a": 1}, seen=("x", "y"), as_hex=("h",))
    two = FieldCounts(num_objects=3, present={"a": 1, "b": 3}, seen=("y", "z"))
    total = add_counts([(4, one), (4, two), (5, FieldCounts())])[4]
    assert total == FieldCounts(num_objects=5, present={"a": 2, "b": 3}, seen=("x", "y", "z"), as_hex=("h",))
    assert FieldCounts.from_dict(json.loads(json.dumps(total.to_dict()))) == total


def test_names_to_suggest():
    lines = [
        b'{"m": [{"role": "a", "content": "b"}], "meta": {"id": {"x": 1}}, "e": {}, "l": ["a"]}',
        b"no json",
        b"[1]",
    ]
    assert names_in_json(lines) == ["m[].role", "m[].content", "meta.id.x", "e", "l"]
    assert hint("content", names_in_json(lines)).startswith("did you mean 'm[].content'?")
    assert hint("x", []) == "There are none"
    assert "\x1b" not in hint("q", ["\x1b[31m"])


def test_the_plan_warns_of_what_the_probe_found(tmp_path):
    texts = [{"content": f"some words {i} of a text", "id": i} for i in range(50)]
    item = write(tmp_path / "a.jsonl", *texts) | {"text_field": "content", "id_field": "uid"}
    config = configure(item, output=str(tmp_path / "out"))
    (line,) = [line for line in estimate(config).warnings if "uid" in line]
    assert line == (
        "inputs.0.id_field: none of 50 documents has the field 'uid': did you mean 'id'? There are: content, id. "
        "Set id_field, or the build fails (looked at a sample)"
    )


def test_ids_of_bytes_are_told():
    assert hexadecimal_fields({0: FieldCounts(as_hex=("id", "sha")), 1: FieldCounts()}) == [
        "inputs.0: id, sha: bytes, written as hexadecimal digits"
    ]


def test_no_text_to_train_a_tokenizer_on(tmp_path):
    config = configure(write(tmp_path / "a.jsonl", {"content": "a"}))
    with pytest.raises(InputError, match="has the field 'text': did you mean 'content'"):
        list(training_texts(config, plan_units(config).units))
