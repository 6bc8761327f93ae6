"""Arguments that several commands take."""

import argparse
import logging
import os

from mlm_data.command import num_cores
from pipelines.runner_table import explained


def add_config(parser: argparse.ArgumentParser) -> None:
    """The build's file, and what overrides it."""
    parser.add_argument("config", help="the build's YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="override, e.g. mask.rate=0.15"
    )


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """A version of a dataset."""
    parser.add_argument("dataset", help="the dataset's folder; folder@v1.2 or folder@3f9a1c for another version")


def add_workers(parser: argparse.ArgumentParser, what: str = "threads") -> None:
    """How many of something work."""
    text = f"{what} (default: all cores)"
    parser.add_argument("--workers", type=_count, default=num_cores(), metavar="N", help=text)


def add_runners(parser: argparse.ArgumentParser) -> None:
    """Where a pipeline runs: the workers, and below all arguments the runners, whose options are passed on."""
    add_workers(parser, "threads, or the processes of a runner on this machine")
    parser.epilog = explained()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def quiet_beam() -> None:
    """Before Beam is imported: its warnings are for who writes pipelines, and ours is one line."""
    logging.getLogger().setLevel(logging.ERROR)


def add_share(parser: argparse.ArgumentParser, what: str) -> None:
    """How much of the inputs."""
    parser.add_argument("--sample", type=share, default=1.0, metavar="1%", help=what)


def limit_tokenizer_threads(workers: int | None = None) -> None:
    """One pool of threads for HF `tokenizers`, as large as the build may be; read when the pool is first used."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(workers or num_cores()))


def share(text: str) -> float:
    """An argument such as `1%` or `0.01`."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share such as 1% or 0.01, got {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 1024, got {text!r}")
    return int(text)


def folder_name(dataset: str) -> str:
    """The last part of a dataset's place, without a version: what to call it."""
    from mlm_data.dataset.names import split_name

    return split_name(dataset)[0].rstrip("/").rpartition("/")[2] or "dataset"


def write_out(path: str, text: str) -> int:
    """Make a file that the user has named, by path or URI, appear, whole or not at all; returns its bytes.

    Raises:
        StorageError: it can't be written.
    """
    from mlm_data.stores.folder import write_file

    return write_file(path, text.encode()).num_bytes
