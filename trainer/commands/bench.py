"""`premask-train bench`: speed against peers in one process, and where the time goes."""

import argparse
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from mlm_data.errors import ConfigError
from trainer.commands.launch import launch
from trainer.commands.options import add_json, add_settings, settings_of

if TYPE_CHECKING:
    from mlm_data.console import Terminal


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each in turn (default: %(default)s)")
    peers = parser.add_mutually_exclusive_group()
    peers.add_argument(
        "--no-peers", action="store_const", const=None, default=[], dest="peers", help="only this trainer"
    )
    peers.add_argument(
        "--peer",
        action="append",
        default=[],
        dest="peers",
        metavar="TEXT",
        help="only peers whose name holds TEXT, such as 'full rows, head' for HF at its best; may be repeated",
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    if options.rounds < 1:
        raise ConfigError(f"--rounds must be at least 1, got {options.rounds}")
    launch(options.words)
    settings = settings_of(options, out="unplaced")  # nothing is written

    from mlm_data.console import Terminal
    from trainer.studies.bench import bench
    from trainer.training.datasets import open_dataset

    found = bench(open_dataset(settings.data), settings, rounds=options.rounds, peers=options.peers)
    if options.json:
        Terminal().data(found)
    else:
        _show(found, Terminal())
    return 0


def _show(found: dict[str, Any], terminal: "Terminal") -> None:
    from rich.table import Table

    table = Table("", "useful tokens/s", "best round", "useful places", "premask is faster by")
    for line in found["peers"]:
        speed, best = (f"{line[name]:,.0f}" for name in ("useful_tokens_per_second", "best"))
        table.add_row(line["name"], speed, best, f"{line['useful_share']:.0%}", f"{line['ours_is_faster_by']:.2f} x")
    terminal.print(table)
    if found["waterfall"]:
        steps = ", ".join(f"{line['what']} {line['factor']:.2f} x" for line in found["waterfall"])
        terminal.say(f"from HF as people use it: {steps}")
    terminal.say(
        f"{found['precision']} products; {found['share_of_peak']:.0%} of {found['gemm_peak_gflops']:.0f} GFLOP/s; "
        f"a consumer of 1 million tokens/s waits {found['loader_wait']:.2%} of its time"
    )
    terminal.say("time: " + ", ".join(f"{name} {share:.0%}" for name, share in found["time"].items()))


COMMAND = Command(
    name="bench",
    help="Speed against peers in one process, and where the time goes.",
    arguments=_arguments,
    run=_run,
)
