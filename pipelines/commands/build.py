"""`premask build`: run the pipeline with a live display, then show the funnel and where everything is.

The only command that needs Beam. What it does not know itself it passes on: `--runner`, `--project`, ...
"""

import argparse
import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlm_data.command import Command, require
from pipelines.commands.options import add_config, add_workers, limit_tokenizer_threads

if TYPE_CHECKING:
    from mlm_data.console import Terminal


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_workers(parser)
    parser.add_argument("--sample", type=_share, default=1.0, metavar="1%", help="build a part, and estimate the whole")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON, progress on standard error")


def _run(options: argparse.Namespace) -> int:
    logging.getLogger().setLevel(logging.ERROR)  # Beam warns of clients for services that nobody asked for
    limit_tokenizer_threads(options.workers)
    require("apache_beam", extra="build")

    from mlm_data.build.plan import find_tokenizer, make_plan
    from mlm_data.config import load_config
    from mlm_data.console import Terminal, size
    from mlm_data.dataset.publish import check_output
    from mlm_data.stores.folder import Folder
    from pipelines.build import build
    from pipelines.commands.funnel import show_funnel, summary
    from pipelines.runners import check_beam_args

    config, sample = load_config(options.config, options.set), options.sample
    check_beam_args(options.rest)
    terminal = Terminal(stderr=options.json)
    whole = sum(unit.num_bytes for unit in make_plan(config).units) if sample < 1 else 0
    if sample < 1:
        config = config.model_copy(update={"output": config.output.rstrip("/") + "-sample"})
    check_output(Folder(config.output))
    started = time.perf_counter()
    made = make_plan(config, sample=sample)
    total = sum(unit.num_bytes for unit in made.units)
    for warning in made.warnings:
        terminal.say(f"warning: {warning}", style="yellow")
    if config.tokenizer.train is not None:
        with terminal.status("training the tokenizer, or finding it"):
            find_tokenizer(config, made)
    with _live(terminal, total):
        built = build(config, workers=options.workers, beam_args=options.rest, plan=made)
    seconds = time.perf_counter() - started
    disk = disk_bytes(config.output)
    factor = whole / max(1, total)
    estimate = {"bytes": whole, "seconds": factor * seconds, "disk_bytes": round(factor * sum(disk.values()))}
    if options.json:
        facts = {"output": config.output, "bytes": total, "seconds": seconds, "disk_bytes": disk}
        facts |= {"units": built.num_units, "reused": built.num_reused} | summary(built.manifest)
        Terminal().data(facts | ({"whole": estimate} if sample < 1 else {}))
        return 0
    show_funnel(built.manifest, terminal)
    reused = f", {built.num_reused} of them reused" if built.num_reused else ""
    parts = ", ".join(f"{kind} {size(value)}" for kind, value in disk.items())
    terminal.say(f"\n{size(total)} in {seconds:.1f} s ({size(total / seconds)}/s), {built.num_units} units{reused}")
    terminal.say(f"{size(sum(disk.values()))} on disk: {parts}")
    terminal.say(f"digest {built.manifest.digest}")
    if sample < 1:
        terminal.say(
            f"\nthe whole ({size(whole)}) would take about {estimate['seconds']:.0f} s with {options.workers} workers "
            f"and {size(estimate['disk_bytes'])} of disk"
        )
    terminal.say(f"next: premask verify {config.output}")
    return 0


def disk_bytes(output: str) -> dict[str, int]:
    """Bytes of the current version's files by kind."""
    from mlm_data.dataset.manifest import load_files, load_manifest
    from mlm_data.stores.folder import Folder

    folder = Folder(output)
    files = load_files(folder, load_manifest(folder))
    sums: dict[str, int] = {}
    for kind, num_bytes in zip(files["kind"].to_pylist(), files["num_bytes"].to_pylist(), strict=True):
        sums[kind] = sums.get(kind, 0) + num_bytes
    return sums


@contextlib.contextmanager
def _live(terminal: "Terminal", total: int) -> Iterator[None]:
    """Bars for the two steps that take the time, fed by the workers' threads."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from pipelines import metrics

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=terminal,
    ) as bars:
        steps = {
            "prepare": bars.add_task("read, clean, tokenize", total=total),
            "assemble": bars.add_task("deduplicate, pack, mask, write", total=total),
        }
        done = threading.Event()

        def update() -> None:
            for step, amount in metrics.progress().items():
                bars.update(steps[step], completed=amount)

        def watch() -> None:
            while not done.wait(0.2):
                update()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            update()


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share such as 1% or 0.01, got {text!r}")
    return value


COMMAND = Command(
    name="build", help="Build the dataset; unknown options go to Beam.", arguments=_arguments, run=_run, passes_on=True
)
