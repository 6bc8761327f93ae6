"""SIGINT and SIGTERM at any moment: one line, the right exit code, no worker, no temporary file; and it goes on."""

import contextlib
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

from mlm_data import ending
from mlm_data.build.status import read_status
from mlm_data.errors import PremaskError
from mlm_data.stores.folder import Folder
from tests.conftest import ROOT
from tests.faults import builds
from tests.faults.builds import Job, Running, temporary_files
from tests.pipelines.clusters import wait_for

SAID = {
    signal.SIGINT: (130, "premask: interrupted: start it again to go on"),
    signal.SIGTERM: (143, "premask: terminated: start it again to go on"),
}
# What is there when the signal comes, in the order in which it appears.
MOMENTS = (
    ("work/runs/*", 1),
    ("work/tokenizers/*", 1),
    *[("work/prepared/[0-9a-f]*.arrow", number) for number in (1, 9, 18, 27)],
    *[("rows/[0-9a-f]*.arrow", number) for number in (1, 12, 30, 45)],
)


def is_there(job: Job, running: Running, pattern: str, number: int) -> None:
    wait_for(lambda: len(list(job.out.glob(pattern))) >= number or running.has_ended)


def ends_in_order(job: Job, running: Running, number: int) -> bool:
    """Send it; whether it came in time. Otherwise the build was done, which is right, too."""
    running.send(number)
    ended = running.end()
    if ended.code == 0:
        assert ended.err == ""
        return False
    assert (ended.code, ended.err.strip()) == SAID[number]
    assert temporary_files(job) == []
    assert not list(job.out.glob("work/runs/*"))
    return True


@pytest.mark.faults
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", SAID)
def test_at_ten_moments(number, workers, job, right):
    in_time = 0
    for moment in MOMENTS:
        running = builds.start(job, workers=workers)
        is_there(job, running, *moment)
        in_time += ends_in_order(job, running, number)
        assert builds.digest(job) in ("", right)
    assert in_time >= 6
    assert builds.finish(job) == right


@pytest.mark.faults
@pytest.mark.parametrize("number", [*SAID, signal.SIGKILL])
def test_workers_that_are_processes_end_with_the_build(number, job, right):
    running = builds.start(job, "--direct_running_mode=multi_processing", fresh=True)
    wait_for(lambda: list(job.out.glob("work/prepared/[0-9a-f]*.arrow")) or running.has_ended)
    assert len(builds.in_session(running.pid)) >= 3
    if number == signal.SIGKILL:
        running.send(number)
        assert running.end().code == -number
    else:
        assert ends_in_order(job, running, number)
    assert builds.finish(job) == right


def test_ctrl_c_and_sigterm(job, right):
    for number in SAID:
        for _ in range(10):  # where others have the processors, a build may be done before it is seen to have begun
            running = builds.start(job, fresh=True)
            is_there(job, running, "work/runs/*", 1)
            came_in_time = ends_in_order(job, running, number)
            shutil.rmtree(job.out)
            if came_in_time:
                break
        assert came_in_time
    assert builds.finish(job) == right


@pytest.mark.faults
def test_while_a_tokenizer_is_trained(tmp_path):
    """By native code that doesn't come back to Python for some ten seconds: nobody waits for it."""
    rng = np.random.default_rng(1)
    words = rng.integers(ord("a"), ord("z") + 1, (4000, 900, 9), np.uint8)
    (tmp_path / "in").mkdir()
    with (tmp_path / "in/random.jsonl").open("w") as file:
        for document in words:
            file.write(json.dumps({"text": b" ".join(word.tobytes() for word in document).decode()}) + "\n")
    training = {"train": {"kind": "wordpiece", "vocab_size": 8192}}
    job = builds.job(tmp_path / "job", inputs=tmp_path / "in", tokenizer=training)

    def is_trained() -> bool:
        with contextlib.suppress(PremaskError):
            stage = read_status(Folder(job.out)).stage
            return stage is not None and stage.name.endswith("choosing its tokens")
        return False

    running = builds.start(job, fresh=True)
    wait_for(lambda: is_trained() or running.has_ended)
    started = time.monotonic()
    assert ends_in_order(job, running, signal.SIGINT)
    assert time.monotonic() - started < 4
    assert read_status(Folder(job.out)).state == "interrupted"


def test_a_second_signal_ends_at_once_what_does_not_end(tmp_path):
    """The first is swallowed by a library; the second ends the process, and its temporary file is gone."""
    (tmp_path / "run.py").write_text(
        "import sys, time\n"
        "from mlm_data import ending\n"
        "with ending.signals('prog'):\n"
        "    while True:\n"
        "        try:\n"
        "            with ending.making(sys.argv[1]):\n"
        "                open(sys.argv[1], 'w').close()\n"
        "            time.sleep(60)\n"
        "        except BaseException:\n"
        "            open(sys.argv[1] + '.swallowed', 'w').close()\n"
    )
    held, swallowed = tmp_path / "held", tmp_path / "held.swallowed"
    process = builds.python(str(tmp_path / "run.py"), str(held), stderr=tmp_path / "err")
    wait_for(held.exists)
    process.send_signal(signal.SIGTERM)
    wait_for(swallowed.exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 143
    assert (tmp_path / "err").read_text() == "prog: terminated: start it again to go on\n"
    assert not held.exists()


def test_a_start_clears_what_no_living_process_owns(tmp_path):
    name = ending.temporary_name()
    head, pid, start = name.rsplit("-", 2)
    assert pid == str(os.getpid())
    mine, dead = tmp_path / name, tmp_path / f"{head}-{pid}-1"  # another process had this number
    foreign = tmp_path / f"{ending.TEMPORARY}{'0' * 32}-{'f' * 12}-1-1"
    old = tmp_path / f"{ending.TEMPORARY}{'1' * 32}"
    other = tmp_path / f"{ending.TEMPORARY}purging"
    for path in (mine, dead, foreign, old, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (1e9, 1e9))
    ending.clear(str(tmp_path))
    assert start
    assert set(tmp_path.iterdir()) == {mine, foreign, other}
    ending.clear(str(tmp_path / "absent"))


def test_what_is_ignored_stays_ignored(tmp_path):
    """`nohup`, and shells that start something in the background."""
    script = 'trap \'\' INT; exec "$0" -c "$1"'
    code = (
        "import os, signal\nfrom mlm_data import ending\n"
        "with ending.signals('prog'):\n    os.kill(os.getpid(), signal.SIGINT)\n    print('on')"
    )
    assert builds.shell(script, code, cwd=ROOT) == "on\n"
