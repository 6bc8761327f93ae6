"""Whatever is changed is found, and the line names the file."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.dataset.manifest import Manifest, compute_digest, load_files, load_manifest, version_names
from mlm_data.dataset.publish import publish
from mlm_data.dataset.seals import canonical
from mlm_data.dataset.verify import verify
from mlm_data.errors import BuildError, FormatError, NewerFormatError
from mlm_data.shards import format as fmt
from mlm_data.shards.table_hash import table_hash
from mlm_data.stores.folder import Folder
from tests.synthetic import ROLES, TOKENIZER, make_dataset


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(make_dataset(tmp_path / "data", num_rows=9, validation_rows=3, shard_rows=5))


def files_of(folder: Folder) -> list[Path]:
    return sorted(path for path in Path(folder.location).rglob("*") if path.is_file())


@pytest.mark.parametrize("compression", ["none", "zstd", "lz4"])
def test_a_sound_dataset(tmp_path, compression):
    folder = Folder(make_dataset(tmp_path, num_rows=30, shard_rows=7, compression=compression, vocab_size=70_000))
    steps, shards = [], []

    def on_shard(shard):
        shards.append((shard.split, shard.index, len(shard.rows[0])))

    report = verify(folder, progress=lambda done, total: steps.append((done, total)), on_shard=lambda _: on_shard)
    assert report.ok, report.problems
    assert report.num_files == 8 * 3 + 5 + 4
    assert report.num_bytes == steps[-1][0] == steps[-1][1]
    assert shards == [("train", i, 7) for i in range(4)] + [("train", 4, 2)] + [
        ("validation", 0, 7),
        ("validation", 1, 7),
        ("validation", 2, 2),
    ]


@pytest.mark.parametrize("is_sound", [True, False])
def test_threads_find_the_same_in_the_same_order(tmp_path, is_sound):
    folder = Folder(make_dataset(tmp_path, num_rows=30, shard_rows=4))
    if not is_sound:
        for path in files_of(folder):
            if path.parent.name in ("rows", "documents"):
                path.write_bytes(path.read_bytes()[:-1] + b"!")
    reports = [verify(folder, workers=workers) for workers in (1, 3)]
    assert reports[0] == reports[1]
    assert reports[0].ok == is_sound


def test_a_byte_changed_anywhere_is_found_and_its_file_named(folder):
    for path in files_of(folder):
        data = path.read_bytes()
        places = {0, len(data) - 1, *np.linspace(0, len(data) - 1, 25).astype(int).tolist()}
        for place in sorted(places):
            path.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
            try:
                problems = verify(folder).problems
            except FormatError as error:
                problems = (str(error),)
            assert problems, (path, place)
            named = path.name if path.name != "LATEST" else ""
            assert any(named in problem or path.stem.split(".")[0] in problem for problem in problems), (path, problems)
            assert not any("\n" in problem for problem in problems)
        path.write_bytes(data)
    assert verify(folder).ok


@pytest.mark.parametrize("kind", ["rows", "masks", "documents", "signatures"])
def test_a_damaged_file_is_opened_without_harm(folder, kind):
    """Before its bytes are known to be sound: whatever Arrow says of it, people are told that they are not."""
    path = next(path for path in files_of(folder) if path.parent.name == kind)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] ^= 1 << int(rng.integers(8))
        if damaged == data:
            continue
        path.write_bytes(damaged)
        assert f"{path.name}: a byte was changed" in " ".join(verify(folder).problems)


def test_a_missing_file_is_found_and_named(folder):
    for path in files_of(folder):
        data = path.read_bytes()
        path.unlink()
        try:
            problems = verify(folder).problems
        except FormatError as error:
            problems = (str(error),)
        assert any((path.name in problem and "missing" in problem) or "LATEST" in problem for problem in problems), path
        path.write_bytes(data)


def test_a_truncated_file_is_found(folder):
    for path in files_of(folder):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        try:
            problems = verify(folder).problems
        except FormatError as error:
            problems = (str(error),)
        assert problems, path
        path.write_bytes(data)


def test_attachments_are_vouched_for(folder):
    manifest, files = load_manifest(folder), load_files(folder, load_manifest(folder))
    folder.delete(version_names(manifest)["manifest"])
    publish(folder, manifest, files, tokenizer=TOKENIZER, side={}, attachments={"quarantine.jsonl": b"{}"})
    assert verify(folder).ok
    folder.write(f"versions/{manifest.digest}.quarantine.jsonl", b"[]")
    assert "quarantine.jsonl: a byte was changed" in verify(folder).problems[0]
    folder.delete(f"versions/{manifest.digest}.quarantine.jsonl")
    assert "quarantine.jsonl: missing" in verify(folder).problems[0]


def test_no_dataset_and_newer_datasets(folder, tmp_path):
    with pytest.raises(FormatError, match="no LATEST"):
        verify(Folder(tmp_path / "nothing"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/LATEST").write_text("never built\n")
    with pytest.raises(FormatError, match="not a digest"):
        verify(Folder(tmp_path / "other"))
    manifest = load_manifest(folder)
    value = json.loads(manifest.to_bytes()) | {"format_version": 7}
    folder.write(f"versions/{manifest.digest}.json", canonical(value))
    with pytest.raises(NewerFormatError, match="format version 7"):
        verify(folder)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("LATEST", b"nonsense", "not a digest"),
        ("LATEST", None, "no LATEST there"),
        ("manifest", b"{", "damaged"),
        ("manifest", None, "missing"),
    ],
)
def test_a_dataset_without_its_head_is_a_damaged_one(folder, name, data, problem):
    """What nothing can be read of is a problem like any other, not another folder."""
    path = Path(folder.location) / {"manifest": version_names(load_manifest(folder))["manifest"]}.get(name, name)
    path.unlink() if data is None else path.write_bytes(data)
    report = verify(folder)
    assert not report.ok
    assert problem in report.problems[0]


def test_a_plane_without_targets_is_a_problem(tmp_path):
    """As a build's: the same function decides."""

    def hide_nothing(split, shard):
        if split == "train":
            plane = shard["planes"]["1"]
            empty = {"targets": np.zeros_like(plane.targets), "swap_offsets": np.zeros_like(plane.swap_offsets)}
            swaps = {"swap_places": plane.swap_places[:0], "swap_tokens": plane.swap_tokens[:0]}
            shard["planes"]["1"] = replace(plane, **empty, **swaps)

    with pytest.raises(BuildError, match="plane 1 has no target in any row"):
        make_dataset(tmp_path, rate=(0.3, 0.15), change=hide_nothing)


