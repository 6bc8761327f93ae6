"""How far a run is, in one line."""

import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from mlm_data.console import Terminal

if TYPE_CHECKING:
    from trainer.training.loop import Progress

QUIET_SECONDS = 10.0  # between two lines where the output is no terminal


class Screen:
    """One live line on a terminal; elsewhere a plain line now and then."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._live = Live(console=terminal, refresh_per_second=4, transient=False) if terminal.is_terminal else None
        self._printed = 0.0

    def __enter__(self) -> "Screen":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._terminal.say(line)

    def watch(self, progress: "Progress") -> None:
        """The line that changes."""
        line = describe(progress)
        if self._live:
            self._live.update(Text(line))
        elif time.monotonic() - self._printed > QUIET_SECONDS or progress.step == progress.total:
            self._printed = time.monotonic()
            self._terminal.say(line)


def describe(progress: "Progress") -> str:
    """A progress as one line for people: `step 80/601  loss 5.462  accuracy 0.151  lr 0.02  8,390 tokens/s ...`."""
    parts = [f"step {progress.step}" + (f"/{progress.total}" if progress.total else "")]
    parts.append(f"loss {progress.loss:.3f}")
    if progress.validation is not None:
        parts.append(f"validation {progress.validation.loss:.3f}")
        parts.append(f"accuracy {progress.validation.accuracy:.3f}")
    else:
        parts.append(f"accuracy {progress.accuracy:.3f}")
    parts.append(f"lr {progress.rate:.2g}")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.mfu is not None:
        parts.append(f"MFU {progress.mfu:.0%}")
    if progress.seconds_left is not None:
        minutes, seconds = divmod(int(progress.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    if not progress.total:
        parts.append("how many steps follows from the speed of the first ones")
    return "  ".join(parts)
