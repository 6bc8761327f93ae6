from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import FormatError
from mlm_data.loading import open_shards
from mlm_data.loading.batches import Batch, BatchMaker
from mlm_data.loading.loader import Loader
from mlm_data.rows.masking import apply
from tests.synthetic import ROLES, make_dataset


def plain_batch(dataset: Dataset, split: str, lines: list[tuple[int, int, str]], batch_rows: int) -> dict:
    """What a batch holds, row by row in numpy; lines are (shard, row, plane)."""
    length = dataset.manifest.sequence_length
    ids, labels, positions, borders = [], [], [], [0]
    for shard_index, row, plane in lines:
        shard = dataset.shard(split, shard_index)
        rows, masks = shard.rows[0], shard.masks(plane)[0]
        corrupted, label = apply(rows.tokens, masks, mask_id=dataset.manifest.roles.mask)
        ids.append(corrupted[row])
        labels.append(label[row])
        lengths = rows.segment_lengths[rows.segment_offsets[row] : rows.segment_offsets[row + 1]].tolist()
        lengths += [length - sum(lengths)] * (sum(lengths) < length)
        positions += [np.arange(size) for size in lengths]
        borders += lengths
    for _ in range(batch_rows - len(lines)):
        ids.append(np.full(length, dataset.manifest.roles.pad))
        labels.append(np.full(length, -100))
        positions.append(np.arange(length))
        borders.append(length)
    labels_flat = np.concatenate(labels)
    places = np.flatnonzero(labels_flat != -100)
    return {
        "input_ids": np.concatenate(ids),
        "position_ids": np.concatenate(positions),
        "borders": np.cumsum(borders),
        "target_places": places,
        "target_ids": labels_flat[places],
    }


def check(batch: Batch, wanted: dict, batch_rows: int, length: int) -> None:
    assert np.array_equal(batch.input_ids, wanted["input_ids"])
    assert np.array_equal(batch.position_ids, wanted["position_ids"])
    count = wanted["borders"].size
    assert np.array_equal(batch.cu_seqlens[:count], wanted["borders"])
    assert (batch.cu_seqlens[count:] == batch_rows * length).all()
    number = wanted["target_places"].size
    assert batch.num_targets == number
    assert np.array_equal(batch.target_places[:number], wanted["target_places"])
    assert np.array_equal(batch.target_ids[:number], wanted["target_ids"])
    assert (batch.target_places[number:] == 0).all()
    assert (batch.target_ids[number:] == -100).all()
    dtypes = [getattr(batch, name).dtype for name in ("input_ids", "position_ids", "cu_seqlens", "target_places")]
    assert dtypes == [np.int32] * 4
    assert batch.target_ids.dtype == np.int64


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"vocab_size": 100_000},
        {"sequence_length": 24, "planes": 1, "rate": 0.95},
        {"compression": "zstd"},
        {"compression": "lz4", "vocab_size": 70_000},
    ],
    ids=["plain", "wide", "short", "zstd", "lz4-wide"],
)
def dataset(request, tmp_path_factory) -> Dataset:
    return Dataset.open(make_dataset(tmp_path_factory.mktemp("data"), **request.param))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_batch_equals_its_plain_twin(dataset, data):
    counts = dataset.shard_rows("train").tolist()
    planes = dataset.planes("train")
    line = st.integers(0, len(counts) - 1).flatmap(
        lambda shard: st.tuples(st.just(shard), st.integers(0, counts[shard] - 1))
    )
    lines = data.draw(st.lists(line, min_size=1, max_size=6))
    cut = data.draw(st.integers(0, len(lines)))
    parts = [(planes[0], slice(0, cut)), (planes[-1], slice(cut, len(lines)))]
    maker = BatchMaker(dataset, split="train", batch_rows=6, window=4)
    batch = maker.make(*(np.array(column, np.int32) for column in zip(*lines, strict=True)), parts)
    wanted = [(*line, planes[0] if i < cut else planes[-1]) for i, line in enumerate(lines)]
    check(batch, plain_batch(dataset, "train", wanted, 6), 6, dataset.manifest.sequence_length)
    assert batch.shards.tolist() == [shard for shard, _ in lines] + [-1] * (6 - len(lines))
    assert batch.rows.tolist() == [row for _, row in lines] + [-1] * (6 - len(lines))


