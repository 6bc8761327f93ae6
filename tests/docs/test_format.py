"""Every way to be bad that docs/reference/format.md lists: the dataset is made so, and ours says what the page says."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.forgotten import parse_list
from mlm_data.dataset.manifest import load_attachment, load_files, load_manifest, version_names
from mlm_data.dataset.publish import replace_attachments
from mlm_data.dataset.seals import canonical, sealed, unseal
from mlm_data.dataset.tombstones import Tombstone, tombstone_name, write_tombstone
from mlm_data.dataset.verify import verify
from mlm_data.errors import PremaskError
from mlm_data.loading.loader import Loader
from mlm_data.shards import format as fmt
from mlm_data.shards.table_hash import table_hash
from mlm_data.stores.folder import Folder
from tests.mlm_data.dataset import test_verify as broken
from tests.synthetic import ROLES, make_dataset

PAGE = Path(__file__).parents[2] / "docs/reference/format.md"
SECTIONS = ("When a version is opened", "When a file is opened", "When a row is used", "By `premask verify`")


def listed(section: str) -> list[str]:
    """The words of one table: the second column."""
    text = PAGE.read_text("utf-8").split("## Every way to be bad")[1].split("\n## ")[0]
    mine = text.split(f"**{section}**")[1].split("**")[0]
    rows = [re.match(r"\| .* \| `(.*)` \|$", line) for line in mine.splitlines()]
    return [row[1] for row in rows if row]


def test_the_page_lists_what_is_tested():
    for section, ways in zip(SECTIONS, (OPENING, FILES, ROWS, VERIFY), strict=True):
        assert listed(section) == list(ways), section


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(make_dataset(tmp_path / "data", num_rows=9, validation_rows=3, shard_rows=5))


def names_of(folder: Folder) -> dict[str, str]:
    return version_names(load_manifest(folder))


def put(folder: Folder, name: str, data: bytes | None) -> None:
    """A file's new bytes; None: it is gone."""
    folder.write(name, data) if data is not None else folder.delete(name)


def change_manifest(folder: Folder, change: Callable[[dict], object]) -> None:
    name = names_of(folder)["manifest"]
    values = json.loads(folder.read(name))
    change(values)
    folder.write(name, canonical(values))


