"""Training speed on paragraphs of English books: this trainer, and HF's where transformers is there. Prints only."""

import importlib.util
import json
import subprocess
import sys

import pytest

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]


def test_training_speed(corpora, tmp_path):
    values = {
        "inputs": [{"path": str(corpora / "en_classic_books_md/**/*.md"), "documents": "paragraph"}],
        "output": str(tmp_path / "data"),
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 8192}},
        "pack": {"sequence_length": 256},
        "mask": {"planes": 4, "rate": 0.30},
        "split": {"validation": 0.02},
    }
    build(parse_settings(BuildConfig, values, where="bench"))
    peers = importlib.util.find_spec("transformers") is not None
    # In a process of its own: the command raises the allocator's thresholds before torch is loaded.
    command = [sys.executable, "-m", "trainer", "bench", "--recipe", "small", "--data", str(tmp_path / "data")]
    command += ["--set", "batch_rows=32", "--json", *([] if peers else ["--no-peers"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    rows = [
        (
            line["name"],
            f"{line['useful_tokens_per_second']:,.0f}",
            f"{line['useful_share']:.0%}",
            f"{line['ours_is_faster_by']:.2f} x",
        )
        for line in found["peers"]
    ]
    peak = f"{found['share_of_peak']:.0%} of {found['gemm_peak_gflops']:.0f} GF/s"
    rows.append(("share of the GEMM peak", peak, "", ""))
    rows.append(("waiting for the loader at 1 M tokens/s", f"{found['loader_wait']:.2%}", "", ""))
    rows += [(f"time: {name}", f"{share:.0%}", "", "") for name, share in found["time"].items()]
    rows += [(f"what it brings: {line['what']}", "", "", f"{line['factor']:.2f} x") for line in found["waterfall"]]
    packages = ("torch", "transformers") if peers else ("torch",)
    title = f"training, 6 x 256, L = 256, 8,192 places a step, {found['precision']}"
    show(title, ("", "useful tokens/s", "useful places", "premask is faster by"), rows, packages=packages)
