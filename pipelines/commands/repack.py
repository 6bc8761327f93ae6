"""`premask repack`: rows of another length from the same tokens."""

import argparse

from mlm_data.command import Command
from pipelines.commands.options import add_workers


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="the dataset's folder; folder@version for another than the current one")
    parser.add_argument("--length", type=int, required=True, metavar="L", help="token places of a row")
    parser.add_argument(
        "--max-segments", type=int, default=None, metavar="N", help="pieces of documents in a row, as pack.max_segments"
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.derive.repack import repack
    from pipelines.commands.derived import open_parent, progress_bar, say_version

    parent, current = open_parent(options.dataset)
    with progress_bar("packing") as progress:
        manifest = repack(
            parent,
            options.length,
            max_segments=options.max_segments,
            current=current,
            workers=options.workers,
            progress=progress,
        )
    say_version(parent.manifest, manifest, options.dataset, current=current, as_json=options.json)
    return 0


COMMAND = Command(
    name="repack",
    help="A new version with rows of another length; no text is read, nothing is tokenized.",
    arguments=_arguments,
    run=_run,
)
