"""`premask inspect`: a dataset, or one row of it as a person would read it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from pipelines.commands.options import add_dataset

if TYPE_CHECKING:
    from rich.text import Text

    from mlm_data.console import Terminal
    from mlm_data.dataset.dataset import RowView


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--row", type=int, default=None, metavar="N", help="which row of the split")
    parser.add_argument("--split", choices=["train", "validation"], default="train", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal, counted
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.dataset.missing import missing_values
    from pipelines.commands.funnel import show_funnel, summary

    dataset, terminal = Dataset.open(options.dataset), Terminal()
    manifest = dataset.manifest
    if options.row is not None:
        view, tokens = dataset.row(options.split, options.row), dataset.reference().tokens
        if options.json:
            terminal.data(row_summary(view, tokens))
        else:
            show_row(view, tokens, terminal)
        return 0
    if options.json:
        terminal.data(summary(manifest))
        return 0
    masks = manifest.config["mask"]
    terminal.say(f"{Path(options.dataset).name}  digest {manifest.digest[:16]}", style="bold")
    terminal.say(
        f"rows of {manifest.sequence_length}, {manifest.vocab_size} ids, {counted(manifest.num_planes, 'plane')}: "
        f"{masks['kind']}, rates {masks['rate']}\n"
    )
    show_funnel(manifest, terminal, missing=missing_values(dataset.folder, manifest))
    terminal.say(f"\nnext: premask inspect {options.dataset} --row 0")
    return 0


def show_row(view: "RowView", tokens: Sequence[str], terminal: "Terminal") -> None:
    """The segments of a row with their sources, and what each plane hides."""
    from rich.text import Text

    shown = [spoken(tokens[token] if token < len(tokens) else "") for token in view.tokens.tolist()]
    terminal.say(f"{view.split} row {view.row}  shard {view.shard}", style="bold")
    for number, segment in enumerate(view.segments):
        where = f"{segment.source} @ {segment.offset}, from its token {segment.start}, id {segment.id[:12]}"
        terminal.print(Text(f"\nsegment {number}  {where}", style="cyan"))
        terminal.print(_text(view, shown, range(segment.place, segment.place + segment.length), set(), {}))
    used = sum(segment.length for segment in view.segments)
    terminal.print(Text(f"\n{len(view.tokens) - used} places of padding", style="dim"))
    for name, plane in view.planes.items():
        targets = set(plane.targets.tolist())
        swaps = {place: spoken(tokens[token]) for place, token in plane.swaps.items()}
        kept = sum(1 for place, token in plane.swaps.items() if token == int(view.tokens[place]))
        counts = (
            f"{len(targets)} targets, {len(targets) - len(swaps)} shown as [MASK], "
            f"{len(swaps) - kept} as a random token, {kept} as they are"
        )
        terminal.print(Text(f"\nplane {name}: {counts}", style="cyan"))
        terminal.print(_text(view, shown, range(used), targets, swaps))


def row_summary(view: "RowView", tokens: Sequence[str]) -> dict[str, Any]:
    """The same for programs, as plain types."""
    return {
        "split": view.split,
        "row": view.row,
        "shard": view.shard,
        "tokens": [tokens[token] if token < len(tokens) else "" for token in view.tokens.tolist()],
        "segments": [vars(segment) for segment in view.segments],
        "planes": {
            name: {"targets": plane.targets.tolist(), "swaps": {place: tokens[t] for place, t in plane.swaps.items()}}
            for name, plane in view.planes.items()
        },
    }


def _text(view: "RowView", shown: list[str], places: range, targets: set[int], swaps: dict[int, str]) -> "Text":
    """A row as a person reads it: what the model sees, with what it must say behind it."""
    from rich.text import Text

    text = Text()
    for place in places:
        lead = " " if view.word_starts[place] and place != places.start else ""
        word = shown[place]
        if place not in targets:
            text.append(lead + word)
        elif place in swaps:
            text.append(lead)
            text.append(swaps[place], style="bold magenta")
            text.append(f"({word.strip()})", style="dim")
        else:
            text.append(lead)
            text.append("▒▒", style="bold red")
            text.append(f"({word.strip()})", style="dim")
    return text


def spoken(token: str) -> str:
    """A token's string without its family's marks, and without control characters.

    >>> [spoken(token) for token in ("##ing", "Ġthe", "▁a", "Ċ")]
    ['ing', 'the', 'a', '⏎']
    """
    token = token.removeprefix("##").replace("Ġ", " ").replace("▁", " ").replace("Ċ", "⏎")
    return "".join(char if char.isprintable() else "�" for char in token.removeprefix(" "))


COMMAND = Command(
    name="inspect", help="Show a dataset, or a row as a person would read it.", arguments=_arguments, run=_run
)
