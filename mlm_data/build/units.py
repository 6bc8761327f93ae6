"""From globs to units: what there is to read, and how it is shared out.

    inputs -> files, sorted by source -> slices (parts that can be read alone) -> units (about unit_bytes each)

A file's *source* is its path below the part of the glob that has no wildcards, after the input's `name`: the same on
every machine. Large files that can be cut are cut every unit_bytes, and each piece is a unit. Small ones are grouped in
the order of their sources, so that one new file changes one unit and not all that follow:

    sources    a  b  c  d  e  f  g       a group ends behind a file whose source hashes to 0 mod m (here c, f)
    groups    [a  b  c][d  e  f][g]      and one above unit_bytes is cut behind its file of the smallest hash, and so on

Both borders depend on the files around them alone. With m = unit_bytes / mean size a group has about unit_bytes
before it is cut. unit_bytes is total / 64, between 1 and 64 MiB; it and m are fixed in a dataset's first manifest.
The number of workers never enters.
"""

import codecs
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from mlm_data.config import BuildConfig, InputSettings
from mlm_data.errors import ConfigError, InputError
from mlm_data.hashing import hash_bytes
from mlm_data.stores.folder import explain, open_input, stat_identity
from mlm_data.text.arrow_footer import MAGIC
from mlm_data.text.reading import check_encoding, find_encoding
from mlm_data.text.tables import check_columns
from mlm_data.types import Slice, Unit

T = TypeVar("T")

UNITS_WANTED = 64
MIN_UNIT_BYTES, MAX_UNIT_BYTES = 1 << 20, 64 << 20
HEAD_BYTES = 512
READERS = 16  # files looked at side by side: each costs one round trip to a bucket

COMPRESSIONS = {"gz": "gzip", "zst": "zstd", "bz2": "bzip2", "xz": "xz"}
FORMATS = {"jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl", "parquet": "parquet"}
FORMATS |= {"arrow": "arrow", "feather": "arrow", "ipc": "arrow", "arrows": "arrow"}
TEXTS = {"txt", "text", "md", "markdown", "rst", "adoc", "org", "tex", "log", "wiki"}

_MAGICS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"))
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # a zstd stream may begin with such a frame
_TOKEN = re.compile(r"\*+|\?|\[!?[^/]+?\]|.", re.DOTALL)  # of one part of a glob
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file to read."""

    input: int  # which of the configuration's inputs
    source: str
    path: str  # or URI
    format: str  # text | jsonl | parquet | arrow
    compression: str  # "" | gzip | zstd | bzip2 | xz
    num_bytes: int
    identity: str  # changes when the file changes; enters cache keys, never digests
    parts: int = 1  # row groups of parquet, record batches of an Arrow file
    can_split: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build reads. The same inputs give the same plan, wherever they lie."""

    units: tuple[Unit, ...]
    unit_bytes: int
    group_modulus: int
    warnings: tuple[str, ...]
    files: tuple[InputFile, ...]  # empty ones too, in order of their sources

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


