"""Arguments that several commands take, and what they stand for."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mlm_data.command import require

if TYPE_CHECKING:
    from trainer.config import RunSettings
    from trainer.training.machine import Machine
    from trainer.training.runs import TrainedModel

PROGRAM = "premask-train"


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The settings of a run: a file, a recipe, and what overrides them."""
    parser.add_argument("file", nargs="?", help="a YAML file with the run's settings")
    parser.add_argument("--recipe", metavar="NAME", help="tiny (default), small, base, large, or adapt")
    parser.add_argument(
        "--data", metavar="DATASET", help="the dataset's folder; folder@v1.2 or folder@3f9a1c for another version"
    )
    parser.add_argument("--out", metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="override, e.g. batch_rows=16"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """A trained run, and which of its checkpoints."""
    parser.add_argument("run", help="the run's folder")
    parser.add_argument(
        "--checkpoint",
        default="newest",
        metavar="WHICH",
        help="newest (default), best (by validation loss), or a step",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The answer for a program."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def settings_of(options: argparse.Namespace, **defaults: str) -> "RunSettings":
    """The settings that `add_settings` has read; `defaults` are for fields that nobody names.

    Raises:
        ConfigError: for settings that can't be right, or where torch is not installed.
    """
    require("torch", extra="train")
    from trainer.config import resolve

    given = {name: getattr(options, name) for name in ("data", "out") if getattr(options, name) is not None}
    sources = {"recipe_name": options.recipe, "file": options.file, "values": given, "overrides": options.set}
    return resolve(**sources, defaults=defaults)


def run_of(options: argparse.Namespace, *, rows: int | None = None) -> "tuple[TrainedModel, Machine]":
    """The model that `add_run` has named, on this machine; says what was wrong with newer checkpoints."""
    require("torch", extra="train")
    from trainer.training import runs

    trained, machine = runs.open_run(Path(options.run), rows=rows, which=options.checkpoint)
    for note in trained.notes:
        aside(note)
    return trained, machine


def aside(line: str) -> None:
    """A remark that is no part of the answer, on standard error."""
    from mlm_data.console import aside

    aside(PROGRAM, line)
