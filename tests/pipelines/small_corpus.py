"""Small texts of our own to build from: sentences made of a fixed list of words by a keyed hash."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.commands.cli import main

WORDS = """
    the a river stone house garden light water small old green walks sings writes reads under over beside within
    morning evening winter letter table window mountain language machine never always slowly quickly and but because
    open close begin end carry forget remember question answer number pattern silver copper paper glass market
""".split()


def sentence(number: int, words: int = 12) -> str:
    """A sentence that depends on its number alone."""
    picks = np.random.default_rng(number).integers(0, len(WORDS), words)
    return (" ".join(WORDS[pick] for pick in picks) + f" {number}.").capitalize()


def text(number: int, sentences: int = 8) -> str:
    """A document of some sentences."""
    return " ".join(sentence(number * 1000 + i) for i in range(sentences))


def write_jsonl(path: Path, numbers: range | list[int], **fields: object) -> Path:
    """One document for each number; equal numbers give equal texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in numbers:
            file.write(json.dumps({"text": text(number), "url": f"u{number}", **fields}) + "\n")
    return path


def prepared_units(folder: Path) -> list[Path]:
    """The prepared units in the cache of the dataset `folder/out`; temporary files are none."""
    return sorted((folder / "out" / "work" / "prepared").glob("[0-9a-f]*.arrow"))


def kill_midway(config: Path, *, prepared: int, workers: int) -> None:
    """Build in a process of its own and kill it with SIGKILL once so many units are prepared.

    Raises:
        AssertionError: if the build ended, or stood still for five minutes, before that.
    """
    command = [sys.executable, "-m", "pipelines", "build", str(config), "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(prepared_units(config.parent)) < prepared:
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (config.parent / "out/LATEST").exists()


def settings(folder: Path, **changes: object) -> dict[str, object]:
    """A configuration that builds in a second."""
    values: dict[str, object] = {
        "inputs": [{"path": str(folder / "in/*.jsonl")}],
        "output": str(folder / "out"),
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 300}},
        "pack": {"sequence_length": 64},
        "mask": {"planes": 2},
        "split": {"validation": 0.1},
        "unit_bytes": 20_000,
    }
    return values | changes


def write_config(folder: Path, **changes: object) -> str:
    """These settings as a file in the folder; its path."""
    path = folder / "premask.yaml"
    path.write_text(json.dumps(settings(folder, **changes)))
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run the command; it must end with exit code 2 and one line, which is returned."""
    capsys.readouterr()
    code = main(list(argv))
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2, lines
    assert len(lines) == 1, lines
    return lines[0]
