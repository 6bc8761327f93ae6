"""The main text of web pages, by resiliparse or trafilatura, however hostile the pages are.

Both libraries hold the GIL, and both can be kept busy for minutes, or made to fill the memory, by one page. So they run
in processes of their own, one for each thread that extracts at the same time. A page goes this way:

    too large, too deep, too much work (`Limits`)     to the stripper: `mlm_data.text.markup.strip`, in linear time
    the library raises an error                       to the stripper
    the library takes too long, crashes,              quarantined: `extract_failed`
    or wants too much memory
    else                                              the library's text

What is given to the stripper depends on the page and on the library's version alone, never on the machine: sizes and
depths are counted, not seconds. The limit on time is there for what nobody foresaw. It is far beyond what the other
limits let through (a hundredth of it is usual), is measured in time of the processor, and a page that reaches it is no
document on that machine: it is counted as quarantined, and no other text takes its place in silence.

A process is started when it is first wanted, by a new Python (nothing is forked), and ends with the one that started
it.
"""

import atexit
import importlib.metadata
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlm_data.errors import ConfigError, InputError
from mlm_data.text.extract_worker import LENGTH, NO_MEMORY, RAISED, READY, TEXT
from mlm_data.text.markup import measure, strip

ALGORITHM_VERSION = 1  # enters cache keys: count up when another text comes out of the same page

EXTRACT_FAILED = "extract_failed"

EXTRAS = {"resiliparse": "web", "trafilatura": "trafilatura"}
WALL_PER_CPU = 10  # a process that waits is killed, too; machines that are busy get so much patience


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a page may ask of an extractor."""

    page_bytes: int = 8 << 20  # Common Crawl cuts pages at 5 MiB
    depth: int = 512  # of nested elements: where Chrome and Safari stop, too
    work: int = 32 << 20  # see `measure`; about 3 seconds of resiliparse; a page of 1 MB has a hundredth of it
    cpu_seconds: float = 60
    memory_bytes: int = 4 << 30  # of addresses, of which a tenth is usual


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A page's text, or why there is none."""

    text: str = ""
    stripped: str = ""  # why it comes from the stripper: too_large, too_deep, error; empty: it doesn't
    problem: tuple[str, str] | None = None  # (reason, detail)


def identity(extractor: str) -> str:
    """What the texts depend on beside the pages: enters cache keys."""
    return f"{ALGORITHM_VERSION}, {extractor} {importlib.metadata.version(extractor)}"


def check_installed(extractor: str) -> None:
    """Raise the error that says what to install, before anything is read.

    Raises:
        ConfigError: the extractor's package is not there.
    """
    if importlib.util.find_spec(extractor) is None:
        install = f"pip install 'premask[{EXTRAS[extractor]}]'"
        raise ConfigError(f"extract: {extractor} needs its package: {install}, or set `extract: none`")


def extract_pages(pages: Sequence[bytes], extractor: str, limits: Limits = LIMITS) -> list[Extracted]:
    """The main text of each page, which is UTF-8.

    Raises:
        InputError: the extractor's process can't be started.
    """
    texts = []
    with _borrow(extractor, limits) as worker:
        over = _over_limits(pages[0], limits) if pages else ""
        for place, page in enumerate(pages):
            ahead: list[str] = []  # the next page is measured while this one is extracted

            def look_ahead(following: Sequence[bytes] = pages[place + 1 : place + 2], ahead: list[str] = ahead) -> None:
                ahead += [_over_limits(one, limits) for one in following if not ahead]

            if over:
                texts.append(Extracted(text=strip(page), stripped=over))
            else:
                texts.append(worker.extract(page, look_ahead))
            look_ahead()
            over = ahead[0] if ahead else ""
    return texts


def _over_limits(page: bytes, limits: Limits) -> str:
    if len(page) > limits.page_bytes:
        return "too_large"
    depth, work = measure(page, max_depth=limits.depth)
    return "too_deep" if depth > limits.depth or work > limits.work else ""


