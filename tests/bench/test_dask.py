"""What a second worker of a Dask cluster brings: the same build by one worker and by two, of one thread each, in turns.

Both clusters stand before anything is measured, and each has done a small build: its workers have imported what they
need, loaded the kernels, and know the words.
"""

import shutil
import time

import pytest

from pipelines.build import build
from tests.bench.report import show
from tests.bench.salted import write_one
from tests.bench.test_overhead import NUM_BYTES, ROUNDS, config_of
from tests.pipelines.clusters import dask_cluster

pytest.importorskip("distributed", reason="premask[dask] is not installed")
pytestmark = [
    pytest.mark.bench,
    pytest.mark.corpora,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


def test_a_second_worker(corpora, tmp_path):
    write_one(corpora, tmp_path / "all.txt", NUM_BYTES)
    write_one(corpora, tmp_path / "some.txt", NUM_BYTES // 10)
    times: dict[int, list[float]] = {1: [], 2: []}
    digests = set()
    with dask_cluster(tmp_path / "one", workers=1) as one, dask_cluster(tmp_path / "two", workers=2) as two:
        clusters = {1: one, 2: two}
        for inputs in ("some.txt", *["all.txt"] * ROUNDS):
            for workers, cluster in clusters.items():
                started = time.perf_counter()
                built = build(config_of(tmp_path, corpora, inputs), beam_args=cluster.args)
                seconds = time.perf_counter() - started
                shutil.rmtree(tmp_path / "out")
                if inputs == "all.txt":
                    times[workers].append(seconds)
                    digests.add(built.manifest.digest)
    assert len(digests) == 1
    best = {workers: min(found) for workers, found in times.items()}
    rows = [
        (f"{workers} worker{'s' * (workers > 1)}", f"{seconds:.1f} s, {NUM_BYTES / 1e6 / seconds:.1f} MB/s")
        for workers, seconds in best.items()
    ]
    rows.append(("two workers beside one", f"{best[1] / best[2]:.2f} x"))
    show("300 MB on Dask, exact duplicates", ("what", "figure"), rows, packages=("apache-beam", "distributed"))
