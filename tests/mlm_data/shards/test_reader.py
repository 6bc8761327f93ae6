"""Datasets are read by us, by pyarrow alone, and by `datasets`; files, streams, any codec, any batching."""

import functools
import hashlib
import importlib.util
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.verify import verify
from mlm_data.errors import BuildError, ConfigError, FormatError
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import Shard, is_decoded, read_batches
from mlm_data.stores.folder import Folder
from tests.synthetic import ROLES, make_dataset


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_dataset(tmp_path / "data", num_rows=30, shard_rows=12)


def rewrite(dataset: Dataset, shard: Shard, kind: str, write) -> Shard:
    """The same shard with one file written anew by `write(path, table)`."""
    file = shard.files[kind]
    path = Path(dataset.folder.location) / "again.arrow"
    write(path, pa.ipc.open_file(Path(dataset.folder.location) / file.name).read_all())
    shard.files[kind] = replace(file, name="again.arrow", num_bytes=path.stat().st_size)
    known = {"vocab_size": dataset.manifest.vocab_size, "sequence_length": dataset.manifest.sequence_length}
    return Shard(dataset.folder, shard.split, shard.index, shard.unit, shard.files, **known)


def as_stream(path, table):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def in_small_batches(path, table):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)


def nullable(path, table):
    schema = pa.schema([pa.field(field.name, field.type) for field in table.schema], metadata={"huggingface": "{}"})
    with pa.ipc.new_file(path, schema) as writer:
        writer.write_table(pa.table(table.columns, schema=schema))


def with_more_columns(path, table):
    table = table.add_column(0, "extra", pa.array(range(table.num_rows)))
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def assert_same(one, other) -> None:
    for a, b in zip(one, other, strict=True):
        for name in a.__dataclass_fields__:
            assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_views_are_the_memory_mapped_file(folder):
    dataset = Dataset.open(folder)
    shard = dataset.shard("train", 0)
    rows, masks = shard.rows[0], shard.masks("1")[0]
    arrays = [rows.tokens, rows.segment_lengths, rows.word_starts, masks.targets, masks.swap_places, masks.swap_tokens]
    assert not any(array.flags.writeable for array in arrays)
    assert not any(array.flags.owndata for array in arrays)
    assert all(batch.column(0).buffers()[-1].parent is not None for batch in shard.batches(fmt.ROWS))
    assert rows.tokens.shape == (12, 64)
    assert masks.targets.shape == (12, 8)


@pytest.mark.parametrize("write", [as_stream, in_small_batches, nullable, with_more_columns])
@pytest.mark.parametrize("kind", [fmt.ROWS, fmt.MASKS])
def test_files_that_others_wrote_again_read_the_same(folder, kind, write):
    dataset = Dataset.open(folder)
    shard = dataset.shard("train", 1)
    again = rewrite(dataset, dataset.shard("train", 1), kind, write)
    assert_same(again.rows, shard.rows)
    for plane in ("0", "1"):
        assert_same(again.masks(plane), shard.masks(plane))


def test_pyarrow_alone_reads_the_shards(folder):
    lines = pa.ipc.open_file(next((folder / "versions").glob("*.files.arrow"))).read_all().to_pylist()
    tokens = {}
    for line in lines:
        data = (folder / line["name"]).read_bytes()
        assert hashlib.sha256(data).digest() == line["sha256"]
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        assert table.num_rows == line["num_rows"]
        if line["kind"] == "rows":
            tokens[line["split"], line["shard"]] = table["tokens"].to_pylist()
    dataset = Dataset.open(folder)
    for (split, shard), rows in tokens.items():
        assert dataset.shard(split, shard).rows[0].tokens.tolist() == rows
    assert len(tokens) == 3 + 2


