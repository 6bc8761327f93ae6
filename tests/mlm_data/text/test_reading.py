"""Reading files as documents: every format, any split, whatever is wrong with the bytes."""

import bz2
import gzip
import json
import lzma
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.build.units import plan_units
from mlm_data.config import BuildConfig, CacheSettings
from mlm_data.errors import ConfigError, InputError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import file_info, input_hash, stat_identity
from mlm_data.text import reading
from mlm_data.text.borders import find_lines, find_paragraphs
from mlm_data.text.encodings import check_encoding
from mlm_data.text.reading import read_slice, read_unit
from mlm_data.types import Slice, Unit


def configure(replace=False, **fields):
    values = {"inputs": [{"path": "x"} | fields], "output": "o", "tokenizer": {"train": {}}}
    return parse_settings(
        BuildConfig, values | {"clean": {"bad_bytes": "replace" if replace else "quarantine"}}, where="test"
    )


def piece_of(path, kind="text", compression="", start=0, end=None):
    end = path.stat().st_size if end is None else end
    return Slice(
        input=0,
        source="s",
        path=str(path),
        format=kind,
        compression=compression,
        start=start,
        end=end,
        num_bytes=end - start,
        identity="",
    )


def read(path, kind="text", compression="", borders=None, *, batch_bytes=8 << 20, replace=False, **fields):
    """(documents as (offset, text), quarantined as (offset, reason)) of a file's slices, which must account for it."""
    config = configure(replace, **fields)
    documents, bad = [], []
    for start, end in pairwise(borders or [0, path.stat().st_size]):
        piece = piece_of(path, kind, compression, start, end)
        num_bytes = 0
        for batch in read_slice(piece, config, batch_bytes=batch_bytes):
            assert batch.source == "s"
            batch.table.validate(full=True)
            documents += zip(batch.table["offset"].to_pylist(), batch.table["text"].to_pylist(), strict=True)
            bad += [(item.offset, item.reason) for item in batch.quarantined]
            num_bytes += batch.num_bytes_read
        if not compression and kind in ("text", "jsonl"):
            assert num_bytes == piece.num_bytes
    return documents, bad


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("reading") / "file"


def save(path, data):
    path.write_bytes(data)
    return path


# --- text -------------------------------------------------------------------------------------------------------

BLANK = b" \t\v\f"
LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|$)")


def lines_twin(data):
    """(offset, bytes) of each line, blank ones too, by Python."""
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    return [(match.start(), match[1]) for match in LINE.finditer(data, start) if match[0]]


def documents_by_line(data):
    return [(offset, line.decode()) for offset, line in lines_twin(data) if line.strip(BLANK)]


def documents_by_paragraph(data):
    first = last = None
    for offset, line in [*lines_twin(data), (len(data), b"")]:
        if line.strip(BLANK):
            first, last = offset if first is None else first, offset + len(line)
        elif first is not None:
            yield first, data[first:last].decode()
            first = None


tokens = st.sampled_from(
    [b"\n", b"\n", b"\n\n", b"\r\n", b"\r\n", b"\r", b"\r", b" ", b"\t\n", b"\v", b"a", b"bc", b"\1", "é漢".encode()]
)
bodies = st.lists(tokens, max_size=25).map(b"".join)
marked = st.tuples(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]), bodies).map(b"".join)


