"""Counters for the runner, and progress for the person who waits.

Beam's counters appear wherever the runner shows them. `advance` feeds the live display of a local build, whose workers
are threads of this process; on other runners nobody listens, and it costs a lock.
"""

import threading
from collections import Counter

from apache_beam.metrics import Metrics

_progress: Counter[str] = Counter()
_lock = threading.Lock()


def count(step: str, **values: int) -> None:
    """Add to Beam's counters of a step; zeros are left out."""
    for name, value in values.items():
        if value:
            Metrics.counter(f"premask.{step}", name).inc(value)


def advance(step: str, amount: int) -> None:
    """A step got further by so many bytes of input."""
    with _lock:
        _progress[step] += amount


def progress() -> dict[str, int]:
    """Bytes of input that each step has dealt with in this process since `reset`."""
    with _lock:
        return dict(_progress)


def reset() -> None:
    """Begin a new count of progress."""
    with _lock:
        _progress.clear()
