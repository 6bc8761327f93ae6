"""How many steps a run has, and where its learning rates begin to fall.

A budget in steps or tokens says it at the beginning. A budget in minutes becomes a number of steps once, from the speed
of the first steps, and is corrected once, where the decay begins. A decision is written into run.json before any step
depends on it, so that a run which is killed and goes on does the same steps at the same rates. A worked trace: 4
minutes, steps of 0.4 s, a decay over the last half:

    step 20     decided: total 600, begin 300, since 20
    step 300    a step took 0.41 s, so fewer fit: total 588, begin 300, corrections 1

`since` is the step at which the number was first known. The steps before it were done at the rates of a run without an
end. A run that is killed at step 25 and goes on from its checkpoint of step 10 does steps 11 to 20 again, and must give
them those rates again: not the ones that follow from a total, which may be shorter than the warm-up.
"""

from pydantic import BaseModel, Field

from trainer.config import RunSettings, ScheduleSettings
from trainer.training.schedule import decay_start, factor

OVERHEAD = 1.03  # evaluation and checkpoints, as a factor on the time of steps
UNDECIDED = 10**9  # steps of a run without an end


class Horizon(BaseModel, frozen=True, extra="forbid"):
    """A number of steps that was decided; see the module's docstring."""

    total: int = Field(ge=1)  # steps
    begin: int = Field(ge=0)  # first step of the decay
    corrections: int = 0  # how often it was decided again
    since: int = 0  # first step that was done knowing of it


def fixed(settings: RunSettings, length: int, *, world: int) -> Horizon | None:
    """The horizon of a budget in steps or tokens, with rows of `length` on `world` ranks; None for one in minutes."""
    total = settings.total_steps(length, world=world)
    return None if total is None else Horizon(total=total, begin=decay_start(total, settings.schedule))


def must_decide(horizon: Horizon | None, step: int) -> bool:
    """Whether a budget in minutes is to become a number of steps now: at first, and once where the decay begins."""
    return horizon is None or (not horizon.corrections and horizon.since < step == horizon.begin)


def decide(
    horizon: Horizon | None, step: int, *, seconds_left: float, seconds_per_step: float, schedule: ScheduleSettings
) -> Horizon:
    """The horizon that `seconds_left` give after `step` steps.

    >>> first = decide(None, 20, seconds_left=232, seconds_per_step=0.4, schedule=ScheduleSettings())
    >>> first.total, first.begin, first.since
    (583, 291, 20)
    """
    total = step + max(1, int(seconds_left / (OVERHEAD * seconds_per_step)))
    if horizon is None:
        return Horizon(total=total, begin=decay_start(total, schedule), since=step)
    return Horizon(total=total, begin=step, corrections=horizon.corrections + 1, since=horizon.since)


def rate_at(horizon: Horizon | None, step: int, schedule: ScheduleSettings) -> float:
    """What the learning rates of step 0, 1, ... are multiplied with."""
    if horizon is None or step < horizon.since:
        return factor(step, UNDECIDED, schedule, begin=UNDECIDED)
    return factor(step, horizon.total, schedule, begin=horizon.begin)


def same_rates(one: Horizon | None, other: Horizon | None, steps: int, schedule: ScheduleSettings) -> bool:
    """Whether the first `steps` steps have the same rates under both."""
    return all(rate_at(one, step, schedule) == rate_at(other, step, schedule) for step in range(steps))
