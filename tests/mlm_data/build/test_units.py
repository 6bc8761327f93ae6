"""Which files are found, what they are, and how units stay as they are when files come and go."""

import bz2
import gzip
import lzma
import os
import tempfile
import types
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.build.units import group_files, plan_units
from mlm_data.config import BuildConfig
from mlm_data.errors import ConfigError, InputError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import open_input
from mlm_data.text.identify import InputFile
from mlm_data.text.inputs import find_files
from mlm_data.types import Unit


def configure(*inputs, **more):
    values = {"inputs": [{"path": str(item)} if not isinstance(item, dict) else item for item in inputs]}
    return parse_settings(BuildConfig, {"output": "o", "tokenizer": {"train": {}}} | values | more, where="test")


def write(folder, **files):
    for name, data in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def make(folder, names, data=b"text\n"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def sources(config):
    return [file.source for file in find_files(config)[0]]


TREE = ["a.md", "b.txt", "x/c.md", "x/y/d.md", "x/y/.e.md", ".git/f.md", "x/g[1].md", "z1/h.md", "z2/h.md"]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.md", ["a.md"]),
        ("*", ["a.md", "b.txt"]),
        ("**/*.md", ["a.md", "x/c.md", "x/g[1].md", "x/y/d.md", "z1/h.md", "z2/h.md"]),
        ("**", ["a.md", "b.txt", "x/c.md", "x/g[1].md", "x/y/d.md", "z1/h.md", "z2/h.md"]),
        ("x/**", ["c.md", "g[1].md", "y/d.md"]),
        ("x/*.md", ["c.md", "g[1].md"]),
        ("z?/h.md", ["z1/h.md", "z2/h.md"]),
        ("z[!1]/*", ["z2/h.md"]),
        ("*/**/*.md", ["x/c.md", "x/g[1].md", "x/y/d.md", "z1/h.md", "z2/h.md"]),
        ("**/y/*", ["x/y/d.md"]),
        ("x/g[1].md", ["g[1].md"]),
        ("x/y/.e.md", [".e.md"]),
        (".git/*", ["f.md"]),
    ],
)
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_globs(tmp_path, glob, expected, prefix):
    make(tmp_path, TREE)
    assert sources(configure(f"{prefix}{tmp_path}/{glob}")) == expected


@pytest.mark.parametrize("glob", ["**/*.md", "**", "x/**", "z?/h.md", "*/**/*.md", "x/*.md"])
def test_globs_in_a_bucket(tmp_path, glob, monkeypatch):
    """A file system that is not local is listed in another way, and must give the same."""
    make(tmp_path, TREE)
    here = find_files(configure(f"{tmp_path}/{glob}"))[0]
    bucket = pyarrow.fs.SubTreeFileSystem(str(tmp_path.parent), pyarrow.fs.LocalFileSystem())

    def from_uri(uri):
        return bucket, unquote(uri.removeprefix("hdfs://"))

    fake = types.SimpleNamespace(**{**vars(pyarrow.fs), "FileSystem": types.SimpleNamespace(from_uri=from_uri)})
    monkeypatch.setattr(pyarrow, "fs", fake)
    there = find_files(configure(f"hdfs://{tmp_path.name}/{glob}"))[0]
    assert [file.source for file in there] == [file.source for file in here]
    assert [file.identity for file in there] == [file.identity for file in here]
    assert there[0].path.startswith(f"hdfs://{tmp_path.name}/")


def test_links_to_folders_do_not_loop(tmp_path):
    make(tmp_path, ["a/b.md"])
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert sources(configure(tmp_path / "**")) == ["a/b.md"]
    assert sources(configure(tmp_path / "a/*/a/b.md")) == ["loop/a/b.md"]


def test_odd_names_work_as_uris(tmp_path):
    make(tmp_path, ["a b/\u00e4%20#1.md"])
    (file,) = find_files(configure(f"file://{tmp_path}/a b/*"))[0]
    assert file.source == "\u00e4%20#1.md"
    with open_input(file.path) as stream:
        assert stream.read() == b"text\n"


