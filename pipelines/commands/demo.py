"""`premask demo`: the whole way on this machine's own documentation, command by command.

Each step is a command that a user could have typed; it is shown before it runs.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mlm_data.errors import PremaskError

CONFIG = """\
name: demo
inputs:
  - path: corpus.jsonl
    text_field: text
    id_field: url
    keep_fields: [kind, module]
output: dataset
tokenizer: {train: {kind: wordpiece, vocab_size: 8192, lowercase: true}}
clean: {min_chars: 100}
pack: {sequence_length: 128}
mask: {planes: 4, rate: 0.30, mask_share: 1.0, random_share: 0.0, keep_share: 0.0}
split: {validation: 0.02, by: module}   # whole files are held out
"""

BLANKS = (
    "open the [MASK] for reading and writing.",
    "import numpy as [MASK]",
    "return [MASK] if the object is an instance of the class, false otherwise.",
    "raises a [MASK] if the argument is not valid.",
    "the default [MASK] is none.",
    "a [MASK] of strings, one for each line of the file.",
    "this method was deprecated in [MASK] 3. 8.",
    "the number of [MASK] in the array.",
)
LAST = "The cat sat on the [MASK]."


class DemoError(PremaskError):
    """A step of the demo failed; its own message stands above."""


def run(folder: Path, *, minutes: float, workers: int, console: Console) -> None:
    """Collect, build, verify, train, evaluate, fill. Finished steps are not done again."""
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    config, corpus, dataset, out = (folder / name for name in ("premask.yaml", "corpus.jsonl", "dataset", "run"))
    config.write_text(CONFIG, encoding="utf-8")
    if not corpus.exists():
        _step("Python's documentation on this machine, as JSONL", ["premask", "demo-corpus", "--out", corpus], console)
    _step("clean, deduplicate, tokenize, pack, mask", ["premask", "build", config, "--workers", workers], console)
    _step("check every file, hash, ledger and mask", ["premask", "verify", dataset], console)
    budget = f"budget.minutes={minutes:g}"
    _step(
        f"train the tiny encoder for {minutes:g} minutes",
        ["premask-train", "run", "--recipe", "tiny", "--data", dataset, "--out", out, "--set", budget],
        console,
    )
    _step("how good is it on text it has not seen?", ["premask-train", "eval", out, "--baselines"], console)
    _step("fill blanks", ["premask-train", "fill", out, *BLANKS, "--top", 5], console)
    console.print("\nThis model has read nothing but Python documentation. Still:", highlight=False)
    _step("a cat", ["premask-train", "fill", out, LAST, "--top", 5], console)
    console.print(
        f"\n[bold]Done in {time.perf_counter() - started:.0f} s.[/bold]\n"
        f"  the text       {corpus}\n"
        f"  the dataset    {dataset}      look at a row:  premask inspect {dataset} --row 0\n"
        f'  the model      {out}          try it:         premask-train fill {out} "the [MASK] is a list of names."\n'
        f"  its curves     tensorboard --logdir {out}\n"
        f"  your own text  premask init; premask plan premask.yaml; premask build premask.yaml",
        highlight=False,
        soft_wrap=True,
    )


def _step(title: str, command: Sequence[object], console: Console) -> None:
    words = [str(word) for word in command]
    console.print()
    console.rule(Text(title), align="left")
    console.print(Text(f"$ {shlex.join(words)}", style="bold"), soft_wrap=True)
    module = {"premask": "pipelines", "premask-train": "trainer"}[words[0]]
    code = subprocess.run([sys.executable, "-m", module, *words[1:]], check=False).returncode
    if code:
        raise DemoError(f"the step `{shlex.join(words)}` ended with exit code {code}: see above; start again to go on")
