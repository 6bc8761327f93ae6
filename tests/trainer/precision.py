"""Tests of figures run in both precisions, whichever `auto` would take on this machine: slow where it has no
instructions for bf16, not wrong."""

import pytest
import torch

both_precisions = pytest.mark.parametrize("precision", ["float32", "bfloat16"])


def tolerance(precision: str, *, units: float = 100) -> float:
    """So many rounding units of a precision: 2^-23 or 2^-7 each."""
    return units * torch.finfo(getattr(torch, precision)).eps
