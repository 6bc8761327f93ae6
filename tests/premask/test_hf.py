"""The rows as a `datasets.Dataset`: over the same files, with the loader's labels, and cheap to send elsewhere."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader

from mlm_data.errors import ConfigError
from mlm_data.rows.masking import apply
from premask import open_dataset
from tests.synthetic import ROLES, make_dataset


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    return open_dataset(make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=50, validation_rows=10))


@pytest.mark.parametrize(("split", "plane", "name"), [("train", 1, "1"), ("validation", None, "evaluation")])
def test_rows_with_labels(ds, split, plane, name):
    made = ds.hf(split, plane=plane)
    assert len(made) == ds.dataset.num_rows(split)
    at = 0
    for index in range(ds.dataset.num_shards(split)):
        shard = ds.dataset.shard(split, index)
        ids, labels = apply(shard.rows[0].tokens, shard.masks(name)[0], mask_id=ROLES.mask)
        for row in range(shard.num_rows):
            item = made[at]
            assert np.array_equal(item["input_ids"], ids[row])
            assert np.array_equal(item["labels"], labels[row])
            assert sum(item["attention_mask"]) == shard.rows[0].used()[row]
            at += 1


def test_positions_are_those_of_the_stream(ds):
    rows = {np.asarray(item["input_ids"]).tobytes(): item for item in ds.hf(plane=0)}
    for batch in ds.torch(plane=0, batch_rows=10, epochs=1):
        for row in range(10):
            item = rows[batch["input_ids"][row].numpy().tobytes()]
            for name, values in item.items():
                assert np.array_equal(values, batch[name][row].numpy()), name


def test_nothing_is_copied(tmp_path):
    """A dataset of half a megabyte: neither opening it nor sending it elsewhere takes as much."""
    ds = open_dataset(make_dataset(tmp_path / "d", num_rows=500, sequence_length=512, shard_rows=500))
    before = pa.total_allocated_bytes()
    made = ds.hf()
    assert pa.total_allocated_bytes() - before < 100_000
    sent = pickle.dumps(made)
    assert len(sent) < 20_000
    assert np.array_equal(pickle.loads(sent)[7]["labels"], made[7]["labels"])
    made.reset_format()
    assert made.column_names[:2] == ["tokens", "segment_lengths"]


def test_a_data_loader_takes_it(ds):
    made = ds.hf()
    rows = sum(len(batch["labels"]) for batch in DataLoader(made, batch_size=8, shuffle=True, collate_fn=_columns))
    assert rows == 50
    with pytest.raises(ConfigError, match="the train split has 0, 1"):
        ds.hf(plane="evaluation")


def _columns(items):
    return {name: [item[name] for item in items] for name in items[0]}
