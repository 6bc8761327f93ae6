"""`premask-train export`: a run's model for another library."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlm_data.command import Command, local_path, require
from trainer.commands.options import add_run, aside


class Target(NamedTuple):
    """A library that models are written for."""

    export: Callable[[Path, Path, str], list[str]]  # run, new folder, which checkpoint -> remarks
    wrote: str  # said at the end; {out} is the folder


def _hf(run: Path, out: Path, which: str) -> list[str]:
    from trainer.hf.export_hf import export_hf

    return export_hf(run, out, which=which)


TARGETS = {"hf": Target(_hf, "wrote {out}: ModernBertForMaskedLM.from_pretrained({out!r}) loads it")}


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("out", type=local_path, help="a new folder")
    parser.add_argument("--to", choices=list(TARGETS), default="hf", help="for which library (default: %(default)s)")


def _run(options: argparse.Namespace) -> int:
    require("torch", extra="train")
    from mlm_data.console import Terminal

    target = TARGETS[options.to]
    for note in target.export(Path(options.run), Path(options.out), options.checkpoint):
        aside(note)
    Terminal().say(target.wrote.format(out=options.out))
    return 0


COMMAND = Command(
    name="export",
    help="Write the model for HF transformers, as ModernBertForMaskedLM.",
    arguments=_arguments,
    run=_run,
)
