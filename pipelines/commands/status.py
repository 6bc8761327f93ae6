"""`premask status`: how far a build is, from another terminal or another machine."""

import argparse
import time
from typing import TYPE_CHECKING

from mlm_data.command import Command

if TYPE_CHECKING:
    from rich.table import Table

    from mlm_data.build.status import Status
    from mlm_data.console import Terminal


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="the output folder of the build")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.build.status import DONE, RUNNING, read_status
    from mlm_data.console import Terminal
    from mlm_data.stores.folder import Folder

    found, terminal = read_status(Folder(options.dataset)), Terminal()
    if options.json:
        terminal.data(found.to_dict())
    else:
        show(found, terminal, options.dataset)
    return 0 if found.state in (RUNNING, DONE) else 1


def show(found: "Status", terminal: "Terminal", dataset: str) -> None:
    """What it is, how far, what was dropped, who works, and what to do next."""
    from mlm_data.build.progress import ASSEMBLE, PREPARE
    from mlm_data.build.status import DONE, FAILED, RUNNING
    from mlm_data.console import counted, shown, size, table

    where = f"process {found.pid} on {shown(found.host)}, runner {shown(found.runner)}"
    if found.num_workers:
        where += f", {counted(found.num_workers, 'worker')}"
    last = f"{_clock(found.updated)}, {_span(time.time() - found.updated)} ago"
    if found.state == RUNNING:
        terminal.say(f"running: {where}, since {_clock(found.since)}; last sign of life {last}")
    else:
        terminal.say(f"{found.state} at {last}: {where}, begun {_clock(found.since)}")
    if found.state == FAILED:
        terminal.say(f"the reason: {shown(found.error)}", style="red")
    if found.stage is not None:
        verb = "now" if found.state == RUNNING else "it was"
        terminal.say(f"{verb} {found.stage}")
        if found.units:
            terminal.say(f"planned: {counted(found.units, 'unit')}, {size(found.num_bytes)} of input")
        _advise(found, terminal, dataset)
        return
    terminal.say()
    lines = table("step", "units", "bytes of input", "speed", "left")
    for name, title in ((PREPARE, "read, clean, tokenize"), (ASSEMBLE, "deduplicate, pack, mask, write")):
        done, left = found.step(name), found.seconds_left(name)
        is_whole = found.state == DONE or (found.units and done.units >= found.units)
        units, num_bytes = (found.units, found.num_bytes) if is_whole else (done.units, done.num_bytes)
        lines.add_row(
            title,
            f"{units:,} of {found.units:,}",
            f"{size(num_bytes)} of {size(found.num_bytes)}",
            f"{size(found.speed(name))}/s" if done.units else "",
            "done" if is_whole else (_span(left) if left is not None and found.state == RUNNING else ""),
        )
    terminal.print(lines)
    documents = found.documents
    if documents:
        terminal.say()
        dropped = "".join(f", {shown(reason)} {count:,}" for reason, count in found.dropped.items())
        terminal.say(
            f"documents so far: {documents.get('read', 0):,} read, {documents.get('kept', 0):,} kept{dropped}"
            + (f"; {found.tokens / 1e6:,.1f} M tokens read" if found.tokens else "")
            + (f"; {documents['reused']:,} units were prepared before" if documents.get("reused") else "")
        )
    if found.workers:
        terminal.say()
        terminal.print(_workers(found))
    _advise(found, terminal, dataset)


def _advise(found: "Status", terminal: "Terminal", dataset: str) -> None:
    """What to do next."""
    from mlm_data.build.progress import PREPARE
    from mlm_data.build.status import DONE, RUNNING, STOPPED

    terminal.say()
    if lost := len(found.lost) if found.state == RUNNING else 0:
        it = "it" if lost == 1 else "they"
        terminal.say(f"{lost} of {len(found.workers)} workers gone or silent: what {it} had begun, others do again")
        terminal.say()
    if found.state == DONE:
        terminal.say(f"next: premask verify {dataset}")
    elif found.state != RUNNING:
        verb = "died without a word" if found.state == STOPPED else "ended"
        terminal.say(f"it {verb}; nothing half-made is visible: start the same build again, and it goes on from the")
        terminal.say(f"units that are prepared: {found.step(PREPARE).units:,} of {found.units:,} at least")


def _workers(found: "Status") -> "Table":
    from mlm_data.build.progress import ASSEMBLE, PREPARE, Done
    from mlm_data.build.status import RUNNING
    from mlm_data.console import shown, table

    is_running = found.state == RUNNING
    lines = table("worker", "process", "since", "prepared", "assembled", "last said", *["state"] * is_running)
    for one in found.workers:
        units = [f"{one.steps.get(name, Done()).units:,}" for name in (PREPARE, ASSEMBLE)]
        state = one.state + (f" for {_span(one.silent)}" if one.is_lost else "")
        lines.add_row(
            shown(one.host), str(one.pid), _clock(one.since), *units, _clock(one.updated), *[state] * is_running
        )
    return lines


def _clock(seconds: float) -> str:
    """A time of day here, with the date where that is another."""
    then = time.localtime(seconds)
    is_today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", then)


def _span(seconds: float) -> str:
    """A length of time for people.

    >>> _span(0.4), _span(75), _span(3700), _span(200_000)
    ('0 s', '1 min 15 s', '1 h 1 min', '2 d 7 h')
    """
    whole = max(0, round(seconds))
    for name, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // part} {small}"
    return f"{whole} s"


COMMAND = Command(
    name="status",
    help="How far a build is, where it runs and what it has dropped, from another terminal; exit code 1 if it stopped.",
    arguments=_arguments,
    run=_run,
)
