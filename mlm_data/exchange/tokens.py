"""What readers of other tools' files hand on: documents of ids, some at a time, with the place that they came from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer

from mlm_data.errors import InputError

MOST_TOKENS = 1 << 22  # of a batch, but one document at least
INTEGERS: dict[int, np.dtype] = {2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Documents of one file, in its order. Ids are as the file has them: nothing is checked yet."""

    first: int  # number of the first document in its file
    ids: Integer[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " documents+1"]  # document d owns ids[offsets[d]:offsets[d + 1]]
    own_ids: Sequence[str] | None = None  # that the other tool gave its documents


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A file that can be read more than once, each time from its begin."""

    source: str  # its path below the folder that was named: the same on every machine
    num_bytes: int
    read: Callable[[], Iterator[TokenBatch]]


def find_files(place: Path, ending: str, what: str) -> list[tuple[str, Path]]:
    """(source, path) of the files of an ending: the one that was named, or all in a folder and below, sorted.

    Raises:
        InputError: if there is none.
    """
    if place.is_file():
        return [(place.name, place)]
    found = sorted((path.relative_to(place).as_posix(), path) for path in place.rglob(f"*{ending}") if path.is_file())
    if not found:
        raise InputError(f"{place}: no {what} there (*{ending}): name a file, or the folder that holds them")
    return found


def map_ids(path: Path, dtype: np.dtype) -> Integer[np.ndarray, " tokens"]:
    """A file of nothing but ids, memory-mapped."""
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r")


def batches(
    ids: Integer[np.ndarray, " tokens"],
    offsets: Int64[np.ndarray, " documents+1"],
    own_ids: Sequence[str] | None = None,
    *,
    first: int = 0,
) -> Iterator[TokenBatch]:
    """Documents in batches of at most `MOST_TOKENS`; what they hold is copied out of a mapped file then."""
    begin, last = 0, offsets.size - 1
    while begin < last:
        limit = offsets[begin] + MOST_TOKENS
        end = max(begin + 1, int(np.searchsorted(offsets, limit, side="right")) - 1)
        yield TokenBatch(
            first=first + begin,
            ids=np.array(ids[offsets[begin] : offsets[end]]),
            offsets=offsets[begin : end + 1] - offsets[begin],
            own_ids=None if own_ids is None else own_ids[begin:end],
        )
        begin = end


def check_ends(ends: Integer[np.ndarray, " documents"], where: str) -> Int64[np.ndarray, " documents+1"]:
    """Offsets from the ends of documents.

    Raises:
        InputError: if they don't ascend.
    """
    offsets = np.zeros(ends.size + 1, np.int64)
    if ends.size and int(ends.max()) >= 2**62:
        raise InputError(f"{where}: document {int(ends.argmax())} ends at token {int(ends.max())}: damaged")
    offsets[1:] = ends.astype(np.int64)
    if (wrong := np.flatnonzero(np.diff(offsets) < 0)).size:
        raise InputError(f"{where}: document {int(wrong[0])} ends before it begins: damaged")
    return offsets


def width_of(path: Path, num_tokens: int, *, index: Path) -> np.dtype:
    """The type of a file's ids, which no header tells: its bytes by the tokens that its index counts.

    Raises:
        InputError: if that is no whole number of bytes: the file was cut off, or the index is another's.
    """
    num_bytes = path.stat().st_size
    width = num_bytes // num_tokens if num_tokens else 2
    if width * num_tokens != num_bytes or width not in INTEGERS:
        raise InputError(
            f"{path}: has {num_bytes:,} bytes, and {index.name} counts {num_tokens:,} tokens, which are of 2, 4 or 8 "
            "bytes each: cut off, or the index of another file"
        )
    return INTEGERS[width]
