"""Batches for other trainers: the loader's labels place by place, whatever the layout; no row lost, none twice."""

from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import CheckpointError, ConfigError
from mlm_data.loading.loader import Loader
from mlm_data.rows.masking import apply
from premask import open_dataset
from tests.synthetic import ROLES, make_dataset

B, L = 4, 64


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    return open_dataset(make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=50, planes=2))


def take(stream, count):
    return list(islice(stream, count))


def keys(batches):
    """Each row's input ids as bytes."""
    return [row.numpy().tobytes() for batch in batches for row in batch["input_ids"].reshape(-1, L)]


def test_labels_and_ids_are_the_files_own(ds):
    """Beside the loader, which says where each row came from, and the plain way of applying a plane."""
    loader = Loader(ds.dataset, batch_rows=B)
    for step, batch in enumerate(take(ds.torch(batch_rows=B), 30)):
        beside = loader.batch_at(step * B)
        assert batch["input_ids"].shape == batch["labels"].shape == (B, L)
        assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
        labels = np.full(B * L, -100)
        labels[beside.target_places[: beside.num_targets]] = beside.target_ids[: beside.num_targets]
        assert np.array_equal(batch["labels"].numpy().reshape(-1), labels)
        for row in range(B):
            epoch = (step * B + row) // 50
            shard = Dataset.shard(ds.dataset, "train", int(beside.shards[row]))
            place = int(beside.rows[row])
            ids, own = apply(shard.rows[0].tokens, shard.masks(str(epoch % 2))[0], mask_id=ROLES.mask)
            assert np.array_equal(batch["input_ids"][row].numpy(), ids[place])
            assert np.array_equal(batch["labels"][row].numpy(), own[place])
            used = int(shard.rows[0].used()[place])
            assert batch["attention_mask"][row].tolist() == [1] * used + [0] * (L - used)


def test_segments_see_only_themselves(ds):
    (batch,) = take(ds.torch(batch_rows=B, attention="segment"), 1)
    mask, positions = batch["attention_mask"], batch["position_ids"]
    assert mask.shape == (B, 1, L, L)
    for row in range(B):
        segment = (positions[row] == 0).cumsum(0)
        assert torch.equal(mask[row, 0] == 0, segment[:, None] == segment[None, :])
    assert mask.min() == torch.finfo(torch.float32).min


def test_flat_and_flash_hold_the_same(ds):
    (square,), (flat,), (flash,) = (
        take(ds.torch(batch_rows=B, layout=layout), 1) for layout in ("padded", "flat", "flash")
    )
    for name in ("input_ids", "labels", "position_ids"):
        assert torch.equal(flat[name], square[name].reshape(-1))
        assert torch.equal(flash[name], flat[name][None])
    assert flat["cu_seqlens"].dtype == torch.int32
    assert torch.equal(flash["cu_seq_lens_q"], flat["cu_seqlens"])
    assert int(flash["cu_seq_lens_k"][-1]) == B * L
    borders = flat["cu_seqlens"].unique()
    assert torch.equal(torch.nonzero(flat["position_ids"] == 0)[:, 0], borders[:-1].long())
    assert flash["max_length_q"] == L


def test_pieces_stand_alone(ds):
    """Each piece of a document with its labels, in the order of the rows."""
    for square, alone in zip(
        take(ds.torch(batch_rows=8, epochs=1), 7), ds.torch(batch_rows=8, epochs=1, layout="pieces"), strict=True
    ):
        wanted = []
        for row in range(8):
            used = int(square["attention_mask"][row].sum())
            borders = [*torch.nonzero(square["position_ids"][row][:used] == 0)[:, 0].tolist(), used]
            wanted += [(row, slice(*pair)) for pair in pairwise(borders)]
        assert alone["input_ids"].shape == (len(wanted), L)
        for piece, (row, part) in enumerate(wanted):
            size = part.stop - part.start
            assert alone["attention_mask"][piece].tolist() == [1] * size + [0] * (L - size)
            for name, rest in (("input_ids", ROLES.pad), ("labels", -100), ("position_ids", 0)):
                assert alone[name][piece].tolist() == square[name][row, part].tolist() + [rest] * (L - size), name
    one_by_one = list(ds.torch(batch_rows=None, epochs=1, layout="pieces"))
    assert len(one_by_one) == ds.manifest.splits["train"]["num_segments"]


