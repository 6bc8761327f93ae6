"""`premask verify`: check a dataset, with `--audit` its masks' statistics too."""

import argparse

from mlm_data.command import Command
from pipelines.commands.options import add_dataset, add_workers


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--audit",
        action="store_true",
        help="judge the masks' statistics again, too, as before the version was published",
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def _run(options: argparse.Namespace) -> int:
    from rich.progress import BarColumn, Progress, TextColumn

    from mlm_data.console import Terminal, counted, size
    from mlm_data.dataset.check import check_dataset

    columns = TextColumn("checking"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        report = check_dataset(
            options.dataset,
            audit=options.audit,
            workers=options.workers,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    terminal = Terminal()
    if options.json:
        terminal.data(
            {
                "sound": report.ok,
                "digest": report.digest,
                "files": report.num_files,
                "bytes": report.num_bytes,
                "checks": report.num_checks,
                "problems": report.problems,
                "warnings": report.warnings,
            }
        )
        return 0 if report.ok else 1
    for problem in report.problems:
        terminal.say(problem, style="red")
    for warning in report.warnings:
        terminal.say(f"warning: {warning}", style="yellow")
    verdict = "sound" if report.ok else counted(len(report.problems), "problem")
    masks = f", {counted(report.num_checks, 'check')} of the masks" if options.audit else ""
    terminal.say(
        f"{verdict}: {counted(report.num_files, 'file')}, {size(report.num_bytes)}{masks}; digest {report.digest}",
        style=None if report.ok else "red",
    )
    return 0 if report.ok else 1


COMMAND = Command(
    name="verify",
    help="Check every file, hash, schema, ledger and mask; exit code 1 if anything is off.",
    arguments=_arguments,
    run=_run,
)
