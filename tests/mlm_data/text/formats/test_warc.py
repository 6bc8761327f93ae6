"""WARC: pages and extracted texts are documents; what is broken costs itself alone."""

import gzip
import zlib
from collections import Counter
from dataclasses import replace

import lz4.frame
import pytest
import zstandard

from mlm_data.config import BuildConfig
from mlm_data.errors import ConfigError, InputError
from mlm_data.settings import parse_settings
from mlm_data.text import pages, streams
from mlm_data.text.formats import FORMATS
from mlm_data.text.formats import warc as warc_format
from mlm_data.text.inputs import find_files
from mlm_data.text.reading import read_slice
from mlm_data.types import Slice

BODY = b"<html><body><p>A page about %b, with a sentence that is long enough.</p></body></html>"


def record(kind, block, *, length=None, content_type=None, **fields):
    """One record of a WARC, whole unless its length is made wrong."""
    head = [b"WARC/1.0", b"WARC-Type: " + kind.encode()]
    content_type = content_type or ("application/http; msgtype=response" if kind == "response" else "text/plain")
    fields = {"content-type": content_type} | {name.replace("_", "-"): value for name, value in fields.items()}
    head += [f"{name}: {value}".encode() for name, value in fields.items()]
    head += [b"Content-Length: %d" % (len(block) if length is None else length), b"", b""]
    return b"\r\n".join(head) + block + b"\r\n\r\n"


def response(body, *, status=b"200 OK", content_type="text/html", more=b"", **fields):
    kind = f"Content-Type: {content_type}\r\n".encode() if content_type else b""
    return record("response", b"HTTP/1.1 " + status + b"\r\n" + kind + more + b"\r\n" + body, **fields)


def conversion(text, **fields):
    return record("conversion", text, **fields)


