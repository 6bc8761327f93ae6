"""Clusters for tests: real schedulers, workers and job servers, each a process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import ROOT
from tests.mlm_data.stores.emulators import free_port

PYTHON = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "mlm_data/face")]),
    "NUMBA_NUM_THREADS": "1",
}


def wait_for(is_so: Callable[[], object], *, seconds: float = 120) -> None:
    """Wait until it is so.

    Raises:
        AssertionError: it never was.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.005)


def as_in_front() -> None:
    """Shells start what is in the background with SIGINT ignored; tests that send it must not inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody does at this port."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


@dataclass
class Processes:
    """Processes that end with the test, and what they wrote."""

    folder: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *words: str, within: Sequence[str] = ()) -> subprocess.Popen:
        """`python` with these words, in a process group of its own; `within`: what starts it elsewhere."""
        log = (self.folder / f"{len(self.started)}.log").open("wb")
        process = subprocess.Popen(
            [*within, sys.executable, *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=PYTHON,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def log(self, process: subprocess.Popen) -> str:
        """What a process has written so far."""
        return (self.folder / f"{self.started.index(process)}.log").read_text(errors="replace")

    def kill(self, process: subprocess.Popen) -> None:
        """SIGKILL to it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """All of them are killed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Processes(folder)
    try:
        yield found
    finally:
        for process in found.started:
            found.kill(process)


@contextlib.contextmanager
def another_network() -> Iterator[tuple[str, list[str]]]:
    """(our address, what starts a program there): a network namespace of its own, joined to ours by a cable.

    Raises:
        OSError: there is no `ip`, or we may not make one.
    """
    name = f"premask-{os.getpid()}"
    ours, theirs = f"pm{os.getpid()}a", f"pm{os.getpid()}b"
    subnet = f"10.213.{os.getpid() % 256}"

    def ip(*words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    ip("netns", "add", name)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("address", "add", f"{subnet}.1/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "address", "add", f"{subnet}.2/30", "dev", theirs)
        for device in ("lo", theirs):
            ip("-n", name, "link", "set", device, "up")
        yield f"{subnet}.1", ["ip", "netns", "exec", name]
    finally:
        ip("netns", "del", name)  # with its end of the cable


@dataclass(frozen=True)
class DaskCluster:
    """A scheduler and its workers."""

    address: str
    scheduler: subprocess.Popen
    workers: Sequence[subprocess.Popen]
    processes: Processes

    @property
    def args(self) -> list[str]:
        return ["--runner", "dask", "--scheduler", self.address]


@contextlib.contextmanager
def dask_cluster(
    folder: Path, *, workers: int = 2, host: str = "127.0.0.1", within: Sequence[Sequence[str]] = ()
) -> Iterator[DaskCluster]:
    """`dask scheduler` and so many `dask worker`s, as their manual starts them; the first `within` other places."""
    port = free_port()
    address = f"tcp://{host}:{port}"
    with processes(folder) as group:
        scheduler = group.start("-m", "dask", "scheduler", "--host", host, "--port", str(port), "--no-dashboard")
        wait_for(lambda: listens(port, host))
        worker = ("-m", "dask", "worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        started = [group.start(*worker, within=within[i] if i < len(within) else ()) for i in range(workers)]
        wait_for(lambda: all("Registered to" in group.log(worker) for worker in started))
        yield DaskCluster(address, scheduler, started, group)


@contextlib.contextmanager
def job_server(folder: Path) -> Iterator[tuple[int, Processes]]:
    """Beam's job server in Python: the port of it, and its process with those that may join."""
    port = free_port()
    with processes(folder) as group:
        group.start("-m", "apache_beam.runners.portability.local_job_service_main", "--port", str(port))
        wait_for(lambda: listens(port))
        yield port, group


@contextlib.contextmanager
def worker_pool(group: Processes) -> Iterator[int]:
    """Beam's pool of workers that wait to be called, on a port: what EXTERNAL means."""
    port = free_port()
    pool = group.start("-m", "apache_beam.runners.worker.worker_pool_main", "--service_port", str(port))
    wait_for(lambda: listens(port))
    yield port
    group.kill(pool)
