"""How far a build is, told to whoever asks from another terminal, or another machine.

    work/status/build.json             whoever started the build: its state, host and process, runner, what it does
    work/status/<host>-<process>.json  a process that works for it: which units it has done, what came of them, and when

Each process writes its own small file, whole or not at all, at most every few seconds; nobody needs a server, and what
reads them needs no Beam. So a build on a cluster is seen as one on this machine is, if its workers write to one place:
by `premask status`, and by the process that has started it (`Watch`), whatever the runner is.

A *beat* is one writing of a file. A build beats from its first second to its end, a worker while it works. Whether a
build still runs is decided in this order: it has said that it ended; its process is gone (on the same machine); its
beats have stopped. So it is with a worker that has something to do. Clocks of two machines are never compared for that:
of a build the file is read again a little later, where the time of the last beat is no proof; of workers the times of
their files are compared with each other, which are all by the clock of the disk or bucket.

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
from mlm_data.build.progress import (
    ASSEMBLE,
    GONE,
    IDLE,
    PREPARE,
    SILENT,
    WORKING,
    Done,
    OfUnit,
    Progress,
    Stage,
    Totals,
    Worker,
)
from mlm_data.dataset.seals import sealed, unseal
from mlm_data.ending import TEMPORARY, process_space, process_start
from mlm_data.errors import BuildError, FormatError, PremaskError
from mlm_data.stores.folder import Folder

BUILD = f"{STATUS}/build.json"
RUNNING, DONE, FAILED, INTERRUPTED, STOPPED = "running", "done", "failed", "interrupted", "stopped"
LOCAL_SECONDS, REMOTE_SECONDS = 2.0, 20.0  # between two beats: in a bucket each is a request that is paid for
MISSED = 3  # beats of a build that may be late before somebody looks more closely
MISSED_BY_WORKERS = 5  # theirs may wait for a kernel that is compiled, or for a processor
COST = 50  # a file that takes long to write is written less often: 2 % of a core at most
FIRST_SECONDS = 1.0  # a build that is refused sooner leaves no trace


@dataclass(frozen=True, kw_only=True)
class Status(Progress):
    """What is known of the newest build in a folder."""

    state: str  # running, done, failed, interrupted or stopped
    run: str
    since: float  # when it began to look for its inputs
    host: str
    pid: int
    runner: str
    num_workers: int  # that were asked for; 0: nobody knows
    updated: float  # of the last beat
    stage: Stage | None = None  # what it does, or did at its end, before its workers begin; None: they have begun
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
            | {"state": one.state, "seconds_silent": one.silent}
            | {"units": {name: one.steps[name].units for name in one.steps}}
            for one in self.workers
        ]
        return {
            "state": self.state,
            "stage": None if self.stage is None else vars(self.stage),
            "run": self.run,
            "host": self.host,
            "pid": self.pid,
            "runner": self.runner,
            "workers_wanted": self.num_workers,
            "started": self.since,
            "workers_started": self.started,
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
    busy: int = 0  # parts of steps that it works on
    is_new: bool = False  # something is not written yet
    cost: float = 0.0  # seconds that writing took
    thread: threading.Thread | None = None  # which writes, now and then; None: what comes is written at once
    ended: threading.Event = field(default_factory=threading.Event)
    units: dict[str, dict[int, OfUnit]] = field(default_factory=dict)  # a unit that is done again counts once
    steps: dict[str, Done] = field(default_factory=dict)
    documents: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0


_Key = tuple[int, str]  # process and build
_mine: dict[_Key, _Mine] = {}
_followed_here: set[_Key] = set()
_lock = threading.Lock()  # of both
_writing = threading.Lock()  # one file after the other: the last one written is the newest


@contextlib.contextmanager
def working(context: Context) -> Iterator[None]:
    """While the body runs, this process says now and then that it lives; a build without a name is not followed."""
    if not context.run:
        yield
        return
    key = (os.getpid(), context.run)
    with _lock:
        mine = _mine.setdefault(key, _Mine(since=time.time()))
        mine.busy += 1
        mine.is_new |= mine.busy == 1
    _say(context, key)
    try:
        yield
    finally:
        with _lock:
            mine.busy -= 1
            mine.is_new |= mine.busy == 0


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
        units = mine.units.setdefault(step, {})
        if unit in units:
            return
        done = OfUnit(num_bytes=num_bytes, documents=documents or {}, dropped=dropped or {}, tokens=tokens)
        units[unit] = done
        mine.steps[step] = mine.steps.get(step, Done()) + Done(units=1, num_bytes=num_bytes, first=now, last=now)
        mine.documents.update(done.documents)
        mine.dropped.update(done.dropped)
        mine.tokens += tokens
        mine.is_new = True
    _say(context, key)


def _say(context: Context, key: _Key) -> None:
    """Write what is new, at once or a little later."""
    with _lock:
        mine = _mine.get(key)
        if mine is None or mine.thread is not None:
            return
        mine.thread = threading.Thread(target=_go_on, args=(context, key, mine), daemon=True)
    _write_mine(context, key)
    mine.thread.start()


def _go_on(context: Context, key: _Key, mine: _Mine) -> None:
    """Write while there is something new or this process works, unless the build has ended.

    Then its folder may be gone, or another's.
    """
    while not mine.ended.wait(max(_pause(context.work), COST * mine.cost)):
        is_on = False
        with contextlib.suppress(PremaskError, OSError):
            is_on = context.work.exists(cache.sign(context.run))
        with _lock:
            if not is_on and key not in _followed_here:
                _mine.pop(key, None)
            if not is_on or not (mine.busy or mine.is_new):
                mine.thread = None
                return
        _write_mine(context, key)


def _write_mine(context: Context, key: _Key) -> None:
    with _writing:
        with _lock:
            mine = _mine.get(key)
            if mine is None:
                return
            mine.is_new = False
            worker = _worker(mine, time.time())
        begun = time.perf_counter()
        _write(context.work, _worker_name(worker), context.run, _plain(worker))
        mine.cost = time.perf_counter() - begun


class Told:
    """What a build tells of itself while it runs: see `followed`."""

    def __init__(
        self, work: Folder, run: str, facts: Mapping[str, Any], listener: Callable[[Stage], object] | None
    ) -> None:
        self._work, self._run, self._facts = work, run, dict(facts)
        self._beats = 0
        self._lock = threading.Lock()
        self._listener = listener

    def stage(self, stage: Stage | None) -> None:
        """What it does now, before its workers begin; None: they begin."""
        if stage is not None and self._listener is not None:
            self._listener(stage)
        plain = None if stage is None else vars(stage)
        before = self._facts["stage"]
        with self._lock:
            self._facts["stage"] = plain
            if plain is None:
                self._facts["workers_started"] = time.time()
        if self._beats and (before or {}).get("name") != (plain or {}).get("name"):
            self.beat()

    def planned(self, units: int, num_bytes: int) -> None:
        """It is known what there is to do: the plan's units, and their bytes of input."""
        with self._lock:
            self._facts |= {"units": units, "bytes": num_bytes}
        self.beat()

    def has_workers(self, number: int) -> None:
        """So many work for it."""
        with self._lock:
            self._facts["workers"] = number

    def added_up(self, totals: Mapping[str, Any] | None) -> None:
        """It is done; `Totals`, as a dict."""
        with self._lock:
            self._facts["totals"] = totals

    def beat(self, **changes: str) -> None:
        """Write it down."""
        if not self._run:
            return
        with self._lock:
            if not self._beats:
                with contextlib.suppress(PremaskError, OSError):
                    for name in self._work.names(STATUS):  # of earlier builds
                        self._work.delete(f"{STATUS}/{name}")
            self._beats += 1
            self._facts |= changes
            value = self._facts | {"beats": self._beats, "updated": time.time(), "every": _pause(self._work)}
            _write(self._work, BUILD, self._run, value)

    @property
    def has_begun(self) -> bool:
        """Whether anybody can have seen it."""
        return self._beats > 0


