"""What the rest of the library knows of a format of input files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from mlm_data.config import InputSettings
from mlm_data.types import Documents, Slice


class Read(Protocol):
    """Reads a slice as documents, in batches of about `batch_bytes` of text.

    With `replace`, bytes that are no UTF-8 become U+FFFD; otherwise their document is quarantined, `bad_utf8`.

    Raises:
        InputError: the file can't be opened or read.
    """

    def __call__(
        self, piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool
    ) -> Iterator[Documents]: ...


class CountParts(Protocol):
    """The number of parts of a file that can be read alone, from its metadata; the stream stands at its first byte.

    Raises:
        InputError: no column holds the text.
        pyarrow.ArrowException, OSError: the file is damaged.
    """

    def __call__(self, stream: pa.NativeFile, settings: InputSettings, path: str) -> int: ...


class CheckHead(Protocol):
    """Looks at the first bytes of a file, decompressed.

    Raises:
        InputError: the file has not what the settings want, a column for example.
    """

    def __call__(self, head: bytes, settings: InputSettings, path: str) -> None: ...


def _accept(head: bytes, settings: InputSettings, path: str) -> None:
    del head, settings, path


def _never(settings: InputSettings) -> bool:
    del settings
    return False


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of input files. Slices of it count bytes, or parts where it has parts (row groups, record batches)."""

    name: str  # as in `InputSettings.format`
    extensions: tuple[str, ...]  # lower case, without the dot
    magics: tuple[bytes, ...] = ()  # what its files begin with, any of them
    needs_magic: bool = (
        True  # whether a file that is called so and begins otherwise is refused, not read as far as it goes
    )
    settings: frozenset[str]  # fields of InputSettings that mean something here
    takes_compression: bool = True  # whether it can be read through gzip and the like
    count_parts: CountParts | None = None  # None: slices count bytes
    check_head: CheckHead = _accept
    splits_at_lines: Callable[[InputSettings], bool] = _never  # whether any line end may be a slice's border
    read: Read

    @property
    def has_parts(self) -> bool:
        """Whether slices count parts, not bytes."""
        return self.count_parts is not None
