"""`premask report` of 100 million tokens: seconds, bytes and memory, in a process of its own, imports included."""

import json
import os
import subprocess
import sys
import time

import pytest

from mlm_data.stores.folder import Folder
from tests.bench.datasets import VOCAB
from tests.bench.report import show
from tests.bench.test_loader import NUM_SHARDS, write_large
from tests.conftest import ROOT
from tests.mlm_data.dataset.test_statistics import words_tokenizer

TOKENS, LENGTH, TURNS = 100_000_000, 512, 3

COMMAND = """
import json, resource, sys
from pipelines.commands.cli import main
code = main(sys.argv[1:])
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
sys.exit(code)
"""


@pytest.mark.bench
def test_report(tmp_path):
    write_large(Folder(tmp_path / "data"), LENGTH, TOKENS // LENGTH // NUM_SHARDS + 1, words_tokenizer(VOCAB))
    page, rows = tmp_path / "page.html", []
    for turn in range(TURNS):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "report", str(tmp_path / "data"), "--out", str(page)],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        memory = json.loads(done.stdout.splitlines()[-1])
        rows.append((turn + 1, f"{seconds:.1f} s", f"{page.stat().st_size / 1e6:.2f} MB", f"{memory:.0f} MiB"))
    show(
        f"A report of {TOKENS // 1_000_000} million tokens in {NUM_SHARDS} shards",
        ("turn", "time", "page", "peak memory"), rows, packages=("matplotlib", "pyarrow"),
    )  # fmt: skip
