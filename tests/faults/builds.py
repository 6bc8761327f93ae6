"""Builds as processes of their own, to which something happens: what every test of faults needs.

`whole` is what a build makes that nothing happens to. After a fault there is no new version, or the one with the same
digest; and the next build finishes it.
"""

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlm_data.dataset.verify import verify
from mlm_data.ending import TEMPORARY
from mlm_data.stores.folder import Folder
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON, as_in_front, wait_for
from tests.pipelines.small_corpus import settings, text

SECONDS = 120  # that any build here may take


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something to build: a configuration in a file, and where it goes."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "premask.yaml"

    @property
    def out(self) -> Path:
        return self.folder / "out"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A build that has begun."""

    pid: int  # of its session, too
    err: Path
    process: subprocess.Popen[bytes] | None

    def send(self, number: int) -> None:
        """A signal; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def has_ended(self) -> bool:
        return self._code.exists() if self.process is None else self.process.poll() is not None

    @property
    def _code(self) -> Path:
        return Path(f"{self.err}.code")

    def end(self) -> "Ended":
        """Wait for its end; none of its workers may stay.

        Raises:
            AssertionError: one did, or it does not end.
        """
        try:
            wait_for(lambda: self.has_ended, seconds=SECONDS)
            wait_for(lambda: not in_session(self.pid), seconds=10)
        finally:
            for pid in in_session(self.pid):
                os.kill(pid, signal.SIGKILL)
        code = int(self._code.read_text()) if self.process is None else self.process.returncode
        reached = Path(f"{self.err}.reached").exists()
        return Ended(code=code, err=self.err.read_text(), reached=reached)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended: `code` as Python counts, negative for a signal that killed it."""

    code: int
    err: str
    reached: bool = False  # the point at which the fault was to be

    @property
    def lines(self) -> list[str]:
        return self.err.strip().splitlines()


def job(folder: Path, *, documents: int = 400, inputs: Path | None = None, **changes: object) -> Job:
    """A corpus of small texts with copies, in units of some documents; equal calls give equal digests.

    Args:
        folder: a new one.
        documents: how many.
        inputs: where another job's corpus lies, to build the same: a file's path is part of no digest.
        **changes: of the settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if inputs is None:
        inputs = folder / "in"
        inputs.mkdir()
        for number in range(4):
            lines = [json.dumps({"text": text(one % 380), "id": one}) for one in range(number, documents, 4)]
            (inputs / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    values = settings(folder, inputs=[{"path": str(inputs / "*.jsonl")}], unit_bytes=10_000, **changes)
    made = Job(folder=folder)
    made.config.write_text(json.dumps(values))
    return made


def start(
    what: Job,
    *args: str,
    workers: int = 2,
    fault: Mapping[str, object] | None = None,
    fresh: bool = False,
    err: Path | None = None,
) -> Running:
    """Begin to build.

    Args:
        what: to build.
        *args: further ones.
        workers: threads.
        fault: what is to happen: see the launcher.
        fresh: start Python as a user does, not by the launcher.
        err: a file for standard error; None: one beside the configuration.
    """
    argv = ["build", str(what.config), f"--workers={workers}", *args]
    err = err or what.folder / f"{uuid.uuid4().hex}.err"
    for ending in ("code", "reached"):
        Path(f"{err}.{ending}").unlink(missing_ok=True)
    if not fresh:
        order = {"argv": argv, "err": str(err), "fault": fault or {}}
        return Running(pid=_server().order(order), err=err, process=None)
    with err.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", *argv],
            env=PYTHON,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
            preexec_fn=as_in_front,
        )
    return Running(pid=process.pid, err=err, process=process)


def build(
    what: Job,
    *args: str,
    workers: int = 2,
    fault: Mapping[str, object] | None = None,
    err: Path | None = None,
) -> Ended:
    """Build to the end, whichever it is; arguments as for `start`."""
    return start(what, *args, workers=workers, fault=fault, err=err).end()


def python(*args: str, stderr: Path) -> subprocess.Popen[bytes]:
    """Start Python."""
    with stderr.open("wb") as file:
        return subprocess.Popen([sys.executable, *args], env=PYTHON, cwd=ROOT, stderr=file, preexec_fn=as_in_front)


def shell(script: str, *args: str, cwd: Path) -> str:
    """What a shell script prints; its $0 is Python."""
    command = ["sh", "-c", script, sys.executable, *args]
    return subprocess.run(command, env=PYTHON, cwd=cwd, capture_output=True, text=True, check=True).stdout


class _Server:
    """The launcher, for all tests of this process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        first = job(Path(self._folder.name) / "first", documents=60)
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/faults/launcher.py"), str(first.config)],
            env=PYTHON,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=as_in_front,
        )
        atexit.register(self.stop)

    def order(self, order: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


_server = functools.cache(_Server)


def finish(what: Job, *args: str, workers: int = 2) -> str:
    """Build without a fault; returns the digest.

    Raises:
        AssertionError: it fails, or leaves temporary files, or signs of builds that were killed.
    """
    ended = build(what, *args, workers=workers)
    assert ended.code == 0, ended.err
    assert temporary_files(what) == []
    assert list(what.out.glob("work/runs/*")) == []
    return digest(what)


def digest(what: Job) -> str:
    """Of the current version, which is sound; "" if there is none."""
    folder = Folder(str(what.out))
    if not (what.out / "LATEST").exists():
        return ""
    found = verify(folder)
    assert not found.problems, found.problems
    return found.digest


def temporary_files(what: Job) -> list[str]:
    """Of any kind, anywhere in the dataset."""
    return sorted(str(path.relative_to(what.out)) for path in what.out.rglob(f"{TEMPORARY}*"))


def in_session(session: int) -> list[int]:
    """Living processes of a session: all that a build has started, whoever their parent is now."""
    return [pid for pid, fields in _processes() if int(fields[3]) == session and fields[0] not in "ZX"]


def _processes() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                yield int(name), Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
