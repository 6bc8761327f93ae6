"""What a second worker of a Dask cluster brings: the same build by one worker and by two, of one thread each, in turns.

Both clusters stand before anything is measured, and each has done a small build: its workers have imported what they
need, loaded the kernels, and know the words.

Where other programs run, times by the clock say little of a second worker. So processor time is printed, too: what the
busier one of two workers has used bounds how much two can be faster than one.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pipelines.build import build
from tests.bench.report import show
from tests.bench.salted import write_one
from tests.bench.test_overhead import config_of
from tests.pipelines.clusters import dask_cluster

pytest.importorskip("distributed", reason="premask[dask] is not installed")
pytestmark = [
    pytest.mark.bench,
    pytest.mark.corpora,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]

NUM_BYTES, ROUNDS = 900_000_000, 2  # of which planning, some 1.5 s, is little


def processor_seconds(process: subprocess.Popen) -> float:
    """User and system time of a process so far: fields 14 and 15 of proc(5)."""
    facts = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")


def test_a_second_worker(corpora, tmp_path):
    write_one(corpora, tmp_path / "all.txt", NUM_BYTES)
    write_one(corpora, tmp_path / "some.txt", NUM_BYTES // 10)
    times: dict[int, list[float]] = {1: [], 2: []}
    used: dict[int, list[list[float]]] = {1: [], 2: []}  # by each worker, and last by this process and the scheduler
    digests = set()
    with dask_cluster(tmp_path / "one", workers=1) as one, dask_cluster(tmp_path / "two", workers=2) as two:
        clusters = {1: one, 2: two}
        for inputs in ("some.txt", *["all.txt"] * ROUNDS):
            for workers, cluster in clusters.items():
                of_cluster = [*cluster.workers, cluster.scheduler]
                before, own = [processor_seconds(one) for one in of_cluster], time.process_time()
                started = time.perf_counter()
                built = build(config_of(tmp_path, corpora, inputs), beam_args=cluster.args)
                seconds = time.perf_counter() - started
                shutil.rmtree(tmp_path / "out")
                if inputs == "all.txt":
                    times[workers].append(seconds)
                    spent = [processor_seconds(one) - then for one, then in zip(of_cluster, before, strict=True)]
                    used[workers].append([*spent[:-1], spent[-1] + time.process_time() - own])
                    digests.add(built.manifest.digest)
    assert len(digests) == 1
    best = {workers: min(found) for workers, found in times.items()}
    rows = [
        (f"{workers} worker{'s' * (workers > 1)}", f"{seconds:.1f} s, {NUM_BYTES / 1e6 / seconds:.1f} MB/s")
        for workers, seconds in best.items()
    ]
    rows.append(("two workers beside one", f"{best[1] / best[2]:.2f} x"))
    for workers, rounds in used.items():
        told = "; ".join(", ".join(f"{seconds:.1f}" for seconds in one) for one in rounds)
        rows.append((f"processor seconds of {workers}, and of starter and scheduler, by round", told))
    (one, rest), (first, second, other) = (min(rounds, key=sum) for rounds in used.values())
    bound = (one + rest) / (max(first, second) + other)
    rows.append(("two workers beside one, by processor time at most", f"{bound:.2f} x"))
    show("900 MB on Dask, exact duplicates", ("what", "figure"), rows, packages=("apache-beam", "distributed"))