@settings(max_examples=250, deadline=None)
@given(marked, st.lists(st.integers(0, 60), max_size=5), st.integers(1, 40), st.sampled_from(["line", "paragraph"]))
def test_any_split_gives_the_same_documents(scratch, data, cuts, batch_bytes, documents):
    save(scratch, data)
    twin = documents_by_line if documents == "line" else documents_by_paragraph
    borders = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    found, bad = read(scratch, borders=borders, documents=documents, batch_bytes=batch_bytes)
    assert found == list(twin(data))
    assert not bad


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "shift_jis", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("batch_bytes", [1, 2, 3, 5, 8, 1 << 20])
def test_any_line_end_in_any_encoding(scratch, newline, encoding, batch_bytes):
    """U+0D0A and U+0A0D hold the bytes of line ends, and are none."""
    wide = "\u0d0a\u0a0d" if encoding.startswith("utf") else ""
    lines = ["one" + wide, "", "two", "three", "", ""]
    data = newline.join(lines).encode(encoding)
    save(scratch, data)
    found, _ = read(scratch, documents="line", encoding=encoding, batch_bytes=batch_bytes)
    assert [text for _, text in found] == ["one" + wide, "two", "three"]
    found, _ = read(scratch, documents="paragraph", encoding=encoding, batch_bytes=batch_bytes)
    assert [text for _, text in found] == ["one" + wide, "two" + newline + "three"]
    for offset, text in found:
        assert data[offset:].startswith(text.encode(encoding))


@pytest.mark.parametrize("documents", ["line", "paragraph"])
def test_every_place_to_split_a_file_of_mixed_ends(scratch, documents):
    data = b"a\r\nb\rc\n\r\n\rd\r\r\ne\n\rf\r\n"
    twin = documents_by_line if documents == "line" else documents_by_paragraph
    save(scratch, data)
    for cut in range(1, len(data)):
        for batch_bytes in (1, 2, 1 << 20):
            found, _ = read(scratch, borders=[0, cut, len(data)], documents=documents, batch_bytes=batch_bytes)
            assert found == list(twin(data)), cut


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([10, 13, 32, 9, 97, 255]), max_size=60).map(lambda units: np.array(units, np.uint8)))
def test_lines_without_returns_take_the_same_places(data):
    data = np.where(data == 13, 98, data).astype(np.uint8)
    for find in (find_lines, find_paragraphs):
        for slow, fast in zip(find(data), find(data, has_returns=False), strict=True):
            assert slow.tolist() == fast.tolist()


def test_a_return_ends_a_line_of_json(scratch):
    """No JSON string holds one as it is, so a file of an old Mac is no single bad line."""
    data = b'{"text": "one"}\r{"text": "a\\rb"}\rbad\r\n{"text": "two"}\r'
    for borders in (None, *([0, cut, len(data)] for cut in range(1, len(data)))):
        found, bad = read(save(scratch, data), "jsonl", borders=borders, batch_bytes=10)
        assert [text for _, text in found] == ["one", "a\rb", "two"]
        assert bad == [(data.index(b"bad"), "bad_json")]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_break_behind_a_line_end_loses_no_line(scratch, ending):
    packed = zlib.compressobj(wbits=31)
    data = packed.compress(b"one" + ending + b"two" + ending) + packed.flush(zlib.Z_SYNC_FLUSH)
    found, bad = read(save(scratch, data), compression="gzip", documents="line")
    assert [text for _, text in found] == ["one", "two"]
    assert [reason for _, reason in bad] == ["truncated"]


def test_a_file_is_one_document(scratch):
    data = b"\xef\xbb\xbf\n a\r\n\r\nb \0\n"
    assert read(save(scratch, data)) == ([(3, "\n a\r\n\r\nb \0\n")], [])


def test_one_line_of_many_batches(scratch):
    """A long line costs one pass, however small the batches."""
    data = b"first\n" + b"x" * 3_000_000 + b"\nlast"
    found, _ = read(save(scratch, data), documents="line", batch_bytes=1000)
    assert [(offset, len(text)) for offset, text in found] == [(0, 5), (6, 3_000_000), (3_000_007, 4)]
    found, _ = read(scratch, documents="paragraph", batch_bytes=1000)
    assert [(offset, len(text)) for offset, text in found] == [(0, len(data))]