def read(path, *parts, compress=None, joined=False, batch_bytes=8 << 20, kind="warc", stored=None, **fields):
    """(documents as dictionaries, quarantined, counts, bytes read) of a file of these records."""
    data = b"".join(parts)
    packers = {None: bytes, "gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress}
    pack = packers[compress]
    path.write_bytes(stored if stored is not None else pack(data) if joined else b"".join(map(pack, parts)))
    values = {"inputs": [{"path": "x", "extract": "none"} | fields], "output": "o", "tokenizer": {"train": {}}}
    config = parse_settings(BuildConfig, values, where="test")
    size = path.stat().st_size
    piece = Slice(
        input=0, source="s", path=str(path), format=kind, compression=compress or "", start=0, end=size,
        num_bytes=size, identity="",
    )  # fmt: skip
    rows, bad, counts, num_bytes = [], [], Counter(), 0
    for batch in read_slice(piece, config, batch_bytes=batch_bytes):
        batch.table.validate(full=True)
        rows += batch.table.to_pylist()
        bad += batch.quarantined
        counts.update(batch.counts)
        num_bytes += batch.num_bytes_read
    return rows, bad, dict(counts), num_bytes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def texts(found):
    return [row["text"] for row in found[0]]


def reasons(found):
    return [(item.offset, item.reason) for item in found[1]]


ARCHIVE = (
    record("warcinfo", b"software: test\r\n", content_type="application/warc-fields"),
    record("request", b"GET / HTTP/1.1\r\n\r\n", content_type="application/http; msgtype=request"),
    response(BODY % b"one", warc_target_uri="https://Example.org:80/one", warc_date="2024-05-18T01:58:10Z"),
    response(b"\x89PNG\r\n\x1a\n", content_type="image/png"),
    response(BODY % b"nothing", status=b"404 Not Found"),
    conversion(b"two\r\nlines", warc_record_id="<urn:uuid:1>", warc_target_uri="<http://[bad/>"),
    record("resource", BODY % b"three", content_type="text/html; charset=utf-8"),
    record("metadata", b"a: b", content_type="application/warc-fields"),
    record("revisit", b"", content_type="application/http; msgtype=response"),
    response(BODY % b"four", content_type=None),
    response(b"who knows", content_type=None),
    conversion(b"a part", warc_segment_number="1"),
)  # fmt: skip
DOCUMENTS = {
    2: (BODY % b"one").decode(),
    5: "two\r\nlines",
    6: (BODY % b"three").decode(),
    9: (BODY % b"four").decode(),
}
SKIPPED = {
    "warcinfo": 1, "request": 1, "image/png": 1, "status 404": 1, "metadata": 1, "revisit": 1, "unknown": 1,
    "segment": 1,
}  # fmt: skip


def offset_of(parts, i):
    return sum(map(len, parts[:i]))


@pytest.mark.parametrize("batch_bytes", [1, 8 << 20])
@pytest.mark.parametrize(
    ("compress", "joined"), [(None, True), ("gzip", False), ("gzip", True), ("zstd", False), ("lz4", False)]
)
def test_pages_and_texts_are_documents_and_the_rest_is_counted(path, compress, joined, batch_bytes):
    fields = {"id_field": "url", "keep_fields": ["host", "date", "content_type", "status", "record_id"]}
    found = read(path, *ARCHIVE, compress=compress, joined=joined, batch_bytes=batch_bytes, **fields)
    rows, bad, counts, num_bytes = found
    assert num_bytes == sum(map(len, ARCHIVE))
    assert not bad
    assert [(row["offset"], row["text"]) for row in rows] == [
        (offset_of(ARCHIVE, i), text) for i, text in DOCUMENTS.items()
    ]
    assert counts == {f"skipped.{kind}": number for kind, number in SKIPPED.items()}
    columns = [
        {name.removeprefix("keep."): row[name] for name in row if name not in ("text", "offset")} for row in rows
    ]
    assert columns == [
        {"id_field": "https://Example.org:80/one", "host": "example.org", "date": "2024-05-18T01:58:10Z",
         "content_type": "text/html", "status": "200", "record_id": None},
        {"id_field": "http://[bad/", "host": None, "date": None, "content_type": "text/plain", "status": None,
         "record_id": "urn:uuid:1"},
        {"id_field": None, "host": None, "date": None, "content_type": "text/html", "status": None, "record_id": None},
        {"id_field": None, "host": None, "date": None, "content_type": None, "status": "200", "record_id": None},
    ]  # fmt: skip


def test_the_kinds_that_are_told_apart_are_bounded(path, monkeypatch):
    monkeypatch.setattr(warc_format, "MAX_KINDS", 2)
    found = read(path, *(response(b"x", content_type=f"image/{kind}") for kind in "abca"))
    assert found[2] == {"skipped.image/a": 2, "skipped.image/b": 1, "skipped.other": 1}


def test_line_feeds_alone_and_folded_fields(path):
    data = b"WARC/0.18\nWARC-Type: conversion\nContent-Type:\n text/plain\nContent-Length: 5\n\nHello\n\nWARC/1.1\n"
    data += b"warc-type: conversion\ncontent-length: 5\n\nWorld"
    assert texts(read(path, data)) == ["Hello", "World"]


# --- HTTP -------------------------------------------------------------------------------------------------------


def chunked(*parts, end=b"0\r\n\r\n"):
    return b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in parts) + end


def deflate(data, wbits):
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


PAGE = BODY % b"HTTP"
CHUNKED, GZIP = b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n"


