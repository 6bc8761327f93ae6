"""`premask try`: one document through the whole of curation: what each step did to it, and what would drop it."""

import argparse
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from mlm_data.errors import ConfigError
from pipelines.commands.options import add_config, limit_tokenizer_threads

if TYPE_CHECKING:
    from mlm_data.build.measures import Measure
    from mlm_data.build.trial import Trial
    from mlm_data.config import BuildConfig
    from mlm_data.console import Terminal
    from mlm_data.tokens.engine import Reference

STDIN = "standard input"
LINE_CHARS = 100  # shown of a line that a step changed
BEFORE_CHARS = 30  # of them before the first change
MOST_STDIN_BYTES = 256 * 2**20


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("file", help="a file, or - for plain text on standard input")
    parser.add_argument("--input", type=int, default=0, metavar="N", help="whose settings hold (default: %(default)s)")
    parser.add_argument(
        "--format", default=None, metavar="NAME", help="how the file is read, instead of the input's way"
    )
    parser.add_argument(
        "--document", type=int, default=0, metavar="N", help="which one of the file (default: %(default)s)"
    )
    parser.add_argument(
        "--lines", type=int, default=5, metavar="N", help="changed lines shown of a step (default: %(default)s)"
    )
    parser.add_argument("--text", action="store_true", help="show the text that would be tokenized, too")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.build.trial import read_document, try_document
    from mlm_data.config import load_config
    from mlm_data.console import Terminal

    limit_tokenizer_threads()
    config = load_config(options.config, options.set)
    if not 0 <= options.input < len(config.inputs):
        raise ConfigError(f"--input {options.input}: {options.config} has inputs 0 to {len(config.inputs) - 1}")
    if options.document < 0 or options.lines < 0:
        raise ConfigError("--document and --lines count from 0")
    _check_format(options.format)
    with tempfile.TemporaryDirectory() as folder:
        path, format_ = options.file, options.format
        if path == "-":
            path, format_ = os.path.join(folder, STDIN), options.format or "text"
            data = sys.stdin.buffer.read(MOST_STDIN_BYTES + 1)
            if len(data) > MOST_STDIN_BYTES:
                raise ConfigError(f"more than {MOST_STDIN_BYTES:,} bytes on standard input: give a file")
            with open(path, "wb") as file:
                file.write(data)
            if options.format is None:
                config = _plain(config, options.input)
        documents = read_document(path, config, options.input, format_, options.document)
    reference, why = _tokenizer(config)
    found = try_document(documents, options.input, config, reference)
    if options.json:
        Terminal().data(summary(found))
    else:
        show(found, config, Terminal(), lines=options.lines, why=why, text=options.text)
    return 0


def _check_format(name: str | None) -> None:
    from mlm_data.text.formats import FORMATS

    if name is not None and name != "auto" and name not in FORMATS:
        raise ConfigError(f"--format {name}: is none of auto, {', '.join(FORMATS)}")


def _plain(config: "BuildConfig", number: int) -> "BuildConfig":
    """The configuration, of which an input is read as one document of UTF-8."""
    update = {"documents": "file", "encoding": "utf-8"}
    inputs = [item.model_copy(update=update) if i == number else item for i, item in enumerate(config.inputs)]
    return config.model_copy(update={"inputs": tuple(inputs)})


def _tokenizer(config: "BuildConfig") -> tuple["Reference | None", str]:
    """(the tokenizer, where it comes from): the file, or the one that the dataset was built with."""
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.stores.folder import Folder
    from mlm_data.tokens.engine import load_tokenizer

    tokenizer = config.tokenizer
    if tokenizer.path is not None:
        given: dict[str, Any] = {"lowercase": tokenizer.lowercase, "strip_accents": tokenizer.strip_accents}
        given |= {"markers": tokenizer.markers, "mask_markers": config.mask.markers}
        return load_tokenizer(tokenizer.path, tokenizer.special, **given), tokenizer.path
    folder = Folder(config.output)
    if folder.exists("LATEST"):
        return Dataset.open(folder).reference(), f"as in {config.output}"
    return None, "it is to be trained: premask build trains it"


