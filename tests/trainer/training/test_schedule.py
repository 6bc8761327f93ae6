"""Learning-rate factors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import ScheduleSettings
from trainer.training.schedule import decay_start, factor

KINDS = [("wsd", "linear"), ("wsd", "1-sqrt"), ("linear", "linear"), ("cosine", "linear")]


@pytest.mark.parametrize(("kind", "shape"), KINDS)
@given(total=st.integers(1, 300), warmup=st.integers(0, 50), share=st.floats(0.05, 1.0), floor=st.floats(0.0, 0.9))
def test_factors_rise_then_fall_and_stay_in_bounds(kind, shape, total, warmup, share, floor):
    settings = ScheduleSettings(kind=kind, shape=shape, warmup_steps=warmup, decay_share=share, floor=floor)
    values = [factor(step, total, settings) for step in range(total)]
    assert all(0 < value <= 1 for value in values)
    warm = min(warmup, total)
    assert values[:warm] == sorted(values[:warm])
    assert values[warm:] == sorted(values[warm:], reverse=True)
    assert all(value == 1 for value in values[warm : decay_start(total, settings)])
    if warm < total:
        assert values[-1] >= floor


def test_the_decay_may_begin_where_it_was_decided():
    settings = ScheduleSettings(warmup_steps=0)
    assert factor(7, 20, settings, begin=10) == 1
    assert factor(10, 20, settings, begin=10) < 1
    assert factor(19, 20, settings, begin=10) == pytest.approx(1 / 11)


def test_the_formulas():
    """Ten steps after a warm-up of two: the decay's step k of n stands at k / (n + 1)."""
    cosine = ScheduleSettings(kind="cosine", warmup_steps=2, floor=0.1)
    for step in range(2, 12):
        done = (step - 1) / 11
        assert factor(step, 12, cosine) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
    linear = ScheduleSettings(kind="linear", warmup_steps=2)
    assert [factor(step, 12, linear) for step in (2, 6, 11)] == pytest.approx([10 / 11, 6 / 11, 1 / 11])
    wsd = ScheduleSettings(kind="wsd", shape="1-sqrt", warmup_steps=2, decay_share=0.25, floor=0.2)
    wanted = [0.2 + 0.8 * (1 - (k / 4) ** 0.5) for k in (1, 2, 3)]
    assert [factor(step, 12, wsd) for step in range(8, 12)] == pytest.approx([1.0, *wanted])


def test_one_minus_sqrt_falls_faster_at_first():
    straight = ScheduleSettings(warmup_steps=0, shape="linear")
    curved = ScheduleSettings(warmup_steps=0, shape="1-sqrt")
    assert factor(60, 100, curved) < factor(60, 100, straight)
    assert factor(60, 100, curved) == pytest.approx(1 - (11 / 51) ** 0.5)