def rows_with(**changes):
    """A change of the first shard's rows: field -> function of a copy of the array."""

    def change(split: str, shard: dict) -> None:
        rows = shard["rows"]
        for name, function in changes.items():
            array = getattr(rows, name).copy()
            function(array)
            rows = replace(rows, **{name: array})
        shard["rows"] = rows

    return change


def put(place, value):
    def function(array):
        array[place] = value

    return function


def plane_with(**changes):
    def change(split: str, shard: dict) -> None:
        for name, masks in shard["planes"].items():
            for field, function in changes.items():
                array = getattr(masks, field).copy()
                function(array)
                masks = replace(masks, **{field: array})
            shard["planes"][name] = masks

    return change


def target_at_cls(array):
    array[0, 0] |= 1


def all_targets(array):
    array[0] = 0xFF


def swap_two(array):
    array[[0, 1]] = array[[1, 0]]


def evaluation_swaps(split: str, shard: dict) -> None:
    if split == "validation":
        masks = shard["planes"]["evaluation"]
        target = int(np.flatnonzero(np.unpackbits(masks.targets[0], bitorder="little"))[0])
        offsets = np.ones_like(masks.swap_offsets)
        offsets[0] = 0
        shard["planes"]["evaluation"] = replace(
            masks,
            swap_offsets=offsets,
            swap_places=np.array([target], np.uint16),
            swap_tokens=np.array([7], masks.swap_tokens.dtype),
        )


def documents_with_more_tokens(split: str, shard: dict) -> None:
    table = shard["documents"]
    more = pa.compute.add(table["num_tokens"], pa.scalar(1, pa.int32()))
    shard["documents"] = table.set_column(4, table.schema.field(4), more)