def test_shapes_come_from_the_manifest(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path, planes=3, rate=(0.15, 0.4, 0.15)))
    maker = BatchMaker(dataset, split="train", batch_rows=4, window=4)
    bounds = dataset.manifest.bounds["max_targets"]
    assert bounds[0] == bounds[2] < bounds[1]
    for plane, bound in zip("012", bounds, strict=True):
        batch = maker.make(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), [(plane, slice(0, 4))])
        assert batch.target_places.shape == batch.target_ids.shape == (4 * bound,)
        assert batch.cu_seqlens.shape == (4 * dataset.manifest.max_segments + 1,)
        assert batch.input_ids.shape == batch.position_ids.shape == (4 * 64,)
    mixed = maker.make(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), [("0", slice(0, 2)), ("1", slice(2, 4))])
    assert mixed.target_places.size == 4 * bounds[1]


def test_few_shards_stay_open_and_nothing_changes(tmp_path, monkeypatch):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=60, shard_rows=3, planes=2))
    roomy = BatchMaker(dataset, split="train", batch_rows=8, window=10)
    monkeypatch.setattr(open_shards, "MAPPED_SHARDS", 0)
    tight = BatchMaker(dataset, split="train", batch_rows=8, window=1)  # 2 shards, and more where a batch needs them
    rng = np.random.default_rng(0)
    for _ in range(50):
        shards, rows = rng.integers(0, 20, 8).astype(np.int32), rng.integers(0, 3, 8).astype(np.int32)
        parts = [("0", slice(0, 5)), ("1", slice(5, 8))]
        one, other = roomy.make(shards, rows, parts), tight.make(shards, rows, parts)
        assert np.array_equal(one.input_ids, other.input_ids)
        assert np.array_equal(one.target_ids, other.target_ids)
    assert len(tight.shards) <= 8 < len(roomy.shards) == 20


@pytest.mark.parametrize(("compression", "limit"), [("none", open_shards.MAPPED_SHARDS), ("zstd", 4)])
def test_only_mapped_shards_stay_open_in_thousands(tmp_path, compression, limit):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=64, shard_rows=2, compression=compression))
    maker = BatchMaker(dataset, split="train", batch_rows=2, window=2)
    for shard in range(32):
        maker.make(np.full(2, shard, np.int32), np.arange(2, dtype=np.int32), [("0", slice(0, 2))])
    assert len(maker.shards) == min(limit, 32)


def damage(field: str, place, value):
    def change(split: str, shard: dict) -> None:
        array = getattr(shard["rows"], field).copy()
        array[place] = value
        shard["rows"] = replace(shard["rows"], **{field: array})

    return change


def swap_outside(split: str, shard: dict) -> None:
    plane = shard["planes"].get("0")
    if plane is not None:
        places = plane.swap_places.copy()
        places[0] = 64
        shard["planes"]["0"] = replace(plane, swap_places=places)


@pytest.mark.parametrize(
    "change",
    [
        damage("segment_lengths", 0, -5),
        damage("segment_lengths", 0, 2**31 - 1),
        damage("segment_lengths", 0, 0),
        swap_outside,
    ],
    ids=["negative", "huge", "empty", "swap"],
)
def test_rows_that_break_the_format_are_errors_not_crashes(tmp_path, change):

    dataset_folder = make_dataset(tmp_path, num_rows=4, validation_rows=0, change=change)
    maker = BatchMaker(Dataset.open(dataset_folder), split="train", batch_rows=4, window=4)
    with pytest.raises(FormatError, match=r"row 0 breaks the format: run premask verify"):
        maker.make(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), [("0", slice(0, 4))])


def test_swaps_of_different_lengths_are_an_error(tmp_path):
    folder = make_dataset(tmp_path, num_rows=4, validation_rows=0)
    dataset = Dataset.open(folder)
    path = folder / dataset.shard("train", 0).files["masks"].name
    table = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
    tokens = table["swap_tokens_0"].to_pylist()
    moved = [tokens[0] + tokens[1], [], *tokens[2:]]  # as many in all, so the file keeps its size
    table = table.set_column(2, table.schema.field(2), pa.array(moved, table.schema.field(2).type))
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(FormatError, match="swap_places_0 and swap_tokens_0 have different lengths"):
        next(Loader(dataset, batch_rows=4))


def test_more_targets_than_the_bound_are_an_error(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=4, validation_rows=0))
    dataset.manifest.bounds["max_targets"][0] = 1
    maker = BatchMaker(dataset, split="train", batch_rows=4, window=4)
    with pytest.raises(FormatError, match="breaks the format"):
        maker.make(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), [("0", slice(0, 4))])


def test_more_segments_than_the_bound_are_an_error(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=4, validation_rows=0))
    dataset.manifest.bounds["max_segments"] = 1
    maker = BatchMaker(dataset, split="train", batch_rows=4, window=4)
    with pytest.raises(FormatError, match="breaks the format"):
        maker.make(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), [("0", slice(0, 4))])


def test_roles_are_those_of_the_manifest(dataset):
    assert dataset.manifest.roles == ROLES
