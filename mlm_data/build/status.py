"""How far a build is, told to whoever asks from another terminal, or another machine.

    work/status/build.json             whoever started the build: its state, host and process, runner, what is planned
    work/status/<host>-<process>.json  a process that works for it: what it has done and dropped, and when last

Each process writes its own small file, whole or not at all, at most every few seconds; nobody needs a server, and what
reads them needs no Beam. So a build on a cluster is seen as one on this machine is, if its workers write to one place.

A *beat* is one writing of `build.json`. Whether a build still runs is decided in this order: it has said that it ended;
its process is gone (on the same machine); its beats have stopped. Clocks of two machines are never compared for that:
where the time of the last beat is no proof, the file is read again a little later.

These files say nothing that a dataset depends on. One that is lost or damaged is left out, and one that can't be
written is no reason to fail.
"""

import contextlib
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlm_data.build.cache import STATUS
from mlm_data.build.context import Context
from mlm_data.dataset.seals import sealed, unseal
from mlm_data.ending import process_space, process_start
from mlm_data.errors import BuildError, FormatError, PremaskError
from mlm_data.stores.folder import Folder

BUILD = f"{STATUS}/build.json"
RUNNING, DONE, FAILED, INTERRUPTED, STOPPED = "running", "done", "failed", "interrupted", "stopped"
PREPARE, ASSEMBLE = "prepare", "assemble"
LOCAL_SECONDS, REMOTE_SECONDS = 2.0, 20.0  # between two beats: in a bucket each is a request that is paid for
MISSED = 3  # beats that may be late before somebody looks more closely