def brotli(data):
    import pyarrow as pa

    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "brotli") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("more", "body", "expected"),
    [
        (CHUNKED, chunked(PAGE[:7], PAGE[7:]), PAGE),
        (CHUNKED, chunked(PAGE[:7], PAGE[7:], end=b""), PAGE),
        (CHUNKED, PAGE, PAGE),  # decoded by who archived it
        (CHUNKED, chunked(PAGE[:7]).replace(b"0\r\n\r\n", b"no size\r\nrest"), PAGE[:7]),
        (CHUNKED, b"fffffff\r\n" + PAGE, PAGE),
        (GZIP, gzip.compress(PAGE), PAGE),
        (GZIP, gzip.compress(PAGE[:9]) + gzip.compress(PAGE[9:]), PAGE),
        (GZIP, PAGE, PAGE),  # unpacked by who archived it
        (GZIP, gzip.compress(PAGE)[:-10], None),  # a part
        (GZIP + CHUNKED, chunked(gzip.compress(PAGE)), PAGE),
        (b"Content-Encoding: deflate\r\n", deflate(PAGE, 15), PAGE),
        (b"Content-Encoding: deflate\r\n", deflate(PAGE, -15), PAGE),
        (b"Content-Encoding: br\r\n", brotli(PAGE), PAGE),
        (b"Content-Encoding: zstd\r\n", zstandard.compress(PAGE), PAGE),
        (b"Content-Encoding: identity, br , GZIP\r\n", gzip.compress(brotli(PAGE)), PAGE),
    ],
)  # fmt: skip
def test_bodies_are_decoded(path, more, body, expected):
    (text,) = texts(read(path, response(body, more=more)))
    assert text.encode() == expected if expected else PAGE.startswith(text.encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (response(PAGE, more=b"Content-Encoding: compress\r\n"), "bad_warc"),
        (response(PAGE, more=b"Content-Encoding: gzip,gzip,gzip,gzip\r\n"), "bad_warc"),
        (record("response", b"<html>no status line"), "bad_warc"),
        (response(b"%PDF-1.7 and more"), "not_text"),
        (response(b"<html>" + b"\0\1\2" * 99), "not_text"),
    ],
)
def test_records_that_are_no_pages(path, data, reason):
    found = read(path, conversion(b"before"), data, conversion(b"after"))
    assert texts(found) == ["before", "after"]
    assert reasons(found) == [(len(conversion(b"before")), reason)]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_too_large(path, monkeypatch, coding):
    monkeypatch.setattr(warc_format, "MAX_PAGE_BYTES", 1 << 20)
    zeros = bytes(1 << 26)
    bomb = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli, "zstd": zstandard.compress}[coding](zeros)
    assert len(bomb) < 1 << 17
    found = read(path, response(bomb, more=f"Content-Encoding: {coding}\r\n".encode()), conversion(b"after"))
    assert texts(found) == ["after"]
    assert reasons(found) == [(0, "too_large")]


# --- damage -----------------------------------------------------------------------------------------------------

ONE, TWO, THREE = conversion(b"first" * 9), conversion(b"second" * 99), conversion(b"third")


def test_garbage_between_records(path):
    found = read(path, ONE, b"garbage\r\nmore of it\r\n", THREE, b"at the end")
    assert texts(found) == ["first" * 9, "third"]
    assert reasons(found) == [(len(ONE), "bad_warc"), (len(ONE + THREE) + 21, "bad_warc")]
    assert [item.num_bytes for item in found[1]] == [21, 10]
    assert found[3] == path.stat().st_size


@pytest.mark.parametrize("length", [len(b"second" * 99) + 50, 10**12])
def test_a_length_that_is_too_long_costs_its_record_alone(path, length):
    found = read(path, ONE, conversion(b"second" * 99, length=length), THREE)
    assert texts(found) == ["first" * 9, "third"]
    assert reasons(found) == [(len(ONE), "bad_warc")]
    assert "the next record begins before" in found[1][0].detail


def test_a_length_that_is_too_short_loses_the_rest(path):
    found = read(path, ONE, conversion(b"second" * 99, length=6), THREE)
    assert texts(found) == ["first" * 9, "second", "third"]
    assert [item.reason for item in found[1]] == ["bad_warc"]
    assert found[1][0].num_bytes == 6 * 98 + 4


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 30])
def test_a_length_that_is_none(path, length):
    bad = TWO.replace(b"Content-Length: 594", b"Content-Length: " + length.encode())
    found = read(path, ONE, bad, THREE)
    assert texts(found) == ["first" * 9, "third"]
    assert reasons(found) == [(len(ONE), "bad_warc")]


