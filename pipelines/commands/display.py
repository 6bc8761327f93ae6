"""The live display of a build: warnings, the tokenizer, then bars for the two steps that take the time.

It is the same on every runner whose workers write down how far they are: see `mlm_data.build.status`.
"""

import contextlib
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.text import Text

from mlm_data.build import progress
from mlm_data.build.progress import ASSEMBLE, PREPARE, Stage
from mlm_data.build.status import Watch
from mlm_data.build.units import Plan
from mlm_data.console import Terminal, counted, shown, size
from mlm_data.tokens.engine import Reference
from pipelines.build import Watcher

LOOK_SECONDS = 0.2  # between two looks at what this process does; files of others are read less often
LAST_SECONDS = 1.0  # that a look may still take when the build has ended
MOST_REASONS = 3  # in the line below the bars: `premask status` shows all


class Display(Watcher):
    """Shows a build while it runs: one for one build, used as a context."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._stack = contextlib.ExitStack()
        self._bars: _Bars | None = None
        self._spinner: Status | None = None

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None and kind is None:
            self._bars.complete()
        self._stack.close()

    def stage(self, stage: Stage) -> None:
        if self._spinner is None:
            self._spinner = self._stack.enter_context(self._terminal.status(str(stage)))
        else:
            self._spinner.update(str(stage))

    def planned(self, plan: Plan) -> None:
        for warning in plan.warnings:
            self._terminal.say(f"warning: {warning}", style="yellow")

    def found_tokenizer(self, reference: Reference, warnings: Sequence[str]) -> None:
        for note in reference.notes:
            self._terminal.say(f"{note.name}: {note.text}")
        for warning in warnings:
            self._terminal.say(f"warning: {warning}", style="yellow")

    def running(self, plan: Plan, watch: Watch) -> None:
        self._stack.close()
        self._bars = self._stack.enter_context(_Bars(self._terminal, sum(unit.num_bytes for unit in plan.units)))
        self._stack.callback(_follow(self._bars, watch))


class _Bars(Progress):
    """A bar for each of the two steps; below them, where somebody sees it move, what is known in numbers."""

    def __init__(self, terminal: Terminal, num_bytes: int) -> None:
        self._line = ""
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=terminal,
        )
        self._steps = {
            PREPARE: self.add_task("read, clean, tokenize", total=num_bytes),
            ASSEMBLE: self.add_task("deduplicate, pack, mask, write", total=num_bytes),
        }

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self._line and self.console.is_terminal:
            yield Text(self._line, no_wrap=True, overflow="ellipsis")

    def show(self, so_far: progress.Progress) -> None:
        """Move the bars to where the build is."""
        for name, task in self._steps.items():
            self.update(task, completed=so_far.step(name).num_bytes)
        self._line = in_numbers(so_far)

    def complete(self) -> None:
        """The build is done, whatever was last heard of it."""
        for task in self._steps.values():
            self.update(task, completed=self.tasks[task].total)


def in_numbers(so_far: progress.Progress) -> str:
    """A line for people: units, speed, documents, tokens and what was dropped; "" where nothing is known yet.

    >>> from mlm_data.build.progress import Done, Progress, Worker
    >>> steps = {PREPARE: Done(units=4, num_bytes=8_000_000, first=101.0, last=102.0)}
    >>> counts = {"documents": {"read": 2500, "reused": 1}, "dropped": {"bad_json": 3}, "tokens": 1_700_000}
    >>> one = Worker(host="a", pid=1, since=101.0, updated=102.0, steps=steps, **counts)
    >>> in_numbers(Progress(started=100.0, units=8, num_bytes=16_000_000, workers=(one,)))
    '4 of 8 units read, 4.0 MB/s; 2,500 documents, 1.7 M tokens; 1 unit reused; dropped: bad_json 3'
    """
    read, written = so_far.step(PREPARE), so_far.step(ASSEMBLE)
    if not read.units:
        return ""
    step, done, what = (ASSEMBLE, written, "written") if written.units else (PREPARE, read, "read")
    speed = so_far.speed(step)
    documents, reasons = so_far.documents, sorted(so_far.dropped.items(), key=lambda item: (-item[1], item[0]))
    parts = [
        f"{done.units:,} of {so_far.units:,} units {what}" + (f", {size(speed)}/s" if speed else ""),
        f"{documents.get('read', 0):,} documents" + (f", {so_far.tokens / 1e6:,.1f} M tokens" * (so_far.tokens > 0)),
    ]
    if reused := documents.get("reused", 0):
        parts.append(f"{reused:,} unit{'s' * (reused > 1)} reused")
    if reasons:
        told = [f"{shown(reason)} {count:,}" for reason, count in reasons[:MOST_REASONS]]
        more = sum(count for _, count in reasons[MOST_REASONS:])
        parts.append("dropped: " + ", ".join(told + ([f"others {more:,}"] if more else [])))
    if lost := len(so_far.lost):
        parts.append(f"{counted(lost, 'worker')} of {len(so_far.workers):,} gone or silent")
    return "; ".join(parts)


def _follow(bars: _Bars, watch: Watch):
    """Move the bars as the workers get on; returns what ends that."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(LOOK_SECONDS):
            so_far = watch.look()
            if not ended.is_set():
                bars.show(so_far)

    watcher = threading.Thread(target=go_on, daemon=True)
    watcher.start()

    def end() -> None:
        ended.set()
        watcher.join(LAST_SECONDS)

    return end