def test_a_plane_by_number_stays(ds):
    first, second = (take(ds.torch(batch_rows=10, plane=plane, epochs=1), 9) for plane in (0, 1))
    assert len(first) == len(second) == 5
    assert keys(first) != keys(second)
    assert [set(keys(take(ds.torch(batch_rows=10, epochs=2), 10)[n : n + 5])) for n in (0, 5)] != [set(keys(first))] * 2
    assert set(keys(take(ds.torch(batch_rows=10), 5))) == set(keys(first))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_one_epoch_holds_each_row_once(ds, workers):
    everything = sorted(keys(ds.torch(batch_rows=10, epochs=1)))
    stream = ds.torch(batch_rows=8, epochs=1)  # the last batch is filled up with empty rows
    batches = list(DataLoader(stream, batch_size=None, num_workers=workers))
    assert len(batches) == 7
    found = keys(batches)
    empty = np.full(L, ROLES.pad, np.int64).tobytes()
    assert found.count(empty) == 6
    assert sorted(key for key in found if key != empty) == everything
    assert keys(batches) == keys(stream)  # workers change nothing, the order neither


@pytest.mark.parametrize("workers", [0, 2])
def test_single_rows_for_trainers_that_make_batches(ds, workers):
    stream = ds.torch(batch_rows=None, epochs=1)
    rows = list(DataLoader(stream, batch_size=7, num_workers=workers))
    assert sorted(keys(rows)) == sorted(keys(ds.torch(batch_rows=10, epochs=1)))
    assert rows[0]["labels"].shape == (7, L)


def test_ranks_share_the_rows(ds):
    alone = take(ds.torch(batch_rows=8, epochs=1), 9)
    ranks = [list(ds.torch(batch_rows=4, epochs=1, rank=rank, world_size=2)) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == len(alone)
    for whole, left, right in zip(alone, *ranks, strict=True):
        assert keys([left]) + keys([right]) == keys([whole])
    with pytest.raises(ConfigError, match="together"):
        ds.torch(rank=1)


def test_a_state_goes_on_where_it_was(ds):
    wanted = keys(take(ds.torch(batch_rows=B, seed=3), 20))
    stream = ds.torch(batch_rows=B, seed=3)
    take(stream, 8)
    state = stream.state_dict()
    assert state["rows_consumed"] == 8 * B
    for other in (ds.torch(batch_rows=B, seed=3), ds.torch(batch_rows=2 * B, seed=3)):  # another B keeps the stream
        other.load_state_dict(state)
        assert keys(take(other, 12 * B // other.step_rows)) == wanted[8 * B :]
    again = ds.torch(batch_rows=B, seed=3)
    again.load_state_dict(again.state_at(8))
    assert keys(take(DataLoader(again, batch_size=None, num_workers=2), 12)) == wanted[8 * B :]
    for broken, problem in (({}, "damaged"), ({**state, "digest": "x"}, "digest"), ({**state, "seed": 4}, "seed")):
        with pytest.raises(CheckpointError, match=problem):
            again.load_state_dict(broken)


@pytest.mark.parametrize("layout", ["padded", "pieces"])
def test_a_state_in_the_middle_of_single_rows(ds, layout):
    wanted = [row["input_ids"] for row in take(ds.torch(batch_rows=None, layout=layout), 100)]
    stream = ds.torch(batch_rows=None, layout=layout)
    take(stream, 45)
    again = ds.torch(batch_rows=None, layout=layout)
    again.load_state_dict(stream.state_dict())
    assert torch.equal(torch.stack([row["input_ids"] for row in take(again, 55)]), torch.stack(wanted[45:]))


def test_an_epoch_may_be_set(ds):
    both = keys(ds.torch(batch_rows=10, epochs=2))
    stream = ds.torch(batch_rows=10, epochs=1)
    stream.set_epoch(1)
    assert keys(stream) == both[50:]


def test_what_can_not_be_right(ds):
    for options in (
        {"layout": "round"},
        {"attention": "none"},
        {"layout": "flat", "batch_rows": None},
        {"layout": "pieces", "attention": "segment"},
        {"epochs": 0},
        {"plane": 7},
        {"batch_rows": 0},
        {"batch_rows": 2.5},
        {"batch_rows": True},
        {"epochs": 1.5},
        {"seed": -1},
        {"seed": 2**63},
        {"rank": 0.5, "world_size": 2},
        {"split": "test"},
        {"position_offset": "2"},
    ):
        with pytest.raises(ConfigError):
            ds.torch(**options)
    with pytest.raises(ConfigError, match="epoch must be at least 0, got -1"):
        ds.torch().set_epoch(-1)


@pytest.mark.parametrize("attention", ["row", "segment"])
def test_bert_of_hf_takes_two_steps(ds, attention):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=512, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    model = BertForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for batch in take(ds.torch(batch_rows=8, plane=0, attention=attention), 2):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert all(np.isfinite(losses))
    assert losses[1] < losses[0]
