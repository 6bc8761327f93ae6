"""Runs: what they write, how they go on, and that being killed changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlm_data.errors import CheckpointError, ConfigError, StorageError
from tests.synthetic import make_dataset
from tests.trainer.precision import both_precisions, tolerance
from trainer.training import checkpoint as ck
from trainer.training.loop import train
from trainer.training.runlog import read_log

ROOT = Path(__file__).resolve().parents[3]


def losses(run: Path) -> dict[int, tuple]:
    """Everything that was logged of each training step."""
    return {line["step"]: tuple(line.items()) for line in read_log(run) if "validation" not in line}


@pytest.fixture
def start(small, dataset):
    """A function that starts a run in another process."""
    processes = []

    def launch(out: Path, *overrides: str) -> subprocess.Popen:
        options = [option for value in (*small, *overrides) for option in ("--set", value)]
        command = [sys.executable, "-m", "trainer", "run", "--data", str(dataset), "--out", str(out), *options]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, cwd=ROOT, **output))
        return processes[-1]

    yield launch
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def kill_between_checkpoints(process: subprocess.Popen, run: Path, step: int, *, seconds: float = 120) -> None:
    """Kill a run that has logged `step` steps, and more of them than its newest checkpoint holds.

    It is looked at while it stands still: what is seen is what the kill leaves.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        process.send_signal(signal.SIGSTOP)
        saved, logged = ck.steps(run), max(losses(run), default=0)
        if saved and logged >= step and logged > saved[-1]:
            process.kill()
            process.communicate()
            return
        process.send_signal(signal.SIGCONT)
        if process.poll() is not None:
            raise AssertionError(f"ended early: {process.stdout.read()}")
        time.sleep(0.02)
    raise AssertionError("the run does not get on")


def test_killed_and_resumed_it_has_the_same_losses_bit_for_bit(start, tmp_path, settings):
    budget = "budget.steps=40"
    whole = settings(budget, out="whole")
    train(whole)
    process = start(tmp_path / "killed", budget, "log_every=1")
    kill_between_checkpoints(process, tmp_path / "killed", 13)
    before = losses(tmp_path / "killed")
    resumed_from = ck.steps(tmp_path / "killed")[-1]
    assert 0 < resumed_from < max(before)
    process = start(tmp_path / "killed", budget, "log_every=1")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"resumed from step {resumed_from}" in output
    after, wanted = losses(tmp_path / "killed"), losses(Path(whole.out))
    assert sorted(after) == sorted(wanted) == list(range(1, 41))
    assert after == wanted
    assert all(before[step] == wanted[step] for step in before)
    one, two = ck.load(tmp_path / "killed", 40), ck.load(Path(whole.out), 40)
    assert one.state["sha256"] == two.state["sha256"]


@pytest.mark.parametrize("minutes", ["0.02", "0.0001"])  # the shorter one is over when it is decided
def test_a_budget_in_minutes_is_decided_once_and_kept(settings, tmp_path, minutes):
    chosen = settings(f"budget.minutes={minutes}", "checkpoint_every=7")
    result = train(chosen)
    horizon = json.loads((Path(chosen.out) / "run.json").read_text())["horizon"]
    assert result["step"] == result["total"] == horizon["total"] > 20
    wanted = losses(Path(chosen.out))
    # Go on from an earlier checkpoint: the same number of steps, the same losses.
    again = settings(f"budget.minutes={minutes}", "checkpoint_every=7", out="again")
    shutil.copytree(chosen.out, again.out)
    for step in ck.steps(Path(again.out))[1:]:
        shutil.rmtree(ck.folder_of(Path(again.out), step))
    assert train(again)["total"] == horizon["total"]
    assert losses(Path(again.out)) == wanted


def test_sigterm_saves_and_ends_cleanly(start, tmp_path):
    run = tmp_path / "run"
    process = start(run, "budget.steps=100000", "checkpoint_every=100000", "log_every=1", "evaluate_every=3")
    end = time.monotonic() + 120
    while time.monotonic() < end and max(losses(run), default=0) < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "start it again to go on" in output
    assert ck.steps(run) == [max(losses(run))]


@both_precisions
def test_accumulation_is_the_same_as_a_larger_batch(settings, precision):
    large = settings("budget.steps=6", "batch_rows=8", out="large")
    small = settings("budget.steps=6", "batch_rows=4", "accumulate=2", out="small")
    train(large)
    train(small)
    for step, line in losses(Path(large.out)).items():
        other = dict(losses(Path(small.out))[step])
        assert dict(line)["targets"] == other["targets"]
        assert dict(line)["loss"] == pytest.approx(other["loss"], rel=max(1e-5, tolerance(precision, units=0.1)))


