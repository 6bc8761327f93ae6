"""How a process ends early, and nothing of it stays: no temporary file, no worker, and no crash on the way out.

Ctrl-C (SIGINT) and SIGTERM raise `KeyboardInterrupt` and `Terminated` in the main thread, once. Whoever catches it
cleans up and calls `leave`: threads that are in the middle of something can't be stopped in Python, and an interpreter
that ends beneath them aborts now and then (`PyGILState_Release`), so the process ends by `os._exit`. A second signal,
or `BOUND_SECONDS` without an end, ends it at once.

A temporary file or folder has its owner in its name: the machine's boot, the process and when that started. So `clear`
knows which ones a crash has left.
"""

import atexit
import contextlib
import functools
import hashlib
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from types import FrameType

TEMPORARY = ".tmp-"  # every temporary name starts so; a crash may leave one, and nobody reads it
INTERRUPTED = "interrupted: start it again to go on"
TERMINATED = "terminated: start it again to go on"
BOUND_SECONDS = 30.0  # from a signal to the end
HOOK_SECONDS = 5.0  # for what libraries do at the end, and for workers to be gone
OLD_SECONDS = 24 * 3600.0  # what another machine has left is left alone for so long

_OWNER = re.compile(r"([0-9a-f]{12})-(\d+)-(\d*)")
_NAME = re.compile(rf"{re.escape(TEMPORARY)}[0-9a-f]{{32}}(?:-({_OWNER.pattern}))?")


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: to be treated as Ctrl-C is."""


_lock = threading.Lock()  # held while a temporary file is made; `leave` takes it and never gives it back
_held: set[str] = set()  # paths of temporary files that this process has made
_cleared: set[str] = set()  # folders in which its workers may have made some
_signal = 0  # the first that came
_is_leaving = _is_said = False
_real: int | None = None  # the standard error that a user sees, while `signals` runs


def owner() -> str:
    """Names this process among all that ever were: the machine's boot, the process number, and when it has started."""
    return f"{_boot()}-{os.getpid()}-{_own_start(os.getpid())}"


def is_alive(owner: str) -> bool | None:
    """Whether a process of this machine's boot still runs; None of another one's, and where no owner is named.

    >>> is_alive(owner()), is_alive("")
    (True, None)
    """
    found = _OWNER.fullmatch(owner)
    if found is None or found[1] != _boot():
        return None
    return process_start(int(found[2])) == found[3]


def is_left(owner: str, changed: float) -> bool:
    """Whether something was left behind: its owner is gone; where that can't be told, it was long not written to.

    Args:
        owner: of `owner`; "" for nobody.
        changed: when it was last written, in seconds since the epoch.
    """
    alive = is_alive(owner)
    return time.time() - changed > OLD_SECONDS if alive is None else not alive


def owner_of(name: str) -> str | None:
    """The owner of a temporary file or folder; "" if it names none, None if it is no such name."""
    found = _NAME.fullmatch(name)
    return None if found is None else found[1] or ""


def signature() -> bytes:
    """What a file holds whose second line names this process; `signed_by` reads it."""
    return f"may publish\n{owner()}\n".encode()


def signed_by(data: bytes) -> str:
    """The owner that `signature` has named; "" if none is.

    >>> signed_by(signature()) == owner(), signed_by(b"may publish")
    (True, '')
    """
    return "".join(data.decode(errors="replace").splitlines()[1:2])


def temporary_name() -> str:
    """A new name for a temporary file or folder, with its owner in it."""
    return f"{TEMPORARY}{uuid.uuid4().hex}-{owner()}"


@functools.cache
def _own_start(pid: int) -> str:
    """`process_start` of this process, whose number is given since a fork has another one."""
    return process_start(pid) or ""


@contextlib.contextmanager
def making(path: str) -> Iterator[None]:
    """Make a temporary file in the body, which must be short; call `done` when it is gone."""
    with _lock:
        _held.add(path)
        yield


def done(path: str) -> None:
    """A temporary file has its name, or was deleted."""
    _held.discard(path)


def clear(folder: str) -> None:
    """Delete the temporary files and folders in a local folder, not below it, that no living process owns.

    Those of other machines, of which nobody here can tell, go once they are a day old. `leave` does it again, for
    this process's workers.
    """
    _cleared.add(folder)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                whose = owner_of(entry.name)
                if whose is None or not is_left(whose, _changed(entry)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)


