"""HTML: a file is a page."""

import gzip

import pytest

from mlm_data.config import BuildConfig, semantic
from mlm_data.errors import ConfigError
from mlm_data.settings import parse_settings
from mlm_data.text.formats import html as html_format
from mlm_data.text.inputs import find_files
from tests.mlm_data.text.formats.reading import read, reasons, texts

PAGE = "<!DOCTYPE html><meta charset=koi8-r><body><p>Текст страницы, который достаточно длинный.</p></body>"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def test_a_file_is_a_document(path):
    (text,) = texts(read(path, PAGE.encode("koi8-r"), "html"))
    assert text.strip() == "Текст страницы, который достаточно длинный."
    assert read(path, PAGE.encode("koi8-r"), "html", extract="none", compress=True)[0] == [{"text": PAGE, "offset": 0}]
    assert texts(read(path, b"", "html")) == [""]


def test_no_page(path, monkeypatch):
    assert reasons(read(path, b"\x89PNG\r\n\x1a\n\0\0", "html")) == [(0, "not_text")]
    monkeypatch.setattr(html_format, "MAX_PAGE_BYTES", 1 << 20)
    found = read(path, b"<p>" * (7 << 20), "html", compress=True)
    assert reasons(found) == [(0, "too_large")]
    assert found[1][0].num_bytes == 21 << 20


def test_a_page_that_is_cut(path, tmp_path):
    from mlm_data.text.reading import read_slice
    from mlm_data.types import Slice

    path.write_bytes(gzip.compress(PAGE.encode() * 100)[:-9])
    config = parse_settings(
        BuildConfig, {"inputs": [{"path": "x"}], "output": "o", "tokenizer": {"train": {}}}, where="t"
    )
    size = path.stat().st_size
    piece = Slice(input=0, source="s", path=str(path), format="html", compression="gzip", start=0, end=size,
                  num_bytes=size, identity="")  # fmt: skip
    (batch,) = read_slice(piece, config)
    assert [item.reason for item in batch.quarantined] == ["truncated"]


def configure(**fields):
    return parse_settings(BuildConfig, {"inputs": [fields], "output": "o", "tokenizer": {"train": {}}}, where="test")


@pytest.mark.parametrize(
    ("name", "data", "kind", "why"),
    [
        ("a.html", b"anything", "html", "by its name"),
        ("a.HTM.gz", gzip.compress(b"<p>"), "html", "by its name"),
        ("a", b"\n<!DOCTYPE html>", "html", "by its content: a page of HTML"),
        ("a", b"<html lang=en>", "html", "by its content: a page of HTML"),
        ("a", b"<htmlish>", "text", "by its content: nothing but text"),
        ("a.txt", b"<html>", "text", "by its name"),
    ],
)
def test_pages_are_known(tmp_path, name, data, kind, why):
    (tmp_path / name).write_bytes(data)
    (file,), _ = find_files(configure(path=str(tmp_path / name)))
    assert (file.format, str(file.why)) == (kind, why)


def test_the_setting_changes_no_digest_unless_it_is_used(tmp_path):
    plain = semantic(configure(path="x"))
    assert "extract" not in plain["inputs"][0]
    assert plain == semantic(configure(path="x", extract="resiliparse"))
    assert semantic(configure(path="x", extract="none"))["inputs"][0]["extract"] == "none"
    (tmp_path / "a.txt").write_bytes(b"text")
    with pytest.raises(ConfigError, match="extract is set, but text has no such setting"):
        find_files(configure(path=str(tmp_path / "a.txt"), extract="none"))
