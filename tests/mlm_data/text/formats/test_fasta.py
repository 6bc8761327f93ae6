"""FASTA: a record is a document."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.errors import ConfigError
from mlm_data.text.formats import FORMATS
from tests.mlm_data.text.formats.reading import read, reasons, texts


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fasta") / "file"


DATA = b""">sp|P69905|HBA Hemoglobin subunit  alpha \r
MVLSPADKT\r
NVKAAW\r
\r
; a comment
>second
acgtNN--ac
gt*
>empty record
> spaced id of it
ACGT ACGT\t
10
"""


@pytest.mark.parametrize("batch_bytes", [1, 20, 8 << 20])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_records_are_documents(path, batch_bytes, ends):
    data = DATA.replace(b"\r\n", b"\n").replace(b"\n", ends)
    rows, bad = read(path, data, "fasta", batch_bytes=batch_bytes, id_field="id", keep_fields=["description"])
    assert not bad
    assert rows == [
        {
            "text": "MVLSPADKTNVKAAW",
            "offset": 0,
            "id_field": "sp|P69905|HBA",
            "keep.description": "Hemoglobin subunit  alpha",
        },
        {"text": "acgtNN--acgt*", "offset": data.index(b">second"), "id_field": "second", "keep.description": ""},
        {"text": "", "offset": data.index(b">empty"), "id_field": "empty", "keep.description": "record"},
        {
            "text": "ACGTACGT10",
            "offset": data.index(b"> spaced"),
            "id_field": "spaced",
            "keep.description": "id of it",
        },
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
def test_encodings(path, encoding):
    data = ">é x\nACGT\nAC\n>b\nGG\n".encode(encoding)
    configured = encoding if encoding in ("latin-1", "utf-16-be") else "utf-8"
    rows, bad = read(path, data, "fasta", batch_bytes=5, encoding=configured, id_field="id")
    assert [(row["id_field"], row["text"]) for row in rows] == [("é", "ACGTAC"), ("b", "GG")]
    assert not bad


def test_text_before_the_first_record_is_quarantined(path):
    found = read(path, b"; comment\nACGT\nACGT\n>a\nGG\n", "fasta")
    assert texts(found) == ["GG"]
    assert reasons(found) == [(10, "bad_fasta")]
    assert reasons(read(path, b"no sequences at all", "fasta")) == [(0, "bad_fasta")]


def test_bad_bytes_cost_one_record(path):
    data = b">a\nAC\n>b\nA\xff\nC\n>c\xff\nGG\n>d\nTT\n"
    found = read(path, data, "fasta", id_field="id")
    assert [(row["id_field"], row["text"]) for row in found[0]] == [("a", "AC"), ("d", "TT")]
    assert reasons(found) == [(data.index(b">b"), "bad_utf8"), (data.index(b">c"), "bad_utf8")]
    assert texts(read(path, data, "fasta")) == ["AC", "GG", "TT"]
    assert texts(read(path, data, "fasta", replace=True, id_field="id")) == ["AC", "A\ufffdC", "GG", "TT"]


def test_only_id_and_description_are_fields():
    class Settings:
        id_field, keep_fields, word_field = "ident", (), None

    with pytest.raises(ConfigError, match="no field 'ident': did you mean 'id'"):
        FORMATS["fasta"].check_head(b"", Settings(), "a.fa")


records = st.lists(
    st.tuples(
        st.text("abc|.", min_size=1, max_size=6), st.lists(st.text("ACGTacgt*-", min_size=1, max_size=9), max_size=4)
    ),
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(records, st.integers(1, 30), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_any_records_come_back(path, written, batch_bytes, end, compress):
    data = "".join(end.join([f">{name} some words", *lines, ""]) for name, lines in written).encode()
    rows, bad = read(path, data, "fasta", batch_bytes=batch_bytes, id_field="id", compress=compress)
    assert not bad
    assert [(row["id_field"], row["text"]) for row in rows] == [(name, "".join(lines)) for name, lines in written]