class _Worker:
    """A process, started when it is first wanted and again after it died."""

    def __init__(self, extractor: str, limits: Limits) -> None:
        self._extractor, self._limits = extractor, limits
        self._process: subprocess.Popen[bytes] | None = None

    def extract(self, page: bytes, meanwhile: Callable[[], None] = lambda: None) -> Extracted:
        """The text of a page; `meanwhile` is called while the process works."""
        for _ in range(2):  # a process may be killed for another's memory; twice in a row it is the page
            answer = self._ask(page, meanwhile)
            if answer is not None:
                return answer
            code = self.close()
            if code == -signal.SIGPROF:
                detail = f"{self._extractor} took more than {self._limits.cpu_seconds:g} seconds"
                return Extracted(problem=(EXTRACT_FAILED, detail))
        return Extracted(problem=(EXTRACT_FAILED, f"{self._extractor} crashed"))

    def close(self) -> int:
        """End the process; its exit code, or the signal that killed it."""
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):  # it may be dead already
            process.stdin.close()
        try:
            # One that died needs a moment to say how; one that hangs never would.
            return process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            process.stdout.close()

    def _ask(self, page: bytes, meanwhile: Callable[[], None]) -> Extracted | None:
        """What the process answers; None if it dies of it."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(LENGTH.pack(len(page)))
            process.stdin.write(page)
            process.stdin.flush()
        except OSError:
            return None
        meanwhile()
        if not select.select([process.stdout], [], [], self._limits.cpu_seconds * WALL_PER_CPU)[0]:
            process.kill()
            return None
        head = process.stdout.read(1 + LENGTH.size)
        if len(head) <= LENGTH.size:
            return None
        answer = process.stdout.read(LENGTH.unpack(head[1:])[0]).decode()
        kind = head[:1]
        if kind == TEXT:
            return Extracted(text=answer)
        if kind == NO_MEMORY:
            return Extracted(problem=(EXTRACT_FAILED, f"{self._extractor} wants too much memory"))
        assert kind == RAISED, kind
        return Extracted(text=strip(page), stripped="error")

    def _start(self) -> "subprocess.Popen[bytes]":
        check_installed(self._extractor)
        root = str(Path(__file__).resolve().parents[2])
        command = [sys.executable, "-P", "-m", "mlm_data.text.extract_worker", self._extractor]
        command += ["--cpu-seconds", str(self._limits.cpu_seconds), "--memory-bytes", str(self._limits.memory_bytes)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])},
        )
        assert process.stdout is not None
        if process.stdout.read(1) != READY:
            self._process = process
            self.close()
            raise InputError(f"the process of {self._extractor} does not start: try {' '.join(command[:5])}")
        return process


class _Pool:
    """The workers that nobody uses at the moment, by what they do."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: dict[tuple[str, Limits], list[_Worker]] = {}

    def close(self) -> None:
        with self.lock:
            workers = [worker for some in self.free.values() for worker in some]
            self.free.clear()
        for worker in workers:
            worker.close()


_pool = _Pool()


class _borrow:  # noqa: N801  # used as a function
    """A worker for the time of a `with`: one that is free, or a new one."""

    def __init__(self, extractor: str, limits: Limits) -> None:
        self._key = (extractor, limits)

    def __enter__(self) -> _Worker:
        with _pool.lock:
            free = _pool.free.get(self._key)
            self._worker = free.pop() if free else _Worker(*self._key)
        return self._worker

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # It may be in the middle of an answer.
            self._worker.close()
            return
        with _pool.lock:
            _pool.free.setdefault(self._key, []).append(self._worker)


def _forget() -> None:
    """In a forked process: the workers belong to the one that was forked."""
    global _pool
    _pool = _Pool()


atexit.register(lambda: _pool.close())
os.register_at_fork(after_in_child=_forget)