def test_datasets_reads_the_shards(folder, tmp_path, monkeypatch):
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("`datasets` is not installed: pip install premask[bench]")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    dataset = Dataset.open(folder)
    for kind, columns in (("rows", 5), ("masks", 6), ("documents", 5)):
        names = [dataset.shard("train", i).files[kind].name for i in range(3)]
        loaded = datasets.load_dataset(
            "arrow", data_files=[str(folder / name) for name in names], split="train", cache_dir=str(tmp_path / kind)
        )
        wanted = pa.concat_tables(pa.ipc.open_file(folder / name).read_all() for name in names)
        assert len(loaded.column_names) == columns
        for name in loaded.column_names:
            assert list(loaded[name]) == wanted[name].to_pylist(), name


def test_a_row_as_a_person_reads_it(folder):
    dataset = Dataset.open(folder)
    view = dataset.row("train", 13)
    assert (view.shard, view.row, view.split) == (1, 13, "train")
    shard = dataset.shard("train", 1)
    rows = shard.rows[0]
    assert np.array_equal(view.tokens, rows.tokens[1])
    assert view.tokens[[segment.place for segment in view.segments]].tolist() == [ROLES.cls] * len(view.segments)
    ends = [segment.place + segment.length - 1 for segment in view.segments]
    assert view.tokens[ends].tolist() == [ROLES.sep] * len(view.segments)
    assert (view.tokens[ends[-1] + 1 :] == ROLES.pad).all()
    assert np.array_equal(view.word_starts, np.unpackbits(rows.word_starts[1], bitorder="little"))
    for name, plane in view.planes.items():
        masks = shard.masks(name)[0]
        bits = int.from_bytes(masks.targets[1].tobytes(), "little")
        assert plane.targets.tolist() == [place for place in range(64) if bits >> place & 1]
        assert set(plane.swaps) <= set(plane.targets.tolist())
    assert list(view.planes) == ["0", "1"]
    assert list(dataset.row("validation", 0).planes) == ["evaluation"]


def test_where_names_the_documents(folder):
    dataset = Dataset.open(folder)
    documents = dataset.shard("train", 2).documents.to_pylist()
    for segment in dataset.where("train", 25):
        document = documents[segment.document]
        assert (segment.id, segment.source, segment.offset) == (
            document["id"].hex(),
            document["source"],
            document["offset"],
        )
        assert segment.source == "train/2.txt"
        assert segment.start + segment.length - ROLES.num_specials <= document["num_tokens"]


def test_rows_are_counted_through_the_split(folder):
    dataset = Dataset.open(folder)
    assert dataset.num_rows("train") == 30
    assert dataset.shard_rows("train").tolist() == [12, 12, 6]
    assert [dataset.locate("train", row) for row in (0, 11, 12, 29)] == [(0, 0), (0, 11), (1, 0), (2, 5)]
    for row in (-1, 30):
        with pytest.raises(ConfigError, match="the train split has rows 0 to 29"):
            dataset.locate("train", row)


@given(
    num_rows=st.integers(1, 12),
    shard_rows=st.integers(1, 5),
    length=st.sampled_from([16, 24, 64, 128]),
    vocab_size=st.sampled_from([16, 65536, 65537]),
    rates=st.lists(st.sampled_from([0.05, 0.3, 0.95]), min_size=1, max_size=3),
    compression=st.sampled_from(["none", "zstd", "lz4"]),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read(num_rows, shard_rows, length, vocab_size, rates, compression, seed):
    written = []
    with tempfile.TemporaryDirectory() as place:
        make = functools.partial(
            make_dataset,
            place,
            num_rows=num_rows,
            validation_rows=2,
            shard_rows=shard_rows,
            sequence_length=length,
            vocab_size=vocab_size,
            planes=len(rates),
            rate=tuple(rates),
            compression=compression,
            seed=seed,
            change=lambda split, shard: written.append((split, shard)),
        )
        if length < 64:  # rows so short may have no target at all
            try:
                folder = make()
            except BuildError:
                reject()
        else:
            folder = make()
        assert verify(Folder(folder)).problems == ()
        dataset = Dataset.open(folder)
        shards = [dataset.shard(split, i) for split in fmt.SPLITS for i in range(dataset.num_shards(split))]
        for (split, wanted), shard in zip(written, shards, strict=True):
            assert shard.split == split
            assert_same(shard.rows, [wanted["rows"]])
            for plane, masks in wanted["planes"].items():
                assert_same(shard.masks(plane), [masks])
            assert shard.documents.equals(wanted["documents"])


def test_an_older_version_stays_readable(tmp_path):
    first = Dataset.open(make_dataset(tmp_path, num_rows=10))
    second = Dataset.open(make_dataset(tmp_path, num_rows=12))
    assert Dataset.open(tmp_path).digest == second.digest != first.digest
    again = Dataset.open(tmp_path, first.digest)
    assert again.num_rows("train") == 10
    assert again.tokenizer() == second.tokenizer()


def test_a_missing_file(folder):
    dataset = Dataset.open(folder)
    (folder / dataset.shard("train", 0).files["rows"].name).unlink()
    with pytest.raises(FormatError, match=r"rows/.*missing: run premask verify"):
        _ = dataset.shard("train", 0).rows


def test_a_file_of_another_size(folder):
    dataset = Dataset.open(folder)
    path = folder / dataset.shard("train", 0).files["masks"].name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"has \d+ bytes, the manifest says \d+"):
        dataset.shard("train", 0).masks("0")


