"""CSV and TSV, against Python's strict reader."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlm_data.errors import ConfigError, InputError
from mlm_data.text.formats import csv as reader
from tests.mlm_data.text.formats.reading import read, reasons, texts


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("csv") / "file"


DATA = b'id,text,url\r\n1,"a ""quoted"" word, and\r\na second line",u1\r\n2,plain,\r\n\r\n3,"",u3\r\n'


def test_rows_are_documents_with_their_fields(path):
    rows, bad = read(path, DATA, "csv", id_field="id", keep_fields=["url"])
    assert rows == [
        {"text": 'a "quoted" word, and\r\na second line', "offset": 13, "id_field": "1", "keep.url": "u1"},
        {"text": "plain", "offset": DATA.index(b"2,"), "id_field": "2", "keep.url": ""},
        {"text": "", "offset": DATA.index(b'3,""'), "id_field": "3", "keep.url": "u3"},
    ]
    assert not bad


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "latin-1", "cp1251"])
def test_encodings(path, encoding):
    data = 'text;n\n"größe ""x"" ";1\nça;2\n' if encoding != "cp1251" else 'text;n\n"мир ""x"" ";1\nда;2\n'
    configured = encoding if encoding in ("latin-1", "cp1251", "utf-16-be") else "utf-8"
    found = read(path, data.encode(encoding), "csv", encoding=configured, delimiter=";")
    assert texts(found) == ([*(['größe "x" ', "ça"])] if encoding != "cp1251" else ['мир "x" ', "да"])
    assert not found[1]


def test_tabs_and_quotes_of_tsv(path):
    assert texts(read(path, b'text\tn\nit\'s 5" long, no quote\t1\n"a\tb"\t2\n', "tsv")) == [
        "it's 5\" long, no quote",
        "a\tb",
    ]


def test_several_text_fields_are_joined(path):
    data = b'title,abstract\nT,"a ""b"""\n,only\nT2,\n'
    assert texts(read(path, data, "csv", text_field=["title", "abstract"])) == ['T\n\na "b"', "only", "T2"]


def test_broken_rows_cost_one_row_and_say_their_line(path):
    data = b'id,text\n1,"two\nlines"\n2\n3,a,b\n4,"said "hi" there"\n5,good\n6,\xff\n7,"open\n8,also good\n'
    rows, bad = read(path, data, "csv", id_field="id")
    assert [row["id_field"] for row in rows] == ["1", "5", "8"]
    assert [(item.offset, item.reason) for item in bad] == [
        (data.index(b"2\n3"), "bad_csv"),
        (data.index(b"3,a"), "bad_csv"),
        (data.index(b'4,"said'), "bad_csv"),
        (data.index(b"6,"), "bad_utf8"),
        (data.index(b'7,"open'), "bad_csv"),
    ]
    assert [item.detail.partition(":")[0] for item in bad if item.reason == "bad_csv"] == [
        "line 4",
        "line 5",
        "line 6",
        "line 9",
    ]
    assert "1 fields, but the header has 2" in bad[0].detail
    assert "double a quote" in bad[2].detail
    assert "not closed" in bad[4].detail


