import platform
from pathlib import Path

import pytest

from mlm_data import memory


def resident() -> int:
    """Bytes of anonymous memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim(3) is glibc's")
def test_what_is_free_goes_back_to_the_system():
    """What stays lies between what goes, so that `free` alone gives hardly anything back."""
    blocks: list[bytes | None] = [b"x" * 100_000 for _ in range(1000)]
    blocks[::2] = [None] * 500
    before = resident()
    memory.release()
    assert before - resident() > 30e6
    assert sum(block is not None for block in blocks) == 500


def test_another_c_library_is_no_mistake(monkeypatch):
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)
    memory.release()
