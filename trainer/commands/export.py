"""`premask-train export`: a run's model for HF transformers."""

import argparse
from pathlib import Path

from mlm_data.command import Command, require
from trainer.commands.options import add_run, aside


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("out", help="a new folder")
    parser.add_argument("--to", choices=["hf"], default="hf", help="for which library (default: %(default)s)")


def _run(options: argparse.Namespace) -> int:
    require("torch", extra="train")
    from mlm_data.console import Terminal
    from trainer.export import export_hf

    for note in export_hf(Path(options.run), Path(options.out), which=options.checkpoint):
        aside(note)
    Terminal().say(f"wrote {options.out}: ModernBertForMaskedLM.from_pretrained({options.out!r}) loads it")
    return 0


COMMAND = Command(
    name="export",
    help="Write the model for HF transformers, as ModernBertForMaskedLM.",
    arguments=_arguments,
    run=_run,
)
