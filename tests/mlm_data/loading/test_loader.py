import gc
import threading
import time
from collections import Counter

import numpy as np
import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import CheckpointError, ConfigError, FormatError
from mlm_data.loading.batches import Batch
from mlm_data.loading.loader import Loader, evaluation
from mlm_data.stores.folder import Folder
from tests.synthetic import make_dataset

ARRAYS = [name for name in Batch.__dataclass_fields__ if name not in ("num_targets", "num_tokens")]


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


def take(loader: Loader, count: int) -> list[Batch]:
    return [next(loader) for _ in range(count)]


def assert_restores_from_every_step(make, steps: int) -> None:
    """`make(state)` makes a loader; from the state after any step it gives the tail of the uninterrupted run."""
    with make(None) as loader:
        states, batches = [loader.state()], []
        for _ in range(steps):
            batches.append(next(loader))
            states.append(loader.state())
    for step, state in enumerate(states):
        with make(state) as loader:
            for wanted in batches[step:]:
                assert same(next(loader), wanted), step


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return Dataset.open(make_dataset(tmp_path_factory.mktemp("data"), num_rows=50, shard_rows=7, planes=3))


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize(("window", "batch_rows"), [(2, 6), (256, 9)])
def test_restores_from_every_step(dataset, window, batch_rows, prefetch):
    def make(state):
        settings = {} if state else {"seed": 5, "window": window, "planes": [2, 0]}
        return Loader(dataset, batch_rows=batch_rows, state=state, prefetch=prefetch, **settings)

    assert_restores_from_every_step(make, 20)