def _changed(entry: os.DirEntry[str]) -> float:
    """When a file, or any of the files in a folder, was last written."""
    times = [entry.stat(follow_symlinks=False).st_mtime]
    if entry.is_dir(follow_symlinks=False):
        for place, _, names in os.walk(entry.path):
            with contextlib.suppress(OSError):
                times += [os.lstat(os.path.join(place, name)).st_mtime for name in names]
    return max(times)


def process_start(pid: int) -> str | None:
    """Names a process among all that have had its number; None if there is none, "" where it can't be told."""
    with contextlib.suppress(OSError):
        facts = _stat(pid)
        return None if facts[0] in "ZX" else facts[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""  # somebody else's
    return ""


def _stat(pid: int) -> list[str]:
    """What proc(5) says of a process behind its name, from field 3 on: [0] state, [1] parent, [19] start.

    Raises:
        OSError: there is no such process, or /proc doesn't tell.
    """
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def process_space() -> str:
    """Which process numbers are meant: containers on one host have their own (Linux, pid_namespaces(7))."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


@functools.cache
def _boot() -> str:
    """Where process numbers mean the same, and since when, as 12 hexadecimal digits."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    return hashlib.sha256(f"{socket.gethostname()}\n{process_space()}\n{boot}".encode()).hexdigest()[:12]


def signalled() -> int:
    """The number of the signal that ends this process; 0 if none has come."""
    return _signal


def silence() -> None:
    """From now on only `say` writes to standard error: threads complain of what is taken from them."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def say(program: str) -> None:
    """Write the one line that says which signal has ended a program, once."""
    global _is_said
    if not _is_said and _real is not None:
        _is_said = True
        words = TERMINATED if _signal == signal.SIGTERM else INTERRUPTED
        with contextlib.suppress(OSError):
            os.write(_real, f"{program}: {words}\n".encode())


@contextlib.contextmanager
def signals(program: str) -> Iterator[None]:
    """While the body runs, SIGINT and SIGTERM raise in the main thread, and end the process if that doesn't help.

    A signal that is ignored stays so: shells start what is in the background like that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _real
    mine, _real = os.getpid(), os.dup(2)

    def end(number: int) -> None:
        say(program)
        leave(128 + number)

    def act(number: int, frame: FrameType | None) -> None:
        global _signal
        if os.getpid() != mine:  # a child that was forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if _signal:
            end(_signal)
        _signal = number
        silence()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    read, write = os.pipe()
    os.set_blocking(write, False)

    def watch() -> None:
        global _signal
        number = os.read(read, 1)
        if number and not over.wait(BOUND_SECONDS):
            _signal = _signal or number[0]
            end(_signal)

    over = threading.Event()
    handled = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, act) for number in handled}
    woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)  # the main thread may be deep in a kernel
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        over.set()
        os.close(write)
        watcher.join()
        os.close(read)
        os.dup2(_real, 2)
        os.close(_real)
        _real = None


def leave(code: int) -> None:
    """End this process now, with this exit code; threads that work are left behind, and nothing else is.

    Temporary files are deleted, all processes that it has started are killed, and what libraries registered for the
    end is done, if it is done soon.
    """
    global _is_leaving
    if _is_leaving:
        os._exit(code)
    _is_leaving = True
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    silence()
    _lock.acquire(timeout=1)  # and nobody makes a temporary file any more
    workers = descendants(os.getpid())
    for pid in workers:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + HOOK_SECONDS
    while any(process_start(pid) is not None for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    for path in tuple(_held):
        with contextlib.suppress(OSError):
            os.unlink(path)
    for folder in tuple(_cleared):
        clear(folder)
    hooks = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    hooks.start()
    hooks.join(HOOK_SECONDS)
    os._exit(code)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have; [] where /proc doesn't tell."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with contextlib.suppress(OSError):
                    children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found, new = [], [pid]
    while new:
        new = [child for parent in new for child in children.get(parent, ())]
        found += new
    return found


def _parents() -> tuple[int, int]:
    """This process's parent, and that one's; 0 where /proc doesn't tell."""
    parent = os.getppid()
    with contextlib.suppress(OSError):
        return parent, int(_stat(parent)[1])
    return parent, 0


def end_with_parent(seconds: float = 1.0) -> None:
    """From now on this process ends when the one that started it has ended, be it through a shell, as a worker must."""
    parents = _parents()

    def watch() -> None:
        while _parents() == parents:
            time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
