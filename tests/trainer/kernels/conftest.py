"""What the kernels' tests share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture
def on_threads():
    """A function that calls another on one, two and three threads, and gives the three results."""

    def call(function: Callable[[], Any]) -> list[Any]:
        before = torch.get_num_threads()
        try:
            return [(torch.set_num_threads(threads), function())[1] for threads in (1, 2, 3)]
        finally:
            torch.set_num_threads(before)

    return call
