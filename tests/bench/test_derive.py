"""`remask` and `repack` of 50 million tokens: their work in one thread, and the commands as they are typed.

Two figures for `remask`: tokens of the rows, and tokens times planes, as each plane is drawn, counted and written.
"""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from mlm_data.config import PackSettings
from mlm_data.dataset.dataset import Dataset
from mlm_data.derive.remask import remask
from mlm_data.derive.repack import repack
from mlm_data.shards import format as fmt
from mlm_data.shards.assemble import assemble_shard
from mlm_data.shards.planes import mask_settings, planes_of, vocabulary_of
from mlm_data.stores.folder import Folder
from mlm_data.tokens.reference import from_roles
from tests.bench.datasets import VOCAB, documents_table, publish_shards
from tests.bench.report import show
from tests.conftest import ROOT
from tests.mlm_data.dataset.test_statistics import ROLE_IDS, words_tokenizer
from tests.synthetic import make_config

TOKENS, NUM_SHARDS, LENGTH, MEAN, ROUNDS = 50_000_000, 12, 512, 600, 3


def write_packed(folder: Folder, tokens: int = TOKENS, num_shards: int = NUM_SHARDS, rates: tuple = (0.3,)) -> None:
    """A dataset as a build would have packed it: random documents, 600 tokens on average; some ids are frequent."""
    json_bytes = words_tokenizer(VOCAB)
    reference = from_roles(json_bytes, ROLE_IDS)
    config, vocabulary = make_config(LENGTH, rates, 16, validation=False, seed=0), vocabulary_of(reference)
    settings = PackSettings.model_validate(config["pack"])
    shards = []
    for unit in range(num_shards):
        rng = np.random.default_rng([0, unit])
        sizes = rng.geometric(1 / MEAN, tokens // num_shards // MEAN)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        words = rng.random(offsets[-1]) < 0.75
        words[offsets[:-1]] = True
        keys = rng.integers(0, 2**64, (sizes.size, 2), dtype=np.uint64)
        made = assemble_shard(
            folder,
            split=fmt.TRAIN,
            unit=unit,
            documents=documents_table(keys, sizes),
            ids=(5 + (VOCAB - 5) * rng.random(offsets[-1]) ** 4).astype(np.uint16),
            offsets=offsets,
            word_starts=words,
            settings=settings,
            planes=planes_of(fmt.TRAIN, mask_settings(config), 0),
            reference=reference,
            vocabulary=vocabulary,
            compression="none",
            where="bench",
        )
        shards.append(made.record)
    publish_shards(folder, shards, length=LENGTH, rates=rates, max_segments=16, tokenizer=json_bytes)


def command(*words: str) -> float:
    """Wall seconds of a command of `premask`."""
    os.sync()  # what was written before is not this command's
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipelines", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


# What makes a version from a value, the command that does, values, planes.
REMASK, REPACK = ["remask", "--rate"], ["repack", "--length", "1024", "--max-segments"]
RATES = (0.2, 0.21, 0.22, 0.23)
CASES = {
    "remask, token": (lambda d, x: remask(d, {"rate": x}), REMASK, RATES, 1),
    "remask, token, 4 planes": (
        lambda d, x: remask(d, {"rate": x, "planes": 4}), ["remask", "--planes", "4", "--rate"], RATES, 4,
    ),
    "remask, whole_word": (
        lambda d, x: remask(d, {"rate": x, "kind": "whole_word"}),
        ["remask", "--kind", "whole_word", "--rate"], RATES, 1,
    ),
    "repack to 1,024": (lambda d, x: repack(d, 1024, max_segments=x), REPACK, (32, 33, 34, 35), 1),
}  # fmt: skip


@pytest.mark.bench
def test_derive(tmp_path):
    write_packed(Folder(tmp_path))
    root = Dataset.open(tmp_path)
    first, tokens = f"{tmp_path}@{root.digest}", int(root.manifest.splits[fmt.TRAIN]["num_tokens"])
    lines = []
    for name, (work, words, values, planes) in CASES.items():
        work(Dataset.open(first), values[0])  # compile
        seconds, cpu, typed = [], [], []
        for value in values[1:]:
            os.sync()
            started, used = time.perf_counter(), time.process_time()
            work(Dataset.open(first), value)
            seconds.append(time.perf_counter() - started)
            cpu.append(time.process_time() - used)
        typed = [command(*words[:1], first, *words[1:], str(value), "--workers", "1") for value in values[:2]]
        speeds = (tokens / x / 1e6 for x in (min(cpu), min(seconds), min(typed)))
        lines.append((name, *(f"{x:.1f}" for x in speeds), f"{tokens * planes / min(cpu) / 1e6:.1f}"))
    show(
        f"versions of {tokens:,} tokens, one thread, million tokens/s",
        ("", "CPU time", "wall time", "the command", "CPU time, times planes"),
        lines,
        packages=("numpy", "numba", "pyarrow"),
    )
