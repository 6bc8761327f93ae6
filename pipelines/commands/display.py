"""The live display of a build: warnings, the tokenizer, then bars for the two steps that take the time."""

import contextlib
import threading
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlm_data.build.units import Plan
from mlm_data.console import Terminal
from mlm_data.tokens.engine import Reference
from pipelines import metrics
from pipelines.build import Watcher


class Display(Watcher):
    """Shows a build while it runs: one for one build, used as a context."""

    def __init__(self, terminal: Terminal, *, trains: bool) -> None:
        self._terminal, self._trains = terminal, trains
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def planned(self, plan: Plan) -> None:
        for warning in plan.warnings:
            self._terminal.say(f"warning: {warning}", style="yellow")
        if self._trains:
            self._stack.enter_context(self._terminal.status("training the tokenizer, or finding it"))

    def found_tokenizer(self, reference: Reference, warnings: Sequence[str]) -> None:
        self._stack.close()
        for note in reference.notes:
            self._terminal.say(f"{note.name}: {note.text}")
        for warning in warnings:
            self._terminal.say(f"warning: {warning}", style="yellow")

    def running(self, plan: Plan) -> None:
        self._stack.close()
        bars = self._stack.enter_context(
            Progress(
                SpinnerColumn(),
                TextColumn("{task.description:<28}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._terminal,
            )
        )
        total = sum(unit.num_bytes for unit in plan.units)
        steps = {
            "prepare": bars.add_task("read, clean, tokenize", total=total),
            "assemble": bars.add_task("deduplicate, pack, mask, write", total=total),
        }
        self._stack.callback(_follow(bars, steps))


def _follow(bars: Progress, steps: dict):
    """Move the bars as the workers' threads get on; returns what ends that."""
    done = threading.Event()

    def update() -> None:
        for step, amount in metrics.progress().items():
            bars.update(steps[step], completed=amount)

    def watch() -> None:
        while not done.wait(0.2):
            update()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()

    def end() -> None:
        done.set()
        watcher.join()
        update()

    return end
