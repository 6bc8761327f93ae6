"""No step reads memory that nobody has written: with such memory full of NaN it gives the same bits."""

from pathlib import Path

import pytest
import torch

from tests.trainer.precision import both_precisions
from trainer.training import machine as mc
from trainer.training.loop import train
from trainer.training.runlog import read_log


@pytest.fixture
def filled(monkeypatch):
    """A function that makes torch fill what it allocates."""
    prepare = mc.prepare

    def prepared(machine: mc.Machine) -> None:
        prepare(machine)
        torch.utils.deterministic.fill_uninitialized_memory = True

    yield lambda: monkeypatch.setattr(mc, "prepare", prepared)
    torch.utils.deterministic.fill_uninitialized_memory = False


@both_precisions
def test_a_run_is_the_same_where_memory_is_full_of_nan(settings, filled, precision):
    usual = settings("budget.steps=6", out="usual")
    train(usual)
    filled()
    other = settings("budget.steps=6", out="other")
    train(other)
    assert torch.empty(8).isnan().all()  # else this proves nothing
    assert read_log(Path(other.out)) == read_log(Path(usual.out))
