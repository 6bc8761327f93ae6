"""How many steps there are, and at which rates the steps are done that were done before anybody knew."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.config import ScheduleSettings
from trainer.training.horizon import Horizon, decide, must_decide, rate_at, same_rates
from trainer.training.schedule import decay_start, factor

SCHEDULES = st.builds(
    ScheduleSettings,
    kind=st.sampled_from(["wsd", "linear", "cosine"]),
    warmup_steps=st.integers(0, 30),
    decay_share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)


def horizon_of(total: int, schedule: ScheduleSettings, since: int = 0) -> Horizon:
    return Horizon(total=total, begin=decay_start(total, schedule), since=since)


def test_minutes_are_decided_once_and_corrected_where_the_decay_begins():
    schedule = ScheduleSettings(warmup_steps=4)
    assert must_decide(None, 20)
    first = decide(None, 20, seconds_left=206, seconds_per_step=1.0, schedule=schedule)
    assert first == Horizon(total=220, begin=110, corrections=0, since=20)
    assert [step for step in range(21, 220) if must_decide(first, step)] == [110]
    second = decide(first, 110, seconds_left=51.5, seconds_per_step=1.0, schedule=schedule)
    assert second == Horizon(total=160, begin=110, corrections=1, since=20)
    assert not any(must_decide(second, step) for step in range(21, 160))


def test_there_is_always_a_step_left():
    found = decide(None, 20, seconds_left=-5.0, seconds_per_step=1.0, schedule=ScheduleSettings())
    assert found.total == 21


@given(SCHEDULES, st.integers(1, 60), st.integers(0, 40))
def test_steps_before_the_decision_keep_the_rates_of_a_run_without_an_end(schedule, total, since):
    decided = horizon_of(total, schedule, since)
    for step in range(total):
        endless = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
        wanted = endless if step < since else factor(step, total, schedule)
        assert rate_at(decided, step, schedule) == wanted


@given(SCHEDULES, st.integers(1, 60), st.integers(1, 60))
def test_rates_are_the_same_exactly_where_each_step_is_one(schedule, total, other):
    one, two = horizon_of(total, schedule), horizon_of(other, schedule)
    for steps in (0, total // 2, min(total, other)):
        pairs = [(factor(step, total, schedule), factor(step, other, schedule)) for step in range(steps)]
        assert same_rates(one, two, steps, schedule) == all(a == b for a, b in pairs)