def test_every_epoch_reads_every_row_once_with_its_own_plane(dataset):
    loader = Loader(dataset, batch_rows=8, window=3)
    seen = Counter()
    for step in range(75):  # 600 rows: 12 epochs of 50
        batch = next(loader)
        first = step * 8
        for i, (shard, row) in enumerate(zip(batch.shards, batch.rows, strict=True)):
            seen[(first + i) // 50, int(shard), int(row)] += 1
        assert batch.num_targets == (batch.target_ids != -100).sum()
    assert len(seen) == 600
    assert set(seen.values()) == {1}
    lines = loader.documents_between(45, 60)
    planes = dict(zip(lines["stream_row"].to_pylist(), lines["plane"].to_pylist(), strict=True))
    assert [planes[row] for row in (49, 50, 99, 100)] == ["0", "1", "1", "2"]


@pytest.mark.parametrize(("world_size", "batch_rows"), [(1, 12), (2, 6), (3, 4), (4, 3), (12, 1)])
def test_any_number_of_ranks_reads_the_same_stream(dataset, world_size, batch_rows):
    whole = Loader(dataset, batch_rows=12, window=4, seed=1)
    ranks = [
        Loader(dataset, batch_rows=batch_rows, window=4, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for _ in range(9):
        batch, parts = next(whole), [next(rank) for rank in ranks]
        for name in ("input_ids", "position_ids", "shards", "rows"):
            assert np.array_equal(getattr(batch, name), np.concatenate([getattr(part, name) for part in parts]))
    assert {rank.rows_consumed for rank in ranks} == {whole.rows_consumed} == {108}


def test_another_number_of_ranks_goes_on_where_the_first_stopped(dataset):
    one = Loader(dataset, batch_rows=10, seed=2)
    take(one, 3)
    two = [Loader(dataset, batch_rows=5, state=one.state(), rank=rank, world_size=2) for rank in range(2)]
    wanted, parts = next(one), [next(rank) for rank in two]
    assert np.array_equal(wanted.input_ids, np.concatenate([part.input_ids for part in parts]))


def test_another_batch_keeps_the_stream(dataset):
    rows = [
        row for batch in take(Loader(dataset, batch_rows=4), 15) for row in zip(batch.shards, batch.rows, strict=True)
    ]
    other = [
        row for batch in take(Loader(dataset, batch_rows=6), 10) for row in zip(batch.shards, batch.rows, strict=True)
    ]
    assert rows == other


def test_a_batch_may_be_larger_than_the_dataset(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=5, validation_rows=0, planes=2))
    batch = next(Loader(dataset, batch_rows=23))
    counts = Counter(zip(batch.shards.tolist(), batch.rows.tolist(), strict=True))
    assert sorted(counts.values()) == [4, 4, 5, 5, 5]


def test_shapes_never_change_within_a_bound(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=20, planes=3, rate=(0.15, 0.4, 0.15)))
    loader = Loader(dataset, batch_rows=7)
    shapes = {tuple(getattr(batch, name).shape for name in ARRAYS) for batch in take(loader, 40)}
    assert {shape[ARRAYS.index("target_places")][0] for shape in shapes} == set(loader.target_sizes)
    assert len(shapes) == len(loader.target_sizes) == 2


def test_batches_made_ahead_are_the_same(dataset):
    with Loader(dataset, batch_rows=8, prefetch=4) as ahead:
        for batch in take(Loader(dataset, batch_rows=8), 30):
            assert same(next(ahead), batch)
        assert ahead.state()["rows_consumed"] == 240


def threads() -> int:
    return sum(thread.name == "premask-loader" for thread in threading.enumerate())


def test_the_thread_ends_with_the_loader(dataset):
    before = threads()
    loader = Loader(dataset, batch_rows=8, prefetch=2)
    next(loader)
    assert threads() == before + 1
    loader.close()
    loader.close()
    assert threads() == before
    with pytest.raises(ValueError, match="closed"):
        next(loader)


def test_a_forgotten_loader_takes_its_thread_along(dataset):
    before = threads()
    loader = Loader(dataset, batch_rows=8, prefetch=2)
    next(loader)
    del loader
    gc.collect()
    deadline = time.monotonic() + 5
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == before


@pytest.mark.parametrize("planes", [["0"], ["0", "1", "2"]])
def test_a_bucket_is_read_once_an_epoch(tmp_path, monkeypatch, planes):
    """Where nothing can be memory-mapped, each file is opened once an epoch: a cache of 2 W shards is enough."""
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=120, shard_rows=6, validation_rows=0, planes=3))
    epochs = 4
    wanted = take(Loader(dataset, batch_rows=8, window=3, planes=planes), epochs * 120 // 8)
    monkeypatch.setattr(Folder, "is_local", property(lambda self: False))
    monkeypatch.setenv("PREMASK_CACHE_BYTES", "0")
    opened = Counter()
    really_open = Folder.open

    def count(self, name, **named):
        opened[name] += 1
        return really_open(self, name, **named)

    monkeypatch.setattr(Folder, "open", count)
    loader = Loader(dataset, batch_rows=8, window=3, planes=planes)
    assert all(same(next(loader), batch) for batch in wanted)
    assert len(opened) == 40  # 20 shards, rows and masks
    assert max(opened.values()) == epochs


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_missing_file_is_told_by_the_step_that_needs_it(tmp_path, prefetch):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=8, validation_rows=0))
    (tmp_path / dataset.shard("train", 0).files["masks"].name).unlink()
    with Loader(dataset, batch_rows=4, prefetch=prefetch) as loader:
        for _ in range(2):
            with pytest.raises(FormatError, match=r"masks/.*missing: run premask verify"):
                next(loader)


def test_the_validation_split_can_be_streamed_too(dataset):
    batch = next(Loader(dataset, split="validation", batch_rows=4))
    assert batch.num_targets > 0
    assert ((batch.input_ids[batch.target_places[: batch.num_targets]]) == dataset.manifest.roles.mask).all()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_rows", [1, 5, 16, 40])
