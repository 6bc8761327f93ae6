"""`premask build`: run the pipeline with a live display, then show the funnel and where everything is.

The only command that needs Beam. What it does not know itself it passes on: `--runner`, `--project`, ...
"""

import argparse
import time
from typing import TYPE_CHECKING

from mlm_data.command import Command, require
from pipelines.commands.options import add_config, add_runners, add_share, limit_tokenizer_threads, quiet_beam

if TYPE_CHECKING:
    from pipelines.build import Built


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_runners(parser)
    add_share(parser, "build a part, and estimate the whole")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON, progress on standard error")


def _run(options: argparse.Namespace) -> int:
    quiet_beam()
    limit_tokenizer_threads(options.workers)
    require("apache_beam", extra="build")

    from mlm_data.config import load_config
    from mlm_data.console import Terminal, counted, size, standard_error
    from mlm_data.dataset.missing import missing_values
    from mlm_data.stores.folder import Folder
    from pipelines.build import build
    from pipelines.commands.derived import say_overtaken
    from pipelines.commands.display import Display
    from pipelines.commands.funnel import show_funnel, summary

    config, sample = load_config(options.config, options.set), options.sample
    terminal = Terminal(file=standard_error() if options.json else None)
    started = time.perf_counter()
    with Display(terminal) as display:
        built = build(config, workers=options.workers, beam_args=options.rest, sample=sample, watcher=display)
    if built is None:
        terminal.say("the runner was told to run nothing, so nothing was built")
        return 0
    seconds = time.perf_counter() - started
    disk = disk_bytes(built)
    factor = built.whole_bytes / max(1, built.num_bytes)
    estimate = {
        "bytes": built.whole_bytes,
        "seconds": factor * seconds,
        "disk_bytes": round(factor * sum(disk.values())),
    }
    if options.json:
        facts = {"output": built.output, "bytes": built.num_bytes, "seconds": seconds, "disk_bytes": disk}
        facts |= {"units": built.num_units, "reused": built.num_reused, "remade": built.num_remade}
        facts |= summary(built.manifest)
        Terminal().data(facts | ({"whole": estimate} if sample < 1 else {}))
        return 0
    show_funnel(built.manifest, terminal, missing=missing_values(Folder(built.output), built.manifest))
    reused = f", {built.num_reused} of them reused" if built.num_reused else ""
    remade = f", {built.num_remade} damaged in the cache and made again" if built.num_remade else ""
    parts = ", ".join(f"{kind} {size(value)}" for kind, value in disk.items())
    terminal.say(
        f"\n{size(built.num_bytes)} in {seconds:.1f} s ({size(built.num_bytes / seconds)}/s), "
        f"{counted(built.num_units, 'unit')}{reused}{remade}"
    )
    terminal.say(f"{size(sum(disk.values()))} on disk: {parts}")
    terminal.say(f"digest {built.manifest.digest}")
    if built.overtaken:
        say_overtaken(built.overtaken, built.output)
    if sample < 1:
        terminal.say(
            f"\nthe whole ({size(built.whole_bytes)}) would take about {estimate['seconds']:.0f} s with "
            f"{counted(options.workers, 'worker')} and {size(estimate['disk_bytes'])} of disk"
        )
    terminal.say(f"next: premask verify {built.output}")
    return 0


def disk_bytes(built: "Built") -> dict[str, int]:
    """Bytes of a version's files by kind."""
    from mlm_data.dataset.manifest import load_files
    from mlm_data.stores.folder import Folder

    files = load_files(Folder(built.output), built.manifest)
    sums: dict[str, int] = {}
    for kind, num_bytes in zip(files["kind"].to_pylist(), files["num_bytes"].to_pylist(), strict=True):
        sums[kind] = sums.get(kind, 0) + num_bytes
    return sums


COMMAND = Command(
    name="build", help="Build the dataset; unknown options go to Beam.", arguments=_arguments, run=_run, passes_on=True
)