def test_a_forgotten_quote_does_not_take_the_rest(path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_RECORD_BYTES", 1000)
    lines = [b'%d,"text of row %d"' % (i, i) for i in range(200)]
    lines[50] = b'50,"open'
    rows, bad = read(path, b"n,text\n" + b"\n".join(lines), "csv", batch_bytes=300)
    assert [row["text"] for row in rows] == [f"text of row {i}" for i in range(200) if i != 50]
    assert len(bad) == 1
    # No other quote in the file: only the bound ends it.
    lines = [b"%d,text of row %d" % (i, i) for i in range(200)]
    lines[50] = b'50,"open'
    rows, bad = read(path, b"n,text\n" + b"\n".join(lines), "csv", batch_bytes=300)
    assert len(rows) == 199
    assert len(bad) == 1


def test_a_line_without_end_is_skipped_to_its_end(path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_RECORD_BYTES", 1000)
    data = b"n,text\n1,a\n2," + b"x" * 5000 + b",9\n3,b\n4,c\n"
    rows, bad = read(path, data, "csv", batch_bytes=100)
    assert [row["text"] for row in rows] == ["a", "b", "c"]
    assert [(item.offset, item.reason) for item in bad] == [(data.index(b"2,x"), "bad_csv")]


def test_wide_text_in_a_row_is_no_text(path):
    found = read(path, b"n,text\n1," + "hello".encode("utf-16-le") + b"\n2,good\n", "csv")
    assert texts(found) == ["good"]
    assert reasons(found) == [(7, "not_text")]


def test_bad_bytes_may_become_a_sign(path):
    assert texts(read(path, b"n,text\n1,a\xffb\n", "csv", replace=True)) == ["a\ufffdb"]


def test_a_truncated_stream_keeps_what_came_before(path):
    import gzip

    from mlm_data.config import BuildConfig
    from mlm_data.settings import parse_settings
    from mlm_data.text.reading import read_slice
    from mlm_data.types import Slice

    data = b"n,text\n" + b"".join(b'%d,"text of %d"\n' % (i, i * i) for i in range(20_000))
    path.write_bytes(gzip.compress(data, mtime=0)[:-2000])
    config = parse_settings(
        BuildConfig, {"inputs": [{"path": "x"}], "output": "o", "tokenizer": {"train": {}}}, where="test"
    )
    piece = Slice(
        input=0, source="s", path=str(path), format="csv", compression="gzip", start=0, end=path.stat().st_size,
        num_bytes=1, identity="",
    )  # fmt: skip
    batches = list(read_slice(piece, config, batch_bytes=10_000))
    found = [text for batch in batches for text in batch.table["text"].to_pylist()]
    assert found == [f"text of {i * i}" for i in range(len(found))]
    assert len(found) > 10_000
    (item,) = [item for batch in batches for item in batch.quarantined]
    assert item.reason == "truncated"
    assert data[: item.offset].endswith(b'"\n')
    assert data[: item.offset].count(b"\n") == len(found) + 1


@pytest.mark.parametrize(
    ("data", "fields", "problem"),
    [
        (b"id,body\n", {}, "no column 'text': .*id, body.*Set text_field"),
        (b"id,texts\n", {}, "no column 'text': did you mean 'texts'"),
        (b"idx,text\n", {"id_field": "id"}, "no column 'id': did you mean 'idx'.*Set id_field"),
        (b"id,text\n", {"keep_fields": ["url"]}, "no column 'url'.*Set keep_fields"),
        (b"id;text\n1;a\n", {}, "or delimiter: ';'"),
        (b"id\ttext\n1\ta\n", {}, r"or delimiter: '\\t'"),
        (b"text,text\n", {}, "2 columns are called 'text'"),
        (b'id,"te"xt\n', {}, "header row can't be read"),
        (b"id,t\xffxt\n", {}, "header row is not utf-8: set the input's `encoding`"),
    ],
)
def test_headers_that_can_not_be_right(path, data, fields, problem):
    with pytest.raises(InputError, match=problem) as error:
        read(path, data, "csv", **fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "é"])
def test_delimiters_are_one_character(path, delimiter):
    with pytest.raises(ConfigError, match="must be one ASCII character"):
        read(path, DATA, "csv", delimiter=delimiter)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"text", b"text\n", b"\xef\xbb\xbftext\r\n\r\n"])
def test_files_without_rows(path, data):
    assert read(path, data, "csv") == ([], [])


pieces = st.sampled_from(
    [b'"', b'"', b'""', b",", b",", b"\n", b"\r\n", b"\r", b"a", b"bc", b"abcdefghi", b" ", "é漢".encode(), b"1,x\n"]
)
bodies = st.lists(pieces, max_size=30).map(b"".join)


def twin(body):
    """(text, offset) of good rows, offsets of bad ones, by the strict reader of Python, a row at a time."""
    good, bad = [], []
    lines = io.StringIO(body.decode(), newline="").readlines()
    i, offset = 0, 0
    while i < len(lines):
        rest = csv.reader(lines[i:], strict=True)
        try:
            row, used = next(rest), rest.line_num
        except csv.Error:
            row, used = None, 1
        if row is None or len(row) not in (0, 2):
            bad.append(offset)
        elif row:
            good.append((row[1], offset))
        offset += sum(len(line.encode()) for line in lines[i : i + used])
        i += used
    return good, bad


@settings(max_examples=400, deadline=None)
@given(bodies, st.integers(1, 40))
@example(b'1,"a\n2,b\n', 3)
@example(b'""', 1)
@example(b'"a"\r\n', 1)
def test_it_reads_as_python_does(path, body, batch_bytes):
    header = b"n,text\n"
    rows, bad = read(path, header + body, "csv", batch_bytes=batch_bytes)
    good, broken = twin(body)
    assert [(row["text"], row["offset"] - len(header)) for row in rows] == good
    assert [(item.offset - len(header), item.reason) for item in bad] == [(offset, "bad_csv") for offset in broken]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=3, max_size=3)
    ),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(",;\t|"),
    st.booleans(),
)
def test_what_python_writes_comes_back(path, table, quoting, delimiter, compress):
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, delimiter=delimiter).writerows([["id", "text", "x"], *table])
    rows, bad = read(
        path, out.getvalue().encode(), "csv", id_field="id", keep_fields=["x"], delimiter=delimiter, compress=compress
    )
    assert not bad
    assert [[row["id_field"], row["text"], row["keep.x"]] for row in rows] == table
