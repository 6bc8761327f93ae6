"""Labelled files as people have them, and one message for each way to be wrong."""

import bz2
import gzip
import json
import lzma

import pytest
import zstandard

from mlm_data.errors import InputError
from trainer.studies.labelled import read_labelled

LINES = [{"text": "the cat\u2028sat", "label": "a"}, {"text": "b", "label": 1}, {"text": "c", "label": True}]
PACKERS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def packed(values=LINES, mark: bytes = b"") -> bytes:
    return mark + "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_and_compressions_are_read(tmp_path, name, mark):
    path = tmp_path / "labelled.jsonl"  # the name says nothing
    path.write_bytes(PACKERS[name](packed(mark=mark)))
    assert read_labelled(path, "text", "label") == (["the cat\u2028sat", "b", "c"], ["a", "1", "True"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            packed([*LINES, {"text": "d", "label": None}]),
            "line 4: 'label' is null, and a label is a string or a number",
        ),
        (packed([{"text": "d", "label": [1]}]), "line 1: 'label' is a list"),
        (packed([{"text": "d", "label": {}}]), "line 1: 'label' is an object"),
        (b'\n{"text": "\\ud800", "label": 1}', "line 2: the text has half of a surrogate pair at character 0"),
        (b"[" * 100_000, "line 1: expected JSON with 'text' and 'label'"),
        (b'{"text": "\xff", "label": 1}', "byte 10 is not UTF-8: convert the file"),
        (gzip.compress(packed() * 50)[:-20], "the gzip stream ends too early: fetch the file again"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path, data, message):
    path = tmp_path / "labelled.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_labelled(path, "text", "label")
    assert message in str(caught.value)
