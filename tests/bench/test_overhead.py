"""What Beam and publishing cost beside the pure functions in a loop, and what a second worker brings.

The same 300 MB in the same units, the tokenizer given, some rounds in turns, the best of each. The loop calls what the
steps call, in one thread: prepare, signatures, copies, assemble. Before that a small build fills the word table, which
all that runs in this process share.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlm_data.build import select
from mlm_data.build.assemble import Found, assemble_unit
from mlm_data.build.plan import find_tokenizer, make_context, make_plan
from mlm_data.build.prepare import prepare_unit
from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.bench.report import show
from tests.bench.salted import write_one

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

NUM_BYTES, ROUNDS = 300_000_000, 2


def config_of(folder: Path, corpora: Path, inputs: str) -> BuildConfig:
    values = {
        "inputs": [{"path": str(folder / inputs), "documents": "line"}],
        "output": str(folder / "out"),
        "tokenizer": {"path": str(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")},
        "pack": {"sequence_length": 512},
        "mask": {"planes": 4},
    }
    return parse_settings(BuildConfig, values, where="bench")


def in_a_loop(config: BuildConfig) -> int:
    """Documents kept by the pure functions."""
    plan = make_plan(config)
    context = make_context(config, plan, find_tokenizer(config, plan))
    prepared = [prepare_unit(unit, context) for unit in plan.units]
    records = np.concatenate([select.select_signatures(unit, context) for unit in prepared])
    copies = dict(select.find_copies(records))
    none = np.zeros(0, select.COPIES)
    made = [assemble_unit(unit, Found(copies=copies.get(unit.unit, none)), context) for unit in prepared]
    return sum(item.ledger.documents_kept for item in made)


def test_overhead_and_a_second_worker(corpora, tmp_path):
    write_one(corpora, tmp_path / "all.txt", NUM_BYTES)
    write_one(corpora, tmp_path / "some.txt", NUM_BYTES // 10)
    config = config_of(tmp_path, corpora, "all.txt")
    ways: dict[str, Callable[[BuildConfig], object]] = {
        "loop": in_a_loop,
        "1 worker": lambda config: build(config, workers=1),
        "2 workers": lambda config: build(config, workers=2),
    }
    for work in ways.values():
        work(config_of(tmp_path, corpora, "some.txt"))
        shutil.rmtree(tmp_path / "out")
    times: dict[str, list[float]] = {kind: [] for kind in ways}
    for _ in range(ROUNDS):
        for kind, work in ways.items():
            started = time.perf_counter()
            work(config)
            times[kind].append(time.perf_counter() - started)
            shutil.rmtree(tmp_path / "out")
    best = {kind: min(found) for kind, found in times.items()}
    rows = [(kind, f"{seconds:.1f} s, {NUM_BYTES / 1e6 / seconds:.1f} MB/s") for kind, seconds in best.items()]
    rows.append(("Beam and publishing, beside the loop", f"{best['1 worker'] / best['loop'] - 1:+.1%}"))
    rows.append(("two workers beside one", f"{best['1 worker'] / best['2 workers']:.2f} x"))
    show(f"{NUM_BYTES / 1e6:.0f} MB, exact duplicates", ("what", "figure"), rows, packages=("apache-beam", "pyarrow"))
