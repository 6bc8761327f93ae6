"""What is said of a build from outside: how far it is, whether it still runs, and that saying so never hurts it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mlm_data.build import cache, status
from mlm_data.build.context import Context
from mlm_data.build.progress import ASSEMBLE, PREPARE, Done, Stage, Worker
from mlm_data.build.status import BUILD, Status, Watch, followed, note, read_status, working
from mlm_data.config import BuildConfig
from mlm_data.dataset.seals import sealed, unseal
from mlm_data.errors import BuildError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from tests.conftest import ROOT
from tests.pipelines.clusters import wait_for


def context(tmp_path, run: str = "run1") -> Context:
    values = {"inputs": [{"path": "x.txt"}], "output": str(tmp_path), "tokenizer": {"path": "none"}}
    config = parse_settings(BuildConfig, values, where="test")
    return Context(
        config=config,
        tokenizer_sha256="",
        num_partitions=4,
        unit_bytes=1,
        group_modulus=1,
        versions=(),
        run=run,
    )


@contextlib.contextmanager
def follow(tmp_path, *, run: str = "run1"):
    """A build whose workers have begun."""
    work = Folder(tmp_path).join("work")
    if run:
        cache.begin(work, run)
    with followed(work, run, runner="local", workers=2) as told:
        told.planned(4, 400)
        told.stage(None)
        yield told


def rewrite(tmp_path, **changes) -> None:
    """Change what `build.json` says."""
    path = tmp_path / "work" / BUILD
    path.write_bytes(sealed(unseal(path.read_bytes(), "test") | changes))


def test_a_build_that_runs_is_seen_with_its_workers(tmp_path):
    with follow(tmp_path):
        note(context(tmp_path), PREPARE, 0, 100, documents={"read": 10, "reused": 1})
        found = read_status(Folder(tmp_path))
    assert (found.state, found.units, found.num_bytes, found.num_workers) == ("running", 4, 400, 2)
    assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
    assert [(one.host, one.pid) for one in found.workers] == [(socket.gethostname(), os.getpid())]
    assert found.step(PREPARE).units == 1
    assert found.step(PREPARE).num_bytes == 100
    assert found.documents == {"read": 10, "reused": 1}
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("error", "state", "line"),
    [(None, "done", ""), (BuildError("one\ntwo"), "failed", "one"), (KeyboardInterrupt(), "interrupted", "")],
)
def test_how_it_ended_is_said(tmp_path, error, state, line):
    def run() -> None:
        with follow(tmp_path):
            note(context(tmp_path), PREPARE, 0, 100)
            note(context(tmp_path), ASSEMBLE, 0, 100, documents={"kept": 3}, dropped={"too_short": 2})
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            run()
    else:
        run()
    found = read_status(Folder(tmp_path))
    assert (found.state, found.error) == (state, line)
    assert (found.documents, found.dropped) == ({"kept": 3}, {"too_short": 2})  # what was noted last is not lost


def test_a_unit_that_is_done_again_counts_once(tmp_path):
    def fail() -> None:
        with follow(tmp_path):
            for _ in range(3):
                note(context(tmp_path), PREPARE, 2, 100, documents={"read": 1})
            raise BuildError("stop")

    with pytest.raises(BuildError):
        fail()
    found = read_status(Folder(tmp_path))
    assert found.step(PREPARE).units == 1
    assert found.documents == {"read": 1}


def known(**changes) -> Status:
    facts = {"state": "running", "run": "r", "host": "h", "pid": 1, "runner": "local", "num_workers": 2}
    return Status(**{**facts, "since": 1.0, "started": 10.0, "updated": 20.0, "units": 4, "num_bytes": 400, **changes})


def test_speed_and_time_left_are_of_each_step_alone():
    steps = {
        PREPARE: Done(units=4, num_bytes=400, first=11.0, last=14.0),
        ASSEMBLE: Done(units=1, num_bytes=100, first=16.0, last=16.0),
    }
    found = known(workers=(Worker(host="h", pid=1, since=10, updated=16, steps=steps),))
    assert found.speed(PREPARE) == 100.0  # 400 bytes from 10 to 14
    assert found.speed(ASSEMBLE) == 50.0  # 100 bytes from 14 to 16
    assert found.seconds_left(ASSEMBLE) == 6.0
    assert known().seconds_left(PREPARE) is None


def test_a_process_that_is_gone_is_a_build_that_stopped(tmp_path):
    with follow(tmp_path):
        pass
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    rewrite(tmp_path, state="running", pid=gone.pid)
    assert read_status(Folder(tmp_path), wait=pytest.fail).state == "stopped"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="when a process began is told by Linux's /proc alone")
def test_a_number_that_another_process_has_now_is_a_build_that_stopped(tmp_path):
    with follow(tmp_path):
        rewrite(tmp_path, process="1")
        assert read_status(Folder(tmp_path), wait=pytest.fail).state == "stopped"


def test_on_another_machine_beats_decide_and_not_its_clock(tmp_path):
    with follow(tmp_path):
        pass
    far = {"state": "running", "host": "elsewhere", "every": 2.0}
    rewrite(tmp_path, **far, updated=1.0, beats=7)
    assert read_status(Folder(tmp_path), wait=lambda _: None).state == "stopped"
    assert read_status(Folder(tmp_path), wait=lambda _: rewrite(tmp_path, beats=8)).state == "running"
    rewrite(tmp_path, **far, updated=4e9)  # its clock is ahead
    assert read_status(Folder(tmp_path), wait=lambda _: None).state == "stopped"


def test_files_of_earlier_builds_and_damaged_ones_are_left_out(tmp_path):
    folder = tmp_path / "work" / "status"
    with follow(tmp_path, run="old"):
        note(context(tmp_path, run="old"), PREPARE, 0, 100)
        name = next(path.name for path in folder.iterdir() if path.name != "build.json")
        old = (folder / name).read_bytes()
    with follow(tmp_path, run="new"):
        assert [path.name for path in folder.iterdir()] == ["build.json"]
        (folder / "late-1.json").write_bytes(old)  # a worker that nobody could stop
        (folder / "broken-1.json").write_bytes(old[:-9])
        (folder / "future-1.json").write_bytes(sealed({"version": 2, "run": "new"}))
        assert read_status(Folder(tmp_path)).workers == ()


def test_no_build_is_one_line(tmp_path):
    with pytest.raises(BuildError, match="no build has been here"):
        read_status(Folder(tmp_path))


def test_a_place_that_cannot_be_written_is_no_reason_to_fail(tmp_path):
    (tmp_path / "work").write_text("a file where the folder should be")
    with followed(Folder(tmp_path).join("work"), "run1", runner="local", workers=2) as told:
        told.planned(4, 400)
        note(context(tmp_path), PREPARE, 0, 100)


def test_a_build_without_a_name_is_not_followed(tmp_path):
    with follow(tmp_path, run=""):
        note(context(tmp_path, run=""), PREPARE, 0, 100)
        with working(context(tmp_path, run="")):
            pass
    assert not (tmp_path / "work").exists()


def test_what_a_build_does_before_its_workers_begin(tmp_path):
    work, seen = Folder(tmp_path).join("work"), []
    with followed(work, "r", runner="local", workers=1, listener=lambda stage: seen.append(stage.name)) as told:
        told.stage(Stage(name="looking"))
        told.planned(4, 400)
        assert read_status(Folder(tmp_path)).stage == Stage(name="looking")
        told.stage(Stage(name="training", done=10, total=40))
        found = read_status(Folder(tmp_path))
        assert (found.state, found.stage) == ("running", Stage(name="training", done=10, total=40))
        assert json.loads(json.dumps(found.to_dict()))["stage"] == {"name": "training", "done": 10, "total": 40}
        told.stage(None)
        found = read_status(Folder(tmp_path))
        assert found.stage is None
        assert found.since < found.started  # speed is counted from when the workers began
    assert seen == ["looking", "training"]


def test_a_build_is_seen_while_it_plans_unless_it_is_refused_at_once(tmp_path, monkeypatch):
    def fail() -> None:
        with followed(Folder(tmp_path).join("work"), "r", runner="local", workers=1) as told:
            told.stage(Stage(name="looking"))
            time.sleep(0.05)
            raise BuildError("no such file")

    with pytest.raises(BuildError):
        fail()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(status, "FIRST_SECONDS", 0.001)
    with pytest.raises(BuildError):
        fail()
    found = read_status(Folder(tmp_path))
    assert (found.state, found.error, found.stage) == ("failed", "no such file", Stage(name="looking"))


def worker_elsewhere(tmp_path, **changes) -> None:
    """What a process on another machine has written: it has prepared the units 0 and 1."""
    name = next(path for path in (tmp_path / "work/status").iterdir() if path.name != "build.json")
    value = unseal(name.read_bytes(), "test") | {"host": "elsewhere", "pid": 7, "space": "x"}
    path = tmp_path / "work/status/elsewhere-7.json"
    path.write_bytes(sealed(value | changes))


def test_a_unit_that_two_workers_have_done_counts_once(tmp_path):
    with follow(tmp_path) as told:
        build = context(tmp_path)
        for unit in (0, 1):
            note(build, PREPARE, unit, 100, documents={"read": 10 + unit}, tokens=7)
            note(build, ASSEMBLE, unit, 100, documents={"kept": 9}, dropped={"too_short": 1 + unit})
        wait_for(lambda: read_status(Folder(tmp_path)).step(ASSEMBLE).units == 2)
        worker_elsewhere(tmp_path)
        note(build, PREPARE, 2, 50, documents={"read": 5}, tokens=3)
        found = Watch(build, units=4, num_bytes=400).look()
        assert len(found.workers) == 2
        assert [(found.step(name).units, found.step(name).num_bytes) for name in (PREPARE, ASSEMBLE)] == [
            (3, 250),
            (2, 200),
        ]
        assert (found.documents, found.dropped, found.tokens) == ({"read": 26, "kept": 18}, {"too_short": 3}, 17)
        assert told.has_begun


def test_a_worker_that_works_says_so_until_it_has_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "LOCAL_SECONDS", 0.01)

    def state() -> str:
        (one,) = read_status(Folder(tmp_path)).workers
        return one.state

    with follow(tmp_path):
        with working(context(tmp_path)):
            (first,) = read_status(Folder(tmp_path)).workers
            assert first.state == "working"
            wait_for(lambda: read_status(Folder(tmp_path)).workers[0].updated > first.updated)
        wait_for(lambda: state() == "idle")


def test_a_worker_that_says_nothing_is_silent_and_one_that_has_died_is_gone(tmp_path):
    with follow(tmp_path):
        with working(context(tmp_path)):
            note(context(tmp_path), PREPARE, 0, 100)
        wait_for(lambda: read_status(Folder(tmp_path)).workers[0].state == "idle")
        now = time.time()
        for state, ago, told in [("working", 5, "working"), ("working", 60, "silent"), ("idle", 60, "idle")]:
            worker_elsewhere(tmp_path, state=state)
            os.utime(tmp_path / "work/status/elsewhere-7.json", (now - ago, now - ago))
            found = read_status(Folder(tmp_path))
            (far,) = [one for one in found.workers if one.host == "elsewhere"]
            assert far.state == told
            assert (far.silent > 50) == far.is_lost == (far in found.lost) == (told == "silent")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="that a process is gone is told by Linux's /proc")
def test_a_worker_of_this_machine_that_was_killed_is_gone_at_once(tmp_path):
    code = (
        "import sys, time\n"
        "import tests.conftest\n"
        "from tests.mlm_data.build.test_status import context, working, note, PREPARE\n"
        "from pathlib import Path\n"
        "with working(context(Path(sys.argv[1]))):\n"
        "    note(context(Path(sys.argv[1])), PREPARE, 3, 100)\n"
        "    time.sleep(60)\n"
    )
    with follow(tmp_path):
        worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
        try:
            wait_for(lambda: [one.state for one in read_status(Folder(tmp_path)).workers] == ["working"])
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        (found,) = read_status(Folder(tmp_path)).workers
        assert (found.state, found.pid) == ("gone", worker.pid)


def test_beats_go_on_while_the_build_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "LOCAL_SECONDS", 0.01)
    path = tmp_path / "work" / BUILD
    with follow(tmp_path):
        first = seen = unseal(path.read_bytes(), "test")["beats"]
        for _ in range(1000):
            seen = unseal(path.read_bytes(), "test")["beats"]
            if seen >= first + 3:
                break
            status.time.sleep(0.01)
    assert seen >= first + 3
