"""What every benchmark prints: the machine, the versions, and one table. Nothing is asserted."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, packages: Sequence[str] = ()) -> None:
    """Print a table with the machine and the versions that it was measured with."""
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(width=140)
    console.print()
    console.print(table)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("premask", *packages))
    console.print(f"{machine()}; Python {platform.python_version()}, {versions}", style="dim", highlight=False)


def machine() -> str:
    """The processor's name and number of cores, as the system tells them."""
    import os

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