@pytest.mark.parametrize("documents", ["file", "line", "paragraph"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-32-le", b"\xff\xfe\0\0"),
        ("utf-32-be", b"\0\0\xfe\xff"),
    ],
)
def test_a_byte_order_mark_wins(scratch, encoding, mark, documents):
    text = "één \u0a0a\u0d0a\n\u2028zwei 😀\r\n\r\n \ndrei"
    data = mark + text.encode(encoding)
    found, bad = read(save(scratch, data), documents=documents, encoding="cp1252", batch_bytes=7)
    expected = {
        "file": [text],
        "line": ["één \u0a0a\u0d0a", "\u2028zwei 😀", "drei"],
        "paragraph": ["één \u0a0a\u0d0a\n\u2028zwei 😀", "drei"],
    }[documents]
    assert [text for _, text in found] == expected
    assert not bad
    for offset, document in found:
        assert data[offset:].decode(encoding).startswith(document)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "koi8-r", "shift_jis", "gb18030", "utf-16", "utf_8_sig"])
def test_configured_encodings(scratch, encoding):
    text = {"koi8-r": "мир\nтруд", "shift_jis": "ソ表\n能", "gb18030": "漢\n字😀"}.get(encoding, "größe\nça")
    data = text.encode(encoding).removeprefix(b"\xff\xfe")
    found, bad = read(save(scratch, data), documents="line", encoding=encoding)
    assert [text for _, text in found] == text.split("\n")
    assert not bad


@pytest.mark.parametrize("encoding", ["utf-7", "latin-11", "cp037", "base64", "hz"])
def test_encodings_that_can_not_be_cut(encoding):
    with pytest.raises(ConfigError, match=f"encoding {encoding!r}"):
        check_encoding(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "shift_jis", "utf-16-le"])
def test_bad_bytes_cost_one_document_or_become_a_sign(scratch, encoding):
    bad = b"\x00\xd8" if encoding == "utf-16-le" else b"\xff"
    data = b"\n".join(["good".encode(encoding), "ba".encode(encoding) + bad, "go".encode(encoding)])
    if encoding == "utf-16-le":
        data = "good\nba".encode(encoding) + bad + "\ngo".encode(encoding)
    found, quarantined = read(save(scratch, data), documents="line", encoding=encoding)
    assert [text for _, text in found] == ["good", "go"]
    assert quarantined == [(data.index("ba".encode(encoding)), "bad_utf8")]
    found, quarantined = read(scratch, documents="line", encoding=encoding, replace=True)
    assert [text for _, text in found] == ["good", "ba\ufffd", "go"]
    assert not quarantined


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"\n", b"\x80", b"\xc3", b"\xa9", b"\xed\xa0\x80", b"\xf4\x90", b"\xe2\x82"])))
def test_replacing_bad_bytes_is_what_python_does(scratch, parts):
    data = b"".join(parts)
    found, bad = read(save(scratch, data), documents="line", replace=True)
    assert [text for _, text in found] == [line.decode(errors="replace") for line in data.split(b"\n") if line]
    assert not bad


# --- JSON Lines -------------------------------------------------------------------------------------------------


