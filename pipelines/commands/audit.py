"""`premask audit`: the audit of the masks again, from the files, with its table."""

import argparse
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from pipelines.commands.options import add_dataset, add_workers

if TYPE_CHECKING:
    from mlm_data.console import Terminal
    from mlm_data.dataset.check import Audited


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal
    from mlm_data.dataset.check import audit_dataset

    found, terminal = audit_dataset(options.dataset, workers=options.workers), Terminal()
    if options.json:
        terminal.data(
            {
                "digest": found.digest,
                "ok": found.ok,
                "splits": {
                    split: {"failures": report.failures, "warnings": report.warnings, "table": report.table}
                    for split, report in found.reports.items()
                },
            }
        )
    else:
        show(found, terminal)
    return 0 if found.ok else 1


def show(found: "Audited", terminal: "Terminal") -> None:
    """The table of each split, and what it comes to."""
    from mlm_data.console import shown, table

    styles = {"failed": "red", "warned": "yellow"}
    for split, report in found.reports.items():
        lines = table(
            "plane", "check", "observed", "expected", "verdict", title=f"{split} ({len(report.table)} checks)"
        )
        lines.columns[1].justify = lines.columns[4].justify = "left"
        for line in report.table:
            values = (_count(line["observed"]), _count(line["expected"]))
            lines.add_row(
                shown(str(line["plane"])), shown(line["check"]), *values, line["verdict"],
                style=styles.get(line["verdict"]),
            )  # fmt: skip
        terminal.print(lines)
        for text in report.failures:
            terminal.say(text, style="red")
        for text in report.warnings:
            terminal.say(f"warning: {text}", style="yellow")
        terminal.say()
    num_checks = sum(len(report.table) for report in found.reports.values())
    failures = sum(len(report.failures) for report in found.reports.values())
    verdict = f"{failures} failures" if failures else "the masks are as they should be"
    terminal.say(f"{verdict}: {num_checks} checks; digest {found.digest}", style="red" if failures else None)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


COMMAND = Command(
    name="audit",
    help="Count the masks of all files again and judge them; exit code 1 if they fail.",
    arguments=_arguments,
    run=_run,
)
