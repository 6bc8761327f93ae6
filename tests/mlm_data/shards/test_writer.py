import json

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.hashing import ids_from_arrow
from mlm_data.shards import format as fmt
from mlm_data.shards.table_hash import table_hash
from mlm_data.shards.writer import (
    ShardRecord,
    SignaturesRecord,
    masks_table,
    rows_table,
    write_shard,
    write_signatures,
    write_table,
)
from mlm_data.stores.folder import Folder
from tests.synthetic import ROLES, make_masks, make_rows


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    rows, documents = make_rows(rng, 20, 64, 512, 8, ROLES, "source")
    planes = {name: make_masks(rng, rows, 0.3, 512, ROLES) for name in ("0", "1")}
    return {"rows": rows, "planes": planes, "documents": documents}


def test_the_record_says_what_was_written(tmp_path, parts):
    record = write_shard(Folder(tmp_path), split="train", unit=3, **parts)
    rows = parts["rows"]
    assert (record.split, record.unit, record.num_rows) == ("train", 3, 20)
    assert record.num_tokens == (rows.tokens != ROLES.pad).sum()
    assert record.num_segments == record.num_documents == rows.segment_lengths.size
    used = np.array([part.sum() for part in np.split(rows.segment_lengths, rows.segment_offsets[1:-1])])
    assert record.max_segments == max(np.diff(rows.segment_offsets) + (used < 64))
    for name, plane in parts["planes"].items():
        assert record.max_targets[name] == np.unpackbits(plane.targets, axis=1).sum(1).max()
    for file in record.files:
        data = (tmp_path / file.name).read_bytes()
        assert len(data) == file.num_bytes
        assert file.name == f"{file.kind}/{file.sha256}.arrow"
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        assert table_hash(table, file.kind).hex() == file.logical_hash
        assert table.num_rows == file.num_rows


def test_records_survive_json(tmp_path, parts):
    record = write_shard(Folder(tmp_path), split="train", unit=0, **parts)
    assert ShardRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    signatures = write_signatures(
        Folder(tmp_path), unit=0, ids=ids_from_arrow(parts["documents"]["id"].combine_chunks())
    )
    assert SignaturesRecord.from_dict(json.loads(json.dumps(signatures.to_dict()))) == signatures


def test_writing_twice_changes_nothing(tmp_path, parts):
    folder = Folder(tmp_path)
    first = write_shard(folder, split="train", unit=0, **parts)
    names = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert write_shard(folder, split="train", unit=0, **parts) == first
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == names
    assert len(names) == 3


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_the_codec_changes_bytes_but_not_meaning(tmp_path, parts, compression):
    plain = write_shard(Folder(tmp_path / "a"), split="train", unit=0, **parts)
    packed = write_shard(Folder(tmp_path / "b"), split="train", unit=0, compression=compression, **parts)
    for one, other in zip(plain.files, packed.files, strict=True):
        assert one.logical_hash == other.logical_hash
        assert one.sha256 != other.sha256


def test_numpy_becomes_arrow_without_a_copy(parts):
    rows, plane = parts["rows"], parts["planes"]["0"]
    table = rows_table(rows)
    assert table["tokens"].chunk(0).values.buffers()[1].address == rows.tokens.ctypes.data
    assert table["segment_lengths"].chunk(0).values.buffers()[1].address == rows.segment_lengths.ctypes.data
    assert table["word_starts"].chunk(0).buffers()[1].address == rows.word_starts.ctypes.data
    masks = masks_table(rows, parts["planes"])
    assert masks["targets_0"].chunk(0).buffers()[1].address == plane.targets.ctypes.data
    assert masks["swap_places_0"].chunk(0).values.buffers()[1].address == plane.swap_places.ctypes.data


def test_large_shards_have_record_batches_of_bounded_size(tmp_path):
    rng = np.random.default_rng(0)
    rows, _ = make_rows(rng, 2 * fmt.BATCH_ROWS + 5, 16, 512, 3, ROLES, "source")
    name = write_table(Folder(tmp_path), fmt.ROWS, rows_table(rows)).name
    reader = pa.ipc.open_file(tmp_path / name)
    assert [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)] == [4096, 4096, 5]


def test_a_shard_may_hold_documents_without_a_token(tmp_path, parts):
    rng = np.random.default_rng(0)
    rows, _ = make_rows(rng, 0, 64, 512, 8, ROLES, "source")
    planes = {"0": make_masks(rng, rows, 0.3, 512, ROLES)}
    record = write_shard(
        Folder(tmp_path), split="train", unit=0, rows=rows, planes=planes, documents=parts["documents"].slice(0, 1)
    )
    assert (record.num_rows, record.num_documents, record.max_segments, record.max_targets) == (0, 1, 0, {"0": 0})


def test_parts_that_do_not_belong_together_are_refused(tmp_path, parts):
    folder = Folder(tmp_path)
    with pytest.raises(ValueError, match="names document"):
        write_shard(folder, split="train", unit=0, **{**parts, "documents": parts["documents"].slice(0, 2)})
    fewer, _ = make_rows(np.random.default_rng(0), 5, 64, 512, 8, ROLES, "source")
    with pytest.raises(ValueError, match="plane 0 has 20 rows, the shard 5"):
        write_shard(folder, split="train", unit=0, **{**parts, "rows": fewer})
    assert not any(tmp_path.iterdir())


def test_signatures_are_sorted_by_their_bytes(tmp_path):
    ids = np.array([[1, 5], [256, 0], [0, 9], [1, 4]], np.uint64)
    record = write_signatures(Folder(tmp_path), unit=0, ids=ids)
    stored = pa.ipc.open_file(tmp_path / record.file.name).read_all()["id"].to_pylist()
    assert stored == sorted(row.astype("<u8").tobytes() for row in ids)
    assert record.file.num_rows == 4
