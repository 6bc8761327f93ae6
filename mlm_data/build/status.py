"""How far a build is, told to whoever asks from another terminal, or another machine.

    work/status/build.json             whoever started the build: its state, host and process, runner, what is planned
    work/status/<host>-<process>.json  a process that works for it: what it has done and dropped, and when last

Each process writes its own small file, whole or not at all, at most every few seconds; nobody needs a server, and what
reads them needs no Beam. So a build on a cluster is seen as one on this machine is, if its workers write to one place:
by `premask status`, and by the process that has started it (`Watch`), whatever the runner is.

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

from mlm_data.build import cache
from mlm_data.build.cache import STATUS
from mlm_data.build.context import Context
from mlm_data.dataset.ledger import Ledger
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
    tokens: int = 0  # of the documents read


@dataclass(frozen=True, kw_only=True)
class Totals:
    """All that a build has done, as PUBLISH has added it up."""

    documents: Mapping[str, int]  # as of a worker
    dropped: Mapping[str, int]
    tokens: int

    @classmethod
    def of(cls, ledger: Ledger, reused: int) -> "Totals":
        """The sums of a ledger, and how many units were reused."""
        documents = {"read": ledger.documents_read, "kept": ledger.documents_kept, "reused": reused}
        dropped = {**ledger.documents_dropped, **ledger.documents_quarantined}
        return cls(documents=documents, dropped=dropped, tokens=ledger.tokens_tokenized)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a build is, its workers together."""

    started: float  # in seconds since the epoch
    units: int  # planned
    num_bytes: int
    workers: tuple[Worker, ...] = ()
    totals: Totals | None = None  # of a build that is done

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
        if self.totals is not None:
            return dict(self.totals.documents)
        return dict(sum((Counter(worker.documents) for worker in self.workers), Counter()))

    @property
    def dropped(self) -> dict[str, int]:
        """Documents dropped so far, by reason, sorted."""
        if self.totals is not None:
            return dict(sorted(self.totals.dropped.items()))
        return dict(sorted(sum((Counter(worker.dropped) for worker in self.workers), Counter()).items()))

    @property
    def tokens(self) -> int:
        """Tokens of the documents read so far, before any of them is dropped."""
        return self.totals.tokens if self.totals is not None else sum(worker.tokens for worker in self.workers)

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


@dataclass(frozen=True, kw_only=True)
class Status(Progress):
    """What is known of the newest build in a folder."""

    state: str  # running, done, failed, interrupted or stopped
    run: str
    host: str
    pid: int
    runner: str
    num_workers: int  # that were asked for
    updated: float  # of the last beat
    error: str = ""  # the line that a failed build ended with

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
            "tokens": self.tokens,
            "workers": workers,
            "error": self.error or None,
        }


@dataclass
class _Mine:
    """What this process has done for one build."""

    since: float
    written: float = 0.0
    is_awaited: bool = False  # a thread will write what was noted since
    timer: threading.Timer | None = None  # that thread
    units: set[tuple[str, int]] = field(default_factory=set)  # a bundle that is done again counts once
    steps: dict[str, Done] = field(default_factory=dict)
    documents: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0


_mine: dict[tuple[int, str], _Mine] = {}
_lock = threading.Lock()  # of `_mine`
_writing = threading.Lock()  # one file after the other: the last one written is the newest


