"""Local copies of a bucket's files: whole, checked, within a budget, shared by all processes of a machine.

    <cache>/<first two letters>/<sha256>        a copy; its time of change says when it was last used
    <cache>/<first two letters>/<sha256>.part   one that is being fetched, under a lock
    <cache>/lock                                held while room is made

A dataset's files are named by the SHA-256 of their bytes, so a copy belongs to a content, whatever dataset or version
asks for it, and is checked by its own name each time it is opened. A damaged one is thrown away and fetched again. Who
fetches a file holds a lock on it that ends with the process: others wait, and find it. Before it is fetched, what dead
processes were fetching is deleted, and then copies that were used longest ago, until it fits; a process that has one of
them open keeps what it has mapped.

`PREMASK_CACHE` is the folder; where it is not set, `~/.cache/premask`. `PREMASK_CACHE_BYTES` is the budget, such as
`200GB`; where it is not set, the copies that are there and nine tenths of what is free on that disk. 0: no copies:
files are held in memory while they are in use. So it is where there is no home folder, and neither is set.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlm_data.ending import is_left
from mlm_data.errors import ConfigError, StorageError
from mlm_data.stores.folder import AT_ONCE, READ_BYTES, Folder, explain

CACHE, BUDGET = "PREMASK_CACHE", "PREMASK_CACHE_BYTES"
FETCHERS = 16  # files side by side: what takes time in a bucket is waiting
ATTEMPTS = 3  # to fetch a file whose bytes are those of its name
_SHA256 = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.[a-z]+)?$")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Cache:
    """A folder for copies, and how many bytes they may take."""

    root: Path
    max_bytes: int

    @classmethod
    def from_environment(cls) -> "Cache | None":
        """What the two variables say; None where there are to be no copies.

        Raises:
            ConfigError: if the budget is no number of bytes, or the folder is a file.
        """
        text, root = os.environ.get(BUDGET, ""), _root()
        if root is None:
            return None
        existing = next(folder for folder in (root, *root.parents) if folder.exists())
        if not existing.is_dir():
            raise ConfigError(f"{existing} is a file: name a folder in {CACHE} for copies of files in buckets")
        if text:
            max_bytes = num_bytes(text)
        else:
            max_bytes = shutil.disk_usage(existing).free * 9 // 10 + sum(size for _, _, size in _copies(root))
        return cls(root, max_bytes) if max_bytes else None

    def path(self, sha256: str) -> Path:
        """Where the copy of a content lies, or would."""
        return self.root / sha256[:2] / sha256

    def fetch(self, folder: Folder, name: str, sha256: str) -> Path:
        """The path of a copy that was used now; fetched if it is not there, its bytes checked if it was fetched.

        Raises:
            StorageError: it can't be fetched or stored, is larger than the budget, or never has the bytes of its name.
        """
        path = self.path(sha256)
        if _touch(path):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _lock(path.with_suffix(".part")) as (part, file):
                if part is None:  # another process has fetched it meanwhile
                    return self.fetch(folder, name, sha256)
                if _touch(path):
                    part.unlink()
                    return path
                try:
                    for _ in range(ATTEMPTS):
                        if self._copy(folder, name, file) == sha256:
                            os.replace(part, path)
                            return path
                except BaseException:
                    part.unlink(missing_ok=True)
                    raise
                part.unlink()
        except OSError as error:
            raise explain(error, str(path), "write") from error
        raise StorageError(f"{folder.location}/{name}: a byte was changed, on the way or there: run premask verify")

    def drop(self, sha256: str) -> bool:
        """Throw a damaged copy away; False if it stays, since it is another user's."""
        with suppress(PermissionError):
            self.path(sha256).unlink(missing_ok=True)
            return True
        return False

    def _copy(self, folder: Folder, name: str, file: int) -> str:
        """Write a file's bytes to a descriptor; returns their SHA-256."""
        hasher = hashlib.sha256()
        with folder.open(name) as stream:
            size = stream.size()
            if size > self.max_bytes:
                raise StorageError(f"{folder.location}/{name}: {size} bytes, more than {BUDGET} = {self.max_bytes}")
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
            self._make_room(size, file)
            while size:
                try:
                    data = stream.read(min(size, READ_BYTES) if size > AT_ONCE else size)
                except OSError as error:
                    raise explain(error, f"{folder.location}/{name}", "read") from error
                if not data:
                    break
                size -= len(data)
                hasher.update(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
        return hasher.hexdigest()

    def _make_room(self, wanted: int, file: int) -> None:
        """Make room for a file: the copies that were used longest ago go. The room is taken before others look."""
        descriptor = os.open(self.root / "lock", os.O_CREAT | os.O_RDWR, 0o666)
        try:
            with suppress(OSError):  # file systems without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            copies = sorted(one for one in _copies(self.root) if not _is_dead(one[1]))
            excess = sum(size for _, _, size in copies) + wanted - self.max_bytes
            for _, path, size in copies:
                if excess <= 0:
                    break
                if path.suffix != ".part":
                    with suppress(PermissionError):  # another user's
                        path.unlink(missing_ok=True)
                        excess -= size
            os.ftruncate(file, wanted)
        finally:
            os.close(descriptor)


class CachedFolder(Folder):
    """A folder in a bucket whose content-named files are read from local copies."""

    def __init__(self, location: str, cache: Cache) -> None:
        super().__init__(location)
        self._cache = cache
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="premask-fetch")
        self._coming: dict[str, Future[Path]] = {}  # in the order in which they are wanted
        self._workers = 0
        self._guard = threading.Lock()

    def __reduce__(self):
        return (CachedFolder, (self.location, self._cache))

    @property
    def is_mapped(self) -> bool:
        return True

    def read_ahead(self, name: str) -> None:
        """Begin to fetch a file, if it is not there."""
        sha256 = _content_of(name)
        if not sha256:
            return
        with self._guard:
            if name in self._coming or self._cache.path(sha256).exists():
                return
            self._coming[name] = Future()
            if self._workers < FETCHERS:
                self._workers += 1
                self._pool.submit(self._work)

    def _work(self) -> None:
        """Fetch what is wanted until nothing is; the end of the program ends it behind the file at hand."""
        while (wanted := self._next()) is not None:
            name, future = wanted
            try:
                future.set_result(self._cache.fetch(Folder(self.location), name, _content_of(name)))
            except BaseException as error:  # told to who opens the file
                future.set_exception(error)

    def _next(self) -> tuple[str, Future[Path]] | None:
        with self._guard:
            for name, future in self._coming.items():
                if not (future.running() or future.done()) and threading.main_thread().is_alive():
                    future.set_running_or_notify_cancel()
                    return name, future
            self._workers -= 1
            return None

    def open(self, name: str, *, whole: bool = False) -> pa.NativeFile:
        """A reader of the copy, checked and memory-mapped; of other files, one of the bucket.

        So it is with a copy that only another user may read or throw away.
        """
        sha256 = _content_of(name)
        if not sha256:
            return super().open(name, whole=whole)
        with self._guard:
            coming = self._coming.pop(name, None)
        if coming is not None and not coming.cancel():
            coming.result()
        for _ in range(ATTEMPTS):
            path = self._cache.fetch(Folder(self.location), name, sha256)
            try:
                stream = pa.memory_map(str(path), "r") if path.stat().st_size else pa.BufferReader(b"")
                buffer = stream.read_buffer()
                stream.seek(0)
                if hashlib.sha256(memoryview(buffer)).hexdigest() == sha256:
                    return stream
                stream.close()
                if not self._cache.drop(sha256):
                    return super().open(name, whole=whole)
            except FileNotFoundError:  # thrown out at this moment
                continue
            except PermissionError:
                return super().open(name, whole=whole)
        raise StorageError(f"{self._cache.path(sha256)}: does not stay whole: check that disk")


