"""`premask where`: the rows of a document, the planes that hide places of it, and the steps of a run that saw it."""

import argparse
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from pipelines.commands.options import add_dataset

if TYPE_CHECKING:
    from mlm_data.console import Terminal

MOST_STEPS = 8  # of a piece in the table; --json has all


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--doc", required=True, metavar="ID", help="the document's own id, or its id in hexadecimal")
    parser.add_argument("--run", metavar="RUN", help="the folder of a run: also the steps that have read it")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.dataset.where import find_document
    from mlm_data.lean_arrow import leave_pandas_out
    from mlm_data.loading.run_steps import read_run, steps_of_rows
    from mlm_data.shards.format import TRAIN

    leave_pandas_out()
    dataset, terminal = Dataset.open(options.dataset), Terminal()
    run = read_run(options.run) if options.run is not None else None
    found: list[dict[str, Any]] = []
    for one in find_document(dataset, options.doc):
        pieces = [dict(vars(piece)) for piece in one.pieces]
        if run is not None:
            rows = [piece.row_in_shard for piece in one.pieces]
            seen = steps_of_rows(dataset, run, one.shard, rows) if one.split == TRAIN else [[] for _ in rows]
            for piece, times in zip(pieces, seen, strict=True):
                piece["steps"] = [{"step": step, "plane": plane} for step, plane in times]
        found.append(vars(one) | {"pieces": pieces})
    if options.json:
        terminal.data({"digest": dataset.digest, "occurrences": found})
    else:
        show(found, terminal)
    return 0


def show(found: list[dict[str, Any]], terminal: "Terminal") -> None:
    """A table for each occurrence: a line for each segment."""
    from mlm_data.console import shown, table

    for one in found:
        own = f"{shown(one['own_id'])}  " if one["own_id"] is not None else ""
        copy = f", copy {one['copy']}" if one["copy"] else ""
        terminal.say(f"{own}{one['id']}", style="bold")
        terminal.say(f"{shown(one['source'])} at {one['offset']}: {one['num_tokens']:,} tokens, {one['split']}{copy}")
        has_steps = bool(one["pieces"]) and "steps" in one["pieces"][0]
        lines = table("row", "from place", "places", "from token", "hidden by plane", *(["steps"] if has_steps else []))
        for column in lines.columns[4:]:
            column.justify = "left"
        for piece in one["pieces"]:
            hidden = "  ".join(f"{plane}: {count}" for plane, count in piece["targets"].items())
            steps = [str(seen["step"]) for seen in piece.get("steps", ())]
            rest = f" and {len(steps) - MOST_STEPS} more" if len(steps) > MOST_STEPS else ""
            lines.add_row(
                f"{piece['row']:,}", str(piece["place"]), str(piece["length"]), f"{piece['start']:,}", hidden,
                *([", ".join(steps[:MOST_STEPS]) + rest] if has_steps else []),
            )  # fmt: skip
        terminal.print(lines)


COMMAND = Command(
    name="where",
    help="Show where a document is: rows, planes that hide places of it, and steps of a run.",
    arguments=_arguments,
    run=_run,
)