def show(found: "Trial", config: "BuildConfig", terminal: "Terminal", *, lines: int, why: str, text: bool) -> None:
    """What each step did, every score with its threshold, and the verdict."""
    from mlm_data.console import number, shown, table

    terminal.say(f"{shown(found.source)} at {found.offset}, as a document of {shown(found.input)}", style="bold")
    terminal.say(f"id {found.id}\n")
    for change in found.changes:
        kinds = ", ".join(f"{name}: {count:,}" for name, count in change.kinds.items())
        size = f"{change.before:,} characters" if change.before == change.after else (
            f"{change.before:,} -> {change.after:,} characters"
        )  # fmt: skip
        terminal.say(
            f"{change.step}  {size}  {kinds or ('changed' if change.lines else 'nothing to do')}", style="cyan"
        )
        for old, new in change.lines[:lines]:
            first = first_difference(old, new) if new else 0
            terminal.say(f"  - {_from(old, first)}", style="dim")
            if new:
                terminal.say(f"  + {_from(new, first)}", style="dim")
        if len(change.lines) > lines:
            terminal.say(f"  and {len(change.lines) - lines:,} more lines", style="dim")
    if found.language is not None:
        terminal.say(f"language  {shown(found.language)}, score {found.language_score:.4f}", style="cyan")
    terminal.say()
    scores = table("step", "what is looked at", "value", "", "threshold", "verdict", title="scores and thresholds")
    for column in (scores.columns[1], scores.columns[5]):
        column.justify = "left"
    for one in found.measures:
        verdict, style = _verdict(one, found.reason)
        sign = {"at_most": "<=", "at_least": ">=", "none": "="}.get(one.bound, "")
        limit = one.thresholds[0]
        is_on = limit == limit
        cells = (shown(one.step), shown(one.what), number(one.values[0]), sign if is_on else "")
        scores.add_row(*cells, number(limit) if is_on else "", verdict, style=style)
    terminal.print(scores)
    terminal.say()
    if found.tokens is None:
        terminal.say(f"tokens: not counted: {shown(why)}")
    else:
        tokens = found.tokens
        terminal.say(
            f"tokens: {tokens.num_tokens:,}, of them [UNK] {tokens.num_unknown:,}; "
            f"{tokens.num_segments:,} {'row' if tokens.num_segments == 1 else 'rows'} of "
            f"{config.pack.sequence_length} or parts of rows (tokenizer: {shown(why)})"
        )
    if text:
        terminal.say("\nwhat would be tokenized:", style="bold")
        for line in found.text.split("\n"):
            terminal.say(shown(line))
    if found.reason == "kept":
        terminal.say("\nit stays, unless it is a copy: other documents were not looked at", style="green")
    else:
        terminal.say(f"\nit would be dropped: {shown(found.reason)}", style="red")


def first_difference(old: str, new: str) -> int:
    """How many characters two texts begin with in common.

    >>> first_difference("abcd", "abXd"), first_difference("ab", "abc"), first_difference("a", "a")
    (2, 2, 1)
    """
    pairs = enumerate(zip(old, new, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(old), len(new)))


def _from(line: str, place: int) -> str:
    """A line from a little before a place on, harmless."""
    from mlm_data.console import shown

    first = max(0, place - BEFORE_CHARS)
    return ("…" if first else "") + shown(line[first:], LINE_CHARS)


def summary(found: "Trial") -> dict[str, Any]:
    """The same for programs, as plain types."""
    from dataclasses import asdict

    return {
        "input": found.input,
        "source": found.source,
        "offset": found.offset,
        "id": found.id,
        "changes": [asdict(change) for change in found.changes],
        "language": found.language,
        "language_score": found.language_score,
        "scores": [
            {
                "step": one.step,
                "reason": one.reason,
                "what": one.what,
                "setting": one.setting,
                "bound": one.bound,
                "value": float(one.values[0]),
                "threshold": None if one.thresholds[0] != one.thresholds[0] else float(one.thresholds[0]),
                "fails": bool(one.fails[0]),
            }
            for one in found.measures
        ],
        "tokens": found.tokens and asdict(found.tokens),
        "reason": found.reason,
        "text": found.text,
    }


def _verdict(one: "Measure", reason: str) -> tuple[str, str | None]:
    """(the verdict, its style)."""
    if one.thresholds[0] != one.thresholds[0]:
        return "no threshold", "dim"
    if not one.fails[0]:
        return "passes", None
    is_reason = one.reason == reason or (one.reason == "too_short" and reason == "empty")
    return ("drops it", "red") if is_reason else ("would drop it, too", "yellow")


COMMAND = Command(
    name="try", help="Take one document through the whole: each step, each score, the verdict.", arguments=_arguments,
    run=_run,
)  # fmt: skip
