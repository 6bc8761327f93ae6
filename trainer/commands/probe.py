"""`premask-train probe`: is the encoder any good on a labelled file?"""

import argparse
from pathlib import Path

from mlm_data.command import Command
from mlm_data.errors import ConfigError
from trainer.commands.options import add_json, add_run, aside, run_of


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("file", help="JSONL with a text and a label on each line; .gz .zst .bz2 .xz")
    parser.add_argument("--text-field", default="text", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--label-field", default="label", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--finetune", action="store_true", help="train all weights too, from the probe on")
    parser.add_argument("--epochs", type=int, metavar="N", help="of fine-tuning: 3 by default")
    parser.add_argument(
        "--lr", type=float, metavar="RATE", help="of fine-tuning; by default 0.0384 / width: 1.5e-4 at a width of 256"
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    if not options.finetune and (options.epochs is not None or options.lr is not None):
        raise ConfigError("--epochs and --lr say how to fine-tune: add --finetune, or leave them out")
    trained, machine = run_of(options)

    from rich.table import Table

    from mlm_data.console import Terminal
    from trainer.studies.probe import Tuning, probe
    from trainer.training.machine import prepare

    prepare(machine)
    tuning = Tuning(machine=machine, epochs=options.epochs, lr=options.lr) if options.finetune else None
    fields = {"text_field": options.text_field, "label_field": options.label_field}
    found = probe(trained, Path(options.file), **fields, tuning=tuning, say=aside)
    terminal = Terminal()
    if options.json:
        terminal.data(found.to_dict())
        return 0
    lines = [("the commonest class, always", found.majority), ("linear probe, encoder frozen", found.accuracy)]
    if found.finetuned is not None:
        lines.append(("fine-tuned", found.finetuned))
    table = Table("", "accuracy", title=f"{found.classes} classes, {found.num_train:,} texts to learn from")
    for name, accuracy in lines:
        table.add_row(name, f"{accuracy:.3f}")
    terminal.print(table)
    cut = f"; {found.num_cut:,} texts were cut to {trained.model.length} tokens" if found.num_cut else ""
    terminal.say(f"on {found.num_test:,} held-out texts{cut}")
    return 0


COMMAND = Command(
    name="probe",
    help="A linear probe, or fine-tuning, on a labelled JSONL file: is the encoder any good?",
    arguments=_arguments,
    run=_run,
)