@dataclass(frozen=True, kw_only=True)
class Done:
    """How far one step is."""

    units: int = 0
    num_bytes: int = 0  # of input
    first: float = 0.0  # when its first unit was done, in seconds since the epoch, by the worker's clock
    last: float = 0.0

    def __add__(self, other: "Done") -> "Done":
        return Done(
            units=self.units + other.units,
            num_bytes=self.num_bytes + other.num_bytes,
            first=min(filter(None, (self.first, other.first)), default=0.0),
            last=max(self.last, other.last),
        )


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that works for a build."""

    host: str
    pid: int
    since: float  # when it did its first unit, in seconds since the epoch
    updated: float  # when it last said so
    steps: Mapping[str, Done] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)  # read, kept, reused (units)
    dropped: Mapping[str, int] = field(default_factory=dict)  # documents by reason, quarantined ones too


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known of the newest build in a folder."""

    state: str  # running, done, failed, interrupted or stopped
    run: str
    host: str
    pid: int
    runner: str
    num_workers: int  # that were asked for
    started: float
    updated: float  # of the last beat
    units: int  # planned
    num_bytes: int
    error: str = ""  # the line that a failed build ended with
    workers: tuple[Worker, ...] = ()

    def step(self, name: str) -> Done:
        """All workers together. A unit that was done twice, as after a crash, is not counted beyond the plan."""
        total = sum((worker.steps.get(name, Done()) for worker in self.workers), Done())
        return Done(
            units=min(total.units, self.units),
            num_bytes=min(total.num_bytes, self.num_bytes),
            first=total.first,
            last=total.last,
        )

    @property
    def documents(self) -> dict[str, int]:
        """Documents read and kept, and units reused, so far."""
        return dict(sum((Counter(worker.documents) for worker in self.workers), Counter()))

    @property
    def dropped(self) -> dict[str, int]:
        """Documents dropped so far, by reason, sorted."""
        return dict(sorted(sum((Counter(worker.dropped) for worker in self.workers), Counter()).items()))

    def speed(self, name: str) -> float:
        """Bytes of input a second in a step; 0 where nothing can be said yet.

        PREPARE begins when the build does, ASSEMBLE when the last unit is prepared.
        """
        done = self.step(name)
        begun = self.started if name == PREPARE else self.step(PREPARE).last
        seconds = done.last - begun
        return done.num_bytes / seconds if done.units and seconds > 0 else 0.0

    def seconds_left(self, name: str) -> float | None:
        """Until a step is done, at its speed so far; None where nothing can be said yet."""
        speed, left = self.speed(name), self.num_bytes - self.step(name).num_bytes
        return left / speed if speed else (0.0 if not left else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for programs."""
        steps = {
            name: {
                "units": self.step(name).units,
                "bytes": self.step(name).num_bytes,
                "bytes_per_second": self.speed(name),
                "seconds_left": self.seconds_left(name) if self.state == RUNNING else None,
            }
            for name in (PREPARE, ASSEMBLE)
        }
        workers = [
            {"host": one.host, "pid": one.pid, "since": one.since, "updated": one.updated}
            | {"units": {name: one.steps[name].units for name in one.steps}}
            for one in self.workers
        ]
        return {
            "state": self.state,
            "run": self.run,
            "host": self.host,
            "pid": self.pid,
            "runner": self.runner,
            "workers_wanted": self.num_workers,
            "started": self.started,
            "updated": self.updated,
            "units": self.units,
            "bytes": self.num_bytes,
            "steps": steps,
            "documents": self.documents,
            "dropped": self.dropped,
            "workers": workers,
            "error": self.error or None,
        }


@dataclass
class _Mine:
    """What this process has done for one build."""

    since: float
    written: float = 0.0
    units: set[tuple[str, int]] = field(default_factory=set)  # a bundle that is done again counts once
    steps: dict[str, Done] = field(default_factory=dict)
    documents: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


_mine: dict[tuple[int, str], _Mine] = {}
_lock = threading.Lock()


def note(
    context: Context,
    step: str,
    unit: int,
    num_bytes: int,
    *,
    documents: Mapping[str, int] | None = None,
    dropped: Mapping[str, int] | None = None,
) -> None:
    """Note that this process has done a unit; written down at most every few seconds, and never a reason to fail.

    Args:
        context: the build; one without a name is not followed.
        step: PREPARE or ASSEMBLE.
        unit: its number.
        num_bytes: of input that the unit has.
        documents: how many were read or kept, and whether the unit was reused.
        dropped: documents by reason.
    """
    if not context.run:
        return
    now, key = time.time(), (os.getpid(), context.run)
    with _lock:
        mine = _mine.setdefault(key, _Mine(since=now))
        if (step, unit) in mine.units:
            return
        mine.units.add((step, unit))
        mine.steps[step] = mine.steps.get(step, Done()) + Done(units=1, num_bytes=num_bytes, first=now, last=now)
        mine.documents.update(documents or {})
        mine.dropped.update(dropped or {})
        work = context.work
        if now - mine.written < _pause(work):
            return
        mine.written = now
        worker = _worker(mine, now)
    _write(work, _worker_name(worker), context.run, _plain(worker))


@contextlib.contextmanager
def followed(context: Context, *, units: int, num_bytes: int, runner: str, workers: int) -> Iterator[None]:
    """Let others see how far a build is while the body runs it, and how it ended.

    Args:
        context: the build; one without a name is not followed.
        units: planned.
        num_bytes: of input, planned.
        runner: its name.
        workers: that were asked for.
    """
    if not context.run:
        yield
        return
    work, started = context.work, time.time()
    facts = {
        "host": socket.gethostname(),
        "space": process_space(),
        "pid": os.getpid(),
        "process": process_start(os.getpid()),
        "runner": runner,
        "workers": workers,
        "started": started,
        "units": units,
        "bytes": num_bytes,
    }
    beats = 0

    def beat(state: str, error: str = "") -> None:
        nonlocal beats
        beats += 1
        value = {**facts, "state": state, "error": error, "beats": beats, "updated": time.time()}
        _write(work, BUILD, context.run, value | {"every": _pause(work)})

    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(_pause(work)):
            beat(RUNNING)

    with contextlib.suppress(PremaskError, OSError):
        for name in work.names(STATUS):  # of earlier builds
            work.delete(f"{STATUS}/{name}")
    beat(RUNNING)
    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    state, error = DONE, ""
    try:
        yield
    except KeyboardInterrupt:
        state = INTERRUPTED
        raise
    except BaseException as problem:
        state, error = FAILED, str(problem).splitlines()[0][:500] if str(problem) else type(problem).__name__
        raise
    finally:
        ended.set()
        thread.join()
        with _lock:
            mine = _mine.pop((os.getpid(), context.run), None)
        if mine is not None:  # what it did since it last wrote
            worker = _worker(mine, time.time())
            _write(work, _worker_name(worker), context.run, _plain(worker))
        beat(state, error)


def read_status(output: Folder, *, wait: Callable[[float], None] = time.sleep) -> Status:
    """What is known of the newest build into a folder.

    Args:
        output: the dataset's folder.
        wait: sleeps for so many seconds; it is called only where the last beat's time is no proof.

    Raises:
        BuildError: no build has begun there, or its file is damaged.
    """
    work = output.join("work")
    value = _read(work, BUILD)
    if value is None:
        raise BuildError(
            f"{output.location}: no build has been here since its work/ was deleted: premask build starts one, and "
            "premask log lists the versions"
        )
    state = value["state"]
    if state == RUNNING and _is_gone(value, work, wait):
        state = STOPPED
    workers = []
    for name in work.names(STATUS):
        plain = None if name == BUILD.rpartition("/")[2] else _read(work, f"{STATUS}/{name}")
        if plain is not None and plain["run"] == value["run"]:
            workers.append(_from_plain(plain))
    return Status(
        state=state,
        run=value["run"],
        host=value["host"],
        pid=value["pid"],
        runner=value["runner"],
        num_workers=value["workers"],
        started=value["started"],
        updated=value["updated"],
        units=value["units"],
        num_bytes=value["bytes"],
        error=value["error"],
        workers=tuple(sorted(workers, key=lambda one: (one.host, one.pid))),
    )


def _is_gone(value: Mapping[str, Any], work: Folder, wait: Callable[[float], None]) -> bool:
    """Whether a build that never said that it ended has ended."""
    if value["host"] == socket.gethostname() and value["space"] == process_space():
        started = process_start(value["pid"])
        return started is None or started != value["process"]
    if 0 <= time.time() - value["updated"] < MISSED * value["every"]:
        return False
    wait(1.5 * value["every"])
    again = _read(work, BUILD)
    return again is not None and (again["run"], again["beats"]) == (value["run"], value["beats"])


def _pause(work: Folder) -> float:
    return LOCAL_SECONDS if work.is_local else REMOTE_SECONDS


def _worker(mine: _Mine, now: float) -> Worker:
    return Worker(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=mine.since,
        updated=now,
        steps=dict(mine.steps),
        documents=dict(mine.documents),
        dropped=dict(mine.dropped),
    )


def _worker_name(worker: Worker) -> str:
    return f"{STATUS}/{re.sub(r'[^A-Za-z0-9_.-]', '_', worker.host)}-{worker.pid}.json"


def _plain(worker: Worker) -> dict[str, Any]:
    steps = {name: [done.units, done.num_bytes, done.first, done.last] for name, done in worker.steps.items()}
    return {**vars(worker), "steps": steps}


def _from_plain(value: Mapping[str, Any]) -> Worker:
    steps = {
        name: Done(units=units, num_bytes=num_bytes, first=first, last=last)
        for name, (units, num_bytes, first, last) in value["steps"].items()
    }
    return Worker(**{**{name: value[name] for name in Worker.__dataclass_fields__}, "steps": steps})


def _write(work: Folder, name: str, run: str, value: Mapping[str, Any]) -> None:
    data = sealed({"version": 1, "run": run, **value})
    with contextlib.suppress(PremaskError, OSError):
        work.create(lambda sink: sink.write(data), lambda _: name, durable=False, hashed=False)


def _read(work: Folder, name: str) -> dict[str, Any] | None:
    """None for a file that is absent, damaged, or of a later version of premask."""
    try:
        value = unseal(work.read(name), name) if work.exists(name) else None
    except FormatError:
        return None
    return value if value is not None and value.get("version") == 1 else None
