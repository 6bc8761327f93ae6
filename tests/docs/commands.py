"""What stands in the fenced blocks of a page."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("premask", "premask-train")
_FENCE = re.compile(r"^( *)```(\S*)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    title: str
    text: str


def blocks(page):
    """The fenced blocks of a page."""
    found = _FENCE.findall(page.read_text())
    return [Block(language, title, text) for _, language, title, text in found]


def command_lines(block):
    """The command lines of a block: those that begin with one of our programs, after a prompt or not."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True) if runs_ours(line.removeprefix("$ ")) else []
        if words:
            yield words


def runs_ours(line):
    """Whether a line is a command of ours."""
    return line.startswith(tuple(f"{program} " for program in PROGRAMS))
