"""`premask status`, as a person in another terminal sees it."""

import json
import sys
from pathlib import Path

import pytest

from mlm_data.build import status
from mlm_data.build.progress import ASSEMBLE, PREPARE
from mlm_data.stores.folder import Folder
from pipelines.commands.cli import main
from tests.pipelines.clusters import wait_for
from tests.pipelines.small_corpus import kill_midway, write_config, write_jsonl


@pytest.fixture
def config(tmp_path):
    for number in range(6):
        write_jsonl(tmp_path / f"in/{number}.jsonl", range(number * 40, number * 40 + 60))
    return Path(write_config(tmp_path))


def asked(config, capsys, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["status", str(config.parent / "out"), *words])
    return code, capsys.readouterr().out


def test_before_while_and_after(config, capsys, monkeypatch):
    assert main(["status", str(config.parent / "out")]) == 2
    assert "no build has been here" in capsys.readouterr().err
    seen = []
    real = status.note

    def look(*args, **kwargs):
        real(*args, **kwargs)
        wait_for(lambda: sum(read().step(name).units for name in (PREPARE, ASSEMBLE)) == len(seen) + 1)
        seen.append(read())

    def read():
        return status.read_status(Folder(config.parent / "out"))

    monkeypatch.setattr(status, "LOCAL_SECONDS", 0.01)
    monkeypatch.setattr("pipelines.steps.status.note", look)
    assert main(["build", str(config), "--workers", "1"]) == 0
    assert {one.state for one in seen} == {"running"}
    assert seen[0].step("prepare").units == 1
    code, said = asked(config, capsys)
    assert code == 0
    assert said.startswith("done at ")
    assert "premask verify" in said
    code, said = asked(config, capsys, "--json")
    value = json.loads(said)
    assert (code, value["state"]) == (0, "done")
    assert value["runner"] == "local"


def test_what_is_done_before_workers_begin(config, capsys, monkeypatch):
    said = []
    real = status.Told.stage

    def look(self, stage):
        real(self, stage)
        if self.has_begun and stage is not None:
            said.append(asked(config, capsys)[1])

    monkeypatch.setattr(status.Told, "stage", look)
    monkeypatch.setattr(status, "LOCAL_SECONDS", 0.01)
    assert main(["build", str(config), "--workers", "1"]) == 0
    stages = [line.removeprefix("now ") for text in said for line in text.splitlines() if line.startswith("now ")]
    assert "finding the tokenizer" in stages
    assert "training the tokenizer: choosing its tokens" in stages
    assert "making room in the cache" in stages
    assert all("planned: 12 units, 254.5 kB of input" in text and "dropped" not in text for text in said)


def test_a_build_that_failed_says_why(config, capsys):
    bad = config.parent / "in/9.jsonl"
    bad.write_text("not json\n" * 50)
    assert main(["build", str(config), "--workers", "1"]) == 2
    line = capsys.readouterr().err.strip().removeprefix("premask: ")
    code, said = asked(config, capsys)
    assert code == 1
    assert f"the reason: {line}"[:80] in said
    assert "start the same build again" in said
    value = json.loads(asked(config, capsys, "--json")[1])
    assert value["dropped"]["bad_json"] == 50
    assert value["documents"]["read"] == 6 * 60 + 50


@pytest.mark.skipif(sys.platform != "linux", reason="that a process is gone is told by Linux's /proc")
def test_a_build_that_was_killed_is_stopped(config, capsys):
    kill_midway(config, prepared=1, workers=1)
    code, said = asked(config, capsys)
    assert code == 1
    assert said.startswith("stopped at ")
    assert "goes on from the" in said
    assert main(["build", str(config), "--workers", "1"]) == 0
    assert asked(config, capsys)[0] == 0