@pytest.mark.slow
def test_a_compiled_run_is_resumed_bit_for_bit_too(start, tmp_path, settings):
    options = ("budget.steps=40", "compile=on", "log_every=1")
    assert start(tmp_path / "whole", *options).wait(timeout=600) == 0
    process = start(tmp_path / "killed", *options)
    kill_between_checkpoints(process, tmp_path / "killed", 13, seconds=600)
    assert start(tmp_path / "killed", *options).wait(timeout=600) == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@both_precisions
def test_recomputing_activations_changes_nothing(settings):
    plain, frugal = settings("budget.steps=5", out="plain"), settings("budget.steps=5", "recompute=true", out="frugal")
    train(plain)
    train(frugal)
    assert losses(Path(plain.out)) == losses(Path(frugal.out))


def test_another_log_gets_the_same_figures(settings, monkeypatch):
    seen: list[dict] = []
    fake = SimpleNamespace(init=lambda **_: SimpleNamespace(log=seen.append, finish=lambda: seen.append({})))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    chosen = settings("budget.steps=3", "wandb=project")
    train(chosen)
    assert [line["train/loss"] for line in seen if "train/loss" in line] == [
        line["loss"] for line in read_log(Path(chosen.out)) if "loss" in line
    ]
    assert seen[-1] == {}
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        train(settings("budget.steps=3", "wandb=project", out="other"))


def test_a_full_disk_ends_the_run_with_one_line(settings, monkeypatch):
    def full(*_):
        raise StorageError("checkpoints: can't write: the disk is full")

    monkeypatch.setattr(ck, "save", full)
    with pytest.raises(StorageError, match="disk is full"):
        train(settings("budget.steps=12"))


@both_precisions
def test_it_learns(settings):
    chosen = settings("budget.steps=60", "optimizer.lr=0.01")
    result = train(chosen)
    lines = losses(Path(chosen.out))
    assert dict(lines[60])["loss"] < dict(lines[1])["loss"] - 0.02
    assert result["validation"]["step"] == 60
    assert ck.steps(Path(chosen.out))[-1] == 60
    assert (Path(chosen.out) / "tokenizer.json").exists()
    assert any((Path(chosen.out) / "tensorboard").iterdir())


def test_a_finished_run_has_nothing_to_do(settings):
    chosen = settings("budget.steps=5")
    train(chosen)
    before = (Path(chosen.out) / "log.jsonl").read_text()
    assert train(chosen)["step"] == 5
    assert (Path(chosen.out) / "log.jsonl").read_text() == before


@both_precisions
def test_a_truncated_checkpoint_means_the_one_before_and_says_so(settings):
    chosen = settings("budget.steps=10")
    train(chosen)
    wanted = losses(Path(chosen.out))
    path = ck.folder_of(Path(chosen.out), 10) / ck.OPTIMIZER
    os.truncate(path, 100)
    said: list[str] = []
    train(chosen, say=said.append)
    assert any("damaged" in line and "the checkpoint before it is used" in line for line in said)
    assert "resumed from step 5" in said
    assert losses(Path(chosen.out)) == wanted


@both_precisions
def test_a_step_that_is_not_finite_is_skipped_and_reported(settings, monkeypatch):
    from trainer.training.step import Stepper

    accumulate, calls = Stepper._accumulate, []

    def poisoned(self, batch):
        sums = accumulate(self, batch)
        calls.append(batch)
        if len(calls) == 3:
            self.forward.encoder.head.dense.weight.grad.fill_(float("nan"))
        return sums

    monkeypatch.setattr(Stepper, "_accumulate", poisoned)
    said: list[str] = []
    result = train(settings("budget.steps=6"), say=said.append)
    assert result["skipped"] == [3]
    assert "step 3: the gradient is not finite: skipped" in said
    assert result["validation"]["loss_sum"] > 0


