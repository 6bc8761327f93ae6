"""Memory that nobody uses any more goes back to the system.

Allocators keep what was freed: glibc's `malloc` in one arena for each thread, Arrow's pool in pages of its own. After
the tokenizer was trained that is much (measured with 1 GB of text: 258 MB of 684). So it is given back where one stage
ends and another begins.
"""

import ctypes
import gc
from functools import cache
from typing import Any

import pyarrow as pa


def release() -> None:
    """Give back what is free: collect garbage, then ask Arrow's pool and, where it is glibc, `malloc_trim(3)`.

    Cost: a full collection, 0.1 s with Beam loaded; the next allocations of that much fault their pages in again.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return None
