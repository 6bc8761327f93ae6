"""What a file is, from its name and its first bytes."""

import codecs
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa

from mlm_data.config import InputSettings
from mlm_data.errors import InputError
from mlm_data.stores.folder import explain, open_input, stat_identity
from mlm_data.text import compression
from mlm_data.text.encodings import find_encoding
from mlm_data.text.find import Found
from mlm_data.text.formats import BY_EXTENSION, FORMATS
from mlm_data.text.formats.record import Format
from mlm_data.text.tables import first_line
from mlm_data.text.tails import TAIL_BYTES, is_cut

T = TypeVar("T")

HEAD_BYTES = 512


@dataclass(frozen=True, kw_only=True)
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
        head = _reading(item.path, lambda: stream.read(HEAD_BYTES))
        codec = _compression(source, head)
        kind = FORMATS[settings.format] if settings.format != "auto" else _format(source, head, codec, item.path)
        identity = stat_identity(item.info)
        if by_content:
            identity = _reading(item.path, lambda: _content_hash(stream))
        file = replace(file, format=kind.name, compression=codec, identity=identity)
        if codec:
            tail = _reading(item.path, lambda: _tail(stream, num_bytes))
            file = replace(file, is_cut=is_cut(codec, head, tail, num_bytes))
        if codec and not kind.takes_compression:
            raise InputError(f"{item.path}: a {kind.name} file can't be read through {codec}: unpack it first")
        if kind.has_parts:
            parts = _count_parts(stream, kind, settings, item.path)
            return replace(file, parts=parts, can_split=parts > 1)
    if not codec:
        units, _ = find_encoding(head[:4], settings.encoding)
        file = replace(file, can_split=kind.splits_at_lines(settings) and units.width == 1)
    return file


def _compression(source: str, head: bytes) -> str:
    """By name, or else by what the file begins with."""
    return compression.BY_EXTENSION.get(source.rpartition(".")[2].lower(), "") or compression.by_magic(head)


def _format(source: str, head: bytes, codec: str, path: str) -> Format:
    names = os.path.basename(source).lower().split(".")
    if names[-1] in compression.BY_EXTENSION:
        names.pop()
    extension = names[-1] if len(names) > 1 else ""
    if extension in BY_EXTENSION and extension not in FORMATS["text"].extensions:
        return BY_EXTENSION[extension]
    for kind in FORMATS.values():
        if head.startswith(kind.magics):
            return kind
    is_wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    if not codec and extension not in BY_EXTENSION and b"\0" in head and not is_wide:
        raise InputError(f"{path}: not a format that is known: set the input's `format:`, or leave the file out")
    return FORMATS["text"]


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