def test_changed_data_is_refused_or_taken_from_its_beginning(settings, dataset, tmp_path, capsys):
    from trainer.commands import cli

    chosen = settings("budget.steps=7")
    train(settings("budget.steps=7", out="whole"))
    train(chosen)
    for step in ck.steps(Path(chosen.out))[1:]:
        shutil.rmtree(ck.folder_of(Path(chosen.out), step))  # as if it had been stopped after step 5
    other = make_dataset(tmp_path / "other", num_rows=40, validation_rows=10, vocab_size=100, seed=5)
    with pytest.raises(CheckpointError) as caught:
        train(settings("budget.steps=7", data=other))
    for remedy in (f"--data {dataset}@", "changed_data=take", f"start={chosen.out}"):
        assert remedy in str(caught.value)
    said: list[str] = []
    taken = settings("budget.steps=7", "changed_data=take", data=other)
    train(taken, say=said.append)
    assert any(line.startswith("from step 6 on with dataset") for line in said)
    assert "resumed from step 5" in said
    before, after = losses(Path(chosen.out).with_name("whole")), losses(Path(chosen.out))
    assert [before[step] == after[step] for step in range(1, 8)] == [True] * 5 + [False] * 2
    state = ck.load(Path(chosen.out), 7).state
    assert state["loader"][0]["rows_consumed"] == 2 * 4
    assert state["settings"]["data"] == str(other)
    assert train(taken)["step"] == 7  # and it goes on as any other run

    def documents(run: str, step: int) -> set[str]:
        assert cli.main(["which-docs", run, str(step), "--json"]) == 0
        return {line["id"] for line in json.loads(capsys.readouterr().out)}

    fresh = settings("budget.steps=2", out="fresh", data=other)
    train(fresh)
    assert documents(chosen.out, 5) == documents(str(tmp_path / "whole"), 5)
    assert documents(chosen.out, 6) == documents(fresh.out, 1)
    assert documents(chosen.out, 7) == documents(fresh.out, 2)


def test_the_best_checkpoint_stays_and_can_be_found(settings):
    # A learning rate that is far too high after the start: the first checkpoints are the best.
    chosen = settings("budget.steps=20", "evaluate_every=1", "checkpoint_every=4", "keep=2", "optimizer.lr=0.3")
    train(chosen)
    folder = Path(chosen.out)
    seen = {line["step"]: line["validation"]["loss"] for line in read_log(folder) if "validation" in line}
    best = min((4, 8, 12, 16, 20), key=seen.get)
    newest, _ = ck.latest(folder)
    assert newest.state["run"]["best"] == {"step": best, "loss": pytest.approx(seen[best])}
    assert ck.steps(folder) == sorted({best, 16, 20})
    for which, step in (("best", best), ("16", 16), ("newest", 20)):
        assert ck.find(folder, which)[0].step == step


def test_a_spike_names_its_step_and_the_command_for_it(settings, monkeypatch, capsys):
    from trainer.commands import cli
    from trainer.training.step import Stepper

    read, step = Stepper.read, []

    def jumped(self):
        stats = read(self)
        step.extend(stats)
        return [one._replace(loss_sum=one.loss_sum * 3) if len(step) == 60 else one for one in stats]

    monkeypatch.setattr(Stepper, "read", jumped)
    said: list[str] = []
    chosen = settings("budget.steps=60", "log_every=1", "evaluate_every=100", "checkpoint_every=100")
    train(chosen, say=said.append)
    (line,) = (line for line in said if "jumped" in line)
    assert line == f"step 60: the loss jumped: see premask-train which-docs {chosen.out} 60"
    assert cli.main(line.split("premask-train ")[1].split()) == 0
    assert "document" in capsys.readouterr().out


def test_the_live_line_has_everything(settings):
    from trainer.commands.progress import describe

    lines: list[str] = []
    train(settings("budget.steps=30"), watch=lambda progress: lines.append(describe(progress)))
    parts = [part.split(" ")[0] for part in lines[-2].split("  ")]
    assert parts[:5] == ["step", "loss", "validation", "accuracy", "lr"]
    assert "tokens/s" in lines[-2]
    assert "MFU" in lines[-2]
    assert lines[-2].endswith("left")


def test_mistakes_are_refused(settings, dataset, tmp_path):
    chosen = settings("budget.steps=2")
    train(chosen)
    with pytest.raises(CheckpointError, match="model was"):
        train(settings("budget.steps=2", "model.layers=3"))
    other = make_dataset(tmp_path / "other", num_rows=40, validation_rows=10, vocab_size=100, seed=5)
    with pytest.raises(CheckpointError, match="was trained on dataset"):
        train(settings("budget.steps=2", data=other))
    with pytest.raises(ConfigError, match="fewer than one batch of 64: use batch_rows=40"):
        train(settings("budget.steps=2", "batch_rows=64", out="large"))
    with pytest.raises(ConfigError, match="no such folder"):
        train(settings("budget.steps=2", data=tmp_path / "absent", out="absent"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(StorageError, match="holds something that is no training run"):
        train(settings("budget.steps=2", out="full"))
