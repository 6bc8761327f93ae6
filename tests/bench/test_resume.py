"""How long a build takes that goes on after a SIGKILL at half of its time, beside a whole one.

The command as it is typed, from the start of Python on, so that what every start costs is in both.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.report import show
from tests.bench.salted import write_one
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

NUM_BYTES, ROUNDS = 2_400_000_000, 1


def start(folder: Path, corpora: Path, output: str) -> subprocess.Popen[str]:
    values = {
        "inputs": [{"path": str(folder / "all.txt"), "documents": "line"}],
        "output": str(folder / output),
        "tokenizer": {"path": str(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")},
        "pack": {"sequence_length": 512},
        "mask": {"planes": 4},
    }
    config = folder / f"{output}.yaml"
    config.write_text(json.dumps(values))
    command = [sys.executable, "-m", "pipelines", "build", str(config), "--workers", "2", "--json"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=PYTHON,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> dict:
    """What a build says that came to its end."""
    out = process.communicate()[0]
    assert process.returncode == 0
    return json.loads(out)


def test_going_on_after_a_kill_at_half_time(corpora, tmp_path):
    write_one(corpora, tmp_path / "all.txt", NUM_BYTES)
    ended(start(tmp_path, corpora, "first"))  # the text is in the page cache, kernels are loaded once
    rows, ratios = [], []
    for number in range(ROUNDS):
        begun = time.perf_counter()
        whole = ended(start(tmp_path, corpora, f"whole-{number}"))
        full = time.perf_counter() - begun
        process = start(tmp_path, corpora, f"killed-{number}")
        time.sleep(full / 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / f"killed-{number}/LATEST").exists()
        begun = time.perf_counter()
        again = ended(start(tmp_path, corpora, f"killed-{number}"))
        rest = time.perf_counter() - begun
        assert again["digest"] == whole["digest"]
        ratios.append(rest / full)
        told = f"{full:.1f} s whole; {rest:.1f} s after the kill, {again['reused']} of {again['units']} units reused"
        rows.append((f"round {number + 1}", f"{told}: {rest / full:.0%}"))
    rows.append(("the rest beside the whole, best round", f"{min(ratios):.0%}"))
    show(
        f"{NUM_BYTES / 1e9:.1f} GB, 2 workers, killed at half time",
        ("what", "figure"),
        rows,
        packages=("apache-beam", "pyarrow"),
    )
