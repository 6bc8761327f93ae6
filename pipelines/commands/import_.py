"""`premask import`: data that another tool has tokenized becomes a version: packed and masked here."""

import argparse

from mlm_data.command import Command
from pipelines.commands.options import add_workers

KINDS = ("datatrove", "dolma", "mds", "megatron", "hf")  # of mlm_data.exchange.importing, which help doesn't import


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="the dataset's folder; a new version of it is published")
    parser.add_argument("path", help="a file, or the folder that holds the files")
    parser.add_argument("--from", dest="kind", required=True, choices=KINDS, help="the tool that wrote the files")
    parser.add_argument("--tokenizer", required=True, metavar="FILE", help="the tokenizer that made the ids")
    parser.add_argument("--column", default=None, help="of hf and mds: the one with the ids (input_ids or tokens)")
    parser.add_argument("--dtype", default=None, help="of mds whose ids are bytes: uint16, int64, ...")
    parser.add_argument(
        "--separator",
        action="append",
        default=[],
        metavar="TOKEN",
        help="a token that ends a document, beside the tokenizer's [CLS], [SEP] and [PAD]",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="as in a build, e.g. pack.sequence_length=512"
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from mlm_data.console import Terminal, counted
    from mlm_data.dataset.ledger import Ledger
    from mlm_data.exchange.importing import Source, import_tokens, make_config
    from pipelines.commands.derived import progress_bar, say_overtaken

    source = Source(
        kind=options.kind,
        place=Path(options.path),
        column=options.column,
        dtype=options.dtype,
        separators=tuple(options.separator),
    )
    config = make_config(options.dataset, source, options.tokenizer, options.set)
    with progress_bar("importing") as progress:
        imported = import_tokens(source, config, workers=options.workers, progress=progress)
    manifest = imported.manifest
    ledger, terminal = Ledger.from_dict(manifest.ledger), Terminal()
    rows = {split: facts["num_rows"] for split, facts in manifest.splits.items()}
    if options.json:
        facts = {"digest": manifest.digest, "rows": rows, "ledger": ledger.to_dict(), "overtaken": imported.overtaken}
        terminal.data(facts)
        return 0
    terminal.say(f"digest {manifest.digest}", style="bold")
    terminal.say(f"documents: {ledger.documents_read:,} read, {ledger.documents_kept:,} kept")
    for reason, count in ledger.documents_dropped.items():
        terminal.say(f"  {reason}: {count:,}")
    terminal.say(
        f"rows of {manifest.sequence_length}: {rows['train']:,} for training, {rows['validation']:,} for validation; "
        f"{counted(ledger.tokens_in_rows, 'token')}"
    )
    if imported.overtaken:
        say_overtaken(imported.overtaken, options.dataset)
    return 0


COMMAND = Command(
    name="import",
    help="A version from data that datatrove, dolma, MDS, Megatron or HF datasets hold as token ids.",
    arguments=_arguments,
    run=_run,
)
