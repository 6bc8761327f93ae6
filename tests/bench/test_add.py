"""Adding one hundredth to a dataset, beside building all of it: the commands, as they are typed, start-up and all.

The texts are paragraphs of the corpora, drawn into documents of about 4 KB, so that there are enough of them and none
is a copy. The builds find no prepared unit; kernels are compiled before.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

MEGABYTES = int(os.environ.get("PREMASK_BENCH_MB", "1800"))
FILE_BYTES = 6_000_000
DOCUMENT_BYTES = 4_000
PLACES = ("en_classic_books_md/**/*.md", "en_dc_law/*", "en_peps/**/*.rst", "en_rust_rfcs/**/*.md")


def write_corpus(corpora: Path, folder: Path, megabytes: int) -> None:
    """Files of JSON Lines in `old/`, and a hundredth of as many bytes in `new/`."""
    texts = (
        path.read_text(errors="replace") for place in PLACES for path in sorted(corpora.glob(place)) if path.is_file()
    )
    paragraphs = [one for text in texts for one in text.split("\n\n") if 200 < len(one) < 2000]
    draw = np.random.default_rng(0)
    plan = [("old", i) for i in range(megabytes * 1_000_000 // FILE_BYTES)]
    plan += [("new", i) for i in range(max(1, len(plan) // 100))]
    for place, number in plan:
        (folder / place).mkdir(parents=True, exist_ok=True)
        with open(folder / place / f"{place}{number:04}.jsonl", "w") as file:
            written = 0
            while written < FILE_BYTES:
                parts, size = [], 0
                while size < DOCUMENT_BYTES:
                    parts.append(paragraphs[draw.integers(len(paragraphs))])
                    size += len(parts[-1])
                written += file.write(json.dumps({"text": "\n\n".join(parts)}) + "\n")


def run(*words: str) -> float:
    """Wall seconds of a command."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipelines", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@pytest.mark.parametrize("near", [False, True], ids=["exact", "near"])
def test_add(corpora, tmp_path, near):
    write_corpus(corpora, tmp_path, MEGABYTES)
    values = {
        "inputs": [{"path": str(tmp_path / "old/*.jsonl")}],
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 8192}},
        "deduplicate": {"near": near},
        "mask": {"planes": 4},
    }

    def config(name: str, **changes) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**values, "output": str(tmp_path / name), **changes}))
        return str(path)

    small = [{"path": str(tmp_path / "old/old0000.jsonl")}]
    run("build", config("small", inputs=small))  # trains the tokenizer, compiles the kernels
    run("add", str(tmp_path / "small"), str(tmp_path / "old/old0001.jsonl"))
    (sha,) = (tmp_path / "small/tokenizer").iterdir()
    whole = run("build", config("whole", tokenizer={"path": str(sha)}))
    rows = [("build", f"{whole:.1f} s", "")]
    shutil.rmtree(tmp_path / "whole/work")
    os.sync()  # what the build wrote is not the work of `add`
    added = run("add", str(tmp_path / "whole"), str(tmp_path / "new/*.jsonl"))
    rows.append(("add 1 %", f"{added:.2f} s", f"{added / whole:.1%} (target: at most 5 %)"))
    title = f"{MEGABYTES} MB, {'near and exact' if near else 'exact'} duplicates, {os.cpu_count()} workers"
    show(title, ("command", "wall time", "of the build"), rows, packages=("apache-beam", "numba"))
