"""A run's clock."""

import time

COMPILE_STEPS = 5  # steps after a start that the clock doesn't count: they compile


class Clock:
    """Seconds of training, and of a step, without the steps that compile. Knows nothing about earlier processes."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._to_skip = COMPILE_STEPS
        self._step_seconds = 0.0
        self.counted = 0  # steps that were measured

    def step(self) -> float:
        """A step has ended: its seconds, or 0 while compiling."""
        seconds = self.other()
        if self._to_skip:
            self._to_skip -= 1
            return 0.0
        self._step_seconds += seconds
        self.counted += 1
        return seconds

    def other(self) -> float:
        """Something else has ended, such as an evaluation: its seconds."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds

    @property
    def seconds_per_step(self) -> float | None:
        """Mean; None until a step was measured."""
        return self._step_seconds / self.counted if self.counted else None
