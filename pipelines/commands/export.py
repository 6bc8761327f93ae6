"""`premask export`: a split under one plane's masks as files that other trainers read."""

import argparse

from mlm_data.command import Command
from pipelines.commands.options import add_dataset

KINDS = ("hf", "parquet", "mds", "numpy", "jsonl")  # of mlm_data.exchange.targets, which help doesn't import


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--to",
        required=True,
        choices=KINDS,
        help="hf (datasets.load_from_disk), parquet, mds (mosaicml-streaming), numpy or jsonl",
    )
    parser.add_argument("--split", choices=("train", "validation"), default="train", help="whose rows (default: train)")
    parser.add_argument("--plane", default=None, metavar="P", help="whose masks (default: the split's first)")
    parser.add_argument(
        "--out", default=None, metavar="DIR", help="a new folder (default: one in exports/ of the dataset)"
    )
    parser.add_argument("--detokenize", action="store_true", help="add the texts of rows, for people")
    parser.add_argument("--json", action="store_true", help="print the export's manifest as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal, counted, shown, size
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.exchange.export import export

    dataset = Dataset.open(options.dataset)
    folder, manifest = export(
        dataset, options.out, to=options.to, split=options.split, plane=options.plane, detokenize=options.detokenize
    )
    terminal = Terminal()
    if options.json:
        terminal.data({"folder": str(folder), **manifest})
        return 0
    files = manifest["files"]
    num_bytes = sum(file["bytes"] for file in files)
    terminal.say(shown(options.out or str(folder)), style="bold")
    terminal.say(
        f"{manifest['num_rows']:,} {manifest['split']} rows of {manifest['sequence_length']}, "
        f"plane {manifest['plane']}, of version {dataset.digest[:16]}: {counted(len(files), 'file')}, {size(num_bytes)}"
    )
    return 0


COMMAND = Command(
    name="export",
    help="Write rows with one plane's masks as files for other trainers: HF, Parquet, MDS, numpy, JSON Lines.",
    arguments=_arguments,
    run=_run,
)