def truncated(path, table):
    as_stream(path, table)
    path.write_bytes(path.read_bytes()[:200])


def with_nulls(path, table):
    column = pa.array([None, *table["tokens"].to_pylist()[1:]], table.schema.field("tokens").type)
    table = table.set_column(0, "tokens", column)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def with_fewer_rows(path, table):
    in_small_batches(path, table.slice(1))


def without_a_column(path, table):
    in_small_batches(path, table.drop_columns(["segment_starts"]))


def of_another_type(path, table):
    in_small_batches(path, table.set_column(0, "tokens", pa.array(["x"] * table.num_rows)))


def with_shorter_lists(path, table):
    column = pa.array([[1]] * table.num_rows, table.schema.field("segment_starts").type)
    in_small_batches(path, table.set_column(3, "segment_starts", column))


def as_text(path, table):
    path.write_text("This is no Arrow file.")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (truncated, "damaged"),
        (with_nulls, "null"),
        (with_fewer_rows, "has 11 rows, the manifest says 12"),
        (without_a_column, "no column segment_starts"),
        (of_another_type, "run premask verify"),
        (with_shorter_lists, "have different lengths"),
        (as_text, "damaged"),
    ],
)
def test_damaged_files_are_one_clear_line(folder, write, message):
    dataset = Dataset.open(folder)
    with pytest.raises(FormatError, match=message) as caught:
        _ = rewrite(dataset, dataset.shard("train", 0), fmt.ROWS, write).rows
    assert "\n" not in str(caught.value)
    assert "again.arrow" in str(caught.value)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("is_local", [True, False])
def test_the_loaders_columns_are_mapped_or_decoded_but_never_copied(tmp_path, monkeypatch, compression, is_local):
    monkeypatch.setattr(Folder, "is_local", property(lambda self: is_local))
    dataset = Dataset.open(
        make_dataset(tmp_path, num_rows=8, sequence_length=512, shard_rows=8, compression=compression)
    )
    before = pa.total_allocated_bytes()
    (batch,) = dataset.shard("train", 0).batches(fmt.ROWS, ("tokens", "segment_lengths"))
    allocated = pa.total_allocated_bytes() - before
    assert is_decoded(batch) == (compression == "zstd")
    monkeypatch.undo()
    assert batch.equals(dataset.shard("train", 0).batches(fmt.ROWS, ("tokens", "segment_lengths"))[0])
    assert (allocated == 0) == (compression == "none" and is_local)


def test_only_the_columns_that_are_asked_for_are_read(folder):
    dataset = Dataset.open(folder)
    batches = dataset.shard("train", 0).batches(fmt.ROWS, ("tokens", "segment_lengths"))
    assert batches[0].schema.names == ["tokens", "segment_lengths"]
    name = dataset.shard("train", 0).files[fmt.ROWS].name
    assert read_batches(Folder(folder), name)[0].num_columns == 5
