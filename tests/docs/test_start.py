"""docs/start.md, followed word for word in an empty folder, in small sizes."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.docs.commands import ROOT, blocks, command_lines

MODULES = {"premask": "pipelines", "premask-train": "trainer"}
SMALLER = {"10": "3", "budget.minutes=4": "budget.steps=6"}


@pytest.mark.slow
def test_the_start_page_can_be_followed(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran, printed = [], ""
    for block in blocks(ROOT / "docs/start.md"):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
            continue
        for program, *arguments in command_lines(block):
            words = [SMALLER.get(word, word) for word in arguments]
            words += ["--set", "compile=off"] if words[0] == "run" else []
            done = subprocess.run(
                [sys.executable, "-m", MODULES[program], *words],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{shlex.join([program, *words])}: {done.stdout}{done.stderr}"
            ran.append(f"{program} {words[0]}")
            printed += done.stdout
    assert ran == [
        "premask demo-corpus", "premask plan", "premask build", "premask build", "premask verify", "premask inspect",
        "premask-train run", "premask-train eval", "premask-train fill", "premask-train export",
    ]  # fmt: skip
    digests = {line for line in printed.splitlines() if line.startswith("digest ")}
    assert len(digests) == 1
    assert (tmp_path / "model" / "config.json").exists()


def test_every_block_of_the_start_page_is_a_command_or_a_file():
    for block in blocks(ROOT / "docs/start.md"):
        assert block.title or len(list(command_lines(block))) == len(block.text.splitlines()), block
