"""SIGKILL at named points and at random moments: no version, or the right one; and the next start finishes it."""

import os
import random
import signal
import time

import pytest

from tests.faults import builds
from tests.faults.builds import temporary_files

SEEDS = (1, 2, 3)
KILLS = int(os.environ.get("PREMASK_KILLS", "200"))
KILLS_A_JOB = 5
FAMILIES = {  # by name: a pattern of file names, and how many a build writes at least
    "prepared unit": ("prepared/*.arrow", 28),
    "facts of a prepared unit": ("prepared/*.json", 28),
    "result of a unit": ("assembled/*.json", 28),
    "tokenizer in the cache": ("tokenizers/*.json", 1),
    "rows": ("rows/*.arrow", 51),
    "masks": ("masks/*.arrow", 51),
    "documents": ("documents/*.arrow", 51),
    "signatures": ("signatures/*.arrow", 28),
    "tokenizer": ("tokenizer/*.json", 1),
    "file table": ("versions/*.files.arrow", 1),
    "side file": ("versions/*.side.json", 1),
    "manifest": (f"versions/{'[0-9a-f]' * 64}.json", 1),
    "LATEST": ("LATEST", 1),
    "note of the build": (f"runs/{'[0-9a-f]' * 32}.json", 1),
}
PUBLISHED = {("after", "LATEST"), *((moment, "note of the build") for moment in ("while", "before", "after"))}


def point(moment: str, family: str, seed: int) -> list[object]:
    pattern, written = FAMILIES[family]
    return [moment, pattern, 1 + random.Random(f"{moment} {family} {seed}").randrange(written)]


def killed_at(job, right, moment, family, seed):
    ended = builds.build(job, fault={"at": point(moment, family, seed)})
    assert ended.reached
    assert (ended.code, ended.err) == (-signal.SIGKILL, "")
    assert builds.digest(job) == (right if (moment, family) in PUBLISHED else "")
    assert temporary_files(job) or moment == "after"
    assert builds.finish(job) == right


@pytest.mark.faults
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("moment", ["while", "before", "after"])
@pytest.mark.parametrize("family", FAMILIES)
def test_at_named_points(family, moment, seed, job, right):
    killed_at(job, right, moment, family, seed)


@pytest.mark.parametrize(("moment", "family"), [("while", "prepared unit"), ("before", "LATEST")])
def test_at_some_points(moment, family, job, right):
    killed_at(job, right, moment, family, 0)


@pytest.mark.faults
@pytest.mark.parametrize("number", range(-(-KILLS // KILLS_A_JOB)))
def test_at_random_moments(number, whole, job, right):
    """Some kills, one after another, then a start that finishes; every second job makes a version beside an old one."""
    chance, old = random.Random(number), ""
    if number % 2:
        job.config.write_text(job.config.read_text().replace('"planes": 2', '"planes": 1'))
        old = builds.finish(job)
        job.config.write_text(job.config.read_text().replace('"planes": 1', '"planes": 2'))
    for _ in range(KILLS_A_JOB):
        running = builds.start(job, workers=chance.choice((1, 2)))
        time.sleep(chance.uniform(0.02, 1.2))
        running.send(signal.SIGKILL)
        assert running.end().code in (-signal.SIGKILL, 0)
        assert builds.digest(job) in {old, right}
    assert builds.finish(job) == right


@pytest.mark.faults
@pytest.mark.parametrize("off", [-3600, 3600])
def test_clocks_an_hour_apart(off, whole, job, right):
    """A build that is killed on a machine whose clock is wrong goes on where it is right; inputs are from tomorrow."""
    ended = builds.build(job, fault={"clock": off, "at": point("after", "rows", off)})
    assert ended.reached
    assert builds.finish(job) == right
    future = time.time() + 86400
    (whole[0].folder / "in/0.jsonl").touch()
    os.utime(whole[0].folder / "in/0.jsonl", (future, future))
    assert builds.finish(job) == right
    assert builds.build(job, fault={"clock": off}).code == 0
    assert builds.digest(job) == right