def documents_of_another_type(split: str, shard: dict) -> None:
    shard["documents"] = shard["documents"].set_column(
        1, "copy", pa.array(np.zeros(shard["documents"].num_rows, np.int32))
    )


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (rows_with(tokens=put((0, 0), 9)), "rows", r"row 0: a segment has no \[CLS\] in its place"),
        (rows_with(tokens=put((0, 5), ROLES.mask)), "rows", "row 0: a special token stands inside a segment"),
        (rows_with(tokens=put((0, 5), 600)), "rows", "row 0: a token is not in the vocabulary"),
        (rows_with(tokens=lambda a: put((2, -1), 77)(a)), "rows", r"row 2: (padding holds|a segment has no \[SEP\])"),
        (rows_with(segment_lengths=put(0, 1)), "rows", "row 0: a segment has no content"),
        (rows_with(segment_lengths=put(0, 65)), "rows", "row 0: its segments are longer than the row"),
        (rows_with(segment_documents=put(0, -1)), "rows", "row 0: a segment names a document that is not there"),
        (rows_with(segment_starts=put(0, -1)), "rows", "row 0: a segment lies outside its document"),
        (rows_with(segment_starts=put(0, 3)), "rows", "row 0: a segment lies outside its document"),
        (rows_with(word_starts=put((1, 0), 0xFF)), "rows", "row 1: a word starts at a special token or padding"),
        (plane_with(targets=target_at_cls), "masks", "row 0: a target is a special token, .UNK., a marker or"),
        (plane_with(targets=all_targets), "masks", "row 0: more targets than the rate allows"),
        (plane_with(targets=put(0, 0)), "masks", "row 0: fewer targets than the rate demands"),
        (plane_with(swap_places=lambda a: a.__setitem__(slice(0, 1), 0)), "masks", "row 0: a swap is not on a target"),
        (
            plane_with(swap_places=lambda a: a.__setitem__(slice(0, 1), 99)),
            "masks",
            "row 0: a swap lies outside the row",
        ),
        (plane_with(swap_places=lambda a: swap_two(a) if a.size else None), "masks", "its swaps are not in order"),
        (
            plane_with(swap_tokens=lambda a: a.__setitem__(slice(0, 1), 600)),
            "masks",
            "a swap's token is not in the voc",
        ),
        (evaluation_swaps, "masks", "row 0: the evaluation plane has swaps"),
        (documents_with_more_tokens, "documents", r"document 0: has \d+ tokens, rows hold \d+ of it"),
        (documents_of_another_type, "documents", "its columns are not those of documents: copy"),
    ],
)
def test_every_rule_of_the_format(tmp_path, change, kind, message):
    """The bytes are whole and the hashes right, but what they say breaks a rule."""
    folder = Folder(make_dataset(tmp_path, num_rows=6, validation_rows=3, change=change))
    problems = verify(folder).problems
    found = [problem for problem in problems if re.search(message, problem)]
    assert found, problems
    assert all(f"/{kind}/" in problem for problem in found)


def republish(folder: Folder, change) -> None:
    """Change the file table's lines and everything that vouches for them, as a writer with a bug would have."""
    manifest = load_manifest(folder)
    lines = load_files(folder, manifest).to_pylist()
    values = json.loads(manifest.to_bytes())
    change(lines, values)
    files = pa.Table.from_pylist(lines, schema=fmt.files_schema())
    digest = compute_digest(
        values["config"], values["tokenizer"]["sha256"], [line["logical_hash"].hex() for line in lines]
    )
    values["digest"] = digest
    for name in version_names(manifest).values():
        if name.startswith("versions/"):
            folder.delete(name)
    publish(folder, Manifest(**values), files, tokenizer=TOKENIZER, side={})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("splits", "train", "num_rows"), 8, "train.num_rows: says 8, the shards have 9"),
        (("splits", "validation", "num_documents"), 1, "validation.num_documents: says 1"),
        (("bounds", "max_segments"), 99, "bounds.max_segments: says 99"),
        (("bounds", "max_targets"), [99, 99], r"bounds.max_targets: says \[99, 99\]"),
        (("bounds", "max_targets_evaluation"), 1, "bounds.max_targets_evaluation: says 1"),
        (("ledger", "documents", "read"), 7, "ledger: documents: read 7"),
        (("ledger", "tokens", "truncated"), 7, "ledger: tokens: tokenized"),
    ],
)
def test_counts_bounds_and_ledger(folder, place, value, message):
    def change(lines, values):
        inner = values
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value

    republish(folder, change)
    problems = verify(folder).problems
    assert any(re.search(f"versions/.*{message}", problem) for problem in problems), problems