def test_evaluation_reads_every_row_once_in_order(dataset, batch_rows, world_size):
    ranks = [evaluation(dataset, batch_rows, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    steps = list(zip(*ranks, strict=True))
    assert len(steps) == len(ranks[0]) == -(-16 // (batch_rows * world_size))
    rows = [(s, r) for step in steps for batch in step for s, r in zip(batch.shards, batch.rows, strict=True) if s >= 0]
    assert rows == [(0, row) for row in range(7)] + [(1, row) for row in range(7)] + [(2, row) for row in range(2)]
    assert len({tuple(getattr(batch, name).shape for name in ARRAYS) for step in steps for batch in step}) == 1
    assert steps[0][0].target_places.size == ranks[0].target_size
    for batch in (batch for step in steps for batch in step):
        empty = np.repeat(batch.shards < 0, 64)
        assert (batch.input_ids[empty] == dataset.manifest.roles.pad).all()
        assert not empty[batch.target_places[: batch.num_targets]].any()
        assert batch.cu_seqlens[-1] == batch.input_ids.size
    again = list(zip(*ranks, strict=True))
    assert all(same(a, b) for one, two in zip(steps, again, strict=True) for a, b in zip(one, two, strict=True))


def test_a_step_answers_for_itself(dataset):
    loader = Loader(dataset, batch_rows=4, seed=3)
    batches = take(loader, 14)  # 56 rows: beyond the first epoch
    for step in (0, 5, 13):
        lines = loader.documents_between(4 * step, 4).to_pylist()
        assert sorted({line["stream_row"] for line in lines}) == list(range(step * 4, step * 4 + 4))
        for i in range(4):
            mine = [line for line in lines if line["stream_row"] == step * 4 + i]
            shard, row = int(batches[step].shards[i]), int(batches[step].rows[i])
            assert {(line["shard"], line["row"]) for line in mine} == {(shard, row)}
            first_row = int(dataset.shard_rows("train")[:shard].sum())
            segments = dataset.where("train", first_row + row)
            assert [(line["source"], line["offset"], line["start"], line["id"].hex()) for line in mine] == [
                (segment.source, segment.offset, segment.start, segment.id) for segment in segments
            ]
            assert [line["num_tokens"] for line in mine] == [segment.length - 2 for segment in segments]
            assert {line["file"] for line in mine} == {dataset.shard("train", shard).files["rows"].name}
    assert same(loader.batch_at(20), batches[5])


def test_the_state_is_plain(dataset):
    loader = Loader(dataset, batch_rows=4, seed=9, window=5, planes=["1"])
    next(loader)
    assert loader.state() == {
        "digest": dataset.digest,
        "split": "train",
        "seed": 9,
        "planes": ["1"],
        "window": 5,
        "rows_consumed": 4,
    }


def test_another_dataset_is_refused(dataset, tmp_path):
    other = Dataset.open(make_dataset(tmp_path, num_rows=10, seed=1))
    with pytest.raises(CheckpointError, match=r"belongs to dataset \w{16}, this is \w{16}: .*new phase"):
        Loader(other, batch_rows=4, state=Loader(dataset, batch_rows=4).state())


@pytest.mark.parametrize("change", [{"seed": 1}, {"window": 3}, {"planes": [0]}, {"split": "validation"}])
def test_a_state_may_not_be_contradicted(dataset, change):
    with pytest.raises(CheckpointError, match="leave it out to go on"):
        Loader(dataset, batch_rows=4, state=Loader(dataset, batch_rows=4).state(), **change)


def test_a_damaged_state_is_refused(dataset):
    state = Loader(dataset, batch_rows=4).state()
    del state["window"]
    with pytest.raises(CheckpointError, match="has no 'window'"):
        Loader(dataset, batch_rows=4, state=state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planes": [3]}, "planes: .*'3'.*0, 1, 2"),
        ({"planes": []}, "planes: none"),
        ({"split": "test"}, "split must be train or validation"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"batch_rows": 0}, "batch_rows must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank must be 0 to 1, got 2"),
    ],
)
def test_settings_that_cannot_be_right(dataset, change, message):
    with pytest.raises(ConfigError, match=message):
        Loader(dataset, **{"batch_rows": 4, **change})


def test_no_validation_split_is_said(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=6, validation_rows=0))
    with pytest.raises(ConfigError, match=r"has no validation rows: build it with split\.validation above 0"):
        evaluation(dataset, 4)


@pytest.mark.parametrize(("compression", "open_at_once"), [("none", 32), ("zstd", 4)])
def test_a_thread_opens_mapped_shards_before_they_are_asked_for(tmp_path, compression, open_at_once):
    dataset = Dataset.open(make_dataset(tmp_path, num_rows=64, shard_rows=2, compression=compression))
    with Loader(dataset, batch_rows=2, window=256 if compression == "none" else 2, prefetch=1) as loader:
        next(loader)
        opened = len(loader._stream.maker.shards)
    assert opened == open_at_once if compression == "none" else opened <= open_at_once
