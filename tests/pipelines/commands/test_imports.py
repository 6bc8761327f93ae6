"""What the commands import: nothing heavy to help, and Beam to build alone."""

import json
import os
import subprocess
import sys

import pytest

from mlm_data.dataset.dataset import Dataset
from tests.conftest import ROOT
from tests.pipelines.runs import write_run
from tests.pipelines.small_corpus import write_config, write_jsonl
from tests.synthetic import make_dataset

HEAVY = ("apache_beam", "torch", "pyarrow", "numba", "pydantic", "numpy", "rich", "tokenizers")

HELP = """
import importlib, json, sys
main = importlib.import_module(sys.argv[1]).main
code = main(sys.argv[2:])
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]), file=sys.stderr)
"""

# No dependencies of premask, but installed where tests run: pyarrow, for one, uses pandas if asked.
FOREIGN = ("pandas", "scipy", "datasets", "transformers", "polars")

WITHOUT = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from pipelines.commands.cli import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    if code:
        sys.exit(code)
"""


def python(program: str, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("module", ["pipelines.commands.cli", "trainer.commands.cli"])
@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["plan", "--no-such-option"]])
def test_help_imports_nothing_heavy(module, words):
    done = python(HELP, module, *words)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == (0 if words[-1] == "--help" else 2)
    assert not set(HEAVY) & set(modules)


QUESTIONS = {
    "log": [],
    "tag": ["v1"],
    "where": ["--doc", "DOCUMENT"],
    "where --run": ["--doc", "DOCUMENT", "--run", "RUN"],
    "which-docs": ["--run", "RUN", "--step", "2"],
    "which-docs --rank": ["--run", "RUN", "--step", "2", "--rank", "1"],
}
READING = {"numpy", "pyarrow", "rich"}  # what it takes to read a version and to show a table


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_about_a_version_starts_no_compiler(tmp_path, question):
    dataset = Dataset.open(make_dataset(tmp_path / "data"))
    run = write_run(tmp_path / "run", dataset.digest)
    names = {"DOCUMENT": dataset.shard("train", 0).documents["id"][0].as_py().hex(), "RUN": str(run)}
    words = [question.split()[0], str(tmp_path / "data"), *(names.get(word, word) for word in QUESTIONS[question])]
    done = python(HELP, "pipelines.commands.cli", *words)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert not {*HEAVY, "pandas"} & set(modules) - READING


def test_what_needs_no_beam_runs_without_it(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(80))
    config = write_config(tmp_path)
    from pipelines.commands.cli import main

    assert main(["build", config]) == 0
    documents = Dataset.open(tmp_path / "out").shard("train", 0).documents
    (tmp_path / "ids.txt").write_text(documents["id"][0].as_py().hex() + "\n")
    commands = [
        ["init", str(tmp_path / "new.yaml")],
        ["doctor", "--output", str(tmp_path / "elsewhere")],
        ["plan", config, "--explain"],
        ["thresholds", config, "--html", str(tmp_path / "page.html")],
        ["try", config, str(tmp_path / "in/a.jsonl")],
        ["tokenizer", "train", config, "--out", str(tmp_path / "tokenizer.json")],
        ["status", str(tmp_path / "out")],
        ["verify", str(tmp_path / "out")],
        ["inspect", str(tmp_path / "out")],
        ["funnel", str(tmp_path / "out")],
        ["report", str(tmp_path / "out"), "--out", str(tmp_path / "report.html")],
        ["card", str(tmp_path / "out")],
        ["tag", str(tmp_path / "out"), "v1"],
        ["log", str(tmp_path / "out")],
        ["diff", str(tmp_path / "out"), str(tmp_path / "out@v1")],
        ["audit", str(tmp_path / "out@v1")],
        ["gc", str(tmp_path / "out"), "--dry-run"],
        ["export", str(tmp_path / "out"), "--to", "jsonl", "--detokenize"],
        ["export", str(tmp_path / "out"), "--to", "hf", "--out", str(tmp_path / "hf")],
        [
            "import",
            str(tmp_path / "again"),
            str(tmp_path / "hf"),
            "--from",
            "hf",
            "--tokenizer",
            str(tmp_path / "tokenizer.json"),
        ],
        ["inspect", str(tmp_path / "out"), "--row", "0"],
        ["forget", str(tmp_path / "out"), "--ids", str(tmp_path / "ids.txt")],
        ["demo-corpus", "--out", str(tmp_path / "corpus.jsonl"), "--megabytes", "0.1"],
    ]
    done = python(WITHOUT, json.dumps(commands), "apache_beam", *FOREIGN)
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stdout


def test_a_build_needs_nothing_but_its_dependencies(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(80))
    config = write_config(tmp_path, deduplicate={"exact": True, "near": True, "lines": True})
    out = str(tmp_path / "out")
    commands = [["build", config], ["remask", out, "--rate", "0.2"], ["repack", out, "--length", "128"]]
    done = python(WITHOUT, json.dumps([*commands, ["verify", out, "--audit"]]), "torch", *FOREIGN)
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stdout


def test_a_build_without_beam_says_how_to_get_it(tmp_path):
    done = python(WITHOUT, json.dumps([["build", str(tmp_path / "premask.yaml")]]), "apache_beam")
    assert done.returncode == 2
    assert done.stderr == "premask: apache_beam is not installed: pip install 'premask[build]'\n"