def replace_file(folder: Folder, lines: list[dict], kind: str, table: pa.Table, **options) -> None:
    line = next(line for line in lines if line["kind"] == kind)

    def fill(sink):
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, **options)

    written = folder.create(fill, lambda sha: f"{kind}/{sha}.arrow")
    line |= {
        "name": written.name,
        "num_bytes": written.num_bytes,
        "sha256": bytes.fromhex(written.sha256),
        "logical_hash": table_hash(table, kind),
        "num_rows": table.num_rows,
    }


def read(folder: Folder, lines: list[dict], kind: str) -> pa.Table:
    return pa.ipc.open_file(
        Path(folder.location) / next(line["name"] for line in lines if line["kind"] == kind)
    ).read_all()


def nullable(folder, lines, values):
    table = read(folder, lines, "rows")
    fields = [field.with_nullable(True) for field in table.schema]
    replace_file(folder, lines, "rows", table.cast(pa.schema(fields)))


def with_a_null(folder, lines, values):
    table = read(folder, lines, "documents")
    offsets = pa.array([None, *table["offset"].to_pylist()[1:]], pa.int64())
    schema = table.schema.set(3, pa.field("offset", pa.int64()))
    replace_file(folder, lines, "documents", table.set_column(3, "offset", offsets).cast(schema))


def no_utf8(folder, lines, values):
    table = read(folder, lines, "documents")
    names = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    column = pa.DictionaryArray.from_arrays(pa.array([0] * table.num_rows, pa.int32()), names)
    replace_file(folder, lines, "documents", table.set_column(2, table.schema.field(2), column))


def small_batches(folder, lines, values):
    replace_file(folder, lines, "masks", read(folder, lines, "masks"), max_chunksize=2)


def another_row_count(folder, lines, values):
    replace_file(folder, lines, "masks", read(folder, lines, "masks").slice(1))


def other_lists(folder, lines, values):
    table = read(folder, lines, "rows")
    column = pa.array([[0]] * table.num_rows, table.schema.field("segment_starts").type)
    replace_file(folder, lines, "rows", table.set_column(3, table.schema.field(3), column))


def unsorted(folder, lines, values):
    table = read(folder, lines, "signatures")
    replace_file(folder, lines, "signatures", table.take(list(range(table.num_rows))[::-1]))


def other_signatures(folder, lines, values):
    replace_file(folder, lines, "signatures", pa.table({"name": ["x"]}))


def wrong_count(folder, lines, values):
    lines[0]["num_tokens"] += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nullable, r"rows/.*its columns are not those of rows: tokens, segment_lengths"),
        (with_a_null, r"documents/.*column offset: holds nulls"),
        (no_utf8, r"documents/.*Invalid UTF8"),
        (small_batches, r"masks/.*record batches don't have 4096 rows each but the last"),
        (another_row_count, r"masks/.*has 4 rows, the manifest says 5"),
        (other_lists, r"rows/.*have different lengths"),
        (unsorted, r"signatures/.*its ids are not sorted"),
        (other_signatures, r"signatures/.*its columns are not those of signatures"),
        (wrong_count, r"rows/.*holds \d+ tokens, the file table says \d+"),
    ],
)
def test_schemas_nulls_and_record_batches(folder, change, message):
    republish(folder, lambda lines, values: change(folder, lines, values))
    problems = verify(folder).problems
    assert any(re.search(message, problem) for problem in problems), problems


def test_a_wrong_digest_is_found(folder):
    digest = load_manifest(folder).digest
    republish(folder, lambda lines, values: values["config"].update(seed=1))
    manifest = load_manifest(folder)
    assert manifest.digest != digest
    wrong = replace(manifest, digest="0" * 64)
    publish(folder, wrong, load_files(folder, manifest), tokenizer=TOKENIZER, side={})
    problems = verify(folder).problems
    assert any(f"its digest should be {manifest.digest}" in problem for problem in problems)


def test_a_manifest_that_is_not_canonical_is_found(folder, monkeypatch):
    manifest, files = load_manifest(folder), load_files(folder, load_manifest(folder))
    folder.delete(version_names(manifest)["manifest"])
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "to_bytes", lambda self: json.dumps(self.__dict__).encode())
        publish(folder, manifest, files, tokenizer=TOKENIZER, side={})
    assert any("not canonical JSON" in problem for problem in verify(folder).problems)
