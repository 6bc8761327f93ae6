"""From a glob to the files it names, on a local disk or in a bucket.

A path that exists as it is written wins over its reading as a glob, and so do its leading folders: in
`data [v2]/*.jsonl` only the `*` is a wildcard where there is a folder `data [v2]`. Links to files and folders are
followed. Below `**` each folder is read once, under its own name or under the first link to it: so a circle of links
ends. Links that lead nowhere, and folders that can't be listed, are left out with a warning.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs

from mlm_data.errors import InputError, StorageError
from mlm_data.stores.folder import explain
from mlm_data.stores.patience import patiently
from mlm_data.stores.places import parse

_TOKEN = re.compile(r"\*+|\?|\[!?[^/]+?\]|.", re.DOTALL)  # of one part of a glob
MAX_WARNINGS = 20  # for one input

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Found:
    """A file that a glob names."""

    relative: str  # its path below the glob's static part
    path: str  # or URI
    info: pyarrow.fs.FileInfo


def expand(pattern: str, setting: str) -> tuple[list[Found], list[str]]:
    """The files that a glob names, with their paths below its static part, in order; and warnings.

    `setting` is the name of what holds the glob, for messages.

    Raises:
        InputError: no file matches, or the place can't be looked at.
    """
    place = f"{setting}: {pattern}"
    warnings: list[str] = []
    try:
        where = parse(pattern, is_quoted=False)
        fs, name, scheme = where.open(), where.path, where.scheme
        info = patiently(lambda: fs.get_file_info(name))
        if info.type == pyarrow.fs.FileType.File:
            return [Found(info.base_name, str(where), info)], []
        if info.type == pyarrow.fs.FileType.Directory:
            raise InputError(f"{place} is a folder: write {pattern.rstrip('/')}/** for all files in it")
        if not _WILD.search(name):
            dead = _dead_link(name) if not scheme else ""
            raise InputError(f"{place}: {dead or 'no such file'}")
        root = _written_root(fs, name)
        below = name[len(root) :].lstrip("/")
        matches = _glob_pattern(below).fullmatch
        found = []
        for item in _walk(fs, root or "/", below.split("/"), warnings):
            relative = item.path[len(root) :].lstrip("/")
            if matches(relative):
                found.append(Found(relative, str(where.at(item.path)), item))
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: a name in that folder is not UTF-8: rename it, or write a narrower glob") from error
    except StorageError as error:
        raise InputError(f"{setting}: {error}") from error
    except (OSError, pa.ArrowInvalid) as error:
        reason = explain(error, place, "list") if isinstance(error, OSError) else f"{place}: {error}"
        raise InputError(str(reason)) from error
    if not found:
        raise InputError("; ".join([f"{place}: no file matches", *warnings]))
    if (more := len(warnings) - MAX_WARNINGS) > 0:
        warnings = [*warnings[:MAX_WARNINGS], f"{place}: {more} more links and folders left out"]
    return sorted(found, key=lambda item: item.relative), warnings


def _written_root(fs: pyarrow.fs.FileSystem, path: str) -> str:
    """The folder that holds everything a glob can match: its leading parts, as long as they exist as written."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        folder = "/".join(parts[: i + 1])
        if _WILD.search(part) and _type(fs, folder) != pyarrow.fs.FileType.Directory:
            return "/".join(parts[:i])
    return "/".join(parts[:-1])


def _type(fs: pyarrow.fs.FileSystem, path: str) -> pyarrow.fs.FileType:
    return patiently(lambda: fs.get_file_info(path)).type


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


def _walk(
    fs: pyarrow.fs.FileSystem, folder: str, parts: list[str], warnings: list[str]
) -> Iterator[pyarrow.fs.FileInfo]:
    """The files below a folder that may match the parts of a glob.

    In Google's storage Arrow (25.0) doesn't list folders that are only beginnings of names: there all files are listed
    below the first wildcard.
    """
    is_local = isinstance(fs, pyarrow.fs.LocalFileSystem)
    if parts[0] == "**" or (len(parts) > 1 and isinstance(fs, pyarrow.fs.GcsFileSystem)):
        yield from _walk_all(fs, folder, warnings) if is_local else _list_all(fs, folder)
        return
    matches = _glob_pattern(parts[0]).fullmatch
    is_last = len(parts) == 1
    items = [item for item in _list(fs, folder, warnings) if matches(item.base_name)]
    if is_local:
        warnings += _dead_links(folder, matches)
    for item in items:
        if item.type == pyarrow.fs.FileType.Directory:
            if not is_last:
                yield from _walk(fs, item.path, parts[1:], warnings)
        elif item.type == pyarrow.fs.FileType.File and is_last:
            yield item


def _walk_all(fs: pyarrow.fs.FileSystem, root: str, warnings: list[str]) -> Iterator[pyarrow.fs.FileInfo]:
    """The files below a local folder, none of whose names begin with a dot.

    Links wait until all that has a name of its own was seen, so that it is read under this name.
    """
    is_open = _glob_pattern("*").fullmatch
    names: dict[tuple[int, int], str] = {}  # of the folders that were listed, by device and inode
    links = deque([root])
    while links:
        folders = [links.popleft()]
        while folders:
            folder = folders.pop()
            status = os.stat(folder)
            earlier = names.setdefault((status.st_dev, status.st_ino), folder)
            if earlier != folder:
                warnings.append(f"{folder}: the same folder as {earlier}, by a link; read once, as the latter")
                continue
            warnings += _dead_links(folder, is_open)
            for item in _list(fs, folder, warnings):
                if not is_open(item.base_name):
                    continue
                if item.type == pyarrow.fs.FileType.File:
                    yield item
                elif item.type == pyarrow.fs.FileType.Directory:
                    (links if os.path.islink(item.path) else folders).append(item.path)


def _list_all(fs: pyarrow.fs.FileSystem, folder: str) -> Iterator[pyarrow.fs.FileInfo]:
    """The files below a folder in a bucket: one request for a thousand of them."""
    selector = pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True)
    items = patiently(lambda: fs.get_file_info(selector))
    yield from (item for item in items if item.type == pyarrow.fs.FileType.File)


def _list(fs: pyarrow.fs.FileSystem, folder: str, warnings: list[str]) -> list[pyarrow.fs.FileInfo]:
    """What is in a folder, in order of the names; nothing, and a warning, if it can't be listed."""
    try:
        items = patiently(lambda: fs.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True)))
    except PermissionError:
        warnings.append(f"{folder}: permission denied: what is in this folder is left out")
        return []
    return sorted(items, key=lambda item: item.base_name)


def _dead_links(folder: str, matches: Callable[[str], object]) -> list[str]:
    """A line for each link in a local folder that leads nowhere, of those whose name matches. Arrow lists none."""
    with suppress(OSError), os.scandir(folder) as entries:
        paths = sorted(entry.path for entry in entries if entry.is_symlink() and matches(entry.name))
        return [f"{path}: {_dead_link(path)}; left out" for path in paths if not os.path.exists(path)]
    return []


def _dead_link(path: str) -> str:
    """What is wrong with a local link that leads nowhere; "" if it is none."""
    return f"a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else ""
