"""The scripts of the pages on other trainers run: on a small dataset, with a small model, for few steps."""

import os
import re
import subprocess
import sys

import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.exchange.export import export
from tests.docs.commands import ROOT, blocks
from tests.mlm_data.exchange.files import IMPORT_STREAMING
from tests.synthetic import make_dataset

HOW_TO = ROOT / "docs/how-to"
SMALL = "hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size="


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=70, shard_rows=70)


def scripts(page, folder):
    """The Python of a page, made small: two steps of a small model on a small dataset."""
    for block in blocks(HOW_TO / page):
        if block.language == "python":
            text = block.text.replace('"datasets/books"', repr(str(folder))).replace("vocab_size=", SMALL)
            yield re.sub(r"range\(1000\)", "range(2)", text).replace("max_steps=1000", "max_steps=2, use_cpu=True")


def run(page, folder, names):
    """One after the other, as a reader would type them; a block without imports goes on with the names before it."""
    count = 0
    for script in scripts(page, folder):
        exec(compile(script, page, "exec"), names)
        count += 1
    return count


def in_own_process(*words, cwd, prelude=(), **variables):
    """A program that a page asks for, in a folder of its own."""
    paths = [*prelude, *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_loop_of_your_own(folder):
    names = {"rank": 0, "world_size": 2}
    assert run("other-trainers.md", folder, names) == 5
    assert names["step"] == 1
    assert names["state"]["rows_consumed"] == 32_000
    assert len(names["rows"]) == 70


@pytest.mark.filterwarnings("ignore")  # of HF's
def test_hf_trainer(folder, tmp_path, monkeypatch):
    pytest.importorskip("accelerate", reason="HF's Trainer needs it: pip install accelerate")
    monkeypatch.chdir(tmp_path)
    names = {}
    assert run("hf-trainer.md", folder, names) == 2
    assert names["trainer"].args.max_steps == 2
    assert 0 < names["loss"] < 20


def test_accelerate(folder, monkeypatch):
    pytest.importorskip("accelerate", reason="pip install accelerate")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    names = {}
    assert run("accelerate.md", folder, names) == 1
    assert (names["step"], names["accelerator"].num_processes) == (1, 1)


@pytest.mark.slow
def test_accelerate_with_two_processes(folder, tmp_path):
    """Two processes that train one model: the same weights at the end, of different rows."""
    pytest.importorskip("accelerate", reason="pip install accelerate")
    (script,) = scripts("accelerate.md", folder)
    check = """
import hashlib
weights = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
with open(f"{accelerator.process_index}.txt", "w") as file:
    print(hashlib.sha256(weights).hexdigest(), hashlib.sha256(batch["labels"].numpy().tobytes()).hexdigest(), file=file)
"""
    (tmp_path / "train.py").write_text(script + check)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    in_own_process(*launcher, "train.py", cwd=tmp_path, ACCELERATE_USE_CPU="true")
    (weights, rows), (others, other_rows) = ((tmp_path / f"{rank}.txt").read_text().split() for rank in range(2))
    assert weights == others
    assert rows != other_rows


def test_mosaicml_streaming(folder, tmp_path):
    place = os.environ.get("PREMASK_STREAMING", "")
    if not place:
        pytest.skip("set PREMASK_STREAMING to a folder with mosaicml-streaming: see docs/contributing.md")
    export(Dataset.open(folder), tmp_path / "export/mds", to="mds")
    (script,) = scripts("mosaicml-streaming.md", folder)
    (tmp_path / "train.py").write_text(f"{IMPORT_STREAMING}\n{script}\nprint(step, sorted(batch))\nsys.stdout.flush()")
    said = in_own_process("train.py", cwd=tmp_path, prelude=place.split(os.pathsep))
    assert said.splitlines()[-1] == "1 ['attention_mask', 'input_ids', 'labels', 'position_ids']"
