"""`premask remask`: other planes over the same rows."""

import argparse
from typing import Any

from mlm_data.command import Command
from pipelines.commands.options import add_workers


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="the dataset's folder; folder@version for another than the current one")
    parser.add_argument(
        "--rate", type=_rates, default=None, metavar="R", help="share of targets: one for all planes, or 0.3,0.15,..."
    )
    parser.add_argument("--kind", default=None, metavar="KIND", help="what is hidden together, as mask.kind")
    parser.add_argument("--planes", type=int, default=None, metavar="K", help="how many masks to store")
    parser.add_argument("--ngram", type=int, default=None, metavar="K", help="tokens of a run, with --kind ngram")
    for name, what in (("mask", "the mask token"), ("random", "a random token"), ("keep", "the token itself")):
        parser.add_argument(f"--{name}-share", type=float, default=None, metavar="S", help=f"targets that show {what}")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="of the masks: others of the same kind")
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.derive.remask import remask
    from pipelines.commands.derived import open_parent, progress_bar, say_version

    names = ("rate", "kind", "ngram", "planes", "mask_share", "random_share", "keep_share", "seed")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(options, name)) is not None}
    parent, current = open_parent(options.dataset)
    with progress_bar("masking") as progress:
        manifest = remask(parent, changes, current=current, workers=options.workers, progress=progress)
    say_version(parent.manifest, manifest, options.dataset, current=current, as_json=options.json)
    return 0


def _rates(text: str) -> float | tuple[float, ...]:
    """One rate, or several with commas between them."""
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, or numbers as 0.3,0.15, got {text!r}") from None
    return rates if "," in text else rates[0]


COMMAND = Command(
    name="remask",
    help="A new version with other masks over the same rows; no text is read, nothing is tokenized.",
    arguments=_arguments,
    run=_run,
)
