"""`premask report`: one page of HTML about a version, to look at and to keep beside a model."""

import argparse
from typing import TYPE_CHECKING

from mlm_data.command import Command
from pipelines.commands.options import add_dataset, folder_name, write_out

if TYPE_CHECKING:
    from mlm_data.dataset.dataset import Dataset

NUM_ROWS = {"train": 3, "validation": 1}  # that are shown


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--out",
        default=None,
        metavar="FILE",
        help="where to write it (default: NAME-DIGEST.html in the current folder)",
    )


def _run(options: argparse.Namespace) -> int:
    from mlm_data.command import require
    from mlm_data.console import Terminal, shown, size
    from mlm_data.dataset.dataset import Dataset

    require("matplotlib", extra="report")  # before the work
    dataset = Dataset.open(options.dataset)
    name = folder_name(options.dataset)
    out = options.out or f"{name}-{dataset.digest[:12]}.html"
    num_bytes = write_out(out, make_report(dataset, title=options.dataset.rstrip("/").rpartition("/")[2] or name))
    Terminal().say(f"{shown(out)}: {size(num_bytes)}; digest {dataset.digest[:16]}")
    return 0


def make_report(dataset: "Dataset", *, title: str) -> str:
    """The page about a version; the same version gives the same page, but for tags and later versions.

    Args:
        dataset: the version, open.
        title: what to call it.

    Raises:
        ConfigError: if matplotlib is not installed.
        FormatError: if a file is missing or damaged.
    """
    from mlm_data.dataset.examples import load_examples
    from mlm_data.dataset.history import history
    from mlm_data.dataset.manifest import load_side
    from mlm_data.dataset.statistics import collect_statistics
    from pipelines.commands.report_page import Report, page

    reference, manifest = dataset.reference(), dataset.manifest
    rows = []
    for split, most in NUM_ROWS.items():
        total = dataset.num_rows(split)
        numbers = sorted({(2 * place + 1) * total // (2 * most) for place in range(most)}) if total else []
        rows += [dataset.row(split, number, planes=dataset.planes(split)[:1]) for number in numbers]
    return page(
        Report(
            title=title,
            manifest=manifest,
            statistics=collect_statistics(dataset, reference),
            reference=reference,
            side=load_side(dataset.folder, manifest),
            versions=history(dataset.folder),
            rows=rows,
            examples=load_examples(dataset.folder, manifest),
        )
    )


COMMAND = Command(
    name="report", help="Write one page of HTML about a dataset, to look at.", arguments=_arguments, run=_run
)
