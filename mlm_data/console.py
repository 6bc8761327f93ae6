"""The terminal of a person. Text from corpora is hostile: none of it may move the cursor or colour a line."""

import json
import os
import sys
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from mlm_data.hiding import hidden

MOST_COLUMNS = 10_000  # of a table that no terminal folds


class Terminal(Console):
    """A console that shows text as it is: no markup, no emoji, no guessed colours, no control characters, no secret.

    Where no terminal reads it, as in `premask log books | grep v1`, tables are as wide as what they hold; COLUMNS says
    otherwise.
    """

    def __init__(self, file: IO[str] | None = None, *, stderr: bool = False) -> None:
        super().__init__(file=file, stderr=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = MOST_COLUMNS

    def say(self, line: str = "", style: str | None = None) -> None:
        """One line, however long."""
        self.print(line, style=style, soft_wrap=True)

    def data(self, value: Any) -> None:
        """A value as one line of JSON, for programs."""
        self.file.write(hidden(json.dumps(value, allow_nan=False), of_stores=True) + "\n")

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's segments, whose texts are made harmless."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
                continue
            text = hidden(segment.text, of_stores=True)
            yield Segment(text if text.replace("\n", "").isprintable() else harmless(text), segment.style)

    def on_broken_pipe(self) -> None:
        """Whoever read has gone: `command.main` ends the process."""
        self.quiet = True
        raise BrokenPipeError


def harmless(text: str) -> str:
    r"""A text with U+FFFD for each control character but the line feed.

    >>> harmless("a\x1b[31m")
    'a�[31m'
    """
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def shown(text: str, most: int | None = None) -> str:
    r"""A text from a corpus on one line: what doesn't print is written as Python would escape it.

    So are colours and moves of the cursor, marks that turn the direction of writing, line ends, and spaces that are no
    U+0020. Nothing else changes: a backslash of the text stays one.

    Args:
        text: any text.
        most: characters of the text that are shown; `…` stands for the rest.

    >>> shown("a\x1b[31m b\u202ec\n"), shown("abcd", 2)
    ('a\\x1b[31m b\\u202ec\\n', 'ab…')
    """
    rest = "…" if most is not None and len(text) > most else ""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:most]) + rest


def aside(program: str, line: str) -> None:
    """A remark that is no part of the answer, on standard error."""
    Terminal(stderr=True).say(f"{program}: {harmless(line)}")


def standard_error() -> IO[str]:
    """Standard error as it is now: what is written there is seen, even while what libraries write is kept back."""
    try:
        copy = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # it is no file, as in tests
        return sys.stderr
    return open(copy, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors)


class _Table(Table):
    """A table whose cells hold no secrets: what is cut into lines can't be looked through any more."""

    def add_row(self, *cells: RenderableType | None, **named: Any) -> None:
        shown = (hidden(cell, of_stores=True) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, **named)


def table(*columns: str, title: str | None = None) -> Table:
    """A quiet table: names on the left, numbers on the right."""
    made = _Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return made


def size(num_bytes: float) -> str:
    """Bytes for people, in powers of ten.

    >>> size(54_321_000)
    '54.3 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def number(value: float) -> str:
    """A score for people.

    >>> [number(value) for value in (3.0, 1234567.0, 0.123456, 4.5)]
    ['3', '1,234,567', '0.123', '4.5']
    """
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """So many of something; its plural takes an s.

    >>> counted(1, "file"), counted(0, "file"), counted(1200, "new file")
    ('1 file', '0 files', '1,200 new files')
    """
    return f"{count:,} {noun}" + "s" * (count != 1)


def percent(part: int, whole: int) -> str:
    """A share of documents; `<0.1%` for a few.

    >>> percent(1, 3), percent(1, 100_000), percent(0, 5)
    ('33.3%', '<0.1%', '0')
    """
    if not part:
        return "0"
    return f"{part / whole:.1%}" if part / whole >= 0.0005 else "<0.1%"
