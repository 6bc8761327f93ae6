"""What may change when a run goes on, and what is said where it may not."""

import json
import shutil
from pathlib import Path

import pytest

from mlm_data.errors import CheckpointError
from trainer.config import resolve
from trainer.kernels import native, norm
from trainer.training import checkpoint as ck
from trainer.training import record, runs
from trainer.training.loop import train
from trainer.training.runlog import read_log

CONSTANT = "schedule.decay_share=0"


def steps(run: str) -> list[dict]:
    return [line for line in read_log(Path(run)) if "validation" not in line]


def test_a_larger_budget_goes_on_where_no_step_would_have_been_another(settings):
    whole = settings(CONSTANT, "budget.steps=12", out="whole")
    train(whole)
    train(settings(CONSTANT, "budget.steps=7"))
    longer = settings(CONSTANT, "budget.steps=12")
    said: list[str] = []
    assert train(longer, say=said.append)["step"] == 12
    assert "resumed from step 7" in said
    assert steps(longer.out) == steps(whole.out)
    kept = record.read(Path(longer.out))
    assert (kept.settings.budget.steps, kept.horizon.total) == (12, 12)
    assert train(longer)["step"] == 12  # and again nothing to do


def test_a_run_that_goes_on_with_other_kernels_says_so(settings, monkeypatch):
    """As where the compiler failed at the first start only."""
    first, longer = (settings(CONSTANT, f"budget.steps={steps}") for steps in (7, 12))
    monkeypatch.setattr(runs, "norms_for", lambda *_: norm.PLAIN)
    monkeypatch.setattr(runs, "attention_kind", lambda *_: "batched")
    train(first)
    said: list[str] = []
    monkeypatch.setattr(runs, "attention_kind", lambda *_: "reference")
    train(longer, say=said.append)
    assert (
        "from here on not bit for bit what it would have been: attention was Batched, now it is ReferenceAttention"
    ) in said


@pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler on this machine")
def test_a_kernel_that_was_missing_stays_so_to_the_end_of_the_process(settings, monkeypatch, tmp_path):
    """Another process may compile it between two runs, or a compiler that had no memory may find some."""
    native.problem.cache_clear()
    native.library.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
            patch.setattr(native.shutil, "which", lambda _: None)
            train(settings(CONSTANT, "budget.steps=7"))
        whole, longer = settings(CONSTANT, "budget.steps=12", out="whole"), settings(CONSTANT, "budget.steps=12")
        train(whole)
        said: list[str] = []
        train(longer, say=said.append)
        assert steps(longer.out) == steps(whole.out)
        assert not [line for line in said if "bit for bit" in line]
    finally:
        native.problem.cache_clear()
        native.library.cache_clear()


def test_a_run_that_stopped_before_its_decay_takes_another_budget(settings):
    whole = settings("budget.steps=24", out="whole")
    train(whole)
    first = settings("budget.steps=20")
    train(first)
    for step in ck.steps(Path(first.out)):
        if step > 10:  # as if it had been stopped where the decay begins
            shutil.rmtree(ck.folder_of(Path(first.out), step))
    assert ck.steps(Path(first.out))[-1] == 10
    longer = settings("budget.tokens=6144")  # 24 steps of 256 places
    train(longer)
    assert steps(longer.out) == steps(whole.out)


def test_a_budget_in_minutes_takes_the_place_of_steps(settings):
    chosen = settings(CONSTANT, "budget.steps=6")
    train(chosen)
    result = train(settings(CONSTANT, "budget.minutes=0.0001"))
    assert result["step"] == result["total"] > 6


def test_where_the_rates_followed_the_old_budget_the_message_says_how_to_go_on(settings):
    chosen = settings("budget.steps=6")
    train(chosen)
    with pytest.raises(CheckpointError) as caught:
        train(settings("budget.steps=12"))
    assert "the budget was 6 steps, now it is 12 steps" in str(caught.value)
    assert f"--set start={chosen.out} --out ANOTHER" in str(caught.value)
    assert train(settings("budget.steps=6", f"start={chosen.out}", out="another"))["step"] == 6
    with pytest.raises(CheckpointError, match="now it is 3 steps, and 6 steps are done"):
        train(settings("budget.steps=3"))


def test_a_phase_that_another_began_with_keeps_its_budget(settings, dataset):
    def phases(first: int) -> str:
        parts = [{"data": str(dataset), "tokens": 256 * steps} for steps in (first, 3)]
        return f"phases={parts}"

    train(settings("budget.steps=1", phases(4)))
    with pytest.raises(CheckpointError, match="the next phase has begun with its weights"):
        train(settings("budget.steps=1", phases(6)))


def test_what_differs_is_named_and_nothing_else(settings):
    train(settings("budget.steps=2"))
    with pytest.raises(CheckpointError) as caught:
        train(settings("budget.steps=2", "optimizer.lr=0.5"))
    assert "optimizer was {'lr': 0.003}, now it is {'lr': 0.5}" in str(caught.value)
    assert "betas" not in str(caught.value)


def test_a_run_goes_on_with_its_own_recipe(settings, dataset, tmp_path):
    chosen = settings("budget.steps=2", "recipe=small")
    train(chosen)
    assert resolve(values={"data": str(dataset), "out": chosen.out}).recipe == chosen.recipe
    assert resolve(values={"data": str(dataset), "out": str(tmp_path / "new")}).recipe == "tiny"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99 is newer than this premask knows: upgrade premask"),
        ({"vocab_size": "many"}, "run.json: vocab_size: "),
        ({"surprise": 1}, "run.json: surprise: "),
    ],
)
def test_a_record_that_is_damaged_or_newer(settings, change, message):
    chosen = settings("budget.steps=2")
    train(chosen)
    path = Path(chosen.out) / record.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError) as caught:
        record.read(Path(chosen.out))
    assert message in str(caught.value)


def test_a_record_comes_back_as_it_was_written(settings):
    chosen = settings("budget.steps=2", "accumulate={0: 1, 1: 2}")
    train(chosen)
    found = record.read(Path(chosen.out))
    record.write(Path(chosen.out), found)
    assert record.read(Path(chosen.out)) == found
    assert found.ramp == (0, 1)
    assert found.settings == chosen