def test_json_lines(scratch):
    lines = [
        '{"text": "one"}',
        '{"text": "a\\nb\\u00e9\\ud83d\\ude00\\/", "url": "u", "n": {"a": [1, 2.50, "x y"]}}',
        "",
        "  \t ",
        "no json",
        '{"url": "u"}',
        '{"text": null}',
        '{"text": 3}',
        '["text"]',
        '{"text": "\\ud800"}',
        '{"text": "last wins", "text": "twice"}',
        '{"t\\u0065xt": "escaped key"}',
        '{"text": "nan", "n": NaN, "url": 12345678901234567890}',
        '{"text": "crlf"}\r',
        '{"text": "nul\0"}',
        '{"text": "cut',
    ]
    data = "\n".join(lines).encode()
    starts = {line: data.index(line.encode()) for line in lines if line.strip()}
    config = configure(id_field="url", keep_fields=("n",))
    (batch,) = read_slice(piece_of(save(scratch, data), "jsonl"), config)
    good = [lines[i] for i in (0, 1, 10, 11, 12, 13)]
    assert batch.table.to_pydict() == {
        "text": ["one", "a\nb\u00e9\U0001f600/", "twice", "escaped key", "nan", "crlf"],
        "offset": [starts[line] for line in good],
        "id_field": [None, "u", None, None, "12345678901234567890", None],
        "keep.n": [None, '{"a":[1,2.50,"x y"]}', None, None, "NaN", None],
    }
    assert [(item.offset, item.reason) for item in batch.quarantined] == [
        (starts[lines[4]], "bad_json"),
        (starts[lines[5]], "no_text_field"),
        (starts[lines[6]], "text_not_a_string"),
        (starts[lines[7]], "text_not_a_string"),
        (starts[lines[8]], "bad_json"),
        (starts[lines[9]], "bad_utf8"),
        (starts[lines[14]], "bad_json"),
        (starts[lines[15]], "bad_json"),
    ]
    assert batch.num_bytes_read == len(data)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_json_lines_in_other_encodings(scratch, encoding):
    data = '{"text": "größe"}\n\n{"text": "x", "text": "ça"}\nbad\n'.encode(encoding)
    configured = encoding if encoding == "latin-1" else "utf-8"
    found, bad = read(save(scratch, data), "jsonl", encoding=configured)
    assert [text for _, text in found] == ["größe", "ça"]
    plain = encoding.replace("utf-16", "utf-16-le").removesuffix("-sig")
    assert [offset for offset, _ in found] == [data.index(c.encode(plain)) for c in ('{"text": "g', '{"text": "x')]
    assert bad == [(data.index("bad".encode(plain)), "bad_json")]