def plan_units(config: BuildConfig, *, unit_bytes: int | None = None, group_modulus: int | None = None) -> Plan:
    """Find the files and share them out.

    Args:
        unit_bytes, group_modulus: those of a dataset's first manifest, so that its units stay as they are.

    Raises:
        ConfigError: two files with one source, an unknown encoding.
        InputError: no file matches, none can be read, or all are empty.
    """
    files, warnings = find_files(config)
    full = [file for file in files if file.num_bytes and file.parts]
    empty = [file.source for file in files if not (file.num_bytes and file.parts)]
    if not full:
        raise InputError(f"nothing to read: {_some(empty)} {'is' if len(empty) == 1 else 'are'} empty")
    if empty:
        warnings = [*warnings, f"{len(empty)} empty file{'s' * (len(empty) > 1)} skipped: {_some(empty)}"]
    if unit_bytes is None:
        total = sum(file.num_bytes for file in full)
        unit_bytes = config.unit_bytes or min(MAX_UNIT_BYTES, max(MIN_UNIT_BYTES, total // UNITS_WANTED))
    large = [file for file in full if file.can_split and file.num_bytes > unit_bytes]
    small = [file for file in full if not (file.can_split and file.num_bytes > unit_bytes)]
    if group_modulus is None:
        group_modulus = max(1, unit_bytes * len(small) // max(1, sum(file.num_bytes for file in small)))
    groups = [[_slice(file, 0, None) for file in group] for group in group_files(small, unit_bytes, group_modulus)]
    groups += [[piece] for file in large for piece in split_file(file, unit_bytes)]
    groups.sort(key=lambda group: (group[0].source, group[0].start))
    units = tuple(Unit(index=i, slices=tuple(group)) for i, group in enumerate(groups))
    return Plan(
        units=units, unit_bytes=unit_bytes, group_modulus=group_modulus, warnings=tuple(warnings), files=tuple(files)
    )


def find_files(config: BuildConfig) -> tuple[list[InputFile], list[str]]:
    """The files of all inputs, sorted by source, and warnings for the plan.

    Raises:
        ConfigError, InputError: see `plan_units`.
    """
    found: dict[str, tuple[int, str]] = {}
    infos: list[tuple[int, str, _Found]] = []
    warnings = []
    for number, settings in enumerate(config.inputs):
        _check(settings, number)
        for item in _expand(settings.path, number):
            source = f"{settings.name}/{item.relative}" if settings.name else item.relative
            other, path = found.setdefault(source, (number, item.path))
            if path != item.path:
                raise ConfigError(
                    f"inputs.{number}: {item.path} and {path} would both be called {source!r}: "
                    f"give inputs.{number} or inputs.{other} a `name:`"
                )
            if other != number:
                warnings.append(f"{source}: matched by inputs.{other} and inputs.{number}; read once, as the former")
                continue
            infos.append((number, source, item))
    with ThreadPoolExecutor(READERS) as pool:
        files = list(pool.map(lambda info: _look(config, *info), infos))
    return sorted(files, key=lambda file: file.source), warnings


def group_files(files: Sequence[InputFile], unit_bytes: int, modulus: int) -> list[list[InputFile]]:
    """Runs of files, each one unit: see the module's rule."""
    runs: list[list[InputFile]] = [[]]
    hashes = {file.source: hash_bytes(file.source.encode()) for file in files}
    for file in files:
        runs[-1].append(file)
        if hashes[file.source] % modulus == 0:
            runs.append([])
    todo, groups = [run for run in reversed(runs) if run], []
    while todo:
        run = todo.pop()
        if len(run) < 2 or sum(file.num_bytes for file in run) <= unit_bytes:
            groups.append(run)
            continue
        cut = 1 + min(range(len(run) - 1), key=lambda i: hashes[run[i].source])
        todo += [run[cut:], run[:cut]]
    return groups


def split_file(file: InputFile, unit_bytes: int) -> list[Slice]:
    """Slices of about unit_bytes; a last piece below half of that goes with the one before."""
    if file.format in ("parquet", "arrow"):
        step = max(1, unit_bytes * file.parts // file.num_bytes)
        end = file.parts
    else:
        step, end = unit_bytes, file.num_bytes
    borders = [*range(0, max(1, end - step // 2), step), end]
    return [_slice(file, first, last) for first, last in pairwise(borders)]


def _slice(file: InputFile, start: int, end: int | None) -> Slice:
    has_parts = file.format in ("parquet", "arrow")
    whole = file.parts if has_parts else file.num_bytes
    end = whole if end is None else end
    num_bytes = file.num_bytes * end // whole - file.num_bytes * start // whole if has_parts else end - start
    return Slice(
        input=file.input,
        source=file.source,
        path=file.path,
        format=file.format,
        compression=file.compression,
        start=start,
        end=end,
        num_bytes=num_bytes,
        identity=file.identity,
    )


@dataclass(frozen=True)
class _Found:
    relative: str
    path: str
    info: pyarrow.fs.FileInfo


def _check(settings: InputSettings, number: int) -> None:
    check_encoding(settings.encoding)
    if settings.format == "text" and (settings.id_field is not None or settings.keep_fields):
        raise ConfigError(f"inputs.{number}: text has no fields: leave out id_field and keep_fields")


def _expand(pattern: str, number: int) -> list[_Found]:
    """The files that a glob names, with their paths below its static part."""
    place = f"inputs.{number}.path: {pattern}"
    try:
        scheme, separator, name = pattern.rpartition("://")
        if separator:
            fs, _ = pyarrow.fs.FileSystem.from_uri(f"{scheme}://{quote(_static_root(name) or name)}")
        else:
            fs, name = pyarrow.fs.LocalFileSystem(), os.path.abspath(pattern)
        info = fs.get_file_info(name)
        if info.type == pyarrow.fs.FileType.File:
            return [_Found(info.base_name, f"{scheme}://{quote(name)}" if scheme else name, info)]
        if info.type == pyarrow.fs.FileType.Directory:
            raise InputError(f"{place} is a folder: write {pattern.rstrip('/')}/** for all files in it")
        if not _WILD.search(name):
            raise InputError(f"{place}: no such file")
        root = _static_root(name)
        below = name[len(root) :].lstrip("/")
        matches = _glob_pattern(below).fullmatch
        found = []
        for item in _walk(fs, root or "/", below.split("/")):
            relative = item.path[len(root) :].lstrip("/")
            if matches(relative):
                path = f"{scheme}://{quote(item.path)}" if scheme else item.path
                found.append(_Found(relative, path, item))
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: a name in that folder is not UTF-8: rename it, or write a narrower glob") from error
    except (OSError, pa.ArrowInvalid) as error:
        reason = explain(error, place, "list") if isinstance(error, OSError) else f"{place}: {error}"
        raise InputError(str(reason)) from error
    if not found:
        raise InputError(f"{place}: no file matches")
    return sorted(found, key=lambda item: item.relative)


def _static_root(path: str) -> str:
    """The folder that holds everything a glob can match."""
    wild = _WILD.search(path)
    return path[: path.rfind("/", 0, wild.start())] if wild else os.path.dirname(path)


def _glob_pattern(glob: str) -> re.Pattern[str]:
    """A glob as an expression: `*` and `?` stay in one folder, `**` crosses them; none matches a leading dot."""
    folders = "(?:[^/.][^/]*/)*"
    out = []
    for part in glob.split("/"):
        if part == "**":
            out.append(folders)
            continue
        out.append(("(?!\\.)" if part[:1] in ("*", "?", "[") else "") + _TOKEN.sub(_token_pattern, part) + "/")
    if glob.endswith("**"):
        out.append("[^/.][^/]*/")
    return re.compile("".join(out).removesuffix("/"))


def _token_pattern(token: re.Match[str]) -> str:
    text = token[0]
    if text[0] == "[" and len(text) > 2:
        return "[" + re.sub("^!", "^", text[1:-1]).replace("\\", r"\\") + "]"
    return {"*": "[^/]*", "?": "[^/]"}.get(text[0]) or re.escape(text)


def _walk(fs: pyarrow.fs.FileSystem, folder: str, parts: list[str]) -> Iterator[pyarrow.fs.FileInfo]:
    """The files below a folder that may match the parts of a glob; links to folders are followed, but not by `**`."""
    is_local = isinstance(fs, pyarrow.fs.LocalFileSystem)
    is_deep = parts[0] == "**"
    is_last = len(parts) == 1
    if is_deep and not is_local:
        # One listing of everything is one request for a thousand files.
        items = fs.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True))
        yield from (item for item in items if item.type == pyarrow.fs.FileType.File)
        return
    matches = _glob_pattern("*" if is_deep else parts[0]).fullmatch
    for item in fs.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True)):
        if item.type == pyarrow.fs.FileType.File:
            if is_last or is_deep:
                yield item
        elif not matches(item.base_name):
            continue
        elif is_deep:
            if not os.path.islink(item.path):
                yield from _walk(fs, item.path, parts)
        elif not is_last:
            yield from _walk(fs, item.path, parts[1:])


def _look(config: BuildConfig, number: int, source: str, item: _Found) -> InputFile:
    """What a file is, from its name and its first bytes."""
    settings = config.inputs[number]
    num_bytes = item.info.size
    file = InputFile(
        input=number, source=source, path=item.path, format="", compression="", num_bytes=num_bytes, identity=""
    )
    if not num_bytes:
        return replace(file, format=settings.format.replace("auto", "text"), identity="empty")
    with open_input(item.path) as stream:
        head = _reading(item.path, lambda: stream.read(HEAD_BYTES))
        compression = _compression(source, head)
        kind = settings.format
        if kind == "auto":
            kind = _format(source, head, compression, item.path)
        identity = stat_identity(item.info)
        if config.cache.identity == "content":
            identity = _reading(item.path, lambda: _content_hash(stream))
        file = replace(file, format=kind, compression=compression, identity=identity)
        if kind in ("parquet", "arrow"):
            if compression:
                raise InputError(f"{item.path}: a {kind} file can't be read through {compression}: unpack it first")
            parts = _count_parts(stream, kind, settings, item.path)
            is_stream = kind == "arrow" and not head.startswith(MAGIC)
            return replace(file, parts=parts, can_split=parts > 1 and not is_stream)
    if not compression:
        units, _ = find_encoding(head[:4], settings.encoding)
        is_cut = kind == "jsonl" or settings.documents != "file"
        file = replace(file, can_split=is_cut and units.width == 1)
    return file


def _compression(source: str, head: bytes) -> str:
    """By name, or else by what the file begins with."""
    named = COMPRESSIONS.get(source.rpartition(".")[2].lower(), "")
    if named:
        return named
    if _SKIPPABLE.match(head):
        return "zstd"
    return next((name for magic, name in _MAGICS if head.startswith(magic)), "")


def _format(source: str, head: bytes, compression: str, path: str) -> str:
    names = os.path.basename(source).lower().split(".")
    if names[-1] in COMPRESSIONS:
        names.pop()
    extension = names[-1] if len(names) > 1 else ""
    if extension in FORMATS:
        return FORMATS[extension]
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((MAGIC, b"\xff\xff\xff\xff")):
        return "arrow"
    is_wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    if not compression and extension not in TEXTS and b"\0" in head and not is_wide:
        raise InputError(f"{path}: not a format that is known: set the input's `format:`, or leave the file out")
    return "text"


def _count_parts(stream: pa.NativeFile, kind: str, settings: InputSettings, path: str) -> int:
    try:
        stream.seek(0)
        if kind == "parquet":
            file = pq.ParquetFile(stream)
            check_columns(file.schema_arrow, settings, path)
            return file.metadata.num_row_groups
        is_file = stream.read(len(MAGIC)) == MAGIC
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
        check_columns(reader.schema, settings, path)
        return reader.num_record_batches if is_file else 1
    except (pa.ArrowException, OSError) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: can't read this {kind} file: {message}") from error


def _content_hash(stream: pa.NativeFile) -> str:
    stream.seek(0)
    hasher = hashlib.sha256()
    while data := stream.read(1 << 20):
        hasher.update(data)
    return hasher.hexdigest()


def _reading(path: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except OSError as error:
        raise InputError(str(explain(error, path, "read"))) from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
