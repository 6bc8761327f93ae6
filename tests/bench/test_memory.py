"""Peak memory and disk of a build: of its processes together, and of its folder, as the corpus grows.

pytest -m bench tests/bench/test_memory.py -s            0.2 and 1 GB
PREMASK_BENCH_GB=0.2,1,5 pytest ...                      other sizes
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.report import show
from tests.bench.salted import write_many, write_one

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

SIZES = [float(size) for size in os.environ.get("PREMASK_BENCH_GB", "0.2,1").split(",")]
NUM_FILES = 100_000
CONFIG = """
inputs: [{{path: "{inputs}", documents: line}}]
output: {output}
tokenizer: {{train: {{kind: wordpiece, vocab_size: 8192}}}}
deduplicate: {{exact: true, near: {{}}}}
pack: {{sequence_length: 512}}
mask: {{planes: 4}}
"""


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most at any moment, in bytes."""

    memory: int
    disk: int
    seconds: float


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants; pages that they share count for each."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = int(status["VmRSS"].split()[0]) * 1024 if "VmRSS" in status else 0
    return own + sum(resident(int(child)) for child in children)


def on_disk(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def watched(folder: Path, inputs: str, workers: int) -> Peak:
    """Build in a process of its own and look at it 20 times a second; at its folder every 2 seconds."""
    output, config = folder / "out", folder / "premask.yaml"
    config.write_text(CONFIG.format(inputs=inputs, output=output))
    command = [sys.executable, "-m", "pipelines", "build", str(config), "--workers", str(workers)]
    started, memory, disk, looked = time.perf_counter(), 0, 0, 0.0
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as build:
        while build.poll() is None:
            memory = max(memory, resident(build.pid))
            if time.perf_counter() - looked > 2:
                disk, looked = max(disk, on_disk(output)), time.perf_counter()
            time.sleep(0.05)
    assert build.returncode == 0, (folder / "log").read_text()
    return Peak(memory=memory, disk=max(disk, on_disk(output)), seconds=time.perf_counter() - started)


def test_peak_of_memory_and_disk(corpora, tmp_path):
    rows, peaks = [], {}
    for size in SIZES:
        folder = tmp_path / str(size)
        (folder / "in").mkdir(parents=True)
        write_one(corpora, folder / "in/a.txt", int(size * 1e9))
        peak = peaks[size] = watched(folder, f"{folder}/in/*.txt", 2)
        told = f"{peak.memory / 1e6:,.0f} MB, {peak.disk / size / 1e9:.2f} bytes of disk a byte, {peak.seconds:.0f} s"
        rows.append((f"one file of {size:g} GB, 2 workers", told))
    show("peak of a build, exact and near duplicates", ("what", "figure"), rows, packages=("apache-beam", "pyarrow"))
    assert max(peak.memory for peak in peaks.values()) < 1.2e9
    assert peaks[max(SIZES)].memory < 1.2 * peaks[min(SIZES)].memory
    assert all(peak.disk < 2.5 * size * 1e9 for size, peak in peaks.items())


def test_many_small_files(corpora, tmp_path):
    (tmp_path / "in").mkdir()
    write_many(corpora, tmp_path / "in", NUM_FILES, NUM_FILES * 2100)
    peak = watched(tmp_path, f"{tmp_path}/in/*/*.txt", 2)
    rows = [(f"{NUM_FILES:,} files, 2 workers", f"{peak.memory / 1e6:,.0f} MB, {peak.seconds:.0f} s")]
    show("peak of a build of small files", ("what", "figure"), rows, packages=("apache-beam", "pyarrow"))
    assert peak.memory < 1.2e9
