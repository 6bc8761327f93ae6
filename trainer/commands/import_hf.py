"""`premask-train import`: begin a run from a ModernBERT checkpoint of HF transformers."""

import argparse
from pathlib import Path

from mlm_data.command import Command, local_path, require
from trainer.commands.options import aside


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a folder with config.json and model.safetensors")
    parser.add_argument("--out", type=local_path, required=True, metavar="RUN", help="the run's folder")


def _run(options: argparse.Namespace) -> int:
    require("torch", extra="train")
    from mlm_data.console import Terminal
    from trainer.hf.import_hf import import_hf

    for note in import_hf(Path(options.folder), Path(options.out)):
        aside(note)
    Terminal().say(f"wrote {options.out}: go on with premask-train run --out {options.out} --data DATASET")
    aside(
        "the run takes the gentle learning rates of the recipe adapt, unless a recipe is named: those of training from "
        "scratch make the model forget what it knows"
    )
    return 0


COMMAND = Command(
    name="import",
    help="Begin a run from a ModernBERT checkpoint of HF transformers.",
    arguments=_arguments,
    run=_run,
)
