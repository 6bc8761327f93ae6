"""The list of forgotten texts."""

import hashlib
import json

import pytest

from mlm_data.dataset.forgotten import current_list, mark, marks_of, parse_list, read_list, write_list
from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder

IDS = {bytes([n] * 16) for n in (7, 200, 3)}
MARKS = {mark(one) for one in IDS}


def test_there_and_back(tmp_path):
    data = write_list(MARKS)
    assert data == write_list(sorted(MARKS, reverse=True))
    assert parse_list(data, where="here") == MARKS
    (tmp_path / "list").write_bytes(data)
    assert read_list(Folder(tmp_path), "list").to_pylist() == sorted(MARKS)


def test_a_list_holds_no_ids():
    data = write_list(marks_of(sorted(IDS)).to_pylist())
    assert not any(one in data or one.hex().encode() in data for one in IDS)
    assert mark(bytes(16)) == hashlib.sha256(b"premask.forgotten.1" + bytes(16)).digest()[:16]


def test_a_list_of_ids_is_read():
    """As older datasets have them."""
    data = "".join(json.dumps({"id": one.hex()}) + "\n" for one in sorted(IDS)).encode()
    assert parse_list(data, where="here") == MARKS


def test_none(tmp_path):
    assert current_list(Folder(tmp_path)) == ""
    assert read_list(Folder(tmp_path), "").to_pylist() == []


@pytest.mark.parametrize("line", [b"{}", b"no", b'{"id": 7}', b'{"mark": "x"}', b'{"mark": "aa"}', b"[]"])
def test_a_damaged_line_is_told(line):
    with pytest.raises(FormatError, match="here: a line is no mark of a document"):
        parse_list(write_list(MARKS) + line, where="here")
