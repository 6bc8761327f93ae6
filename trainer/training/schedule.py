r"""Learning-rate schedules: a pure function of the step, the number of steps and the settings.

- wsd: warm-up, constant, then decay over the last `decay_share` of the steps (Hu et al. 2024, MiniCPM, sec. 4;
  1-sqrt: Haegele et al. 2024, sec. 3.2)
- linear: warm-up, then a straight line to the floor
- cosine: warm-up, then half a cosine to the floor

A picture of wsd:

    factor  1 |   ______________
              |  /              \
            0 |_/________________\____ step
              warm-up            decay
"""

import math

from trainer.config import ScheduleSettings


def factor(step: int, total: int, settings: ScheduleSettings, *, begin: int | None = None) -> float:
    """What the learning rates of step 0, 1, ... total - 1 are multiplied with.

    Args:
        begin: first step of the decay, where it is not `decay_start(total, settings)`.

    >>> [round(factor(step, 8, ScheduleSettings(warmup_steps=2)), 2) for step in range(8)]
    [0.5, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """
    warm = min(settings.warmup_steps, total)
    if step < warm:
        return (step + 1) / warm
    begin = decay_start(total, settings) if begin is None else begin
    if step < begin:
        return 1.0
    done = (step + 1 - begin) / (total + 1 - begin)  # in (0, 1): the last step still moves
    if settings.kind == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * done))
    elif settings.kind == "wsd" and settings.shape == "1-sqrt":
        left = 1 - math.sqrt(done)
    else:
        left = 1 - done
    return settings.floor + (1 - settings.floor) * left


def decay_start(total: int, settings: ScheduleSettings) -> int:
    """The first step whose factor may be below 1 again."""
    warm = min(settings.warmup_steps, total)
    if settings.kind != "wsd":
        return warm
    return max(warm, total - math.ceil(total * settings.decay_share))
