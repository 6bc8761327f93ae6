"""`premask demo`: the whole way on this machine's own documentation, command by command.

Each step is a command that a user could have typed; it is shown before it runs.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlm_data.command import Command, local_path
from mlm_data.errors import ConfigError, PremaskError
from pipelines.commands.options import add_workers

if TYPE_CHECKING:
    from mlm_data.console import Terminal

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


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=local_path, default="demo", help="the folder for everything (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of training (default: %(default)s)")
    add_workers(parser)


def _run(options: argparse.Namespace) -> int:
    """Collect, build, verify, train, evaluate, fill. Finished steps are not done again."""
    from mlm_data.console import Terminal

    terminal, folder, minutes, workers = Terminal(), Path(options.out), options.minutes, options.workers
    if not 0 < minutes < 10**5:
        raise ConfigError(f"--minutes must be above 0 and below 100,000, got {minutes:g}")
    started = time.perf_counter()
    config, corpus, dataset, out = (folder / name for name in ("premask.yaml", "corpus.jsonl", "dataset", "run"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(CONFIG, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: can't write: {error.strerror}: name another folder with --out") from error
    if not corpus.exists():
        _step("Python's documentation on this machine, as JSONL", ["premask", "demo-corpus", "--out", corpus], terminal)
    _step("clean, deduplicate, tokenize, pack, mask", ["premask", "build", config, "--workers", workers], terminal)
    _step("check every file, hash, ledger and mask", ["premask", "verify", dataset], terminal)
    budget = f"budget.minutes={minutes:g}"
    _step(
        f"train the tiny encoder for {minutes:g} minutes",
        ["premask-train", "run", "--recipe", "tiny", "--data", dataset, "--out", out, "--set", budget],
        terminal,
    )
    _step("how good is it on text it has not seen?", ["premask-train", "eval", out, "--baselines"], terminal)
    _step("fill blanks", ["premask-train", "fill", out, *BLANKS, "--top", 5], terminal)
    terminal.say("\nThis model has read nothing but Python documentation. Still:")
    _step("a cat", ["premask-train", "fill", out, LAST, "--top", 5], terminal)
    terminal.say(f"\nDone in {time.perf_counter() - started:.0f} s.", style="bold")
    terminal.say(
        f"  the text       {corpus}\n"
        f"  the dataset    {dataset}      look at a row:  premask inspect {dataset} --row 0\n"
        f'  the model      {out}          try it:         premask-train fill {out} "the [MASK] is a list of names."\n'
        f"  its curves     tensorboard --logdir {out}\n"
        f"  your own text  premask init; premask plan premask.yaml; premask build premask.yaml"
    )
    return 0


def _step(title: str, command: Sequence[object], terminal: "Terminal") -> None:
    from rich.rule import Rule
    from rich.text import Text

    words = [str(word) for word in command]
    terminal.say()
    terminal.print(Rule(Text(title), align="left"), width=min(80, terminal.width))
    terminal.say(f"$ {shlex.join(words)}", style="bold")
    module = {"premask": "pipelines", "premask-train": "trainer"}[words[0]]
    code = subprocess.run([sys.executable, "-m", module, *words[1:]], check=False).returncode
    if code:
        raise DemoError(f"the step `{shlex.join(words)}` ended with exit code {code}: see above; start again to go on")


COMMAND = Command(
    name="demo",
    help="The whole way on this machine's own documentation: build, train, fill blanks.",
    arguments=_arguments,
    run=_run,
)
