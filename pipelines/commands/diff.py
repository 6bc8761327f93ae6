"""`premask diff`: what has changed from one version to another."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command

if TYPE_CHECKING:
    from mlm_data.console import Terminal
    from mlm_data.dataset.diff import Diff, Line

MOST_SOURCES = 20  # in the table: those with the most changes; --json has all
SIGNS = {"removed": "-", "added": "+", "changed": "~", "moved": ">"}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("older", help="a version: folder@v1, folder@3f9a1c, or a folder for its current version")
    parser.add_argument("newer", help="another version, of this dataset or of another")
    parser.add_argument("--list", action="store_true", help="every document that differs, a line each")
    parser.add_argument(
        "--json", action="store_true", help="print it as JSON; with --list a JSON line for each document"
    )


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from mlm_data.console import Terminal
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.dataset.diff import diff

    terminal = Terminal()
    found = diff(Dataset.open(options.older), Dataset.open(options.newer))
    if options.list:
        for line in found.lines():
            if options.json:
                terminal.data(asdict(line))
            else:
                terminal.say(_listed(line))
    elif options.json:
        terminal.data(summary(found))
    else:
        show(found, terminal)
    return 0


def show(found: "Diff", terminal: "Terminal") -> None:
    """Documents by fate and source, then languages, sizes and settings that differ."""
    from mlm_data.console import shown, table

    terminal.say(f"{found.older[:12]} -> {found.newer[:12]}", style="bold")
    if found.older == found.newer:
        terminal.say("one version: nothing differs")
        return
    lines = table("", "before", "after", "difference")
    for name, (before, after) in found.sizes.items():
        lines.add_row(name, f"{before:,}", f"{after:,}", f"{after - before:+,}")
    terminal.print(lines)
    terminal.say()
    lines = table("documents", "", "tokens")
    for fate, counts in found.documents.items():
        lines.add_row(fate, f"{counts.documents:,}", f"{counts.tokens:,}")
    terminal.print(lines)
    if found.sources:
        terminal.say()
        lines = table("source", *SIGNS, title="by source")

        def size(item: tuple[str, Mapping[str, Any]]) -> tuple[int, str]:
            return -sum(counts.documents for counts in item[1].values()), item[0]

        ordered = sorted(found.sources.items(), key=size)
        for name, fates in ordered[:MOST_SOURCES]:
            lines.add_row(shown(name), *(f"{fates[fate].documents:,}" if fate in fates else "" for fate in SIGNS))
        terminal.print(lines)
        if len(ordered) > MOST_SOURCES:
            terminal.say(f"and {len(ordered) - MOST_SOURCES:,} more sources: --json has all")
    if found.languages:
        terminal.say()
        lines = table("language", "before", "after", title="kept by language")
        for name, (before, after) in found.languages.items():
            lines.add_row(shown(name), f"{before:,}", f"{after:,}")
        terminal.print(lines)
    if found.settings:
        terminal.say()
        lines = table("setting", "before", "after", title="configuration and tokenizer")
        lines.columns[1].justify = lines.columns[2].justify = "left"
        for name, (before, after) in found.settings.items():
            lines.add_row(shown(name), shown(_value(before)), shown(_value(after)))
        terminal.print(lines)


def summary(found: "Diff") -> dict[str, Any]:
    """The same for programs, as plain types. A setting that a version lacks is left out on its side."""
    from dataclasses import asdict

    from mlm_data.dataset.diff import ABSENT

    return {
        "older": found.older,
        "newer": found.newer,
        "documents": {fate: asdict(counts) for fate, counts in found.documents.items()},
        "sources": {
            name: {fate: asdict(counts) for fate, counts in fates.items()} for name, fates in found.sources.items()
        },
        "languages": {
            name: dict(zip(("before", "after"), both, strict=True)) for name, both in found.languages.items()
        },
        "sizes": {name: dict(zip(("before", "after"), both, strict=True)) for name, both in found.sizes.items()},
        "settings": {
            name: {side: value for side, value in zip(("before", "after"), both, strict=True) if value is not ABSENT}
            for name, both in found.settings.items()
        },
    }


def _listed(line: "Line") -> str:
    from mlm_data.console import shown

    own = f" {shown(line.own_id)}" if line.own_id is not None else ""
    text = f"{SIGNS[line.fate]} {line.id}{own} {shown(line.source)} at {line.offset}"
    if line.before is None:
        return text
    number, source, offset = line.before
    return f"{text}, before {number if number != line.id else ''} {shown(source)} at {offset}".replace("  ", " ")


def _value(value: Any) -> str:
    import json

    from mlm_data.dataset.diff import ABSENT

    return "" if value is ABSENT else json.dumps(value, ensure_ascii=False)


COMMAND = Command(
    name="diff",
    help="Show what has changed from one version to another: documents, sources, settings, tokens.",
    arguments=_arguments,
    run=_run,
)
