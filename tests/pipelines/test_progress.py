"""What a terminal shows while a build runs is the same wherever its workers are; afterwards nothing is missing."""

import contextlib
import importlib.util
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlm_data.build.progress import PREPARE
from mlm_data.build.status import read_status
from mlm_data.dataset.dataset import Dataset
from mlm_data.stores.folder import Folder
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON, dask_cluster, wait_for
from tests.pipelines.small_corpus import write_config, write_jsonl

NUM_FILES, DOCUMENTS = 6, 60
LINE = re.compile(
    r"(\d+) of (\d+) units (read|written)(, [\d.]+ [kM]?B/s)?; ([\d,]+) documents, [\d.]+ M tokens(; dropped: [^\n]+)?"
)


def corpus(folder: Path) -> Path:
    """Files with copies in each other, of which one is read only once the file that is returned is there."""
    gate = folder / "gate"
    for number in range(NUM_FILES):
        write_jsonl(folder / f"in/{number}.jsonl", range(number * 40, number * 40 + DOCUMENTS))
    with (folder / f"in/{NUM_FILES}.jsonl").open("w") as file:
        file.write(json.dumps({"text": f"hold until {gate}\n" + "and then read on. " * 20}) + "\n")
    return gate


class Seen:
    """A terminal 200 wide, and what it was sent."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nobody has it open any more
            while data := os.read(self._master, 4096):
                self._data += data

    @property
    def text(self) -> str:
        """Without colours and moves of the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._data.decode(errors="replace")).replace("\r", "\n")

    def close(self) -> None:
        os.close(self.slave)
        self._thread.join()
        os.close(self._master)


@pytest.fixture(params=["local", "processes", "dask"])
def runner(request, tmp_path):
    """Options of a runner that runs."""
    if request.param == "local":
        yield []
    elif request.param == "processes":
        yield ["--direct_running_mode", "multi_processing"]
    elif importlib.util.find_spec("distributed") is None:
        pytest.skip("premask[dask] is not installed")
    else:
        with dask_cluster(tmp_path / "cluster") as cluster:
            yield cluster.args


@pytest.mark.parametrize("as_json", [False, True])
def test_the_terminal_shows_how_far_a_build_is(runner, as_json, tmp_path):
    gate = corpus(tmp_path)
    config = write_config(
        tmp_path, clean={"min_chars": 1, "custom": ["tests.pipelines.own_filters:held"]}, unit_bytes=10_000
    )
    command = [sys.executable, "-m", "pipelines", "build", config, "--workers", "2", *runner]
    command += ["--json"] if as_json else []
    terminal = Seen()
    env = PYTHON | {"TERM": "xterm", "COLUMNS": "200"}
    streams = {"stdout": subprocess.PIPE if as_json else terminal.slave, "stderr": terminal.slave}
    process = subprocess.Popen(command, cwd=ROOT, env=env, **streams)
    try:
        wait_for(lambda: LINE.search(terminal.text) or process.poll() is not None)
        assert LINE.search(terminal.text), terminal.text
        wait_for(lambda: read_status(Folder(tmp_path / "out")).step(PREPARE).units)  # written every two seconds
        told = read_status(Folder(tmp_path / "out"))
        assert (told.state, told.totals) == ("running", None)
        assert 0 < told.step(PREPARE).units < told.units
        gate.touch()
        out = process.communicate(timeout=300)[0]
    finally:
        process.kill()
        process.wait()
        terminal.close()
    assert process.returncode == 0, terminal.text
    shown = [match.groups() for match in LINE.finditer(terminal.text)]
    assert {int(units) for _, units, *_ in shown} == {told.units}
    assert terminal.text.count("100%") >= 2
    ledger = Dataset.open(tmp_path / "out").manifest.ledger
    ended = read_status(Folder(tmp_path / "out"))
    assert ended.state == "done"
    assert ended.documents["read"] == ledger["documents"]["read"] == NUM_FILES * DOCUMENTS + 1
    assert ended.documents["kept"] == ledger["documents"]["kept"]
    assert ended.dropped == ledger["documents"]["dropped"] == {"exact_duplicate": 20 * (NUM_FILES - 1)}
    assert ended.tokens == ledger["tokens"]["tokenized"]
    if as_json:
        assert json.loads(out)["units"] == told.units


def test_where_nobody_sees_it_move_two_bars_are_printed_at_the_end(tmp_path):
    corpus(tmp_path).touch()
    config = write_config(tmp_path)
    command = [sys.executable, "-m", "pipelines", "build", config]
    done = subprocess.run(command, cwd=ROOT, env=PYTHON, capture_output=True, text=True, check=True)
    bars = [line for line in done.stdout.splitlines() if "100%" in line and "━" in line]
    assert [line.split()[0] for line in bars] == ["read,", "deduplicate,"]
    assert not LINE.search(done.stdout)