@contextlib.contextmanager
def followed(
    work: Folder, run: str, *, runner: str, workers: int, listener: Callable[[Stage], object] | None = None
) -> Iterator[Told]:
    """Let others see how far a build is while the body runs it, and how it ended.

    Args:
        work: where the build works.
        run: its name; "": it is not followed.
        runner: its name.
        workers: that were asked for; 0: nobody knows.
        listener: is told of each stage at once.
    """
    facts = {
        "host": socket.gethostname(),
        "space": process_space(),
        "pid": os.getpid(),
        "process": process_start(os.getpid()),
        "runner": runner,
        "workers": workers,
        "started": time.time(),
        "state": RUNNING,
        "error": "",
        "stage": vars(Stage(name="starting")),
        "units": 0,
        "bytes": 0,
        "totals": None,
    }
    told, key, ended = Told(work, run, facts, listener), (os.getpid(), run), threading.Event()
    if not run:
        yield told
        return

    def go_on() -> None:
        wait = FIRST_SECONDS
        while not ended.wait(wait):
            told.beat()
            wait = _pause(work)

    with _lock:
        _followed_here.add(key)
    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    state, error = DONE, ""
    try:
        yield told
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
            _followed_here.discard(key)
            mine = _mine.pop(key, None)
            last = None if mine is None else _worker(mine, time.time())
        if mine is not None and last is not None:
            mine.ended.set()
            if mine.thread is not None and mine.thread.is_alive():  # no thread of a build outlives it
                mine.thread.join()
            with _writing:  # what it did since it last wrote
                _write(work, _worker_name(last), run, _plain(last))
        if told.has_begun:
            told.beat(state=state, error=error)


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
            f"{output.location}: no build has been here, or its work/ was deleted: premask build starts one, which is "
            "seen here a few seconds later; premask log lists the versions"
        )
    state = value["state"]
    if state == RUNNING and _is_gone(value, work, wait):
        state = STOPPED
    totals, stage = value.get("totals"), value.get("stage")
    return Status(
        state=state,
        run=value["run"],
        host=value["host"],
        pid=value["pid"],
        runner=value["runner"],
        num_workers=value["workers"],
        since=value["started"],
        started=value.get("workers_started", value["started"]),
        updated=value["updated"],
        stage=None if stage is None else Stage(**stage),
        units=value["units"],
        num_bytes=value["bytes"],
        error=value["error"],
        workers=tuple(sorted(_workers(work, value["run"]), key=lambda one: (one.host, one.pid))),
        totals=None if totals is None else Totals(**totals),
    )


