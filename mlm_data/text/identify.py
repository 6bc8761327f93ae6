"""What a file is: bytes decide before names, and what the input says before both where the bytes leave it open.

    first bytes    a compression; an archive or a binary, which is refused; Parquet, Arrow
    `format:`      if it is set; first bytes that say otherwise are an error
    the name       its extension; of .json the content says which kind of JSON
    the content    of files without a known name: see `sniff`

Under compression the same holds for what is inside. Only the first 64 KiB of a file are read.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa

from mlm_data.config import InputSettings
from mlm_data.errors import InputError
from mlm_data.stores.folder import explain, input_hash, open_input, stat_identity
from mlm_data.text import compression
from mlm_data.text.encodings import find_encoding
from mlm_data.text.find import Found
from mlm_data.text.formats import BY_EXTENSION, FORMATS
from mlm_data.text.formats.record import Format
from mlm_data.text.guess_encoding import escaped_encoding, wide_without_mark
from mlm_data.text.magic import find_foreign
from mlm_data.text.sniff import AS_SAID, BY_BYTES, BY_NAME, Why, count_objects, sniff, sniff_json
from mlm_data.text.tables import first_line
from mlm_data.text.tails import TAIL_BYTES, is_cut
from mlm_data.text.utf8 import is_no_text

T = TypeVar("T")

HEAD_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """One file to read."""

    input: int  # which of the configuration's inputs
    source: str
    path: str  # or URI
    format: str  # a key of FORMATS
    compression: str  # a key of CODECS, or ""
    num_bytes: int
    identity: str  # changes when the file changes; enters cache keys, never digests
    parts: int = 1  # of a format that has parts: row groups of Parquet, record batches of an Arrow file
    can_split: bool = False
    is_cut: bool = False  # a compressed file that certainly lacks its end
    why: Why = BY_NAME  # it is read as this format
    compression_why: str = ""  # where the name is silent about it, or wrong
    warnings: tuple[str, ...] = ()  # each the same for all files that it holds for


def identify(settings: InputSettings, number: int, source: str, item: Found, *, by_content: bool) -> InputFile:
    """Look at a file that an input names.

    Args:
        settings, number: the input, and which one it is.
        source: the file's name in the dataset.
        item: the file.
        by_content: whether its identity is the hash of its bytes.

    Raises:
        InputError: the file can't be read, or not as what it is.
    """
    num_bytes = item.info.size
    file = InputFile(
        input=number, source=source, path=item.path, format="", compression="", num_bytes=num_bytes, identity=""
    )
    if not num_bytes:
        return replace(file, format=settings.format.replace("auto", "text"), identity="empty")
    with open_input(item.path) as stream:
        raw = _reading(item.path, lambda: stream.read(HEAD_BYTES))
        codec = compression.by_magic(raw)
        head = compression.decompressed_head(raw, codec, HEAD_BYTES) if codec else raw
        extension, named = _extension(source)
        file = replace(file, **_compression(codec, named))
        _refuse_foreign(raw, "", settings, item.path)
        if codec:
            _refuse_foreign(head, codec, settings, item.path)
        is_whole = not codec and len(raw) == num_bytes
        kind, why, warnings = _format(head, is_whole, extension, settings, item.path)
        if codec and not kind.takes_compression:
            raise InputError(f"{item.path}: a {kind.name} file can't be read through {codec}: unpack it first")
        identity = stat_identity(item.info)
        if by_content:
            identity = input_hash(item.path)
        file = replace(file, format=kind.name, why=why, identity=identity, warnings=(*file.warnings, *warnings))
        if codec:
            tail = _reading(item.path, lambda: _tail(stream, num_bytes))
            file = replace(file, is_cut=is_cut(codec, raw, tail, num_bytes))
        if kind.has_parts:
            parts = _count_parts(stream, kind, settings, item.path)
            return replace(file, parts=parts, can_split=parts > 1)
    kind.check_head(head, settings, item.path)
    if not codec:
        units, _ = find_encoding(head[:4], settings.encoding)
        file = replace(file, can_split=kind.splits_at_lines(settings) and units.width == 1)
    return file


def _extension(source: str) -> tuple[str, str]:
    """(the extension that names a format, the compression that another one behind it names), "" for none."""
    names = os.path.basename(source).lower().split(".")
    named = compression.BY_EXTENSION.get(names[-1], "") if len(names) > 1 else ""
    if named:
        names.pop()
    return names[-1] if len(names) > 1 else "", named


def _compression(codec: str, named: str) -> dict[str, Any]:
    if codec == named:
        return {"compression": codec}
    if not codec:
        return {
            "compression_why": f"not {named}, though its name says so",
            "warnings": (f"its name says {named}, but its first bytes are not those of {named}: read as it is",),
        }
    silent = f", though its name says {named}" if named else ""
    return {"compression": codec, "compression_why": f"by its first bytes{silent}"}


def _refuse_foreign(head: bytes, codec: str, settings: InputSettings, path: str) -> None:
    foreign = find_foreign(head)
    around = f"{codec} around " if codec else ""
    if foreign and not (foreign.is_text and settings.format == "text"):
        raise InputError(f"{path}: {around}{foreign.name}: {foreign.remedy.format(path=path)}")
    if codec and (inner := compression.by_magic(head)):
        raise InputError(f"{path}: {codec} around {inner}: unpack it once first")


def _format(
    head: bytes, is_whole: bool, extension: str, settings: InputSettings, path: str
) -> tuple[Format, Why, tuple[str, ...]]:
    """(format, why, warnings) of a file whose decompressed beginning is `head`."""
    by_magic = next((kind for kind in FORMATS.values() if head.startswith(kind.magics)), None)
    said = FORMATS.get(settings.format) or BY_EXTENSION.get(extension)
    is_set = settings.format != "auto"
    who = f"format: {settings.format} is set" if is_set else f"its name says {said.name}" if said else ""
    if by_magic:
        if is_set and said is not by_magic:
            raise InputError(
                f"{path}: {who}, but its first bytes are those of a {by_magic.name} file: set format: {by_magic.name}"
            )
        other = f", though its name says {said.name}" if said and said is not by_magic else ""
        return by_magic, Why(BY_BYTES.rule + other), ()
    if said and said.magics and said.needs_magic:
        shown = head[:16].decode("ascii", "backslashreplace").encode("unicode_escape").decode()
        remedy = "take `format:` away" if is_set else "rename it, or set `format:`"
        raise InputError(f"{path}: {who}, but its first bytes are none of a {said.name} file ({shown}): {remedy}")

    units, codec = find_encoding(head[:4], settings.encoding)
    warnings = _encoding_warnings(head) if codec == "utf-8" and not units.mark else ()
    if said and is_set:
        return said, AS_SAID, warnings
    text = (
        head[len(units.mark) :].decode(codec, "replace").encode(errors="replace")
        if codec != "utf-8"
        else head[len(units.mark) :]
    )
    if said is None:
        if is_no_text(text) and not warnings:
            raise InputError(f"{path}: not a format that is known: set the input's `format:`, or leave the file out")
        name, why = sniff(text, is_whole=is_whole)
        return FORMATS[name], why, warnings
    if said.name in ("json", "jsonl"):
        name, why = sniff_json(text, is_whole=is_whole, name=said.name)
        return FORMATS[name], why, warnings
    if said.name == "text":
        hits, lines = count_objects(text, is_whole=is_whole)
        if hits * 2 > lines and lines > 1:
            warnings += ("read as text, by its name, but its lines are JSON objects: set format: jsonl",)
    return said, BY_NAME, warnings


def _encoding_warnings(head: bytes) -> tuple[str, ...]:
    """What a file that would be read as UTF-8 looks like instead."""
    if escaped := escaped_encoding(head):
        remedy = f"set encoding: {escaped}" if escaped == "iso2022_jp" else "convert it to UTF-8 first, with iconv"
        return (f"looks like {escaped} by its escapes, and would be read as ASCII: {remedy}",)
    if is_no_text(head) or not _is_utf8(head):
        wide = wide_without_mark(head)
        if wide:
            return (f"looks like {wide} without a byte order mark: set encoding: {wide}",)
    return ()


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.end == len(head) and error.reason == "unexpected end of data"
    return True


def _count_parts(stream: pa.NativeFile, kind: Format, settings: InputSettings, path: str) -> int:
    assert kind.count_parts is not None
    try:
        stream.seek(0)
        return kind.count_parts(stream, settings, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: can't read this {kind.name} file: {first_line(error)}") from error


def _tail(stream: pa.NativeFile, num_bytes: int) -> bytes:
    stream.seek(max(0, num_bytes - TAIL_BYTES))
    return stream.read(TAIL_BYTES)


def _reading(path: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except OSError as error:
        raise InputError(str(explain(error, path, "read"))) from error
