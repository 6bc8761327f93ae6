"""`premask doctor`: what this machine, the output and a runner can do, before a build finds out."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlm_data.command import Command
from mlm_data.errors import ConfigError, PremaskError
from pipelines.commands.options import quiet_beam

if TYPE_CHECKING:
    from mlm_data.build.checkup import Finding

STYLES = {"ok": "green", "warn": "yellow", "bad": "red"}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="URI", help="a folder or bucket: a small file is written, read and deleted")
    parser.add_argument("--runner", metavar="NAME", help="a runner, with its options: see premask build --help")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.build.checkup import BAD, OK, WARN
    from mlm_data.console import Terminal, shown

    if options.rest and options.runner is None:
        raise ConfigError(f"unrecognized argument {options.rest[0]}: options of a runner need --runner NAME")
    found = list(_findings(options))
    worst = next((state for state in (BAD, WARN) if any(one.state == state for one in found)), OK)
    terminal = Terminal()
    if options.json:
        terminal.data({"state": worst, "findings": [vars(one) for one in found]})
    else:
        width = max(len(one.name) for one in found)
        for one in found:
            line = f"{one.state:<4}  {one.name:<{width}}  {shown(one.text)}"
            terminal.say(line, style=None if one.state == OK else STYLES[one.state])
            if one.remedy:
                terminal.say(f"{'':<{width + 8}}-> {shown(one.remedy)}")
        counts = {state: sum(one.state == state for one in found) for state in (BAD, WARN)}
        terminal.say()
        terminal.say(f"{counts[BAD]} bad, {counts[WARN]} to look at" if worst != OK else "all is well")
    return 1 if worst == BAD else 0


def _findings(options: argparse.Namespace) -> Iterator["Finding"]:
    from mlm_data.build import checkup

    yield from checkup.check_packages()
    yield from checkup.check_kernels()
    yield from checkup.check_processor()
    yield from checkup.check_cores()
    yield from checkup.check_memory()
    yield from checkup.check_open_files()
    if options.output is not None:
        yield from checkup.check_output(options.output)
    if options.runner is not None:
        yield _runner(options.runner, options.rest)


def _runner(name: str, rest: list[str]) -> "Finding":
    """Whether a runner is there, understands its options, and could start."""
    from mlm_data.build.checkup import BAD, OK, Finding

    quiet_beam()
    try:
        from pipelines.runners import check_start, choose, describe_workers
    except ModuleNotFoundError as error:
        return Finding(
            name="runner",
            state=BAD,
            text=f"{name}: {error.name} is not installed",
            remedy="pip install 'premask[build]'",
        )
    try:
        chosen = choose([f"--runner={name}", *rest], workers=1)
        check_start(chosen)
        workers = describe_workers(chosen)
    except PremaskError as error:
        return Finding(name="runner", state=BAD, text=str(error), remedy="see premask build --help")
    return Finding(name="runner", state=OK, text=f"{name}: {workers or 'it is there, and takes these options'}")


COMMAND = Command(
    name="doctor",
    help="What this machine, an output and a runner can do: ok, warn or bad, with remedies; exit code 1 if any is bad.",
    arguments=_arguments,
    run=_run,
    passes_on=True,
)