def test_fields_without_end(path):
    endless = b"WARC/1.0\r\n" + b"X: y\r\n" * 20_000
    found = read(path, ONE, endless, THREE)
    assert texts(found) == ["first" * 9, "third"]
    assert reasons(found) == [(len(ONE), "bad_warc")]


def test_a_record_that_is_too_large_is_passed_over(path, monkeypatch):
    monkeypatch.setattr(warc_format, "MAX_PAGE_BYTES", 500)
    found = read(path, ONE, TWO, THREE)
    assert texts(found) == ["first" * 9, "third"]
    assert reasons(found) == [(len(ONE), "too_large")]


def test_an_archive_in_an_archive_stays_one(path):
    inner = record("resource", ONE + TWO, content_type="application/warc")
    found = read(path, inner, THREE)
    assert texts(found) == ["third"]
    assert found[2] == {"skipped.application/warc": 1}


@pytest.mark.parametrize("end", [1, 40, 70, len(TWO) - 30, len(TWO) - 4])
def test_a_file_that_is_cut(path, end):
    found = read(path, ONE, TWO[:end])
    assert texts(found) == ["first" * 9] + (["second" * 99] if end == len(TWO) - 4 else [])
    assert found[3] == len(ONE) + end
    if end < len(TWO) - 4:
        (item,) = found[1]
        assert (item.offset, item.reason) == (len(ONE), "truncated" if end > 10 else "bad_warc")
        if end == len(TWO) - 30:
            assert item.lost_bytes == 26


@pytest.mark.parametrize("compress", ["gzip", "zstd", "lz4"])
def test_a_compressed_file_that_is_cut(path, compress):
    whole = {"gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress}[compress]
    noise = conversion("".join(chr(33 + i * i % 90) for i in range(5000)).encode())
    stored = whole(ONE) + whole(noise)[:-60]
    found = read(path, stored=stored, compress=compress)
    assert texts(found) == ["first" * 9]
    ((offset, reason),) = reasons(found)
    assert (offset, reason) == (len(ONE), "truncated")


@pytest.mark.parametrize("compress", ["gzip", "zstd", "lz4"])
@pytest.mark.parametrize("damage", ["middle", "head", "between"])
def test_a_damaged_member_costs_itself_alone(path, compress, damage):
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
            "lz4": lambda data: lz4.frame.compress(data, content_checksum=True)}[compress]  # fmt: skip
    parts = [pack(conversion(b"%d " % i * 400 + bytes(range(33, 120)))) for i in range(6)]
    broken = bytearray(parts[2])
    if damage == "between":
        parts[2] = b"no member" * 5
    else:
        place = len(broken) // 2 if damage == "middle" else 3 if compress == "zstd" else 11
        broken[place : place + 3] = bytes(c ^ 0xFF for c in broken[place : place + 3])
        parts[2] = bytes(broken)
    found = read(path, stored=b"".join(parts), compress=compress)
    assert [text.split()[0] for text in texts(found)] == ["0", "1", "3", "4", "5"]
    assert {item.reason for item in found[1]} == {"bad_warc"}
    assert "read on at the next record" in found[1][-1].detail


def test_members_in_members_cost_no_more_than_the_file_twice(path, monkeypatch):
    """Each begins as a record does, holds the beginnings of those behind it, and breaks off 64 KiB later."""
    head = gzip.compress(b"", mtime=0)[:10] + b"\0\xff\xff\0\0WARC/1.0\r\n"
    fed = []
    codec = streams.CODECS["gzip"]

    class Decoder:
        def __init__(self):
            self._inner = codec.decoder()

        def decompress(self, data):
            fed.append(len(data))
            return self._inner.decompress(data)

        def __getattr__(self, name):
            return getattr(self._inner, name)

    monkeypatch.setitem(streams.CODECS, "gzip", replace(codec, decoder=Decoder))
    monkeypatch.setattr(streams, "MAX_BREAKS", 100)
    stored = head * 20_000
    found = read(path, stored=stored, compress="gzip")
    assert not found[0]
    assert [item.reason for item in found[1]][-1] == "truncated"
    assert sum(fed) < 4 * len(stored)


