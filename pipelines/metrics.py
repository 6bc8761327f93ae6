"""Beam's counters of the steps, which appear wherever the runner shows them.

How far a build is does not come from here, since not every runner tells: see `mlm_data.build.status`.
"""

from apache_beam.metrics import Metrics


def count(step: str, **values: int) -> None:
    """Add to Beam's counters of a step; zeros are left out."""
    for name, value in values.items():
        if value:
            Metrics.counter(f"premask.{step}", name).inc(value)
