"""`premask-train eval`: how good a run's model is on text it has not seen."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from mlm_data.errors import ConfigError
from trainer.commands.options import add_json, add_run, run_of

if TYPE_CHECKING:
    from mlm_data.console import Terminal
    from mlm_data.dataset.dataset import Dataset
    from trainer.training.runs import TrainedModel

PREDICTORS = {
    "model": "this model",
    "unigram": "unigram frequencies",
    "two_neighbours": "table of two neighbours",
    "shuffled_context": "this model, context shuffled",
}


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--data", metavar="DATASET", help="another dataset with the same tokenizer")
    parser.add_argument("--baselines", action="store_true", help="also what trivial predictors reach")
    parser.add_argument("--max-rows", type=int, metavar="N", help="of the validation split")
    parser.add_argument("--by", action="store_true", help="also by source, word start, frequency and length")
    parser.add_argument("--blimp", metavar="FOLDER", help="also the share of BLiMP's pairs that are judged rightly")
    parser.add_argument("--blimp-pairs", type=int, metavar="N", help="only the first N pairs of each paradigm")
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    for name in ("max_rows", "blimp_pairs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    trained, machine = run_of(options)

    from mlm_data.console import Terminal
    from trainer.studies.blimp import evaluate as blimp
    from trainer.studies.breakdown import breakdown
    from trainer.studies.evaluate import report

    dataset = _dataset(trained, options.data)
    rows = {"batch_rows": trained.settings.batch_rows, "max_rows": options.max_rows}
    result = {"run": str(trained.folder), "step": trained.step}
    result |= report(trained.model, dataset, device=machine.device, baselines=options.baselines, **rows)
    if options.by:
        result["by"] = breakdown(trained.model, dataset, device=machine.device, **rows)
    if options.blimp:
        result["blimp"] = blimp(trained, Path(options.blimp), limit=options.blimp_pairs)
    if options.json:
        Terminal().data(result)
    else:
        _show(result, Terminal())
    return 0


def _dataset(trained: "TrainedModel", location: str | None) -> "Dataset":
    """The dataset to evaluate on: the one that is named, or the version that the run was trained on."""
    from trainer.training.datasets import open_dataset, pinned

    folder, record = trained.folder, trained.record
    if location is None:
        if record.dataset is None:
            raise ConfigError(f"{folder}: an imported model has no dataset yet: name one with --data")
        location = pinned(trained.settings.data, record.dataset)
    dataset = open_dataset(location)
    if dataset.manifest.tokenizer["sha256"] != record.tokenizer:
        raise ConfigError(f"{location}: has another tokenizer than the model: build it with {folder}/tokenizer.json")
    return dataset


def _show(result: dict[str, Any], terminal: "Terminal") -> None:
    from rich.table import Table

    table = Table("", "loss (nats)", "perplexity", "accuracy", title=f"{result['run']}, step {result['step']}")
    for key, name in PREDICTORS.items():
        if key in result:
            row = result[key]
            cells = (f"{row[field]:.3f}" if field in row else "" for field in ("loss", "perplexity", "accuracy"))
            table.add_row(name, *cells)
    terminal.print(table)
    if "nats_below_unigram" in result:
        below = result["nats_below_unigram"]
        terminal.say(
            f"{abs(below):.2f} nats {'below' if below >= 0 else 'above'} the unigram frequencies; "
            f"shuffling the visible context costs {result['nats_lost_by_shuffling']:.2f} nats"
        )
    for way, lines in result.get("by", {}).items():
        table = Table(way.replace("_", " "), "targets", "loss (nats)", "accuracy")
        for line in lines:
            table.add_row(line["name"], f"{line['targets']:,}", f"{line['loss']:.3f}", f"{line['accuracy']:.3f}")
        terminal.print(table)
    if "blimp" in result:
        table = Table("BLiMP paradigm", "judged rightly")
        for name, share in result["blimp"].items():
            table.add_row(name, f"{share:.3f}")
        terminal.print(table)


COMMAND = Command(
    name="eval", help="Loss, perplexity and accuracy on the evaluation plane.", arguments=_arguments, run=_run
)
