"""Files by path or URI, and the one way in which this project makes a file appear.

A folder is a local path or a URI (see `places`). Nothing half-written is ever visible under its final name. On a disk
bytes go to a unique temporary name beside it, are flushed, then renamed. In a bucket an object appears whole, and a
rename would be a copy: bytes are gathered first, on a local disk where they are many, and put under the final name at
once; to do that again changes nothing. Writing a name that is already there is a success: names are content hashes or
cache keys.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs

from mlm_data import ending
from mlm_data.ending import TEMPORARY
from mlm_data.errors import InputError, StorageError
from mlm_data.hiding import hidden
from mlm_data.stores import amazon
from mlm_data.stores.patience import patient, patiently
from mlm_data.stores.places import parse

OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss")
HELD_BYTES = 64 << 20  # of a file for a bucket in memory, before it goes to the bucket; more go by a local disk
READ_BYTES = 8 << 20  # of a file that is read from its beginning to its end
AT_ONCE = 64 << 20  # a file in a bucket of at most this size is read by one request


@dataclass(frozen=True)
class Written:
    """One file that now exists: its name (relative to the folder), size and SHA-256 of its bytes."""

    name: str
    num_bytes: int
    sha256: str


class HashingSink:
    """A binary sink that counts what passes through and, unless told not to, hashes it."""

    def __init__(self, stream: Any, *, hashed: bool = True) -> None:
        self._stream = stream
        self._hash = hashlib.sha256() if hashed else None
        self.num_bytes = 0
        self.closed = False

    def write(self, data: bytes | pa.Buffer | memoryview) -> int:
        view = memoryview(data)
        if self._hash is not None:
            self._hash.update(view)
        self._stream.write(data)
        self.num_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.num_bytes

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest() if self._hash is not None else ""


class Folder:
    """A folder on a local disk or in a bucket."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.location = os.fspath(location)
        self._place = parse(self.location)
        self._fs, self._root = self._place.open(), self._place.path.rstrip("/") or "/"
        self._ask: Callable[[], object] = lambda: None

    @property
    def is_local(self) -> bool:
        return isinstance(self._fs, pyarrow.fs.LocalFileSystem)

    @property
    def is_object_store(self) -> bool:
        """Whether files appear whole when they are written, folders are names, and a rename is a copy."""
        return self._place.scheme in OBJECT_STORES

    @property
    def is_mapped(self) -> bool:
        """Whether files are memory-mapped when they are opened."""
        return self.is_local

    def guarded(self, guard: Callable[[], object]) -> "Folder":
        """The same folder; `guard` is called before each file of `create` and `write`, and may raise."""
        found = Folder(self.location)
        found._ask = guard
        return found

    def __reduce__(self):
        return (Folder, (self.location,))

    def path(self, name: str = "") -> str:
        """The file system's own path of a name."""
        return f"{self._root}/{name}" if name else self._root

    def join(self, name: str) -> "Folder":
        if not self._place.scheme:
            return Folder(f"{self.location.rstrip('/')}/{name}")
        return Folder(str(self._place.join(name)))

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or a folder of this name.

        Raises:
            StorageError: if the place can't be looked at, as a bucket to which access is denied.
        """
        return self._info(name).type != pyarrow.fs.FileType.NotFound

    def _info(self, name: str) -> pyarrow.fs.FileInfo:
        try:
            return patiently(lambda: self._fs.get_file_info(self.path(name)))
        except OSError as error:
            raise explain(error, f"{self.location}/{name}".rstrip("/"), "look at") from error

    def read_ahead(self, name: str) -> None:
        """Let the kernel begin to read a local file into its page cache; elsewhere, and if it is absent, nothing."""
        if self.is_local and hasattr(os, "posix_fadvise"):
            with suppress(OSError), open(self.path(name), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def num_bytes(self, name: str) -> int:
        """Size of a file.

        Raises:
            StorageError: if it is not there.
        """
        info = self._info(name)
        if info.type != pyarrow.fs.FileType.File:
            raise StorageError(f"{self.location}/{name}: no such file")
        return info.size

    def changed(self, name: str) -> float:
        """When a file was last changed, in seconds since the epoch; 0 if it is absent."""
        return (self._info(name).mtime_ns or 0) / 1e9

    def touch(self, name: str) -> None:
        """Set the time of a file's last change to now on a local disk; elsewhere, and if it is absent, nothing."""
        if self.is_local:
            with suppress(OSError):
                os.utime(self.path(name))

    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in a sub-folder, sorted; temporary ones are left out; [] if absent.

        Raises:
            StorageError: if it is a file, or can't be listed.
        """
        selector = pyarrow.fs.FileSelector(self.path(folder), allow_not_found=True)
        try:
            found = [info.base_name for info in patiently(lambda: self._fs.get_file_info(selector))]
        except OSError as error:
            raise explain(error, f"{self.location}/{folder}".rstrip("/"), "list") from error
        return sorted(name for name in found if not name.startswith(TEMPORARY))

    def walk(self) -> list[tuple[str, pyarrow.fs.FileInfo]]:
        """Name and facts of every file in the folder and below, temporary ones too, sorted by name.

        Raises:
            StorageError: if the place can't be listed.
        """
        selector = pyarrow.fs.FileSelector(self.path(), recursive=True, allow_not_found=True)
        try:
            listed = patiently(lambda: self._fs.get_file_info(selector))
        except OSError as error:
            raise explain(error, self.location, "list") from error
        found = [info for info in listed if info.type == pyarrow.fs.FileType.File]
        skipped = len(self.path().rstrip("/")) + 1
        return sorted(((info.path[skipped:], info) for info in found), key=lambda pair: pair[0])

    def open(self, name: str, *, whole: bool = False) -> pa.NativeFile:
        """A random-access reader; memory-mapped where the disk is local.

        Args:
            name: of the file.
            whole: most of it will be read: in a bucket a file of at most `AT_ONCE` bytes is fetched by one request.

        Raises:
            StorageError: it is not there, or can't be opened.
        """
        try:
            if self.is_local and self._fs.get_file_info(self.path(name)).size:
                return pa.memory_map(self.path(name), "r")
            stream = _open(self._fs, self.path(name))
            return _at_once(stream) if whole and not self.is_local else stream
        except OSError as error:
            raise explain(error, f"{self.location}/{name}", "read") from error

    def read(self, name: str) -> bytes:
        try:
            with self.open(name) as stream:
                return stream.read()
        except OSError as error:
            raise explain(error, f"{self.location}/{name}", "read") from error

    def write(self, name: str, data: bytes) -> Written:
        """Make a file with these bytes appear, whole or not at all. An existing one is replaced."""
        return self.create(lambda sink: sink.write(data), lambda _: name)

    def create(
        self,
        fill: Callable[[HashingSink], object],
        name: Callable[[str], str],
        *,
        durable: bool = True,
        hashed: bool = True,
    ) -> Written:
        """Write with `fill(sink)`, then give the file the name `name(sha256 of its bytes)`.

        Args:
            fill: writes the content.
            name: the file's final name, from the SHA-256 of its bytes in hexadecimal.
            durable: flush it to the disk before it gets its name; False where `flush` comes before anyone is told
                of the file, or where losing it costs only time.
            hashed: False where nobody needs the SHA-256: `name` gets "" then.

        Raises:
            StorageError: if the disk is full or the place may not be written; no trace is left.
        """
        self._ask()
        if self.is_object_store:
            return self._put(fill, name, hashed=hashed)
        temporary = ending.temporary_name()
        try:
            self._fs.create_dir(self._root, recursive=True)
            with ending.making(self.path(temporary)):
                opened = self._fs.open_output_stream(self.path(temporary))
            with opened as stream:
                sink = HashingSink(stream, hashed=hashed)
                fill(sink)
            if self.is_local:
                _flush_to_disk(self.path(temporary)) if durable else _begin_to_flush(self.path(temporary))
            final = name(sink.sha256)
            if "/" in final:
                self._fs.create_dir(os.path.dirname(self.path(final)), recursive=True)
            self._move(temporary, final)
        except OSError as error:
            raise explain(error, f"{self.location}", "write") from error
        finally:
            with suppress(OSError):
                if self._fs.get_file_info(self.path(temporary)).type != pyarrow.fs.FileType.NotFound:
                    self._fs.delete_file(self.path(temporary))
            ending.done(self.path(temporary))
        return Written(name=final, num_bytes=sink.num_bytes, sha256=sink.sha256)

    def _put(self, fill: Callable[[HashingSink], object], name: Callable[[str], str], *, hashed: bool) -> Written:
        """`create` in a bucket: one request up to some size, the parts of a larger one; then it is there, whole."""
        try:
            with tempfile.SpooledTemporaryFile(HELD_BYTES) as held:
                sink = HashingSink(held, hashed=hashed)
                fill(sink)
                final = name(sink.sha256)
                patiently(lambda: self._send(held, final))
        except OSError as error:
            raise explain(error, self.location, "write") from error
        return Written(name=final, num_bytes=sink.num_bytes, sha256=sink.sha256)

    def _send(self, held: Any, name: str) -> None:
        num_bytes = held.seek(0, os.SEEK_END)
        held.seek(0)
        if self._place.scheme == "s3" and num_bytes >= amazon.ARROWS_PART_BYTES and amazon.is_installed():
            amazon.upload(self._place, self.path(name), held, num_bytes)
            return
        with _refused_as_os_error(), self._fs.open_output_stream(self.path(name)) as stream:
            while data := held.read(HELD_BYTES):
                stream.write(data)

    def flush(self) -> None:
        """Make all that was written here survive a loss of power: once for many files, before they are named."""
        if self.is_local and self.exists():
            _flush_file_system(self._root)

    def clear(self) -> None:
        """Delete what crashes have left here: temporary files that no living process owns; see `ending`."""
        if self.is_local:
            ending.clear(self.path())

    def delete(self, name: str) -> None:
        """Remove a file; an absent one is a success."""
        try:
            with suppress(FileNotFoundError):
                patiently(lambda: self._fs.delete_file(self.path(name)))
        except OSError as error:
            raise explain(error, f"{self.location}/{name}", "delete") from error

    def _move(self, source: str, target: str) -> None:
        try:
            if self.is_local:
                os.replace(self.path(source), self.path(target))
            else:
                self._fs.move(self.path(source), self.path(target))
        except FileNotFoundError:
            # A retried rename, as on a network's disk: the first attempt did it.
            if not self.exists(target):
                raise


def write_file(location: str, data: bytes) -> Written:
    """Make a file that a user has named, by path or URI, appear with these bytes, whole or not at all.

    Raises:
        StorageError: if it can't be written, or a bucket is named and no file in it.
    """
    folder, name = os.path.split(os.path.abspath(location))
    if "://" in location:
        place = parse(location)
        above, slash, name = place.path.rpartition("/")
        if not slash or not name:
            raise StorageError(hidden(f"{location}: names no file: put its name behind it"))
        folder = str(place.at(above))
    return Folder(folder).write(name, data)


def open_input(path: str, *, whole: bool = False) -> BinaryIO | pa.NativeFile:
    """Open one input file, by path or URI, for reading from any place.

    Args:
        path: or URI.
        whole: all of it will be read: in a bucket a file of at most `AT_ONCE` bytes is fetched by one request.

    Raises:
        InputError: it can't be opened.
    """
    try:
        if "://" in path:
            place = parse(path)
            stream = _open(place.open(), place.path)
            return _at_once(stream) if whole and not isinstance(stream, pa.MemoryMappedFile) else stream
        return pa.OSFile(path, "rb")
    except OSError as error:
        raise InputError(str(explain(error, path, "read"))) from error
    except StorageError as error:
        raise InputError(str(error)) from error


@contextlib.contextmanager
def _refused_as_os_error() -> Iterator[None]:
    """Arrow tells some refusals of a store ("invalid argument") by an error that is none of the operating system."""
    try:
        yield
    except pa.ArrowInvalid as error:
        raise OSError(str(error)) from error


def _open(fs: pyarrow.fs.FileSystem, path: str) -> pa.NativeFile:
    """A random-access reader; in Google's storage, of a file of at most `AT_ONCE` bytes, one of a copy in memory.

    Its random-access reader in Arrow 25.0 holds Python's lock while it waits for the first bytes, so that each
    opened file would stop every thread of the process for as long as a request takes. Its stream does not.
    """
    if isinstance(fs, pyarrow.fs.GcsFileSystem):
        info = fs.get_file_info(path)
        if info.type == pyarrow.fs.FileType.File and info.size <= AT_ONCE:
            data = bytearray(info.size)
            num_read, view = 0, memoryview(data)
            with fs.open_input_stream(path) as stream:
                while num_read < info.size:
                    count = stream.readinto(view[num_read:])
                    if not count:
                        raise OSError(f"{num_read} of {info.size} bytes came, then the connection was cut")
                    num_read += count
            return pa.BufferReader(pa.py_buffer(data))
    stream = patiently(lambda: fs.open_input_file(path))
    return patient(stream) if isinstance(fs, pyarrow.fs.S3FileSystem) else stream


def _at_once(stream: pa.NativeFile) -> pa.NativeFile:
    """A reader of a copy in memory, if the file is small enough."""
    if stream.size() > AT_ONCE or isinstance(stream, pa.BufferReader):
        return stream
    with stream:
        return pa.BufferReader(stream.read_buffer())


def read_input(path: str) -> bytes:
    """All bytes of a file that a configuration names, by path or URI.

    Raises:
        InputError: it can't be read.
    """
    with open_input(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise InputError(str(explain(error, path, "read"))) from error


def file_info(path: str) -> pyarrow.fs.FileInfo:
    """What is known of an input file, by path or URI; its type is NotFound where there is none.

    Raises:
        InputError: if the place can't be looked at.
    """
    try:
        place = parse(path)
        fs = place.open()
        return patiently(lambda: fs.get_file_info(place.path))
    except OSError as error:
        raise InputError(str(explain(error, path, "read"))) from error
    except StorageError as error:
        raise InputError(str(error)) from error


def stat_identity(info: pyarrow.fs.FileInfo) -> str:
    """Size and time of the last change: another file where it differs."""
    return f"{info.size}-{info.mtime_ns}"


def stat_facts(path: str) -> tuple[object, ...]:
    """What changes when an input file is written to: on a disk also its inode and the time of the inode's last change,
    which nobody can set back. Nothing of a file that is not there.

    Raises:
        InputError: if the place can't be looked at.
    """
    if "://" in path:
        info = file_info(path)
        return info.size, info.mtime_ns
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InputError(str(explain(error, path, "read"))) from error
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev


def input_hash(path: str) -> str:
    """SHA-256 of an input file's bytes, in hexadecimal.

    Raises:
        InputError: it can't be read.
    """
    hasher = hashlib.sha256()
    with open_input(path, whole=True) as stream:
        try:
            while data := stream.read(READ_BYTES):
                hasher.update(data)
        except OSError as error:
            raise InputError(str(explain(error, path, "read"))) from error
    return hasher.hexdigest()


def explain(error: OSError, place: str, verb: str) -> StorageError:
    """An OSError as one line that says what to do."""
    number = error.errno
    if number is None and "errno 28" in str(error):
        number = errno.ENOSPC
    reason = {
        errno.ENOSPC: "the disk is full: make room or choose another output folder",
        errno.EDQUOT: "the disk quota is used up: make room or choose another output folder",
        errno.EACCES: "permission denied: check the owner and the mode",
        errno.EROFS: "the file system is read-only: choose another folder",
        errno.ENOENT: "no such file or folder",
        errno.EISDIR: "a folder has this name: choose another place",
        errno.ENOTDIR: "a part of the path is a file, not a folder: choose another",
    }.get(number or 0)
    said = " ".join(str(error).split())
    if _IN_A_BUCKET.search(place):
        reason = next((told for words, told in _TOLD if re.search(words, said, re.IGNORECASE)), reason)
    reason = reason or said
    if reason in _SHOW_WHY:
        reason = f"{reason} ({said})"
    return StorageError(hidden(f"{place}: can't {verb}: {reason}"))


_IN_A_BUCKET = re.compile(r"\b(?:s3|gs|gcs|abfss?|hdfs)://")

# What the clients of buckets say, and what to do about it.
_TOLD = (
    (
        r"NO_SUCH_BUCKET|bucket .*(does not|doesn't) exist|bucket.*not found",
        "no such bucket: make it, or mend its name",
    ),
    (
        r"INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|InvalidAccessKeyId|SignatureDoesNotMatch|EXPIRED_TOKEN|ExpiredToken"
        r"|INVALID_TOKEN|InvalidToken|TokenRefreshRequired|UNAUTHENTICATED|UNRECOGNIZED_CLIENT|HTTP.*\b401\b"
        r"|HTTP status 400\) during Head",  # the answer to HEAD says no more: S3 gives it of a token that has expired
        "the credentials are not valid: check them, or sign in again",
    ),
    (
        r"ACCESS.?DENIED|PERMISSION.?DENIED|HTTP.*\b403\b|Forbidden",
        "access denied: check the credentials and the bucket's policy",
    ),
    (r"REQUEST_TIME_TOO_SKEWED", "this machine's clock is wrong: set it"),
    (r"\b301\b|PermanentRedirect|AuthorizationHeaderMalformed", "the bucket is in another region: set AWS_REGION"),
    # These two before the next one: Google's client calls whatever it has tried in vain "unavailable".
    (
        r"SLOW_?DOWN|THROTTL|TOO_?MANY_?REQUESTS|RateLimitExceeded|HTTP.*\b429\b",
        "the store asks for fewer requests: try again later, or with fewer workers",
    ),
    (
        r"INTERNAL_?(FAILURE|ERROR)|SERVICE.?UNAVAILABLE|BackendError|HTTP.*\b50[0-4]\b",
        "the store fails, after several attempts: try again later",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|Couldn't connect|Could not connect|Failed to connect|Couldn't resolve|UNAVAILABLE"
        r"|CURL error|timed out|connection was cut|Timeout was reached|Retry policy exhausted|Deadline exceeded",
        "the store does not answer, after several attempts: check the network and the endpoint",
    ),
)
_SHOW_WHY = frozenset(told for _, told in _TOLD)


_WRITE = 2  # SYNC_FILE_RANGE_WRITE of Linux: start, and don't wait


def _flush_file_system(path: str) -> None:
    """syncfs(2) where the C library has it: one call costs as much as a few fsyncs, and covers the folders too."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise explain(OSError(number, os.strerror(number)), path, "write")
    finally:
        os.close(descriptor)


def _begin_to_flush(path: str) -> None:
    """sync_file_range(2) where the C library has it: the disk writes meanwhile, so `flush` has less to do."""
    if (begin := getattr(ctypes.CDLL(None), "sync_file_range", None)) is None:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        begin(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_WRITE))
    finally:
        os.close(descriptor)


def _flush_to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
