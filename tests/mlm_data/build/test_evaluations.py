"""Items of evaluations, from files of several kinds."""

import gzip
import json

import pytest

from mlm_data.build.evaluations import load_index, read_items
from mlm_data.curation_settings import DecontaminateSettings
from mlm_data.errors import InputError


def items(*paths):
    return read_items(DecontaminateSettings(against=tuple(map(str, paths))))


def texts(*paths):
    return items(*paths).texts.to_pylist()


LINES = [{"question": "one", "answers": ["two", {"deep": ["three", 4, None]}]}, {"question": "five"}]


def test_json_lines_give_every_string_in_order(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert texts(path) == ["one", "two", "three", "five"]


def test_an_array_a_text_and_packed_ones(tmp_path):
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(LINES, indent=1))
    (tmp_path / "b.txt").write_text("first line\n\n  second line\r\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((json.dumps(LINES[1]) + "\n").encode()))
    found = items(tmp_path / "*.json", tmp_path / "b.txt", tmp_path / "c.jsonl.gz")
    assert [text.strip() for text in found.texts.to_pylist()] == [
        "one", "two", "three", "five", "first line", "second line", "five",
    ]  # fmt: skip
    assert found.files.tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert found.names == ("a.json", "b.txt", "c.jsonl.gz")


def test_the_hash_is_of_the_items_alone(tmp_path):
    for name, text in (("a", "x y"), ("b", "x y"), ("c", "x z"), ("d", "x\ny")):
        (tmp_path / name).write_text(text)
    hashes = {name: items(tmp_path / name).sha256 for name in "abcd"}
    assert hashes["a"] == hashes["b"]
    assert len(set(hashes.values())) == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": "b"}\n{"a": \n', "line 2: not valid JSON"),
        (b'["a", ', "line 1: not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"caf\xe9\n", "not UTF-8 at byte 3"),
        (b"\n \n", "no item in"),
        (gzip.compress(b"a line of some words\n" * 999)[:-20], "download it again"),
    ],
)
def test_bad_files_are_one_line(tmp_path, data, said):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match=said) as error:
        items(tmp_path / "a")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl"):
        items(tmp_path / "none.jsonl")


def test_a_file_that_has_changed_since_the_build_began(tmp_path):
    path = tmp_path / "a"
    path.write_text("some words of an item\n")
    settings = DecontaminateSettings(against=(str(path),))
    version = read_items(settings).sha256
    assert load_index(settings, version).num_files == 1
    path.write_text("some other words of it\n")
    with pytest.raises(InputError, match="changed while the build ran"):
        load_index(settings, "another")
    assert load_index(settings, read_items(settings).sha256).num_files == 1