def change_table(folder: Folder, change: Callable[[pa.Table], pa.Table]) -> None:
    name = names_of(folder)["files"]
    table = change(load_files(folder, load_manifest(folder)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    folder.write(name, sink.getvalue().to_pybytes())


def bury(folder: Folder, **changes: str) -> str:
    """The current version becomes a tombstone; returns its digest."""
    digest = load_manifest(folder).digest
    make_dataset(folder.location, num_rows=9, validation_rows=3, seed=9)
    facts = {"purged": "2026-01-02T03:04:05+00:00", "parent": None, "published": "", "made_by": "build"}
    write_tombstone(folder, Tombstone(digest=digest, replaced_by=load_manifest(folder).digest, **facts))
    folder.delete(f"versions/{digest}.json")
    return digest


def open_buried(folder: Folder, change: Callable[[dict], object] | None = None, *, by: bytes | None = None) -> None:
    digest = bury(folder)
    name = tombstone_name(digest)
    if change is not None:
        value = unseal(folder.read(name), name)
        change(value)
        folder.write(name, sealed(value))
    if by is not None:
        folder.write(name, folder.read(name).replace(b"build", by))
    Dataset.open(folder, digest)


def open_as(folder: Folder, name: str) -> None:
    Dataset.open(f"{folder.location}@{name}")


def two_that_begin_so(folder: Folder) -> None:
    digest = load_manifest(folder).digest
    folder.write(f"versions/{digest[:10]}{'0' * 54}.json", b"{}")
    open_as(folder, digest[:8])


def with_tag(folder: Folder, data: bytes) -> None:
    folder.write("tags/v1", data)
    open_as(folder, "v1")


def opened(change: Callable[[Folder], object]) -> Callable[[Folder], None]:
    """Change the dataset, then open it."""

    def way(folder: Folder) -> None:
        change(folder)
        Dataset.open(folder)

    return way


def reversed_lines(table: pa.Table) -> pa.Table:
    return table.take(list(range(table.num_rows))[::-1])


OPENING: dict[str, Callable[[Folder], object]] = {
    "no LATEST there": opened(lambda folder: folder.delete("LATEST")),
    "LATEST: not a digest": opened(lambda folder: folder.write("LATEST", b"newest\n")),
    "missing: no such version in this dataset": lambda folder: open_as(folder, "0" * 64),
    "not a digest: set it again": lambda folder: with_tag(folder, b"v2\n"),
    "which is not there any more": lambda folder: with_tag(folder, b"0" * 64 + b"\n"),
    "no version has this name": lambda folder: open_as(folder, "v7"),
    "versions begin so": two_that_begin_so,
    "takes its place": open_buried,
    "purged.json: its checksum is wrong": lambda folder: open_buried(folder, by=b"BUILD"),
    "not what a tombstone holds": lambda folder: open_buried(folder, lambda value: value.pop("purged")),
    "holds the tombstone of": lambda folder: open_buried(folder, lambda value: value.update(digest="1" * 64)),
    "install a newer premask": opened(
        lambda folder: change_manifest(folder, lambda value: value.update(format_version=2))
    ),
    "not a manifest of format version 1": opened(
        lambda folder: change_manifest(folder, lambda value: value.pop("plan"))
    ),
    ".json: damaged": opened(lambda folder: folder.write(names_of(folder)["manifest"], b"[]")),
    "damaged: ValueError": opened(
        lambda folder: change_manifest(folder, lambda value: value["bounds"].update(max_targets=[3]))
    ),
    "holds the manifest of": opened(
        lambda folder: change_manifest(folder, lambda value: value.update(digest="1" * 64))
    ),
    "files.arrow: missing": opened(lambda folder: folder.delete(names_of(folder)["files"])),
    "files.arrow: damaged": opened(lambda folder: folder.write(names_of(folder)["files"], b"no table")),
    "not those of a file table": opened(lambda folder: change_table(folder, lambda table: table.drop(["num_rows"]))),
    "is out of order": opened(lambda folder: change_table(folder, reversed_lines)),
}


def write_rows(folder: Folder, change: Callable[[pa.Table], pa.Table], kind: str = "rows") -> None:
    """The first shard's file with other columns; only its size is told to the file table."""
    line = next(one for one in load_files(folder, load_manifest(folder)).to_pylist() if one["kind"] == kind)
    table = change(pa.ipc.open_file(pa.py_buffer(folder.read(line["name"]))).read_all())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    folder.write(line["name"], data)

    def resized(files: pa.Table) -> pa.Table:
        lines = [one | ({"num_bytes": len(data)} if one["name"] == line["name"] else {}) for one in files.to_pylist()]
        return pa.Table.from_pylist(lines, schema=files.schema)

    change_table(folder, resized)


def read_rows(folder: Folder, change: Callable[[pa.Table], pa.Table]) -> object:
    write_rows(folder, change)
    return Dataset.open(folder).shard("train", 0).rows


def read_damaged(folder: Folder, data: Callable[[bytes], bytes | None]) -> object:
    shard = Dataset.open(folder).shard("train", 0)
    name = shard.files["rows"].name
    put(folder, name, data(folder.read(name)))
    return shard.rows


def set_column(name: str, values: Callable[[pa.Table], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values(table))


def with_list(folder: Folder, data: bytes, after: bytes | None) -> object:
    """The list of what was forgotten, and then other bytes in its place."""
    manifest = load_manifest(folder)
    replace_attachments(folder, manifest.digest, {"forgotten.jsonl": data})
    if after != data:
        put(folder, f"versions/{manifest.digest}.forgotten.jsonl", after)
    return parse_list(load_attachment(folder, manifest, "forgotten.jsonl"), where="list")


def other_tokenizer(folder: Folder) -> None:
    name = names_of(folder)["tokenizer"]
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4} | {f"w{i}": i for i in range(5, 512)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    real = json.dumps({"version": "1.0", "added_tokens": [], "model": model})
    folder.write(name, real.encode())
    Dataset.open(folder).reference()


FILES: dict[str, Callable[[Folder], object]] = {
    "missing: run premask verify": lambda folder: read_damaged(folder, lambda data: None),
    "bytes, the manifest says": lambda folder: read_damaged(folder, lambda data: data + b"0"),
    "damaged:": lambda folder: read_damaged(folder, lambda data: bytes(len(data))),
    "no column": lambda folder: read_rows(folder, lambda table: table.drop(["segment_starts"])),
    "run premask verify": lambda folder: read_rows(
        folder, set_column("tokens", lambda table: pa.array(["x"] * table.num_rows))
    ),
    " null": lambda folder: read_rows(
        folder, set_column("word_starts", lambda table: pa.nulls(table.num_rows, pa.binary(8)))
    ),
    "rows, the manifest says": lambda folder: read_rows(folder, lambda table: table.slice(1)),
    "have different lengths": lambda folder: read_rows(
        folder, set_column("segment_starts", lambda table: pa.array([[0]] * table.num_rows, pa.list_(pa.int32())))
    ),
    "a byte was changed: run premask verify": other_tokenizer,
    "jsonl: missing: run premask verify": lambda folder: with_list(folder, b"{}\n", None),
    "jsonl: a byte was changed": lambda folder: with_list(folder, b"{}\n", b"[]\n"),
    "a line is no mark of a document": lambda folder: with_list(folder, b"{}\n", b"{}\n"),
}


def pad_is_not_pad(split: str, shard: dict) -> None:
    rows = shard["rows"]
    padded = np.flatnonzero(rows.used() < rows.sequence_length)
    tokens = rows.tokens.copy()
    tokens[padded, -1] = 77
    shard["rows"] = replace(rows, tokens=tokens)


def ends_elsewhere(split: str, shard: dict) -> None:
    rows = shard["rows"]
    tokens = rows.tokens.copy()
    tokens[0, rows.segment_lengths[0] - 1] = 77
    shard["rows"] = replace(rows, tokens=tokens)


def too_many_segments(folder: Folder) -> None:
    dataset = Dataset.open(folder)
    dataset.manifest.bounds["max_segments"] = 1
    next(Loader(dataset, batch_rows=4))


ROWS: dict[str, Callable[[Folder], object]] = {"breaks the format": too_many_segments}


def flip(folder: Folder, name: str) -> None:
    data = folder.read(name)
    folder.write(name, data[:-1] + bytes([data[-1] ^ 1]))


def republished(change: Callable) -> Callable[[Folder], object]:
    return lambda folder: broken.republish(folder, change)


def in_file(change: Callable) -> Callable[[Folder], object]:
    return lambda folder: broken.republish(folder, lambda lines, values: change(folder, lines, values))


def set_value(*path: str, value: object) -> Callable[[Folder], object]:
    def change(lines: list, values: dict) -> None:
        for name in path[:-1]:
            values = values[name]
        values[path[-1]] = value

    return republished(change)


def written(change: Callable[[str, dict], None]) -> Callable[[Folder], object]:
    """A writer that breaks a rule, and gets all hashes right."""
    return lambda folder: make_dataset(folder.location, num_rows=6, validation_rows=3, seed=4, change=change)


def other_logical_hash(folder: Folder, lines: list, values: dict) -> None:
    lines[0]["logical_hash"] = bytes(32)


def no_targets(lines: list, values: dict) -> None:
    values["bounds"]["max_targets"] = [0, 0]


def not_canonical(folder: Folder) -> None:
    """The side file vouches for the bytes; they say the same in another way."""
    names = names_of(folder)
    data = json.dumps(json.loads(folder.read(names["manifest"]))).encode()
    side = unseal(folder.read(names["side"]), "side")
    folder.write(names["manifest"], data)
    folder.write(names["side"], sealed({**side, "manifest_sha256": hashlib.sha256(data).hexdigest()}))


def first_file(folder: Folder) -> str:
    return load_files(folder, load_manifest(folder))["name"][0].as_py()


rows_with, plane_with, at = broken.rows_with, broken.plane_with, broken.put
first = partial(slice, 0, 1)
VERIFY: dict[str, Callable[[Folder], object]] = {
    "side.json: missing": lambda folder: folder.delete(names_of(folder)["side"]),
    "side.json: its checksum is wrong": lambda folder: folder.write(
        names_of(folder)["side"], folder.read(names_of(folder)["side"]).replace(b"null", b"null ")
    ),
    "a byte was changed: its SHA-256 is another": lambda folder: flip(folder, names_of(folder)["tokenizer"]),
    "its SHA-256 is not the file table's": lambda folder: flip(folder, first_file(folder)),
    "bytes, the file table says": lambda folder: folder.write(
        first_file(folder), folder.read(first_file(folder)) + b"0"
    ),
    "not canonical JSON": not_canonical,
    "its digest should be": lambda folder: broken.test_a_wrong_digest_is_found(folder),
    "its logical hash is not the file table's": in_file(other_logical_hash),
    "its columns are not those of": in_file(broken.nullable),
    ": holds nulls": in_file(broken.with_a_null),
    "record batches don't have 4096 rows each but the last": in_file(broken.small_batches),
    "tokens, the file table says": in_file(broken.wrong_count),
    "a segment has no content": written(rows_with(segment_lengths=at(0, 1))),
    "its segments are longer than the row": written(rows_with(segment_lengths=at(0, 65))),
    "names a document that is not there": written(rows_with(segment_documents=at(0, -1))),
    "a segment lies outside its document": written(rows_with(segment_starts=at(0, 3))),
    "padding holds something else than [PAD]": written(pad_is_not_pad),
    "a token is not in the vocabulary": written(rows_with(tokens=at((0, 5), 600))),
    "has no [CLS] in its place": written(rows_with(tokens=at((0, 0), 9))),
    "has no [SEP] in its place": written(ends_elsewhere),
    "a special token stands inside a segment": written(rows_with(tokens=at((0, 1), ROLES.mask))),
    "a word starts at a special token or padding": written(rows_with(word_starts=at((1, 0), 0xFF))),
    "rows hold": written(broken.documents_with_more_tokens),
    "a target is a special token": written(plane_with(targets=broken.target_at_cls)),
    "more targets than the rate allows": written(plane_with(targets=broken.all_targets)),
    "fewer targets than the rate demands": written(plane_with(targets=at(0, 0))),
    "the evaluation plane has swaps": written(broken.evaluation_swaps),
    "a swap lies outside the row": written(plane_with(swap_places=lambda a: a.__setitem__(first(), 99))),
    "a swap is not on a target": written(plane_with(swap_places=lambda a: a.__setitem__(first(), 0))),
    "its swaps are not in order": written(
        plane_with(swap_places=lambda a: broken.swap_two(a) if a.size else None)
    ),
    "a swap's token is not in the vocabulary": written(
        plane_with(swap_tokens=lambda a: a.__setitem__(first(), 600))
    ),
    "its ids are not sorted": in_file(broken.unsorted),
    "train.num_rows: says": set_value("splits", "train", "num_rows", value=8),
    "bounds.max_segments: says": set_value("bounds", "max_segments", value=99),
    "has no target in any row": republished(no_targets),
    "ledger: ": set_value("ledger", "tokens", "truncated", value=7),
}  # fmt: skip


def one_line(text: str) -> str:
    assert "\n" not in text
    return text


@pytest.mark.parametrize("said", [*OPENING, *FILES, *ROWS])
def test_what_a_reader_refuses(folder, said):
    way = {**OPENING, **FILES, **ROWS}[said]
    with pytest.raises(PremaskError) as caught:
        way(folder)
    assert said in one_line(str(caught.value))


@pytest.mark.parametrize("said", list(VERIFY))
def test_what_verify_finds(folder, said):
    assert verify(folder).ok
    VERIFY[said](folder)
    problems = [one_line(problem) for problem in verify(folder).problems]
    assert any(said in problem for problem in problems), problems


def hashed_by_hand(table: pa.Table, domain: str) -> bytes:
    """The logical hash of a signatures table as the page has it, written anew."""

    def string(text: str) -> bytes:
        return len(text.encode()).to_bytes(8, "little") + text.encode()

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    values = b"".join(table["id"].to_pylist())
    data = string("premask.table.1") + string(domain) + number(table.num_rows) + number(1) + string("id")
    data += string("fixed_size_binary[16]") + number(0) + number(len(values)) + values
    return hashlib.sha256(data).digest()


def test_the_logical_hash_is_that_of_the_page():
    ids = pa.array([bytes(range(16)), bytes([9] * 16)], pa.binary(16))
    table = pa.table([ids], schema=fmt.signatures_schema())
    assert table_hash(table, "signatures") == hashed_by_hand(table, "signatures")


def names_in_the_page() -> Iterator[str]:
    yield from re.findall(r"`(\w+)`", PAGE.read_text("utf-8"))


def test_the_page_names_all_columns_and_fields():
    known = set(names_in_the_page())
    schemas = (fmt.rows_schema(16, pa.uint16()), fmt.documents_schema(has_id_field=True), fmt.files_schema())
    wanted = {name for schema in schemas for name in schema.names}
    wanted |= {*fmt.KINDS, *Tombstone.__dataclass_fields__, "checksum"}
    assert wanted <= known, wanted - known
