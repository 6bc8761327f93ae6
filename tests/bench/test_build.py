"""The whole way on the books corpus: bytes per second, bytes per token, fullness, loader, training."""

import os
import re
import subprocess
import sys
import time

import pytest

from mlm_data.config import BuildConfig
from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader
from mlm_data.settings import parse_settings
from pipelines.build import build
from pipelines.commands.build import disk_bytes
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

TRAINING_SECONDS = 90


def config_of(corpora, output, documents: str) -> BuildConfig:
    values = {
        "inputs": [{"path": str(corpora / "en_classic_books_md/**/*.md"), "documents": documents}],
        "output": str(output),
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 8192}},
        "pack": {"sequence_length": 512},
        "mask": {"planes": 4, "rate": 0.30},
        "split": {"validation": 0.05},
    }
    return parse_settings(BuildConfig, values, where="bench")


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


@pytest.mark.parametrize("documents", ["file", "paragraph"])
def test_build(corpora, tokenized, documents, monkeypatch):
    output = tokenized / documents
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    rows = []
    for workers, note in ((1, "tokenizer trained, word table cold"), (1, "word table warm"), (2, "word table warm")):
        started = time.perf_counter()
        built = build(config_of(corpora, output, documents), workers=workers)
        seconds = time.perf_counter() - started
        ledger = built.manifest.ledger
        rate = ledger["bytes"]["read"] / seconds / workers
        rows.append((f"whole build, {workers} worker{'s' * (workers > 1)}, {note}", f"{rate / 1e6:.1f} MB/s per core"))
        for path in (output / "work/prepared").iterdir():
            path.unlink()
    disk = disk_bytes(str(output))
    splits = built.manifest.splits
    tokens = sum(split["num_tokens"] for split in splits.values())
    for kind, num_bytes in disk.items():
        rows.append((f"on disk: {kind}", f"{num_bytes / tokens:.3f} bytes/token"))
    bound = 2.25 + 4 * 0.39
    rows.append(("on disk: all", f"{sum(disk.values()) / tokens:.3f} bytes/token (bound: {bound:.2f})"))
    train = splits["train"]
    rows.append(("packing", f"{train['num_tokens'] / train['num_rows'] / 512:.2%} full"))
    packing = built.manifest.packing["train"]
    rows.append(
        (
            "rows above the lower bound",
            f"{packing['num_rows'] - packing['num_rows_bound']} in {train['num_shards']} shards",
        )
    )
    show(
        f"books, documents: {documents}, L = 512, 4 planes",
        ("what", "figure"),
        rows,
        packages=("apache-beam", "pyarrow", "numba", "tokenizers"),
    )


def test_loader(corpora, tokenized):
    output = tokenized / "file"
    if not (output / "LATEST").exists():
        build(config_of(corpora, output, "file"))
    dataset = Dataset.open(output)
    rows = []
    for ahead in (0, 2):
        with Loader(dataset, batch_rows=64, seed=0, prefetch=ahead) as loader:
            stream = iter(loader)
            for _ in range(20):
                next(stream)
            best = 0.0
            for _ in range(3):
                started = time.perf_counter()
                for _ in range(200):
                    next(stream)
                best = max(best, 200 * 64 * 512 / (time.perf_counter() - started))
        name = "in the caller's thread" if not ahead else f"prefetching {ahead} batches"
        rows.append((f"loader, {name}", f"{best / 1e6:.1f} M tokens/s"))
    show("loader, books, L = 512, 64 rows a batch", ("what", "figure"), rows, packages=("numba", "pyarrow"))


def test_training(corpora, tokenized):
    output = tokenized / "tiny"
    values = config_of(corpora, output, "paragraph").model_dump(mode="json") | {"pack": {"sequence_length": 128}}
    values["mask"] |= {"mask_share": 1.0, "random_share": 0.0, "keep_share": 0.0}
    build(parse_settings(BuildConfig, values, where="bench"), workers=2)
    run = tokenized / "run"
    command = [sys.executable, "-m", "trainer", "run", "--recipe", "tiny", "--data", str(output), "--out", str(run)]
    command += ["--set", f"budget.minutes={TRAINING_SECONDS / 60}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    rate = re.findall(r"([\d,]+) tokens/s", done.stdout)[-1]
    rows = [(f"places per second, the mean of {TRAINING_SECONDS} s", f"{rate} tokens/s")]
    show("training, recipe tiny, books, L = 128", ("what", "figure"), rows, packages=("torch",))
