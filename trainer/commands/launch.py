"""Start the program again with settings that count only before a process begins."""

import os
import sys
from collections.abc import Sequence

# glibc gives freed blocks above these sizes back to the kernel, and every step faults them in again: 10 to 40 % of a
# step on 2 cores (measured).
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30)}


def launch(words: Sequence[str]) -> None:
    """Start this program again with the allocator's thresholds raised, unless that has been done or can't be.

    To be called before torch is imported: that takes seconds, which would be spent twice.
    """
    if sys.platform != "linux" or any(name in os.environ for name in ALLOCATOR):
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "trainer", *words], os.environ | ALLOCATOR)  # noqa: S606