def through_cache(folder: Folder) -> Folder:
    """A folder in a bucket with local copies, as the environment has it; others as they are.

    Raises:
        ConfigError: if the environment says what can't be right.
    """
    if folder.is_local or isinstance(folder, CachedFolder):
        return folder
    cache = Cache.from_environment()
    return folder if cache is None else CachedFolder(folder.location, cache)


def num_bytes(text: str) -> int:
    """A number of bytes as people write it.

    >>> num_bytes("200GB"), num_bytes("1.5 MB"), num_bytes("0")
    (200000000000, 1500000, 0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    if found is None:
        raise ConfigError(f"{BUDGET} = {text!r}: write a number of bytes, such as 200GB; 0 for no copies")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _content_of(name: str) -> str:
    """The SHA-256 that a file is named by; "" where it has another name."""
    found = _SHA256.search(name)
    return found[1] if found is not None else ""


def _root() -> Path | None:
    """Where copies lie, as the environment has it; None if it says nothing, and there is no home folder."""
    if given := os.environ.get(CACHE):
        return Path(given)
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "premask"
    return None


def _touch(path: Path) -> bool:
    """Note that a copy is used now; False if there is none. Of another user's it can't be noted."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except PermissionError:
        return path.exists()
    return True


def _is_dead(path: Path) -> bool:
    """Whether this was what a process was fetching that has ended since: nobody has its lock. Then it is deleted."""
    if path.suffix != ".part":
        return False
    with suppress(OSError), path.open("r+b") as file:  # another user's stays
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # file systems without locks
            if not is_left("", path.stat().st_mtime):
                return False
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else it has got its name, and this is a new one
            path.unlink()
            return True
    return False


def _copies(root: Path) -> Iterator[tuple[int, Path, int]]:
    """(when it was last used, path, bytes) of every copy, those that are being fetched too."""
    with suppress(FileNotFoundError):
        for folder in os.scandir(root):
            if folder.is_dir() and len(folder.name) == 2:
                with suppress(PermissionError):  # another user's
                    for entry in os.scandir(folder.path):
                        with suppress(FileNotFoundError):
                            facts = entry.stat()
                            yield facts.st_mtime_ns, Path(entry.path), facts.st_size


@contextlib.contextmanager
def _lock(part: Path) -> Iterator[tuple[Path | None, int]]:
    """(the path of a file that this process alone writes, its descriptor); None: another one has just finished it."""
    descriptor = os.open(part, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        with suppress(OSError):  # file systems without locks: two fetch it, and the last rename wins
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            is_mine = os.path.samestat(os.fstat(descriptor), os.stat(part))
        except FileNotFoundError:
            is_mine = False
        yield (part if is_mine else None), descriptor
    finally:
        os.close(descriptor)
