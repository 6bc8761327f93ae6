"""What verifying costs beside a SHA-256 of the same files, and the masks' audit. `make bench` prints it."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlm_data.dataset.check import audit_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.verify import verify
from mlm_data.shards import format as fmt
from mlm_data.shards.writer import write_shard
from mlm_data.stores.folder import Folder
from tests.bench.datasets import VOCAB, documents_table, publish_shards
from tests.bench.report import show
from tests.bench.test_masks import draw, packed, planes_of
from tests.mlm_data.dataset.test_statistics import words_tokenizer

SHARDS, TOKENS, PLANES, ROUNDS = 4, 8_000_000, 4, 3


def write(folder: Folder) -> Dataset:
    """Packed rows of random documents, every shard the same: 4 planes at 30 %, 80/10/10."""
    rows, keys = packed(TOKENS)
    sizes = np.zeros(len(keys), np.int32)
    np.add.at(sizes, rows.segment_documents, rows.segment_lengths - 2)
    documents = documents_table(keys, sizes)
    masks = {name: draw(rows, keys, plane) for name, plane in planes_of("token", PLANES).items()}
    shards = [
        write_shard(
            folder, split=fmt.TRAIN, unit=unit, compression="none", rows=rows, planes=masks, documents=documents
        )
        for unit in range(SHARDS)
    ]
    publish_shards(
        folder, shards, length=rows.sequence_length, rates=(0.3,) * PLANES, max_segments=16,
        tokenizer=words_tokenizer(VOCAB),
    )  # fmt: skip
    return Dataset.open(folder)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Least time of some rounds: by the clock, and of the processor."""
    work()
    times = []
    for _ in range(ROUNDS):
        begun, used = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - begun, time.process_time() - used))
    return min(clock for clock, _ in times), min(used for _, used in times)


@pytest.mark.bench
def test_verify_and_audit(tmp_path):
    """MB of files a second, from the page cache: SHA-256 alone, `verify` by one thread and by two, the audit.

    In a process of its own: in this one the shapes of arrays are checked at every call.
    """
    dataset = write(Folder(tmp_path / "data"))
    assert verify(dataset.folder).ok
    words = [sys.executable, "-m", "tests.bench.test_verify", dataset.folder.location]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
    megabytes = sum(dataset.files["num_bytes"].to_pylist()) / 1e6
    lines = [
        [name, f"{megabytes / clock:.0f}", f"{megabytes / used:.0f}"]
        for name, (clock, used) in json.loads(done.stdout).items()
    ]
    columns = ["", "MB/s", "MB a second of processor time"]
    show(f"verifying {megabytes:.0f} MB, {PLANES} planes", columns, lines, packages=("pyarrow", "numba"))


def measure(location: str) -> dict[str, tuple[float, float]]:
    """Seconds of each kind of work, as `seconds` has them."""
    dataset = Dataset.open(location)
    names, place = dataset.files["name"].to_pylist(), dataset.folder

    def hash_all() -> None:
        for name in names:
            with place.open(name) as stream:
                hashlib.sha256(stream.read_buffer()).digest()

    works = {
        "SHA-256 of the files": hash_all,
        "verify, 1 thread": lambda: verify(place),
        "verify, 2 threads": lambda: verify(place, workers=2),
        "audit, 1 thread": lambda: audit_dataset(place.location),
        "audit, 2 threads": lambda: audit_dataset(place.location, workers=2),
    }
    return {name: seconds(work) for name, work in works.items()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
