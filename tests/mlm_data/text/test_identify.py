"""What a file is: bytes before names, content where neither says it, and settings that fit."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile

import lz4.frame
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mlm_data.config import BuildConfig, semantic
from mlm_data.errors import ConfigError, InputError
from mlm_data.settings import parse_settings
from mlm_data.text import compression
from mlm_data.text.formats import BY_EXTENSION, FORMATS
from mlm_data.text.inputs import find_files, group_by_reason


def configure(*inputs, **more):
    values = {"inputs": [item if isinstance(item, dict) else {"path": str(item)} for item in inputs]}
    return parse_settings(BuildConfig, {"output": "o", "tokenizer": {"train": {}}} | values | more, where="test")


def look(folder, name, data, **fields):
    """(file, warnings) of a single file."""
    (folder / name).write_bytes(data)
    (file,), warnings = find_files(configure({"path": str(folder / name)} | fields))
    return file, warnings


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


def tarred():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        item = tarfile.TarInfo("a.txt")
        item.size = 4
        archive.addfile(item, io.BytesIO(b"text"))
    return out.getvalue()


def saved(save, value):
    out = io.BytesIO()
    save(out, value)
    return out.getvalue()


def parquet():
    return saved(lambda out, rows: pq.write_table(rows, out), pa.table({"text": ["a"]}))


def database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (text)")
    connection.close()
    return path.read_bytes()


LINES = b"".join(json.dumps({"text": f"text {i}"}).encode() + b"\n" for i in range(12))
ARRAY = json.dumps([{"text": "a"}, {"text": "b"}]).encode()
PRETTY = json.dumps({"text": "a", "n": [1]}, indent=2).encode()
FASTA = b">sp|P69905|HBA_HUMAN\nMVLSPADKTNVKAAWGKVGAHAGEY\nGAEALERM\n"


# --- formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "expected", "why"),
    [
        ("a.jl", LINES, "jsonl", "by its name"),
        ("a.jsonlines", LINES, "jsonl", "by its name"),
        ("part-00000", LINES, "jsonl", "by its content: 12 of 12 lines are JSON objects"),
        ("part-00000.gz", gzip.compress(LINES), "jsonl", "by its content: 12 of 12 lines are JSON objects"),
        ("a.data", LINES.decode().encode("utf-16"), "jsonl", "by its content: 12 of 12 lines are JSON objects"),
        ("a.data", LINES + b"not json\n", "jsonl", "by its content: 12 of 13 lines are JSON objects"),
        ("a.data", b'{"text": "' + b"x" * 100_000 + b'"}\n', "jsonl", "by its content: 1 of 1 lines are JSON objects"),
        ("a.json", LINES, "jsonl", "by its content: 12 of 12 lines are JSON objects"),
        ("a.json", ARRAY, "json", "by its content: a JSON array"),
        ("a.json.gz", gzip.compress(ARRAY), "json", "by its content: a JSON array"),
        ("a.json", b"[]", "json", "by its content: a JSON array"),
        ("a.json", PRETTY, "json", "by its content: a JSON object over several lines"),
        ("a.json", b"broken", "jsonl", "by its name"),
        ("a.jsonl", ARRAY, "json", "by its content: a JSON array, though its name says jsonl"),
        ("a", ARRAY, "json", "by its content: a JSON array"),
        ("a", PRETTY, "json", "by its content: a JSON object over several lines"),
        ("a", b"{not} json\n{at} all\n", "text", "by its content: nothing but text"),
        ("a", b"[a note]\n", "text", "by its content: nothing but text"),
        ("a.csv", b"n,text\n1,a\n", "csv", "by its name"),
        ("a.tsv.zst", zstandard.compress(b"n\ttext\n"), "tsv", "by its name"),
        ("a.data", b"n,text\n1,a\n2,b\n", "text", "by its content: nothing but text"),
        ("a.faa", FASTA, "fasta", "by its name"),
        ("sequences", FASTA, "fasta", "by its content: records behind >"),
        ("mail", b"> quoted words\nan answer\n", "text", "by its content: nothing but text"),
        ("mail", b">quoted\nok\n", "text", "by its content: nothing but text"),
        ("a.txt", parquet(), "parquet", "by its first bytes, though its name says text"),
        ("a.parquet", parquet(), "parquet", "by its first bytes"),
        ("a.md", b"# Title\n", "text", "by its name"),
    ],
)
def test_formats_and_why(tmp_path, name, data, expected, why):
    file, warnings = look(tmp_path, name, data)
    assert (file.format, str(file.why)) == (expected, why)
    assert not warnings


def test_a_format_that_is_said_wins_over_name_and_content(tmp_path):
    file, _ = look(tmp_path, "a.jsonl", LINES, format="text")
    assert (file.format, str(file.why)) == ("text", "as `format:` says")
    assert look(tmp_path, "a.rtf", b"{\\rtf1 text}", format="text")[0].format == "text"


def test_lines_of_objects_under_the_name_of_a_text_are_warned_of(tmp_path):
    file, (warning,) = look(tmp_path, "a.txt", LINES)
    assert file.format == "text"
    assert warning == "a.txt: read as text, by its name, but its lines are JSON objects: set format: jsonl"


@pytest.mark.parametrize(
    ("name", "data", "fields", "problem"),
    [
        (
            "a.parquet",
            b"id,text\n",
            {},
            "its name says parquet, but its first bytes are none of a parquet file .id,text",
        ),
        ("a.arrow", b"\x01\x02", {}, r"its name says arrow, but its first bytes are none of a arrow file \(.*x01"),
        ("a", b"text", {"format": "parquet"}, "format: parquet is set, but its first bytes"),
        (
            "a",
            parquet(),
            {"format": "jsonl"},
            "format: jsonl is set, but .* those of a parquet file: set format: parquet",
        ),
        ("a.gz", gzip.compress(gzip.compress(LINES)), {}, "gzip around gzip: unpack it once"),
        ("a.gz", gzip.compress(parquet()), {}, "a parquet file can't be read through gzip: unpack it first"),
    ],
)
def test_names_and_settings_that_contradict_the_bytes(tmp_path, name, data, fields, problem):
    with pytest.raises(InputError, match=problem) as error:
        look(tmp_path, name, data, **fields)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


# --- compression ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", compression.CODECS)
def test_compressions_are_seen_by_their_bytes(tmp_path, codec):
    compress = {
        "gzip": gzip.compress,
        "zstd": zstandard.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
        "lz4": lz4.frame.compress,
    }[codec]
    for data in (LINES, b"", LINES * 10_000):
        assert compression.by_magic(compress(data)) == codec
        assert compression.decompressed_head(compress(data), codec, 100) == data[:100]
        two = compress(data[:50]) + compress(data[50:100])
        assert compression.decompressed_head(two, codec, 100) == data[:100]
    file, warnings = look(tmp_path, "a.txt", compress(b"plain text"))
    assert file.compression == codec
    assert file.compression_why == "by its first bytes"
    assert not warnings


@pytest.mark.parametrize("extension", ["gz", "zst", "bz2", "xz"])
def test_a_name_that_says_compressed_and_is_not(tmp_path, extension):
    file, (warning,) = look(tmp_path, f"a.jsonl.{extension}", LINES)
    assert (file.format, file.compression) == ("jsonl", "")
    assert "are not those of" in warning
    (group,) = group_by_reason([file])
    assert "though its name says so" in group.why


def test_another_compression_than_the_name_says(tmp_path):
    file, _ = look(tmp_path, "a.txt.gz", zstandard.compress(b"text"))
    assert (file.compression, file.compression_why) == ("zstd", "by its first bytes, though its name says gzip")


@pytest.mark.parametrize("codec", compression.CODECS)
def test_the_head_of_a_damaged_stream(codec):
    assert compression.decompressed_head(b"\x1f\x8b\x08 no stream", codec, 100) == b""


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.zip", zipped(**{"a.txt": b"text"}), r"a zip archive: unpack it first: unzip .*a\.zip"),
        ("a.txt", zipped(**{"a.txt": b"text"}), "a zip archive"),
        ("a.docx", zipped(**{"[Content_Types].xml": b"<x/>", "word__document.xml": b""}), "an office document.*pandoc"),
        ("a.epub", zipped(mimetype=b"application/epub+zip"), "an EPUB book.*pandoc"),
        ("a.pt", zipped(**{"archive__data.pkl": b""}), "a PyTorch checkpoint.*never loaded"),
        ("a.npz", saved(lambda out, x: np.savez(out, x=x), np.arange(3)), "a NumPy archive"),
        ("a.tar", tarred(), r"a tar archive: unpack it first: tar -xf .*a\.tar"),
        ("a.tar.gz", gzip.compress(tarred()), "gzip around a tar archive: unpack it first: tar -xf"),
        ("a.tgz", gzip.compress(tarred()), "gzip around a tar archive"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive: .*7z x"),
        ("a.rar", b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        ("a.lzma", lzma.compress(b"text", format=lzma.FORMAT_ALONE), "LZMA stream of the old kind"),
        ("a.Z", b"\x1f\x9d\x90text", "a file of `compress`"),
        ("a.pdf", b"%PDF-1.7\n", "a PDF: .*pdftotext"),
        ("a.txt", b"%PDF-1.7\n", "a PDF: .*pdftotext"),
        ("a.rtf", b"{\\rtf1\\ansi text}", "rich text .*pandoc"),
        (
            "a.arc.gz",
            gzip.compress(b"filedesc://a.arc 127.0.0.1 20140216050221 text/plain"),
            "gzip around a web archive",
        ),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old office document"),
        ("a.npy", saved(np.save, np.arange(3)), "a NumPy array"),
        ("a.pkl", pickle.dumps({"text": "a"}), "a pickle: a pickle can run any code and is never loaded"),
        ("a.pkl", pickle.dumps(["a"], protocol=2), "a pickle"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "an HDF5"),
        ("a.feather", b"FEA1\0\0\0\0", "a Feather file of version 1"),
        ("a.avro", b"Obj\x01\x04", "an Avro file"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "an image: leave it out of the glob"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "an image"),
        ("a.mp3", b"ID3\x03\0", "a sound file"),
        ("a.mp4", b"\0\0\0\x20ftypisom", "a video"),
        ("a.so", b"\x7fELF\x02", "a program"),
        ("a.safetensors", b'\x40\0\0\0\0\0\0\0{"a":', "a safetensors file"),
        ("a.bin", b"\0\1\2\3", "not a format that is known"),
    ],
)
def test_archives_and_binaries_say_what_to_do(tmp_path, name, data, problem):
    with pytest.raises(InputError, match=problem) as error:
        look(tmp_path, name, data)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_sqlite_says_how_to_export(tmp_path):
    with pytest.raises(InputError, match="an SQLite database: export it first: sqlite3 -csv"):
        look(tmp_path, "a.db", database(tmp_path / "made.db"))


@pytest.mark.parametrize(
    "text",
    ["MZ is a name.", "BZhang wrote this.", "BMW and others", "PARENTS", "PK is a code", "Obj1", "ID3 tags", "ORC",
     "II*", "FEA1 text", "I like the DUCK a lot, of all birds", "GIF", "RIFF", "WARC/1.0 is a format", "Rar!", "CDF"],
)  # fmt: skip
def test_words_that_begin_as_a_magic_does_are_text(tmp_path, text):
    assert look(tmp_path, "a", text.encode())[0].format == "text"


# --- encodings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text", ["Все счастливые семьи похожи. ", "All happy families, ", "幸福的家庭都是相似的，不幸的。"]
)
@pytest.mark.parametrize("name", ["a.txt", "a", "a.txt.gz"])
def test_wide_encodings_without_a_mark_are_named(tmp_path, encoding, text, name):
    data = (text * 50).encode(encoding)
    file, (warning,) = look(tmp_path, name, gzip.compress(data) if name.endswith("gz") else data)
    assert file.format == "text"
    assert warning == f"{name}: looks like {encoding} without a byte order mark: set encoding: {encoding}"
    assert not look(tmp_path, name, gzip.compress(data) if name.endswith("gz") else data, encoding=encoding)[1]


@pytest.mark.parametrize(
    "data",
    ["größe und ähnliches".encode("latin-1") * 20, "текст на русском".encode("cp1251") * 20, "漢字です。".encode() * 20,
     b"one \0 nul in a text of some length", "日本語".encode("utf-16"), "日本語".encode("shift_jis") * 9,
     "é".encode() * 40_000 + b"\xc3"],
)  # fmt: skip
def test_other_texts_are_not_taken_for_wide_ones(tmp_path, data):
    assert not look(tmp_path, "a.txt", data)[1]


@pytest.mark.parametrize(
    ("data", "name", "remedy"),
    [
        ("日本語の文章".encode("iso2022_jp"), "iso2022_jp", "set encoding: iso2022_jp"),
        ("한국어".encode("iso2022_kr"), "iso2022_kr", "iconv"),
        ("größe, ähnlich und übel".encode("utf-7"), "utf-7", "iconv"),
    ],
)
def test_encodings_that_pass_as_ascii_are_known_by_their_escapes(tmp_path, data, name, remedy):
    _, (warning,) = look(tmp_path, "a.txt", data)
    assert f"looks like {name} by its escapes" in warning
    assert remedy in warning


def test_plus_signs_of_programs_are_no_utf7(tmp_path):
    assert not look(tmp_path, "a.py", b"a+b-c +Foo- x+y- z+abc- i++; c+d-e \x1b[31mred\x1b[0m")[1]


@pytest.mark.parametrize(
    "text",
    [
        "a diff of +one +two +three +four +five lines",
        "+Sized +Clone +Copy +Send +Sync",
        "+1 +23 +456 +7890 +abc",
        "a +TAILCALL, +TAILCALL and +TAILCALL",
    ],
)
def test_runs_behind_plus_signs_must_be_whole_letters(tmp_path, text):
    """Of RFC 2152: base64 that ends in zeros, and stands for letters."""
    assert not look(tmp_path, "a.md", text.encode())[1]


def test_iso_2022_is_read_as_its_warning_says(tmp_path):
    data = "日本語\nの文章\n".encode("iso2022_jp")
    assert not look(tmp_path, "a.txt", data, encoding="iso2022_jp")[1]


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "fields", "setting"),
    [
        ("a.txt", b"text", {"text_field": "text"}, "text_field"),
        ("a.txt", b"text", {"id_field": "id"}, "id_field"),
        ("a.txt", b"text", {"keep_fields": ["url"]}, "keep_fields"),
        ("a.txt", b"text", {"delimiter": ","}, "delimiter"),
        ("a.jsonl", LINES, {"documents": "file"}, "documents"),
        ("a.jsonl", LINES, {"delimiter": ";"}, "delimiter"),
        ("a.json", ARRAY, {"documents": "line"}, "documents"),
        ("a.csv", b"text\n", {"documents": "line"}, "documents"),
        ("a.fa", FASTA, {"text_field": "text"}, "text_field"),
        ("a.parquet", parquet(), {"encoding": "utf-8"}, "encoding"),
        ("a.parquet", parquet(), {"documents": "file"}, "documents"),
    ],
)
def test_settings_that_a_format_has_not(tmp_path, name, data, fields, setting):
    kind = look(tmp_path, name, data)[0].format
    with pytest.raises(ConfigError, match=rf"inputs\.0: {setting} is set, but {kind} has no such setting: {name}"):
        look(tmp_path, name, data, **fields)


def test_of_several_formats_one_must_have_the_setting(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "b.jsonl").write_bytes(LINES)
    files, _ = find_files(configure({"path": f"{tmp_path}/*", "text_field": "text", "documents": "line"}))
    assert [file.format for file in files] == ["text", "jsonl"]
    with pytest.raises(ConfigError, match="delimiter is set, but text and jsonl has no such setting"):
        find_files(configure({"path": f"{tmp_path}/*", "delimiter": ","}))


def test_every_format_has_a_record_and_no_two_share_an_extension():
    from typing import get_args

    from mlm_data.config import InputSettings

    assert {"auto", *FORMATS} == set(get_args(InputSettings.model_fields["format"].annotation))
    assert sum(len(kind.extensions) for kind in FORMATS.values()) == len(BY_EXTENSION)
    for kind in FORMATS.values():
        assert kind.settings <= set(InputSettings.model_fields)


def test_new_settings_change_no_digest_unless_they_are_used():
    plain = semantic(configure("x"))
    assert "delimiter" not in plain["inputs"][0]
    assert semantic(configure({"path": "x", "delimiter": ";"}))["inputs"][0]["delimiter"] == ";"


# --- the plan ---------------------------------------------------------------------------------------------------


def test_the_plan_groups_files_by_reason(tmp_path):
    for i in range(20):
        (tmp_path / f"part-{i}").write_bytes(LINES)
        (tmp_path / f"b{i}.txt.gz").write_bytes(b"text")
    files, (warning,) = find_files(configure({"path": f"{tmp_path}/*"}))
    groups = group_by_reason(files)
    assert [(group.format, group.num_files) for group in groups] == [("jsonl", 20), ("text", 20)]
    assert groups[0].why == "by its content: 240 of 240 lines are JSON objects"
    assert groups[0].num_bytes == 20 * len(LINES)
    assert warning.startswith("b0.txt.gz, b1.txt.gz, b10.txt.gz and 17 more: its name says gzip")
