"""`premask-train plot`: curves of one or more runs in one HTML file."""

import argparse
from pathlib import Path

from mlm_data.command import Command, local_path, require


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="run", help="a run's folder")
    parser.add_argument(
        "--out", type=local_path, default="curves.html", help="the file to write (default: %(default)s)"
    )


def _run(options: argparse.Namespace) -> int:
    require("torch", extra="train")
    from mlm_data.console import Terminal
    from trainer.studies.plot import plot

    plot([Path(run) for run in options.runs], Path(options.out))
    Terminal().say(f"wrote {options.out}")
    return 0


COMMAND = Command(name="plot", help="Curves of one or more runs in one HTML file.", arguments=_arguments, run=_run)
