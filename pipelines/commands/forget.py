"""`premask forget`: the version without some documents."""

import argparse

from mlm_data.command import Command
from pipelines.commands.options import add_dataset, add_workers


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--ids", metavar="FILE", help="ids, one a line: your own (id_field), or documents' as 32 hexadecimal digits"
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="GLOB",
        help="all documents of the sources that match; may be given several times",
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal, shown
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.derive.forget import Chosen, forget, read_ids
    from mlm_data.errors import ConfigError
    from pipelines.commands.derived import progress_bar, say_version

    if options.ids is None and not options.source:
        raise ConfigError("say what to forget: --ids FILE or --source GLOB")
    chosen = Chosen(ids=read_ids(options.ids) if options.ids is not None else (), sources=options.source)
    parent = Dataset.open(options.dataset)
    with progress_bar("forgetting") as progress:
        made = forget(parent, chosen, workers=options.workers, progress=progress)
    lost = {
        "documents": made.num_documents,
        "tokens": made.num_tokens,
        "shards": made.num_shards,
        "not_found": {"count": made.num_missing, "first": list(made.missing)},
    }
    say_version(parent.manifest, made.manifest, options.dataset, as_json=options.json, more={"forgotten": lost})
    if options.json:
        return 0
    terminal = Terminal()
    terminal.say(
        f"forgotten: {made.num_documents:,} documents, {made.num_tokens:,} tokens; shards made again: {made.num_shards}"
    )
    if made.num_missing:
        terminal.say(f"not found: {made.num_missing:,}, the first: {', '.join(map(shown, made.missing))}")
    return 0


COMMAND = Command(
    name="forget",
    help="A new version without some documents; the old version keeps them.",
    arguments=_arguments,
    run=_run,
)
