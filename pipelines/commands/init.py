"""`premask init`: a commented premask.yaml to begin with."""

import argparse
from pathlib import Path

from mlm_data.command import Command, local_path
from mlm_data.errors import ConfigError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", type=local_path, default="premask.yaml", help="(default: %(default)s)")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal
    from pipelines.commands.template import TEMPLATE

    path = Path(options.path)
    if path.exists():
        raise ConfigError(f"{path}: exists already: remove it or name another file")
    try:
        path.write_text(TEMPLATE, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't write: {error.strerror}: name a file in a folder that is there") from error
    terminal = Terminal()
    terminal.say(f"wrote {path}")
    terminal.say(f"next: edit it, then `premask plan {path}`")
    return 0


COMMAND = Command(name="init", help="Write a commented premask.yaml.", arguments=_arguments, run=_run)
