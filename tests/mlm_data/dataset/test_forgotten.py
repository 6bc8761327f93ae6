"""The list of forgotten texts."""

import pytest

from mlm_data.dataset.forgotten import current_list, parse_list, read_list, write_list
from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder

IDS = {bytes([n] * 16) for n in (7, 200, 3)}


def test_there_and_back(tmp_path):
    data = write_list(IDS)
    assert data == write_list(sorted(IDS, reverse=True))
    assert parse_list(data, where="here") == IDS
    (tmp_path / "list").write_bytes(data)
    assert read_list(Folder(tmp_path), "list").to_pylist() == sorted(IDS)


def test_none(tmp_path):
    assert current_list(Folder(tmp_path)) == ""
    assert read_list(Folder(tmp_path), "").to_pylist() == []


@pytest.mark.parametrize("line", [b"{}", b"no", b'{"id": 7}', b'{"id": "x"}', b"[]"])
def test_a_damaged_line_is_told(line):
    with pytest.raises(FormatError, match="here: a line is no document's id"):
        parse_list(write_list(IDS) + line, where="here")