# --- what is refused --------------------------------------------------------------------------------------------


def find(path, **fields):
    values = {"inputs": [{"path": str(path)} | fields], "output": "o", "tokenizer": {"train": {}}}
    (file,), _ = find_files(parse_settings(BuildConfig, values, where="test"))
    return file


def test_archives_are_known_by_their_bytes_and_names(tmp_path):
    for name, data, why in [
        ("a", ONE, "by its first bytes"),
        ("a.txt", ONE, "by its first bytes, though its name says text"),
        ("a.warc.wet.gz", gzip.compress(ONE), "by its first bytes"),
        ("a.warc", b"damaged " + ONE, "by its name"),
    ]:
        (tmp_path / name).write_bytes(data)
        file = find(tmp_path / name)
        assert (file.format, str(file.why), file.can_split) == ("warc", why, False)


def test_a_wat_is_refused(tmp_path):
    data = record("warcinfo", b"a: b") + record("metadata", b"{}", content_type="application/json")
    (tmp_path / "a.warc.wat.gz").write_bytes(gzip.compress(data))
    with pytest.raises(InputError, match=r"a WAT file, .* take the WARC or the WET file"):
        find(tmp_path / "a.warc.wat.gz")


def test_fields_that_no_record_has(tmp_path):
    (tmp_path / "a.warc").write_bytes(ONE)
    with pytest.raises(ConfigError, match="no field 'uri': did you mean 'url'"):
        find(tmp_path / "a.warc", id_field="uri")
    with pytest.raises(ConfigError, match="encoding is set, but warc has no such setting"):
        find(tmp_path / "a.warc", encoding="latin-1")


@pytest.mark.parametrize(("missing", "extra"), [("resiliparse", "web"), ("trafilatura", "trafilatura")])
def test_a_package_that_is_missing_is_said_at_once(monkeypatch, missing, extra):
    from mlm_data.text import extract

    monkeypatch.setattr(extract.importlib.util, "find_spec", lambda name: None)
    settings = parse_settings(BuildConfig, {"inputs": [{"path": "x", "extract": missing}], "output": "o",
                                            "tokenizer": {"train": {}}}, where="test").inputs[0]  # fmt: skip
    with pytest.raises(ConfigError, match=rf"pip install 'premask\[{extra}\]'"):
        FORMATS["warc"].check_head(b"", settings, "a")


def test_identity_names_the_versions():
    settings = parse_settings(BuildConfig, {"inputs": [{"path": "x"}], "output": "o", "tokenizer": {"train": {}}},
                              where="test").inputs[0]  # fmt: skip
    assert "resiliparse 2." in pages.identity(settings)
    assert "chardet 7." in pages.identity(settings)


