"""`premask demo-corpus`: a corpus that every machine with Python has."""

import argparse
import os

from mlm_data.command import Command, local_path
from mlm_data.errors import ConfigError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=local_path, default="demo/corpus.jsonl", help="the file to write (default: %(default)s)"
    )
    parser.add_argument("--megabytes", type=float, default=20.0, help="at most (default: %(default)s)")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal
    from pipelines.demo_corpus import write_demo_corpus

    if not 0 < options.megabytes <= 10**6:
        raise ConfigError(f"--megabytes must be above 0 and at most 1,000,000, got {options.megabytes:g}")
    with Terminal(stderr=True).status("collecting documentation") as status:
        written = write_demo_corpus(
            options.out,
            max_bytes=int(options.megabytes * 10**6),
            workers=os.cpu_count() or 1,
            progress=lambda done: status.update(f"collecting documentation  {done / 1e6:.1f} MB"),
        )
    Terminal().say(f"wrote {options.out}  {written.num_bytes / 1e6:.1f} MB")
    return 0


COMMAND = Command(
    name="demo-corpus",
    help="Collect Python's documentation from this machine as JSONL.",
    arguments=_arguments,
    run=_run,
)
