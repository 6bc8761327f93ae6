"""`premask-train fill`: the most probable tokens for each [MASK] of a text."""

import argparse

from mlm_data.command import Command
from mlm_data.errors import ConfigError
from trainer.commands.options import add_json, add_run, run_of


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("text", nargs="+", help='for example "The cat sat on the [MASK]."')
    parser.add_argument("--top", type=int, default=5, metavar="N", help="tokens of each blank (default: %(default)s)")
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, got {options.top}")
    trained, _ = run_of(options, rows=1)

    from mlm_data.console import Terminal
    from trainer.studies.fill import fill, to_json

    terminal = Terminal()
    for text in options.text:
        guesses = fill(trained, text, top=options.top)
        if options.json:
            terminal.data(to_json(text, guesses))
            continue
        terminal.say(text, style="bold")
        for number, blank in enumerate(guesses, start=1):
            words = "   ".join(f"{one.token} {one.probability:.0%}" for one in blank)
            terminal.say(f"  {number}. {words}" if len(guesses) > 1 else f"  {words}")
    return 0


COMMAND = Command(
    name="fill", help="The most probable tokens for each [MASK] of a text.", arguments=_arguments, run=_run
)
