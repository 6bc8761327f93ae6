"""Every mistake that a user can make with a run: one line, exit code 2, nothing half done."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.synthetic import make_dataset
from trainer.commands import cli
from trainer.training import checkpoint as ck

TINY = ("batch_rows=4", "model.layers=2", "model.width=32", "model.heads=2", "model.intermediate=32")


@pytest.fixture
def refused(capsys, monkeypatch):
    """A function that calls the command, which must refuse: refused("eval", run) -> its one line."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1")  # no second process

    def call(*arguments: object) -> str:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("premask-train: ")
        assert error.count("\n") == 1
        return error

    return call


def command(data: Path, out: Path, *overrides: str) -> list[object]:
    every = (*TINY, "compile=off", "precision=float32", "budget.steps=2", *overrides)
    return ["run", "--data", data, "--out", out, *(part for one in every for part in ("--set", one))]


def test_a_folder_that_is_no_dataset_and_one_of_a_newer_format(refused, dataset, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    assert "other" in refused(*command(tmp_path / "other", tmp_path / "out"))
    assert "no such folder" in refused(*command(tmp_path / "absent", tmp_path / "out"))
    newer = shutil.copytree(dataset, tmp_path / "newer")
    (path,) = (p for p in (newer / "versions").glob("*.json") if not p.name.endswith(".side.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    assert "install a newer premask" in refused(*command(newer, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_damaged_dataset(refused, dataset, tmp_path):
    damaged = shutil.copytree(dataset, tmp_path / "damaged")
    for path in (damaged / "rows").iterdir():
        os.truncate(path, path.stat().st_size // 2)
    refused(*command(damaged, tmp_path / "out"))


def test_a_vocabulary_that_is_too_large(refused, tmp_path):
    large = make_dataset(tmp_path / "large", num_rows=4, validation_rows=2, vocab_size=2**21)
    assert "has a vocabulary of 2,097,152 ids, the trainer does 2,097,151 at most" in refused(
        *command(large, tmp_path / "out")
    )
    assert "at most: build the dataset with a smaller tokenizer" in refused(
        "plan", "--data", large, "--set", "batch_rows=2"
    )


def test_a_dataset_that_hides_nothing(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("mlm_data.dataset.manifest.bounds_problems", lambda *_: [])  # a build refuses it, too
    nothing = make_dataset(tmp_path / "nothing", num_rows=8, validation_rows=2, vocab_size=100, rate=(0.3, 0.001))
    for words in (command(nothing, tmp_path / "out"), ["plan", "--data", nothing, "--set", "batch_rows=2"]):
        line = refused(*words)
        assert "hides nothing in plane 1 (max_targets is 0)" in line
        assert "premask inspect" in line
    assert "the train split has 0, 1" in refused(*command(nothing, tmp_path / "out", "planes=[7]"))


def test_ids_above_65535_are_trained(tmp_path):
    """Tokens of 32 bits on disk."""
    from trainer.config import resolve
    from trainer.training.loop import train

    large = make_dataset(tmp_path / "large", num_rows=4, validation_rows=2, vocab_size=70_000)
    overrides = [*TINY, "compile=off", "precision=float32", "budget.steps=1", "batch_rows=2"]
    values = {"data": str(large), "out": str(tmp_path / "out")}
    assert train(resolve(values=values, overrides=overrides))["step"] == 1


def test_settings_that_cannot_be(refused, dataset, tmp_path):
    out = tmp_path / "out"
    for overrides, message in (
        (["parallel=fsdp"], "use parallel=ddp or optimizer.kind=adamw"),
        (["batch_rows=64"], "fewer than one batch of 64: use batch_rows=40"),
        (["modle.layers=2"], "did you mean 'model'"),
        (["optimizer.betas=[0.9, 1.5]"], "optimizer.betas"),
        (["planes=[7]"], "the train split has 0, 1"),
        (["cuda_graphs=true"], "cuda_graphs: needs an NVIDIA GPU"),
        (["device=cuda"], "device: cuda is asked for"),
        (["changed_data=no"], "changed_data"),
    ):
        if overrides == ["device=cuda"] and torch.cuda.is_available():
            continue
        assert message in refused(*command(dataset, out, *overrides))
        assert not out.exists(), overrides
    assert "did you mean 'tiny'" in refused(*command(dataset, out), "--recipe", "tinny")


def test_a_disk_without_space_for_a_checkpoint(refused, dataset, tmp_path, monkeypatch):
    written, begun = ck._write, []

    def full(path, data):
        if path.name == ck.OPTIMIZER:
            begun.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written(path, data)

    monkeypatch.setattr(ck, "_write", full)
    assert "the disk is full" in refused(*command(dataset, tmp_path / "out"))
    assert begun
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []  # no trace of it


def test_checkpoints_that_are_not_there_or_damaged(refused, run, tmp_path):
    missing = refused("eval", run.out, "--checkpoint", "7")
    assert "no checkpoint '7': newest, best, or a step of 3" in missing
    os.truncate(ck.folder_of(Path(run.out), 3) / ck.MODEL, 50)
    for words in (["fill", run.out, "[MASK]"], ["eval", run.out], ["export", run.out, tmp_path / "hf"]):
        assert "no checkpoint is whole" in refused(*words)


def test_options_that_cannot_be(refused, run, tmp_path):
    assert "--max-rows must be at least 1, got 0" in refused("eval", run.out, "--max-rows", 0)
    assert "--blimp-pairs must be at least 1, got 0" in refused("eval", run.out, "--blimp-pairs", 0)
    assert "--rounds must be at least 1, got 0" in refused("bench", "--data", run.data, "--rounds", 0)
    assert "half of a surrogate pair at character 7" in refused("fill", run.out, "[MASK] \ud800")
    assert "can't write the curves" in refused("plot", run.out, "--out", tmp_path / "absent" / "curves.html")
    assert "did you mean --recipe?" in refused("run", "--recip", "tiny")


def test_a_device_whose_memory_is_full(refused, dataset, tmp_path, monkeypatch):
    from trainer.training.step import Stepper

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stepper, "run", full)
    line = refused(*command(dataset, tmp_path / "out"))
    assert "batch_rows=4: the device's memory is full: use batch_rows=2 with twice the accumulate" in line