def test_names_that_are_no_utf8(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.md"), "wb") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="a name in that folder is not UTF-8"):
        find_files(configure(tmp_path / "*"))


def test_a_name_goes_before_the_source(tmp_path):
    make(tmp_path, ["one/a.md", "two/a.md"])
    both = configure({"path": f"{tmp_path}/one/*", "name": "first"}, {"path": f"{tmp_path}/two/*"})
    assert sources(both) == ["a.md", "first/a.md"]


def test_one_source_from_two_files_asks_for_a_name(tmp_path):
    make(tmp_path, ["one/a.md", "two/a.md"])
    with pytest.raises(ConfigError, match=r"inputs\.1: .*two/a\.md and .*one/a\.md .* a `name:`"):
        find_files(configure(tmp_path / "one/*", tmp_path / "two/*"))


def test_one_file_matched_twice_is_read_once(tmp_path):
    make(tmp_path, ["a.md"])
    files, warnings = find_files(configure(tmp_path / "*.md", tmp_path / "**/*.md"))
    assert [file.input for file in files] == [0]
    assert warnings == ["a.md: matched by inputs.0 and inputs.1; read once, as the former"]


def test_no_match_says_so(tmp_path):
    for glob, problem in (("*.md", "no file matches"), ("a.md", "no such file"), ("no/*.md", "no file matches")):
        with pytest.raises(InputError, match=problem) as error:
            plan_units(configure(tmp_path / glob))
        assert "\n" not in str(error.value)
        assert str(tmp_path) in str(error.value)


def test_a_folder_says_how_to_read_it(tmp_path):
    with pytest.raises(InputError, match=r"is a folder: write .*/\*\*"):
        plan_units(configure(tmp_path))


def table():
    return pa.table({"text": [f"row {i}" for i in range(100)]})


def arrow_bytes(kind):
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=25)
    return sink.getvalue().to_pybytes()


def parquet_bytes(**options):
    sink = pa.BufferOutputStream()
    pq.write_table(table(), sink, **options)
    return sink.getvalue().to_pybytes()


TEXT = b"some text\n"


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", TEXT, ("text", "")),
        ("a.MD", TEXT, ("text", "")),
        ("a.unknown", TEXT, ("text", "")),
        ("README", TEXT, ("text", "")),
        ("a", "text".encode("utf-16"), ("text", "")),
        ("a.jsonl", TEXT, ("jsonl", "")),
        # Names of cases hold their bytes, and all processes of a test run must find the same names: no time of day.
        ("a.ndjson.gz", gzip.compress(TEXT, mtime=0), ("jsonl", "gzip")),
        ("a.json.zst", zstandard.compress(TEXT), ("jsonl", "zstd")),
        ("a.md.bz2", bz2.compress(TEXT), ("text", "bzip2")),
        ("a.xz", lzma.compress(TEXT), ("text", "xz")),
        ("a.txt", gzip.compress(TEXT, mtime=0), ("text", "gzip")),
        ("a", b"\x50\x2a\x4d\x18\0\0\0\0" + zstandard.compress(TEXT), ("text", "zstd")),
        ("a.txt.gz", TEXT, ("text", "")),
        ("a.parquet", parquet_bytes(), ("parquet", "")),
        ("part-0", parquet_bytes(), ("parquet", "")),
        ("a.arrow", arrow_bytes("file"), ("arrow", "")),
        ("a.feather", arrow_bytes("file"), ("arrow", "")),
        ("a", arrow_bytes("file"), ("arrow", "")),
        ("a", arrow_bytes("stream"), ("arrow", "")),
    ],
)
def test_formats_by_name_and_by_first_bytes(tmp_path, name, data, expected):
    make(tmp_path, [name], data)
    (file,) = find_files(configure(tmp_path / "*"))[0]
    assert (file.format, file.compression) == expected
    assert file.num_bytes == len(data)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.bin", b"\0\1\2", "not a format that is known"),
        ("a.parquet", b"PAR1 but no more", "can't read this parquet file"),
        ("a.arrow", b"ARROW1 but no more", "can't read this arrow file"),
        ("a.parquet.gz", gzip.compress(parquet_bytes(), mtime=0), "unpack it first"),
    ],
)
def test_files_that_can_not_be_read(tmp_path, name, data, problem):
    make(tmp_path, [name], data)
    with pytest.raises(InputError, match=problem) as error:
        find_files(configure(tmp_path / "*"))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_wrong_text_field_is_found_before_reading(tmp_path):
    make(tmp_path, ["a.parquet"], parquet_bytes())
    with pytest.raises(InputError, match="no column 'texts' for the text: did you mean 'text'"):
        find_files(configure({"path": f"{tmp_path}/*", "text_field": "texts"}))