def note(
    context: Context,
    step: str,
    unit: int,
    num_bytes: int,
    *,
    documents: Mapping[str, int] | None = None,
    dropped: Mapping[str, int] | None = None,
    tokens: int = 0,
) -> None:
    """Note that this process has done a unit; written down at most every few seconds, and never a reason to fail.

    Args:
        context: the build; one without a name is not followed.
        step: PREPARE or ASSEMBLE.
        unit: its number.
        num_bytes: of input that the unit has.
        documents: how many were read or kept, and whether the unit was reused.
        dropped: documents by reason.
        tokens: of the documents read.
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
        mine.tokens += tokens
        if mine.is_awaited:
            return
        wait = mine.written + _pause(context.work) - now
        mine.is_awaited = wait > 0
        if wait <= 0:
            mine.written = now
    if wait > 0:
        mine.timer = threading.Timer(wait, _write_late, (context, key))
        mine.timer.daemon = True
        mine.timer.start()
    else:
        _write_mine(context, key)


def _write_late(context: Context, key: tuple[int, str]) -> None:
    """Write what was noted meanwhile, unless the build has ended: then its folder may be gone, or another's."""
    is_on = False
    with contextlib.suppress(PremaskError, OSError):
        is_on = context.work.exists(cache.sign(context.run))
    if is_on:
        _write_mine(context, key)
    else:
        with _lock:
            _mine.pop(key, None)


def _write_mine(context: Context, key: tuple[int, str]) -> None:
    with _writing:
        with _lock:
            mine = _mine.get(key)
            if mine is None:
                return
            mine.written, mine.is_awaited = time.time(), False
            worker = _worker(mine, mine.written)
        _write(context.work, _worker_name(worker), context.run, _plain(worker))


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

    def beat(state: str, error: str = "", totals: Mapping[str, Any] | None = None) -> None:
        nonlocal beats
        beats += 1
        value = {**facts, "state": state, "error": error, "beats": beats, "updated": time.time(), "totals": totals}
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
        key, totals = (os.getpid(), context.run), None
        _write_mine(context, key)  # what it did since it last wrote
        with _lock:
            mine = _mine.pop(key, None)
        if mine is not None and mine.timer is not None:  # no thread of a build outlives it
            mine.timer.cancel()
            mine.timer.join()
        if state == DONE:
            with contextlib.suppress(PremaskError, OSError):
                totals = cache.noted(work, context.run).get("totals")
        beat(state, error, totals)


class Watch:
    """How far a build is, for the process that has started it.

    What this process does itself is known at once; what others do is read from their files, now and then.

    Args:
        context: the build.
        units: planned.
        num_bytes: of input, planned.
    """

    def __init__(self, context: Context, *, units: int, num_bytes: int) -> None:
        self._context, self._units, self._num_bytes = context, units, num_bytes
        self._started = time.time()
        self._others: tuple[Worker, ...] = ()
        self._next = 0.0  # time to read their files again, by the monotonic clock

    def look(self) -> Progress:
        """All that is known now; what can't be read is as it was."""
        begun = time.monotonic()
        if begun >= self._next:
            with contextlib.suppress(PremaskError, OSError):
                self._others = tuple(_workers(self._context.work, self._context.run))
            now = time.monotonic()
            self._next = now + max(_pause(self._context.work) / 2, 10 * (now - begun))
        with _lock:
            mine = _mine.get((os.getpid(), self._context.run))
            own = _worker(mine, time.time()) if mine is not None else None
        me = (socket.gethostname(), os.getpid())
        others = [one for one in self._others if own is None or (one.host, one.pid) != me]
        return Progress(
            started=self._started,
            units=self._units,
            num_bytes=self._num_bytes,
            workers=(*others, *([own] if own is not None else [])),
        )


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
    totals = value.get("totals")
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
        workers=tuple(sorted(_workers(work, value["run"]), key=lambda one: (one.host, one.pid))),
        totals=None if totals is None else Totals(**totals),
    )


def _workers(work: Folder, run: str) -> Iterator[Worker]:
    """Those that have written for a build."""
    for name in work.names(STATUS):
        plain = None if name == BUILD.rpartition("/")[2] else _read(work, f"{STATUS}/{name}")
        if plain is not None and plain["run"] == run:
            yield _from_plain(plain)


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
        tokens=mine.tokens,
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
    known = {name: value[name] for name in Worker.__dataclass_fields__ if name in value}  # older ones had fewer
    return Worker(**{**known, "steps": steps})


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
