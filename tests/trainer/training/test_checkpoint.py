"""Checkpoints appear whole, are checked when read, and damaged ones are passed over."""

import errno
import os

import pytest
import torch

from mlm_data.errors import CheckpointError, StorageError
from trainer.training import checkpoint as ck


def make(step: int) -> ck.Checkpoint:
    return ck.Checkpoint(
        step=step,
        model={"w": torch.full((3, 4), float(step))},
        optimizer={"step/w": torch.tensor(float(step)), "momentum/w": torch.ones(3, 4)},
        state={"run": {"step": step}},
    )


def test_it_goes_round(tmp_path):
    ck.save(tmp_path, make(7))
    found = ck.load(tmp_path, 7)
    assert found.step == 7
    assert torch.equal(found.model["w"], torch.full((3, 4), 7.0))
    assert found.optimizer["step/w"].shape == ()
    assert found.state["run"] == {"step": 7}


def test_the_newest_whole_one_is_used_and_a_damaged_one_is_named(tmp_path):
    for step in (5, 10):
        ck.save(tmp_path, make(step))
    path = ck.folder_of(tmp_path, 10) / ck.MODEL
    path.write_bytes(path.read_bytes()[:-5])
    found, notes = ck.latest(tmp_path)
    assert found.step == 5
    assert len(notes) == 1
    assert "step-00000010" in notes[0]
    assert "damaged" in notes[0]
    assert "the checkpoint before it is used" in notes[0]


@pytest.mark.parametrize("name", [ck.MODEL, ck.OPTIMIZER, ck.STATE])
@pytest.mark.parametrize("damage", ["cut", "change", "empty", "remove"])
def test_every_damage_is_seen(tmp_path, name, damage):
    ck.save(tmp_path, make(3))
    path = ck.folder_of(tmp_path, 3) / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "change":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 0x80]) + data[middle + 1 :])
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    with pytest.raises(CheckpointError, match="damaged"):
        ck.load(tmp_path, 3)
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        ck.latest(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    ck.save(tmp_path, make(3))
    path = ck.folder_of(tmp_path, 3) / ck.STATE
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match="newer than this premask"):
        ck.load(tmp_path, 3)


def test_no_run_is_no_checkpoint(tmp_path):
    assert ck.latest(tmp_path / "absent") == (None, [])


def test_old_ones_are_removed_and_the_best_stays(tmp_path):
    for step in range(1, 7):
        ck.save(tmp_path, make(step))
    (tmp_path / "checkpoints" / ".tmp-left").mkdir()
    ck.prune(tmp_path, keep=2, best=3)
    assert ck.steps(tmp_path) == [3, 5, 6]
    assert not (tmp_path / "checkpoints" / ".tmp-left").exists()


def test_a_full_disk_is_one_line_and_leaves_no_trace(tmp_path, monkeypatch):
    ck.save(tmp_path, make(1))

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        ck.save(tmp_path, make(2))
    assert ck.steps(tmp_path) == [1]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