def test_a_format_can_be_said(tmp_path):
    make(tmp_path, ["a.log"], b'{"text": "x"}\n')
    assert find_files(configure({"path": f"{tmp_path}/*", "format": "jsonl"}))[0][0].format == "jsonl"


@pytest.fixture
def nobody():
    """Root may read everything: be somebody else for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_no_permission(nobody):
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), ["a.md"])
        (Path(folder) / "a.md").chmod(0)
        with pytest.raises(InputError, match=r"a\.md: can't read: permission denied"):
            plan_units(configure(f"{folder}/*"))


def test_encodings_and_fields_are_checked(tmp_path):
    make(tmp_path, ["a.md"])
    with pytest.raises(ConfigError, match="encoding 'latin-11' is unknown"):
        find_files(configure({"path": f"{tmp_path}/*", "encoding": "latin-11"}))
    with pytest.raises(ConfigError, match="id_field is set, but text has no such setting: a"):
        find_files(configure({"path": f"{tmp_path}/*", "format": "text", "id_field": "url"}))


def test_empty_files_are_named_and_left_out(tmp_path):
    make(tmp_path, ["a.md"])
    make(tmp_path, ["b.md", "c.jsonl", "d.txt", "e.parquet"], b"")
    plan = plan_units(configure(tmp_path / "*"))
    assert [piece.source for unit in plan.units for piece in unit.slices] == ["a.md"]
    assert plan.warnings == ("4 empty files skipped: b.md, c.jsonl, d.txt and 1 more",)
    assert len(plan.files) == 5


def test_only_empty_files_are_an_error(tmp_path):
    make(tmp_path, ["a.md", "b.md"], b"")
    with pytest.raises(InputError, match=r"nothing to read: a\.md, b\.md are empty"):
        plan_units(configure(tmp_path / "*"))


def test_identity_follows_the_file_or_its_bytes(tmp_path):
    make(tmp_path, ["a.md"])
    path = tmp_path / "a.md"

    def identity(kind):
        return plan_units(configure(path, cache={"identity": kind})).units[0].slices[0].identity

    by_stat, by_content = identity("stat"), identity("content")
    os.utime(path, ns=(1, 1))
    assert identity("stat") != by_stat
    assert identity("content") == by_content
    path.write_bytes(b"TEXT\n")
    assert identity("content") != by_content


def test_large_files_are_cut_and_the_pieces_cover_them(tmp_path):
    write(tmp_path, **{"a.jsonl": b"x" * 10_400, "b.md": b"x" * 5000, "c.md": b"x" * 900, "d.md": gzip.compress(b"")})
    plan = plan_units(configure({"path": f"{tmp_path}/*", "documents": "paragraph"}, unit_bytes=1024))
    pieces = [piece for unit in plan.units for piece in unit.slices]
    assert [(piece.start, piece.end) for piece in pieces if piece.source == "b.md"] == [
        *[(start, start + 1024) for start in range(0, 4096, 1024)],
        (4096, 5000),
    ]
    ends = [piece.end for piece in pieces if piece.source == "a.jsonl"]
    assert ends == [*range(1024, 9217, 1024), 10_400]  # the last 160 bytes go with the piece before
    assert sum(piece.num_bytes for piece in pieces) == plan.num_bytes == sum(unit.num_bytes for unit in plan.units)


def test_what_can_not_be_cut_stays_whole(tmp_path):
    write(tmp_path, **{"a.md": b"x" * 5000, "b.jsonl.gz": gzip.compress(os.urandom(5000))})
    write(tmp_path, **{"c.jsonl": "x".encode("utf-16") * 2000})
    plan = plan_units(configure(tmp_path / "*", unit_bytes=1024))
    assert [[piece.source for piece in unit.slices] for unit in plan.units] == [["a.md"], ["b.jsonl.gz"], ["c.jsonl"]]


def test_tables_are_cut_by_row_group_and_record_batch(tmp_path):
    write(tmp_path, **{"a.parquet": parquet_bytes(row_group_size=20), "b.arrow": arrow_bytes("file")})
    write(tmp_path, **{"c.arrow": arrow_bytes("stream")})
    plan = plan_units(configure(tmp_path / "*", unit_bytes=1024))
    pieces = [(piece.source, piece.start, piece.end) for unit in plan.units for piece in unit.slices]
    assert [p for p in pieces if p[0] == "a.parquet"] == [("a.parquet", 0, 3), ("a.parquet", 3, 5)]
    assert [p[2] for p in pieces if p[0] == "b.arrow"][-1] == 4
    assert [p for p in pieces if p[0] == "c.arrow"] == [("c.arrow", 0, 1)]
    assert sum(unit.num_bytes for unit in plan.units) == plan.num_bytes


def test_plans_do_not_depend_on_the_place(tmp_path):
    for place in ("one", "two"):
        make(tmp_path / place, [f"{i}.md" for i in range(50)], b"x" * 100)
    one, two = (plan_units(configure(tmp_path / place / "*", unit_bytes=1024)) for place in ("one", "two"))
    assert [[p.source for p in u.slices] for u in one.units] == [[p.source for p in u.slices] for u in two.units]
    assert [unit.index for unit in one.units] == list(range(len(one.units)))
    assert len(one.units) > 3
    assert Unit.from_dict(one.units[0].to_dict()) == one.units[0]


def test_an_earlier_plan_fixes_units(tmp_path):
    make(tmp_path, [f"{i}.md" for i in range(40)], b"x" * 100)
    plan = plan_units(configure(tmp_path / "*"), unit_bytes=1500, group_modulus=7)
    assert (plan.unit_bytes, plan.group_modulus) == (1500, 7)
    assert plan_units(configure(tmp_path / "*")).unit_bytes == 1 << 20


def file(name, num_bytes=100):
    return InputFile(input=0, source=name, path=name, format="text", compression="", num_bytes=num_bytes, identity="")


def contents(files, unit_bytes, modulus):
    return {tuple(item.source for item in group) for group in group_files(files, unit_bytes, modulus)}


@given(
    st.lists(st.tuples(st.text("abc", min_size=1, max_size=6), st.integers(1, 3000)), max_size=60), st.integers(1, 9)
)
def test_groups_keep_order_and_the_limit(pairs, modulus):
    files = [file(name, size) for name, size in sorted(dict(pairs).items())]
    groups = group_files(files, 2000, modulus)
    assert [item for group in groups for item in group] == files
    assert all(len(group) == 1 or sum(item.num_bytes for item in group) <= 2000 for group in groups)


def test_adding_one_file_changes_one_unit():
    """Whatever its place; where a group must be cut in another way, still only that group's units change."""
    files = [file(f"{i:04}.md", 50 + i * 37 % 300) for i in range(0, 2000, 2)]
    before = contents(files, 5000, 25)
    assert len(before) > 40
    changed = []
    for i in range(1, 2000, 20):
        more = sorted([*files, file(f"{i:04}.md", 200)], key=lambda item: item.source)
        changed.append(len(before - contents(more, 5000, 25)))
    assert sorted(changed)[len(changed) * 9 // 10] == 1
    assert max(changed) <= 4


def test_adding_one_file_changes_one_unit_of_a_plan(tmp_path):
    make(tmp_path, [f"{i:03}.md" for i in range(200)], b"x" * 100)
    before = plan_units(configure(tmp_path / "*"), unit_bytes=1024, group_modulus=8)
    make(tmp_path, ["100b.md"], b"x" * 100)
    after = plan_units(configure(tmp_path / "*"), unit_bytes=1024, group_modulus=8)
    old, new = ({unit.slices for unit in plan.units} for plan in (before, after))
    assert len(old - new) == 1
    assert "100b.md" in {piece.source for slices in new - old for piece in slices}