json_lines = st.lists(
    st.dictionaries(st.sampled_from(["text", "x"]), st.text(max_size=5) | st.integers()).map(json.dumps)
    | st.sampled_from(["", "bad", '{"text": "a', " "]),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(json_lines, st.lists(st.integers(0, 200), max_size=4), st.integers(1, 60), st.booleans())
def test_any_split_gives_the_same_json_lines(scratch, lines, cuts, batch_bytes, crlf):
    data = ("\r\n" if crlf else "\n").join(lines).encode()
    save(scratch, data)
    borders = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    assert read(scratch, "jsonl", borders=borders, batch_bytes=batch_bytes) == read(scratch, "jsonl")


def test_details_are_short_and_printable(scratch):
    save(scratch, b'{"text": [' + b'"\x7f\xc2\x85", ' * 200 + b"1]}\n" + b"\x01\x02 no json")
    (batch,) = read_slice(piece_of(scratch, "jsonl"), configure())
    assert len(batch.quarantined) == 2
    for item in batch.quarantined:
        assert 0 < len(item.detail) <= 200
        assert item.detail.isprintable()


# --- compressed -------------------------------------------------------------------------------------------------


CODECS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,  # as the zstd command does
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
LINES = b"".join(b"line %d with some words\n" % i for i in range(20_000))


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_files_read_as_plain_ones(scratch, codec):
    plain, _ = read(save(scratch, LINES), documents="line")
    for documents in ("line", "file"):
        expected = plain if documents == "line" else [(0, LINES.decode())]
        save(scratch, CODECS[codec](LINES))
        assert read(scratch, compression=codec, documents=documents, batch_bytes=100_000) == (expected, [])


@pytest.mark.parametrize("codec", CODECS)
def test_members_and_frames_read_to_the_end(scratch, codec):
    pack = CODECS[codec]
    skippable = b"\x50\x2a\x4d\x18\x05\0\0\0hello" if codec == "zstd" else b""
    data = skippable + pack(b"one\ntw") + skippable + pack(b"") + pack(b"o\nthree") + skippable
    assert read(save(scratch, data), compression=codec, documents="line") == (
        [(0, "one"), (4, "two"), (8, "three")],
        [],
    )


def test_gzip_padding_is_no_data(scratch):
    save(scratch, gzip.compress(b"one\n") + bytes(1000))
    assert read(scratch, compression="gzip", documents="line") == ([(0, "one")], [])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_what_lies_before_a_break_is_kept(scratch, codec, share):
    plain, _ = read(save(scratch, LINES), documents="line")
    packed = CODECS[codec](LINES)
    save(scratch, packed[: int(len(packed) * share)])
    found, bad = read(scratch, compression=codec, documents="line", batch_bytes=1000)
    assert found == plain[: len(found)]
    (broken,) = bad
    assert broken[1] == "truncated"
    # The rest begins where the first lost line begins (or after the last one, where only the end mark is lost).
    rest = plain[len(found)][0] if len(found) < len(plain) else len(LINES)
    assert broken[0] == rest
    _, bad = read(scratch, compression=codec, documents="file")
    assert bad == [(0, "truncated")]
    _, bad = read(scratch, compression=codec, documents="paragraph")
    assert bad == [(0, "truncated")]


@pytest.mark.parametrize("codec", CODECS)
def test_truncation_loses_only_what_is_gone(scratch, codec):
    data = os.urandom(300_000).hex().encode()
    lines = b"\n".join(data[i : i + 99] for i in range(0, len(data), 99))
    packed = CODECS[codec](lines)
    save(scratch, packed[: len(packed) // 2])
    found, _ = read(scratch, compression=codec, documents="line")
    wanted = 0.2 if codec == "bzip2" else 0.4  # bzip2 works in blocks of 900 kB
    assert len(found) >= wanted * lines.count(b"\n") or codec == "bzip2"


@pytest.mark.parametrize("codec", CODECS)
def test_a_corrupt_stream_is_one_quarantined(scratch, codec):
    packed = bytearray(CODECS[codec](LINES))
    middle = len(packed) // 2
    packed[middle : middle + 8] = b"\xaa\x55" * 4
    save(scratch, bytes(packed))
    found, bad = read(scratch, compression=codec, documents="line", batch_bytes=1000)
    assert [reason for _, reason in bad] == ["truncated"]
    assert len(found) <= LINES.count(b"\n")


@pytest.mark.parametrize("codec", CODECS)
def test_no_compressed_stream_at_all(scratch, codec):
    assert read(save(scratch, b"plain text\n"), compression=codec, documents="line") == ([], [(0, "truncated")])


# --- tables -----------------------------------------------------------------------------------------------------


def write_table(path, table, kind):
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=3)
        return "parquet", -(-len(table) // 3)
    options = pa.ipc.IpcWriteOptions(compression="zstd" if kind == "compressed" else None)
    make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with make(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=3)
    return "arrow", 1 if kind == "stream" else -(-len(table) // 3)


KINDS = ["parquet", "file", "stream", "compressed"]
TEXTS = ["one", "zwei \u00fc", None, "", "five", "six \U0001f600", None, "eight"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array([text and text.encode() for text in TEXTS], pa.binary()),
        pa.array(TEXTS, pa.string_view()),
    ],
    ids=["string", "large_string", "dictionary", "binary", "view"],
)
def test_tables(scratch, kind, column):
    form, parts = write_table(scratch, pa.table({"n": range(8), "body": column}), kind)
    expected = [(i, text) for i, text in enumerate(TEXTS) if text is not None]
    for borders in ([0, parts], list(range(parts + 1))):
        found, bad = read(scratch, form, borders=borders, text_field="body", batch_bytes=4)
        assert found == expected
        assert bad == [(2, "text_not_a_string"), (6, "text_not_a_string")]


@pytest.mark.parametrize("kind", KINDS)
def test_other_columns_become_strings(scratch, kind):
    table = pa.table(
        {
            "text": ["a", "b"],
            "url": ["u1", None],
            "n": [1, 2],
            "x": [1.5, None],
            "ok": [True, False],
            "day": pa.array([0, 1], pa.date32()),
            "list": [[1, None], None],
            "struct": [{"a": "\u00fc", "b": [1]}, {"a": None, "b": []}],
            "lang": pa.array(["en", "de"]).dictionary_encode(),
        }
    )
    form, parts = write_table(scratch, table, kind)
    config = configure(id_field="url", keep_fields=("n", "x", "ok", "day", "list", "struct", "lang", "text"))
    (batch,) = read_slice(piece_of(scratch, form, end=parts), config)
    assert batch.table.drop_columns(["text", "offset"]).to_pydict() == {
        "id_field": ["u1", None],
        "keep.n": ["1", "2"],
        "keep.x": ["1.5", None],
        "keep.ok": ["true", "false"],
        "keep.day": ["1970-01-01", "1970-01-02"],
        "keep.list": ["[1,null]", None],
        "keep.struct": ['{"a":"\u00fc","b":[1]}', '{"a":null,"b":[]}'],
        "keep.lang": ["en", "de"],
        "keep.text": ["a", "b"],
    }
    assert set(batch.table.schema.types[2:]) == {pa.string()}


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_structs(scratch, kind):
    inner = [{"text": "a", "n": 1, "deep": {"x": "y"}}, {"text": None, "n": 2, "deep": None}, None]
    form, parts = write_table(scratch, pa.table({"doc": inner, "doc.z": ["1", "2", "3"]}), kind)
    config = configure(text_field="doc.text", keep_fields=("doc.n", "doc.deep.x", "doc.z", "doc"))
    (batch,) = read_slice(piece_of(scratch, form, end=parts), config)
    assert batch.table.to_pydict() == {
        "text": ["a"],
        "offset": [0],
        "keep.doc.n": ["1"],
        "keep.doc.deep.x": ["y"],
        "keep.doc.z": ["1"],
        "keep.doc": ['{"text":"a","n":1,"deep":{"x":"y"}}'],
    }
    assert [item.reason for item in batch.quarantined] == ["text_not_a_string"] * 2


def test_bytes_of_a_table_may_be_bad(scratch):
    form, parts = write_table(scratch, pa.table({"text": pa.array([b"ok", b"\xff", None, b"\xc3\xa9"])}), "parquet")
    bad = [(1, "bad_utf8"), (2, "text_not_a_string")]
    assert read(scratch, form, borders=[0, parts]) == ([(0, "ok"), (3, "\u00e9")], bad)
    assert read(scratch, form, borders=[0, parts], replace=True)[0] == [(0, "ok"), (1, "\ufffd"), (3, "\u00e9")]


def test_large_tables_come_in_batches(scratch):
    pq.write_table(pa.table({"text": ["x" * 1000] * 300}), scratch)
    batches = list(read_slice(piece_of(scratch, "parquet", end=1), configure(), batch_bytes=10_000))
    assert len(batches) == 30
    assert sum(batch.table.num_rows for batch in batches) == 300


@pytest.mark.parametrize("kind", ["parquet", "file"])
def test_a_table_without_the_text(scratch, kind):
    form, parts = write_table(scratch, pa.table({"texts": ["a"], "n": [1]}), kind)
    with pytest.raises(InputError, match="no column 'text' for the text: did you mean 'texts'"):
        read(scratch, form, borders=[0, parts])
    with pytest.raises(InputError, match="column 'n' is int64, not text"):
        read(scratch, form, borders=[0, parts], text_field="n")


def test_a_table_with_two_texts(scratch):
    form, parts = write_table(
        scratch, pa.Table.from_arrays([["a"], ["b"], ["c"], ["d"]], ["text", "text", "n", "n"]), "file"
    )
    with pytest.raises(InputError, match="2 columns are called 'text': rename all but one"):
        read(scratch, form, borders=[0, parts])


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_a_damaged_table(scratch, kind):
    form, parts = write_table(scratch, pa.table({"text": [str(i) for i in range(1000)]}), kind)
    scratch.write_bytes(scratch.read_bytes()[:-500])
    with pytest.raises(InputError, match=f"can't read this {form} file") as error:
        read(scratch, form, borders=[0, parts])
    assert "\n" not in str(error.value)


# --- units ------------------------------------------------------------------------------------------------------


def test_a_unit_reads_its_slices_in_order(tmp_path):
    pieces = []
    for i in range(3):
        save(tmp_path / f"{i}", b"document %d" % i)
        pieces.append(piece_of(tmp_path / f"{i}"))
    batches = list(read_unit(Unit(index=0, slices=tuple(pieces)), configure()))
    assert [batch.table["text"].to_pylist() for batch in batches] == [[f"document {i}"] for i in range(3)]


def test_a_file_that_is_gone(tmp_path):
    piece = piece_of(save(tmp_path / "a", b"x"))
    (tmp_path / "a").unlink()
    with pytest.raises(InputError, match=r"a: can't read: no such file") as error:
        list(read_slice(piece, configure()))
    assert "\n" not in str(error.value)


def test_a_file_that_changed_after_planning(tmp_path):
    path = save(tmp_path / "a.md", b"one\n" * 9)
    config = configure(path=str(path))
    (unit,) = plan_units(config).units
    assert [batch.table.num_rows for batch in read_unit(unit, config)] == [1]
    path.write_bytes(b"one\n" * 8)
    with pytest.raises(InputError, match=r"a\.md: changed after the build had begun: start it again"):
        list(read_unit(unit, config))
    path.unlink()
    with pytest.raises(InputError, match=r"a\.md: changed"):
        list(read_unit(unit, config))


def test_a_remote_file_reads_as_a_local_one(tmp_path):
    path = save(tmp_path / "a b", LINES)
    piece = piece_of(path)
    here = list(read_slice(piece, configure(documents="line")))
    there = replace(piece, path=f"file://{str(path).replace(' ', '%20')}")
    assert [batch.table for batch in read_slice(there, configure(documents="line"))] == [b.table for b in here]


@pytest.mark.corpora
def test_books_by_paragraph_lose_nothing(corpora):
    for path in sorted(corpora.glob("en_classic_books_md/**/*.md"))[:5]:
        data = path.read_bytes()
        step = len(data) // 7
        found, bad = read(path, documents="paragraph", borders=[*range(0, 7 * step, step), len(data)])
        assert found == list(documents_by_paragraph(data))
        assert not bad
        assert re.sub(r"\s", "", data.decode("utf-8-sig")) == re.sub(r"\s", "", "".join(text for _, text in found))


@pytest.mark.corpora
def test_json_lines_of_law(corpora):
    path = corpora / "en_dc_law/dev.jsonl"
    found, bad = read(path, "jsonl", borders=[*range(0, path.stat().st_size, 3_000_000), path.stat().st_size])
    assert [text for _, text in found] == [json.loads(line)["text"] for line in path.open("rb")]
    assert not bad


# --- sizes ------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from mlm_data.config import BuildConfig, parse_settings
from mlm_data.text.reading import read_slice
from mlm_data.types import Slice
path, kind, compression, documents, size = sys.argv[1:]
values = {"inputs": [{"path": path, "documents": documents}], "output": "o", "tokenizer": {"train": {}}}
config = parse_settings(BuildConfig, values, where="test")
piece = dict(input=0, source="s", path=path, format=kind, compression=compression, start=0, end=int(size))
def read(piece):
    return [batch.table["text"].nbytes for batch in read_slice(Slice(**piece, num_bytes=0, identity=""), config)]
read(piece | {"end": 1} if not compression else piece | {"path": path + ".small"})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sizes = read(piece)
print(sum(sizes), max(sizes), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


def measure(path, kind, compression="", documents="line"):
    """(bytes of text, of the largest batch, of memory) for reading a file in a process of its own."""
    arguments = [str(path), kind, compression, documents, str(path.stat().st_size)]
    run = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    return [int(number) for number in run.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "line", "paragraph", "gzip"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    """400 MB of short documents stream through less than 100 MB."""
    path = tmp_path / "large"
    line = b"x" * 200
    if kind == "jsonl":
        line = b'{"id": 1, "text": "' + line + b'\\n"}'
    lines = (line + (b"\n\n" if kind == "paragraph" else b"\n")) * 50_000
    pack = gzip.compress if kind == "gzip" else bytes
    (tmp_path / "large.small").write_bytes(pack(b"x\n"))
    with path.open("wb") as file:
        packed = pack(lines)
        for _ in range(40):
            file.write(packed)
    form = {"jsonl": "jsonl"}.get(kind, "text")
    documents = "paragraph" if kind == "paragraph" else "line"
    num_bytes, largest, memory = measure(path, form, "gzip" if kind == "gzip" else "", documents)
    assert num_bytes > 40 * 50_000 * 200
    assert largest < 20 << 20
    assert memory < 100 << 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "line", "paragraph"])
def test_a_line_of_200_mb(tmp_path, kind):
    path = tmp_path / "large"
    body = b"words and more " * (200_000_000 // 15)
    path.write_bytes(b'{"text": "' + body + b'"}\n{"text": "b"}\n' if kind == "jsonl" else body + b"\n\nb\n")
    documents = "paragraph" if kind == "paragraph" else "line"
    num_bytes, _, memory = measure(path, "jsonl" if kind == "jsonl" else "text", "", documents)
    assert num_bytes > 200_000_000 - 15
    assert memory < 5 * 200_000_000


# --- files that change between plan and read -------------------------------------------------------------------


def planned(path, identity):
    """A slice of a file as a plan has it, and a configuration with that identity."""
    config = configure().model_copy(update={"cache": CacheSettings(identity=identity)})
    found = input_hash(str(path)) if identity == "content" else stat_identity(file_info(str(path)))
    return replace(piece_of(path), identity=found), config


def rewrite(path, data):
    """Other bytes with the same size and time: what `stat` can't see."""
    facts = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_content_that_changes_between_plan_and_read_is_refused(tmp_path):
    path = save(tmp_path / "a.txt", b"one\ntwo\n")
    piece, config = planned(path, "content")
    assert [batch.table["text"].to_pylist() for batch in read_slice(piece, config)] == [["one\ntwo\n"]]
    rewrite(path, b"one\nTWO\n")
    with pytest.raises(InputError, match=r"a\.txt: changed after the build had begun: start it again") as error:
        list(read_slice(piece, config))
    assert "\n" not in str(error.value)
    rewrite(path, b"one\ntwo\n")
    assert len(list(read_slice(piece, config))) == 1  # the same content again


@pytest.mark.parametrize("identity", ["stat", "content"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, identity):
    """The times are set back; that of the inode's change can't be."""
    path = save(tmp_path / "a.txt", b"first\n" * 10_000)
    piece, config = planned(path, identity)
    batches = read_slice(piece, config, batch_bytes=1000)
    next(batches)
    rewrite(path, b"other\n" * 10_000)
    with pytest.raises(InputError, match="changed after the build had begun"):
        list(batches)


@pytest.mark.parametrize("identity", ["stat", "content"])
def test_a_file_that_disappears_is_one_line(tmp_path, identity):
    path = save(tmp_path / "a.txt", b"one\n")
    piece, config = planned(path, identity)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.txt: (changed after|can't read: no such file)"):
        list(read_slice(piece, config))


def test_slices_of_a_file_hash_it_once(tmp_path, monkeypatch):
    path = save(tmp_path / "a.txt", b"line\n" * 100)
    piece, config = planned(path, "content")
    hashed = []
    monkeypatch.setattr(reading, "input_hash", lambda path: hashed.append(path) or piece.identity)
    for start, end in ((0, 250), (250, 500)):
        list(read_slice(replace(piece, start=start, end=end, num_bytes=250), config))
    assert len(hashed) == 1
