"""The command `premask-train`: train an encoder, and ask it things. A file for each command."""

import argparse
import sys
from collections.abc import Sequence

from mlm_data import command
from trainer.commands import bench, evaluate, export, fill, import_hf, plan, plot, probe, run, which_docs
from trainer.commands.options import PROGRAM

DESCRIPTION = "Train and use an encoder on a premask dataset."
COMMANDS = tuple(
    module.COMMAND for module in (run, evaluate, fill, probe, export, import_hf, plot, plan, bench, which_docs)
)


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    return command.make_parser(PROGRAM, DESCRIPTION, COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return command.main(PROGRAM, DESCRIPTION, COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
