"""`premask log`: the versions of a dataset, the newest first."""

import argparse
from typing import TYPE_CHECKING

from mlm_data.command import Command

if TYPE_CHECKING:
    from mlm_data.console import Terminal
    from mlm_data.dataset.history import Entry

DIGITS = 12  # of a digest that people see: more than a name needs


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="the dataset's folder")
    parser.add_argument("--json", action="store_true", help="print it as JSON, digests whole")


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from mlm_data.console import Terminal
    from mlm_data.dataset.history import history
    from mlm_data.dataset.names import digest_of, split_name
    from mlm_data.stores.folder import Folder

    place, name = split_name(options.dataset)
    folder, terminal = Folder(place), Terminal()
    if name:
        digest_of(folder, name)  # all versions are listed, but a name that means none is a slip
    entries = history(folder)
    if options.json:
        terminal.data([asdict(entry) for entry in entries])
    else:
        show(entries, terminal)
    return 0


def show(entries: "list[Entry]", terminal: "Terminal") -> None:
    """A line for each version; `*` marks the current one."""
    from mlm_data.console import shown, table

    lines = table("", "version", "made by", "when", "parent", "documents", "tokens", "tags")
    for column in (*lines.columns[1:5], lines.columns[7]):
        column.justify = "left"
    for one in entries:
        mark, names = "*" if one.is_current else "", " ".join(one.tags)
        if one.problem:
            lines.add_row(mark, one.digest[:DIGITS], "damaged", "", "", "", "", names, style="red")
            continue
        when = shown(one.published.replace("T", " ").removesuffix("+00:00"))
        parent = (one.parent or "")[:DIGITS]
        counts = ("purged", "") if one.purged else (f"{one.num_documents:,}", f"{one.num_tokens:,}")
        lines.add_row(
            mark, one.digest[:DIGITS], shown(one.made_by), when, shown(parent), *counts, names,
            style="bold" if one.is_current else "dim" if one.purged else None,
        )  # fmt: skip
    terminal.print(lines)
    for one in entries:
        if one.problem:
            terminal.say(shown(one.problem), style="red")
        elif one.purged:
            terminal.say(shown(one.purged))


COMMAND = Command(
    name="log",
    help="List the versions: digest, parent, when, what made it, documents, tokens, tags.",
    arguments=_arguments,
    run=_run,
)
