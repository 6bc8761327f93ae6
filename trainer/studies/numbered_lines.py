"""The lines of a JSON Lines file: with a byte order mark or without, compressed or not, known by its first bytes."""

from collections.abc import Iterator
from pathlib import Path

from mlm_data.errors import InputError
from mlm_data.text.compression import by_magic
from mlm_data.text.streams import ByteStream
from mlm_data.types import Slice

HEAD_BYTES = 64  # enough to know a compression by


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not empty.

    Raises:
        InputError: if the file can't be read to its end, or is not UTF-8.
    """
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: can't be read: byte {error.start} is not UTF-8: convert the file") from error
    for number, line in enumerate(text.split("\n"), start=1):  # `splitlines` cuts at U+2028, too, which JSON may hold
        if line.strip():
            yield number, line


def _read(path: Path) -> bytes:
    """A file's bytes, unpacked where its first bytes show a compression."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        num_bytes = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}: name a JSONL file") from error
    whole = Slice(
        input=0,
        source=path.name,
        path=str(path),
        format="jsonl",
        compression=by_magic(head),
        start=0,
        end=num_bytes,
        num_bytes=num_bytes,
        identity="",
    )
    with ByteStream(whole) as stream:
        data = stream.read_all()
        if stream.damage:
            raise InputError(f"{path}: {stream.damage}: fetch the file again")
    return data
