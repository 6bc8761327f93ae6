"""Two gloo ranks do what one rank does with two micro-batches; what can't work is refused; a lost rank is told."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mlm_data.errors import ConfigError
from tests.synthetic import make_dataset
from trainer.training import checkpoint as ck
from trainer.training.loop import train
from trainer.training.parallel import check
from trainer.training.runlog import read_log

ROOT = Path(__file__).resolve().parents[3]


def steps_of(run: Path) -> list[dict]:
    return [line for line in read_log(run) if "validation" not in line]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def ranks(small, dataset):
    """A function that starts the ranks of one run, as torchrun would."""
    processes: list[subprocess.Popen] = []

    def launch(world: int, out: Path, *overrides: str) -> list[subprocess.Popen]:
        options = [option for value in (*small, *overrides) for option in ("--set", value)]
        command = [sys.executable, "-m", "trainer", "run", "--data", str(dataset), "--out", str(out), *options]
        shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        for rank in range(world):
            environment = os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **output))
        return processes[-world:]

    yield launch
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finish(processes: list[subprocess.Popen]) -> list[str]:
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


@pytest.mark.parametrize(("parallel", "optimizer"), [("ddp", "muon"), ("fsdp", "adamw")])
def test_two_ranks_agree_with_one_that_accumulates_and_the_run_goes_on_with_one(
    ranks, settings, tmp_path, parallel, optimizer
):
    kind = f"optimizer.kind={optimizer}"
    alone = settings("budget.steps=12", "accumulate=2", kind, out="alone")
    train(alone)
    out = tmp_path / "ranks"
    outputs = finish(ranks(2, out, "budget.steps=12", kind, f"parallel={parallel}"))
    assert "step 12" in outputs[0]
    assert outputs[1] == ""
    one, two = steps_of(Path(alone.out)), steps_of(out)
    assert [line["step"] for line in two] == list(range(1, 13))
    for a, b in zip(one, two, strict=True):
        assert a["targets"] == b["targets"]
        assert a["accuracy"] == pytest.approx(b["accuracy"], abs=1e-9)
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-5)
        assert a["norm"] == pytest.approx(b["norm"], rel=1e-3)
    weights, others = ck.load(Path(alone.out), 12), ck.load(out, 12)
    assert weights.model.keys() == others.model.keys()
    for name, tensor in weights.model.items():
        torch.testing.assert_close(others.model[name], tensor, rtol=1e-3, atol=1e-4)
    assert weights.optimizer.keys() == others.optimizer.keys()
    validation = [line["validation"] for line in read_log(out) if "validation" in line]
    assert validation[-1]["targets"] == read_log(Path(alone.out))[-1]["validation"]["targets"]

    # Another number of ranks reads the same rows from where the checkpoint is.
    shutil.rmtree(ck.folder_of(out, 12))
    again = settings("budget.steps=12", "accumulate=2", kind, out="ranks")
    train(again)
    for a, b in zip(one, steps_of(out), strict=True):
        assert a["targets"] == b["targets"]
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-5)


def test_averages_and_mixtures_agree_too(ranks, settings, tmp_path):
    """What FSDP shares out is averaged and saved whole; micro-batches of a mixture are dealt out in turn."""
    other = make_dataset(tmp_path / "other", num_rows=24, validation_rows=4, vocab_size=100, rate=0.15, seed=9)
    options = ("budget.steps=7", "optimizer.kind=adamw", "ema=0.9", f"mix=[{{data: {other}, weight: 0.5}}]")
    alone = settings(*options, "accumulate=2", out="alone")
    train(alone)
    out = tmp_path / "ranks"
    finish(ranks(2, out, *options, "parallel=fsdp"))
    for a, b in zip(steps_of(Path(alone.out)), steps_of(out), strict=True):
        assert a["targets"] == b["targets"]
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-5)
    one, two = ck.load(Path(alone.out), 7), ck.load(out, 7)
    assert one.state["loader"] == two.state["loader"]
    averages = [name for name in one.optimizer if name.startswith("ema/")]
    assert len(averages) == len(one.model)
    for name in averages:
        torch.testing.assert_close(two.optimizer[name], one.optimizer[name], rtol=1e-3, atol=1e-4)
    # One rank goes on where two were, with the average and the mixture.
    shutil.rmtree(ck.folder_of(out, 7))
    train(settings(*options, "accumulate=2", out="ranks"))
    for a, b in zip(steps_of(Path(alone.out)), steps_of(out), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-5)


def test_a_rank_that_dies_ends_the_other_with_a_message(ranks, tmp_path):
    out = tmp_path / "run"
    processes = ranks(2, out, "budget.steps=1000000", "evaluate_every=1000000", "checkpoint_every=1000000")
    end = time.monotonic() + 120
    while time.monotonic() < end and len(steps_of(out)) < 3:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    output, _ = processes[0].communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert processes[0].returncode == 2
    assert "another rank ended" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_sigterm_on_one_rank_stops_all_at_the_same_step(ranks, tmp_path):
    out = tmp_path / "run"
    processes = ranks(2, out, "budget.steps=1000000", "evaluate_every=1000000", "checkpoint_every=1000000")
    end = time.monotonic() + 120
    while time.monotonic() < end and len(steps_of(out)) < 3:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    outputs = finish(processes)
    assert "start it again to go on" in outputs[0]
    assert ck.steps(out) == [steps_of(out)[-1]["step"]]


def test_muon_under_fsdp_is_refused(settings):
    with pytest.raises(ConfigError, match=r"use parallel=ddp or optimizer\.kind=adamw"):
        check(settings("budget.steps=1", "parallel=fsdp"))