# --- real archives ----------------------------------------------------------------------------------------------


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "documents", "skipped", "bad"),
    [
        ("cc_net/sample.warc.txt", 3, {}, ["bad_warc"] * 4),  # made by hand, with lengths that are not true
        ("commoncrawl_whirlwind/whirlwind.warc", 1, {"warcinfo": 1, "request": 1, "metadata": 1}, []),
        ("commoncrawl_whirlwind/whirlwind.warc.gz", 1, {"warcinfo": 1, "request": 1, "metadata": 1}, []),
        ("commoncrawl_whirlwind/whirlwind.warc.wet", 1, {"warcinfo": 1}, []),
        ("commoncrawl_whirlwind/whirlwind.warc.wet.gz", 1, {"warcinfo": 1}, []),
        ("dolma/sample-0000.warc.gz", 22, {"warcinfo": 1, "request": 22, "metadata": 1, "text/plain": 2}, []),
        ("dolma/sample-0001.warc.gz", 15, {"warcinfo": 1, "request": 15, "metadata": 1, "text/plain": 2}, []),
        ("resiliparse/block-sized-records.warc", 0, {"unknown": 3}, []),
        ("resiliparse/block-sized-records.warc.gz", 0, {"unknown": 3}, []),
        ("resiliparse/block-sized-records.warc.lz4", 0, {"unknown": 3}, []),
        ("resiliparse/clipped.warc.gz", 0, {}, ["truncated"]),
        ("resiliparse/clueweb-quirk.warc.gz", 29, {"warcinfo": 1}, []),
        ("resiliparse/warcfile.warc", 16, {"warcinfo": 1, "request": 17, "metadata": 16}, []),
        ("resiliparse/warcfile.warc.gz", 16, {"warcinfo": 1, "request": 17, "metadata": 16}, []),
        ("resiliparse/warcfile.warc.lz4", 16, {"warcinfo": 1, "request": 17, "metadata": 16}, []),
        ("warcio/example-bad-non-chunked.warc.gz", 1, {"warcinfo": 2, "request": 2, "revisit": 1}, []),
        ("warcio/example-bad.warc.gz.bad", 1, {"warcinfo": 1, "request": 2, "revisit": 1, "status 302": 1}, []),
        ("warcio/example-digest.warc", 0, {"request": 4}, []),
        ("warcio/example-iana.org-chunked.warc", 1, {"warcinfo": 1, "request": 1}, []),
        ("warcio/example-resource.warc.gz", 1, {"warcinfo": 2}, []),
        ("warcio/example-space-in-target-uri.warc.gz", 0, {"warcinfo": 1, "image/png": 1}, []),
        ("warcio/example-trunc.warc", 1, {"warcinfo": 2, "request": 1}, ["bad_warc"]),
        ("warcio/example-wget-bad-target-uri.warc.gz", 1,
         {"warcinfo": 1, "request": 1, "metadata": 1, "text/plain": 2}, []),
        ("warcio/example-wrong-chunks.warc.gz", 1, {"request": 1}, []),
        ("warcio/example.warc", 1, {"warcinfo": 2, "request": 2, "revisit": 1}, []),
        ("warcio/example.warc.gz", 1, {"warcinfo": 2, "request": 2, "revisit": 1}, []),
        ("warcio/post-test.warc.gz", 0, {"application/json": 3, "request": 3}, []),
    ],
)  # fmt: skip
def test_real_archives(corpora, path, name, documents, skipped, bad):
    source = corpora / "web_warc" / name
    file = find(source)
    found = read(path, stored=source.read_bytes(), compress=file.compression or None)
    assert len(found[0]) == documents
    assert found[2] == {f"skipped.{kind}": number for kind, number in skipped.items()}
    assert [item.reason for item in found[1]] == bad


@pytest.mark.corpora
@pytest.mark.parametrize(
    "name", ["resiliparse/warcfile.warc.gz", "dolma/sample-0000.warc.gz", "warcio/example.warc.gz"]
)
def test_bodies_equal_those_of_fastwarc(corpora, path, name):
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    source = corpora / "web_warc" / name
    theirs = []
    with source.open("rb") as stream:
        for item in ArchiveIterator(stream, record_types=WarcRecordType.response, auto_decode="all"):
            if item.http_content_type == "text/html":
                theirs.append((item.record_id, item.reader.read()))
    from mlm_data.text.streams import ByteStream
    from mlm_data.text.warc import read_records

    piece = Slice(input=0, source="s", path=str(source), format="warc", compression="gzip", start=0,
                  end=source.stat().st_size, num_bytes=0, identity="")  # fmt: skip
    ours = []
    with ByteStream(piece) as stream:
        for item in read_records(stream, max_bytes=1 << 26):
            try:
                page, columns = warc_format._page(item)
            except warc_format._NoDocument:
                continue
            ours.append((f"<{columns['record_id']}>", page.data))
    assert ours == theirs
