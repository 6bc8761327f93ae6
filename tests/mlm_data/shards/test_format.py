"""The format is what docs/reference/format.md says: golden files, the digest as a literal, and the words' bytes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.verify import verify
from mlm_data.loading.loader import Loader, evaluation
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import Folder
from tests.mlm_data.shards import golden


def test_todays_writer_writes_the_golden_dataset(tmp_path):
    assert golden.build(Folder(tmp_path)).digest == golden.DIGEST


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_the_codec_does_not_enter_the_digest(tmp_path, compression):
    assert golden.build(Folder(tmp_path), compression=compression).digest == golden.DIGEST


def test_the_golden_files_are_sound():
    report = verify(Folder(golden.FOLDER))
    assert report.ok, report.problems
    assert report.digest == golden.DIGEST
    assert report.num_files == 7 + 4


def test_the_golden_files_read_as_they_were_written():
    dataset = Dataset.open(golden.FOLDER)
    for split, rows, planes in [
        ("train", golden.TRAIN_ROWS, golden.TRAIN_PLANES),
        ("validation", golden.VALIDATION_ROWS, golden.VALIDATION_PLANES),
    ]:
        shard = dataset.shard(split, 0)
        for name in rows.__dataclass_fields__:
            assert np.array_equal(getattr(shard.rows[0], name), getattr(rows, name)), name
        for plane, masks in planes.items():
            for name in masks.__dataclass_fields__:
                assert np.array_equal(getattr(shard.masks(plane)[0], name), getattr(masks, name)), name
    documents = dataset.shard("train", 0).documents
    assert documents["id"].to_pylist() == golden.IDS
    assert documents["source"].to_pylist() == ["a.md", "a.md", "ü/b.jsonl"]
    assert documents["keep.date"].to_pylist() == ["2024-02-29", None, ""]
    assert documents["id_field"].to_pylist()[2] == "https://example.org/2"
    assert dataset.tokenizer() == golden.TOKENIZER
    assert dataset.manifest.bounds == {"max_segments": 3, "max_targets": [4, 4], "max_targets_evaluation": 1}
    assert dataset.manifest.config["seed"] == str(2**62)


def test_the_golden_batch():
    dataset = Dataset.open(golden.FOLDER)
    batch = next(Loader(dataset, batch_rows=3, seed=0))
    assert list(zip(batch.shards.tolist(), batch.rows.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 0)]
    by_row = dict(zip(batch.rows.tolist(), batch.input_ids.reshape(3, 16).tolist(), strict=True))
    assert by_row == {
        0: [2, 10, 4, 12, 3, 2, 13, 1, 3, 0, 0, 0, 0, 0, 0, 0],
        1: [2, 4, 21, 22, 23, 40, 25, 26, 4, 28, 29, 30, 31, 32, 33, 3],
        2: [2, 65535, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    }
    assert batch.cu_seqlens.tolist() == [0, 16, 19, 32, 37, 41, 48, 48, 48, 48]
    assert batch.target_ids.tolist() == [20, 24, 27, 33, 11] + [-100] * 7
    assert batch.target_places.tolist() == [1, 5, 8, 14, 34] + [0] * 7
    (held_out,) = evaluation(dataset, 1)
    assert held_out.input_ids.tolist() == [2, 50, 51, 52, 53, 54, 55, 4, 3, 0, 0, 0, 0, 0, 0, 0]
    assert held_out.target_ids.tolist() == [56]


def test_bits_are_least_significant_first():
    dataset = Dataset.open(golden.FOLDER)
    path = Path(golden.FOLDER) / dataset.shard("train", 0).files["masks"].name
    table = pa.ipc.open_file(path).read_all()
    assert [value.hex() for value in table["targets_0"].to_pylist()] == ["0400", "2241", "0000"]
    assert table["swap_places_0"].to_pylist() == [[], [5, 14], []]
    assert table["swap_tokens_0"].to_pylist() == [[], [40, 33], []]


def test_the_file_table_in_canonical_order():
    dataset = Dataset.open(golden.FOLDER)
    assert dataset.files["kind"].to_pylist() == ["rows", "masks", "documents"] * 2 + ["signatures"]
    assert dataset.files["split"].to_pylist() == ["train"] * 3 + ["validation"] * 3 + ["all"]
    assert dataset.files["num_tokens"].to_pylist() == [28, 0, 0, 9, 0, 0, 0]


@pytest.mark.parametrize(("vocab_size", "kind"), [(65536, pa.uint16()), (65537, pa.uint32()), (2, pa.uint16())])
def test_the_narrowest_token_type(vocab_size, kind):
    assert fmt.token_type(vocab_size) == kind


def test_planes_by_split():
    assert fmt.plane_names(3, split="train") == ["0", "1", "2"]
    assert fmt.plane_names(3, split="validation") == ["evaluation"]


def test_nothing_in_the_schemas_may_be_null_but_what_users_give():
    for schema in (fmt.rows_schema(16, pa.uint16()), fmt.masks_schema(16, pa.uint16(), ["0"]), fmt.files_schema()):
        assert not any(field.nullable for field in schema)
    documents = fmt.documents_schema(("b", "a"), has_id_field=True)
    assert [field.name for field in documents if field.nullable] == ["id_field", "keep.a", "keep.b"]
