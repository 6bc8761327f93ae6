"""The command `premask-train`.

A mistake of the user is one line on standard error and exit code 2; --debug shows the traceback.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mlm_data.errors import ConfigError, PremaskError
from trainer.commands import tools

QUIET_SECONDS = 10.0  # between two lines where the output is no terminal


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; ends the process with the command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    try:
        if options.command in ("run", "bench"):
            from trainer.training.machine import launch

            launch(arguments)
        code = options.act(options)
    except PremaskError as error:
        if options.debug:
            raise
        print(f"premask-train: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("premask-train: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="premask-train", description="Train and use an encoder on a premask dataset.")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, act: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(act=act)
        return command

    which = "newest (default), best (by validation loss), or a step"
    run = add("run", _run, "Train, or go on with a run where its last checkpoint is.")
    _add_settings(run)

    evaluate = add("eval", _eval, "Loss, perplexity and accuracy on the evaluation plane.")
    evaluate.add_argument("run", help="the run's folder")
    evaluate.add_argument("--checkpoint", default="newest", metavar="WHICH", help=which)
    evaluate.add_argument("--data", help="another dataset with the same tokenizer")
    evaluate.add_argument("--baselines", action="store_true", help="also what trivial predictors reach")
    evaluate.add_argument("--max-rows", type=int, help="of the validation split")
    evaluate.add_argument("--by", action="store_true", help="also by source, word start, frequency and length")
    evaluate.add_argument("--blimp", metavar="FOLDER", help="also the share of BLiMP's pairs that are judged rightly")
    evaluate.add_argument("--blimp-pairs", type=int, metavar="N", help="only the first N pairs of each paradigm")
    evaluate.add_argument("--json", action="store_true")

    fill = add("fill", _fill, "The most probable tokens for each [MASK] of a text.")
    fill.add_argument("run", help="the run's folder")
    fill.add_argument("--checkpoint", default="newest", metavar="WHICH", help=which)
    fill.add_argument("text", nargs="+", help='for example "The cat sat on the [MASK]."')
    fill.add_argument("--top", type=int, default=5)
    fill.add_argument("--json", action="store_true")

    text = "A linear probe, or fine-tuning, on a labelled JSONL file: is the encoder any good?"
    probe = add("probe", tools.probe, text)
    probe.add_argument("run", help="the run's folder")
    probe.add_argument("--checkpoint", default="newest", metavar="WHICH", help=which)
    probe.add_argument("file", help="JSONL with a text and a label on each line")
    probe.add_argument("--text-field", default="text")
    probe.add_argument("--label-field", default="label")
    probe.add_argument("--finetune", action="store_true", help="train all weights too, from the probe on")
    probe.add_argument("--epochs", type=int, help="of fine-tuning: 3 by default")
    probe.add_argument("--lr", type=float, help="of fine-tuning; by default 0.0384 / width: 1.5e-4 at a width of 256")
    probe.add_argument("--json", action="store_true")

    export = add("export", tools.export, "Write the model for HF transformers, as ModernBertForMaskedLM.")
    export.add_argument("run", help="the run's folder")
    export.add_argument("--checkpoint", default="newest", metavar="WHICH", help=which)
    export.add_argument("out", help="a new folder")
    export.add_argument("--to", choices=["hf"], default="hf")

    begin = add("import", tools.begin, "Begin a run from a ModernBERT checkpoint of HF transformers.")
    begin.add_argument("folder", help="a folder with config.json and model.safetensors")
    begin.add_argument("--out", required=True, help="the run's folder")

    plot = add("plot", tools.plot, "Curves of one or more runs in one HTML file.")
    plot.add_argument("runs", nargs="+", help="the runs' folders")
    plot.add_argument("--out", default="curves.html")

    plan = add("plan", tools.plan, "Parameters, memory, shapes, steps and arithmetic of a run; starts nothing.")
    _add_settings(plan)

    bench = add("bench", tools.bench, "Speed against peers in one process, and where the time goes.")
    _add_settings(bench)
    bench.add_argument("--rounds", type=int, default=5)
    peers = bench.add_mutually_exclusive_group()
    alone = "only this trainer"
    peers.add_argument("--no-peers", action="store_const", const=None, default=[], dest="peers", help=alone)
    peer = "only peers whose name holds TEXT, such as 'full rows, head' for HF at its best; may be repeated"
    peers.add_argument("--peer", action="append", default=[], dest="peers", metavar="TEXT", help=peer)
    bench.add_argument("--json", action="store_true")

    documents = add("which-docs", tools.which_docs, "Which documents were in a step, and where they came from.")
    documents.add_argument("run", help="the run's folder")
    documents.add_argument("step", type=int)
    documents.add_argument("--json", action="store_true")
    return parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", nargs="?", help="a YAML file with the run's settings")
    command.add_argument("--recipe", help="tiny, small, base or large")
    command.add_argument("--data", help="the dataset's folder, or folder@digest")
    command.add_argument("--out", help="the run's folder")
    command.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="for example batch_rows=16")


def _run(options: argparse.Namespace) -> int:
    from trainer.training.loop import train

    settings = tools.settings_of(options)
    console = Console(highlight=False)
    with _Screen(console) as screen:
        result = train(settings, say=screen.say, watch=screen.watch)
    if result["stopped"] or int(os.environ.get("RANK", "0")):
        return 0
    seen = result["validation"]
    if seen:
        targets = max(1, seen["targets"])
        console.print(
            f"step {result['step']}: validation loss {seen['loss_sum'] / targets:.3f}, "
            f"accuracy {seen['hits'] / targets:.3f}"
        )
    console.print(f"the run is in {settings.out}")
    return 0


def _eval(options: argparse.Namespace) -> int:
    from trainer.studies.blimp import evaluate as blimp
    from trainer.studies.breakdown import breakdown
    from trainer.studies.evaluate import report
    from trainer.training.data import open_dataset, pinned

    if options.max_rows is not None and options.max_rows < 1:
        raise ConfigError(f"--max-rows must be at least 1, got {options.max_rows}")
    trained, chosen = tools.open_run(options.run, which=options.checkpoint)
    folder, facts = trained.folder, trained.facts
    if not options.data and facts["dataset"] is None:
        raise ConfigError(f"{folder}: an imported model has no dataset yet: name one with --data")
    location = options.data or pinned(trained.settings.data, facts["dataset"])
    dataset = open_dataset(location)
    if dataset.manifest.tokenizer["sha256"] != facts["tokenizer"]:
        raise ConfigError(f"{location}: has another tokenizer than the model: build it with {folder}/tokenizer.json")
    result: dict[str, Any] = report(
        trained.model,
        dataset,
        batch_rows=trained.settings.batch_rows,
        device=chosen.device,
        baselines=options.baselines,
        max_rows=options.max_rows,
    )
    result = {"run": str(folder), "step": trained.step, **result}
    if options.by:
        rows = {"batch_rows": trained.settings.batch_rows, "max_rows": options.max_rows}
        result["by"] = breakdown(trained.model, dataset, device=chosen.device, **rows)
    if options.blimp:
        result["blimp"] = blimp(trained, Path(options.blimp), limit=options.blimp_pairs)
    if options.json:
        print(json.dumps(result))
        return 0
    console = Console(highlight=False)
    console.print(_table_of(result))
    if options.baselines:
        console.print(
            f"{result['nats_below_unigram']:.2f} nats below the unigram frequencies; "
            f"shuffling the visible context costs {result['nats_lost_by_shuffling']:.2f} nats"
        )
    for way, lines in result.get("by", {}).items():
        table = Table(way.replace("_", " "), "targets", "loss (nats)", "accuracy")
        for line in lines:
            table.add_row(line["name"], f"{line['targets']:,}", f"{line['loss']:.3f}", f"{line['accuracy']:.3f}")
        console.print(table)
    if options.blimp:
        table = Table("BLiMP paradigm", "judged rightly")
        for name, share in result["blimp"].items():
            table.add_row(name, f"{share:.3f}")
        console.print(table)
    return 0


def _fill(options: argparse.Namespace) -> int:
    from trainer.studies.fill import fill, to_json

    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, got {options.top}")
    trained, _ = tools.open_run(options.run, rows=1, which=options.checkpoint)
    console = Console(highlight=False)
    for text in options.text:
        guesses = fill(trained, text, top=options.top)
        if options.json:
            print(json.dumps(to_json(text, guesses)))
            continue
        console.print(Text(text, style="bold"))
        for number, blank in enumerate(guesses, start=1):
            words = "   ".join(f"{one.token} {one.probability:.0%}" for one in blank)
            console.print(Text(f"  {number}. {words}" if len(guesses) > 1 else f"  {words}"))
    return 0


def _table_of(result: dict[str, Any]) -> Table:
    table = Table("", "loss (nats)", "perplexity", "accuracy", title=f"{result['run']}, step {result['step']}")
    names = {
        "model": "this model",
        "unigram": "unigram frequencies",
        "two_neighbours": "table of two neighbours",
        "shuffled_context": "this model, context shuffled",
    }
    for key, name in names.items():
        if key in result:
            row = result[key]
            cells = (f"{row[field]:.3f}" if field in row else "" for field in ("loss", "perplexity", "accuracy"))
            table.add_row(name, *cells)
    return table


class _Screen:
    """One live line on a terminal; elsewhere a plain line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
        self._printed = 0.0

    def __enter__(self) -> "_Screen":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def watch(self, progress: Any) -> None:
        line = describe(progress)
        if self._live:
            self._live.update(Text(line))
        elif time.monotonic() - self._printed > QUIET_SECONDS or progress.step == progress.total:
            self._printed = time.monotonic()
            self._console.print(Text(line), soft_wrap=True)


def describe(progress: Any) -> str:
    """A progress as one line for people."""
    parts = [f"step {progress.step}/{progress.total or '?'}", f"loss {progress.loss:.3f}"]
    if progress.validation is not None:
        parts.append(f"validation {progress.validation.loss:.3f}")
        parts.append(f"accuracy {progress.validation.accuracy:.3f}")
    else:
        parts.append(f"accuracy {progress.accuracy:.3f}")
    parts.append(f"lr {progress.rate:.1e}")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.mfu is not None:
        parts.append(f"MFU {progress.mfu:.0%}")
    if progress.seconds_left is not None:
        minutes, seconds = divmod(int(progress.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return "  ".join(parts)
