"""`premask-train run`: train, or go on with a run where its last checkpoint is."""

import argparse
import os

from mlm_data.command import Command
from trainer.commands.launch import launch
from trainer.commands.options import add_json, add_settings, settings_of


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    launch(options.words)
    settings = settings_of(options)

    from mlm_data.console import Terminal
    from trainer.commands.progress import Screen
    from trainer.training.loop import train

    terminal = Terminal(stderr=options.json)
    with Screen(terminal) as screen:
        result = train(settings, say=screen.say, watch=screen.watch)
    if int(os.environ.get("RANK", "0")):
        return 0
    if options.json:
        names = ("step", "total", "stopped", "validation", "best", "skipped")
        Terminal().data({"run": settings.out} | {name: result[name] for name in names})
        return 0
    seen = result["validation"]
    if seen and not result["stopped"]:
        targets = max(1, seen["targets"])
        terminal.say(
            f"step {result['step']}: validation loss {seen['loss_sum'] / targets:.3f}, "
            f"accuracy {seen['hits'] / targets:.3f}"
        )
    if not result["stopped"]:
        terminal.say(f"the run is in {settings.out}")
    return 0


COMMAND = Command(
    name="run",
    help="Train, or go on with a run where its last checkpoint is.",
    arguments=_arguments,
    run=_run,
)