def _workers(work: Folder, run: str) -> Iterator[Worker]:
    """Those that have written for a build."""
    written = {name: (info.mtime_ns or 0) / 1e9 for name, info in work.join(STATUS).walk()}
    newest = max(written.values(), default=0.0)
    for name, when in written.items():
        is_other = name == BUILD.rpartition("/")[2] or name.startswith(TEMPORARY)
        plain = None if is_other else _read(work, f"{STATUS}/{name}")
        if plain is not None and plain["run"] == run:
            yield _from_plain(plain, max(0.0, newest - when), MISSED_BY_WORKERS * _pause(work))


def _is_gone(value: Mapping[str, Any], work: Folder, wait: Callable[[float], None]) -> bool:
    """Whether a build that never said that it ended has ended."""
    if (is_here := _is_here(value)) is not None:
        return not is_here
    if 0 <= time.time() - value["updated"] < MISSED * value["every"]:
        return False
    wait(1.5 * value["every"])
    again = _read(work, BUILD)
    return again is not None and (again["run"], again["beats"]) == (value["run"], value["beats"])


def _is_here(value: Mapping[str, Any]) -> bool | None:
    """Whether a process of this machine still runs; None of another machine's."""
    if value["host"] != socket.gethostname() or value["space"] != process_space():
        return None
    started = process_start(value["pid"])
    return started is not None and started == value["process"]


def _pause(work: Folder) -> float:
    return LOCAL_SECONDS if work.is_local else REMOTE_SECONDS


def _worker(mine: _Mine, now: float) -> Worker:
    return Worker(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=mine.since,
        updated=now,
        state=WORKING if mine.busy else IDLE,
        steps=dict(mine.steps),
        documents=dict(mine.documents),
        dropped=dict(mine.dropped),
        tokens=mine.tokens,
        units={name: dict(units) for name, units in mine.units.items()},
    )


def _worker_name(worker: Worker) -> str:
    return f"{STATUS}/{re.sub(r'[^A-Za-z0-9_.-]', '_', worker.host)}-{worker.pid}.json"


def _plain(worker: Worker) -> dict[str, Any]:
    steps = {name: [done.units, done.num_bytes, done.first, done.last] for name, done in worker.steps.items()}
    process = {"space": process_space(), "process": process_start(worker.pid)}
    units = {name: _columns(units) for name, units in worker.units.items()}
    return {**vars(worker), **process, "steps": steps, "units": units}


def _columns(units: Mapping[int, OfUnit]) -> dict[str, Any]:
    """Units by columns, which are half as long as records; a count that no unit has is left out."""
    counts = {
        kind: {
            name: [getattr(one, kind).get(name, 0) for one in units.values()]
            for name in sorted({name for one in units.values() for name in getattr(one, kind)})
        }
        for kind in ("documents", "dropped")
    }
    return {
        "unit": list(units),
        "bytes": [one.num_bytes for one in units.values()],
        "tokens": [one.tokens for one in units.values()],
        **counts,
    }


def _from_columns(value: Mapping[str, Any]) -> dict[int, OfUnit]:
    def at(place: int, kind: str) -> dict[str, int]:
        return {name: counts[place] for name, counts in value[kind].items() if counts[place]}

    return {
        unit: OfUnit(
            num_bytes=value["bytes"][place],
            documents=at(place, "documents"),
            dropped=at(place, "dropped"),
            tokens=value["tokens"][place],
        )
        for place, unit in enumerate(value["unit"])
    }


def _from_plain(value: Mapping[str, Any], quiet: float, most: float) -> Worker:
    """What a worker has written, and whether it can still be at work.

    Args:
        value: its file.
        quiet: seconds since it was written, by the clock of the disk or bucket.
        most: of them, before a worker that has something to do is silent.
    """
    steps = {
        name: Done(units=units, num_bytes=num_bytes, first=first, last=last)
        for name, (units, num_bytes, first, last) in value["steps"].items()
    }
    known = {name: value[name] for name in Worker.__dataclass_fields__ if name in value}  # older ones had fewer
    units = {name: _from_columns(columns) for name, columns in value.get("units", {}).items()}
    state = value.get("state", IDLE)
    if "space" in value and _is_here(value) is False:
        state = GONE
    elif state == WORKING and quiet > most:
        state = SILENT
    silent = quiet if state in (SILENT, GONE) else 0.0
    return Worker(**{**known, "steps": steps, "units": units, "state": state, "silent": silent})


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
