"""From a glob to the files it names, on a local disk or in a bucket."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs

from mlm_data.errors import InputError
from mlm_data.stores.folder import explain

_TOKEN = re.compile(r"\*+|\?|\[!?[^/]+?\]|.", re.DOTALL)  # of one part of a glob
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Found:
    """A file that a glob names."""

    relative: str  # its path below the glob's static part
    path: str  # or URI
    info: pyarrow.fs.FileInfo


def expand(pattern: str, number: int) -> list[Found]:
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
            return [Found(info.base_name, f"{scheme}://{quote(name)}" if scheme else name, info)]
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
                found.append(Found(relative, path, item))
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
