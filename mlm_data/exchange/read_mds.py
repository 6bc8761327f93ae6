"""MDS folders with tokens, as mosaicml-streaming writes them: see `mds` for the layout.

Ids lie in a column of `ndarray` (with or without a type and a shape in its encoding) or of `bytes`, whose type no
header tells: `--dtype` says it. Where there is a column `labels`, what a mask has hidden is shown again, as in
`read_hf`. Shards may be compressed with zstd, gzip or bzip2. Pickles are never read.
"""

import bz2
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from jaxtyping import Integer

from mlm_data.errors import InputError
from mlm_data.exchange.mds import INDEX, VERSION
from mlm_data.exchange.read_hf import LABELS, pick_column, restore
from mlm_data.exchange.tokens import TokenBatch, TokenFile, batches

# From bytes and the most that may come of them: what says that it is small, and is not, fills no memory.
CODECS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "zstd": lambda data, most: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(most),
    "gz": lambda data, most: gzip.GzipFile(fileobj=io.BytesIO(data)).read(most),
    "bz2": lambda data, most: bz2.BZ2File(io.BytesIO(data)).read(most),
}
# By the byte that stands before an array whose type its encoding leaves open; and of the numbers in its shape.
VALUE_TYPES = {8: "u1", 9: "i1", 16: "<u2", 17: "<i2", 32: "<u4", 33: "<i4", 64: "<u8", 65: "<i8"}
SHAPE_TYPES = ("u1", "<u2", "<u4", "<u8")
NAMED_TYPES = {np.dtype(kind).name: kind for kind in VALUE_TYPES.values()}


def read_mds(place: Path, column: str | None = None, dtype: str | None = None) -> list[TokenFile]:
    """The shards of an MDS folder, in the order of its index.

    Args:
        place: the folder, or its index.json.
        column: that holds the ids; None: `input_ids` or `tokens`.
        dtype: of ids that are stored as bytes: `uint16`, `int64`, ...

    Raises:
        InputError: if the index can't be understood, or its shards hold no ids.
    """
    index = place if place.is_file() else place / INDEX
    if dtype is not None and dtype not in NAMED_TYPES:
        raise InputError(f"--dtype {dtype}: must be one of {', '.join(sorted(NAMED_TYPES))}")
    try:
        value = json.loads(index.read_bytes())
        version, shards = value["version"], value["shards"]
        files = [_open(index.parent, facts, column, dtype) for facts in shards]
    except FileNotFoundError as error:
        raise InputError(f"{index}: missing: name the folder that holds it") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: no index of MDS: {type(error).__name__}: {error}") from error
    if version != VERSION:
        raise InputError(f"{index}: version {version} of MDS, while {VERSION} is read")
    return files


def _open(folder: Path, facts: Mapping[str, Any], column: str | None, dtype: str | None) -> TokenFile:
    name, num_bytes = facts["raw_data"]["basename"], facts["raw_data"]["bytes"]
    if facts["format"] != "mds":
        raise InputError(f"{folder / name}: a shard of format {facts['format']}, while mds is read")
    where = str(folder / name)
    names, encodings = list(facts["column_names"]), list(facts["column_encodings"])
    wanted = [pick_column(names, column, where)]
    if LABELS in names and wanted[0] != LABELS and encodings[names.index(LABELS)].startswith("ndarray"):
        wanted.append(LABELS)
    decoders = [_decoder(encodings[names.index(one)], one, dtype, where) for one in wanted]
    count, sizes = facts["samples"], list(facts["column_sizes"])
    if not all(isinstance(one, int) and one >= 0 for one in (count, num_bytes, *(size or 0 for size in sizes))):
        raise ValueError(f"a size or a count of {name} is no whole number")
    if not len(names) == len(encodings) == len(sizes):
        raise ValueError(f"{name} has {len(names)} columns, {len(encodings)} encodings and {len(sizes)} sizes")

    def read() -> Iterator[TokenBatch]:
        data = _shard_bytes(folder, facts, num_bytes)
        head = 4 * (count + 2)
        offsets = np.frombuffer(data, "<u4", count + 1, 4).astype(np.int64) if len(data) >= head else np.zeros(0)
        is_sound = offsets.size and offsets[0] >= head and (np.diff(offsets) >= 0).all() and offsets[-1] <= len(data)
        if not is_sound or int.from_bytes(data[:4], "little") != count:
            raise InputError(f"{where}: its samples don't lie where its head says: damaged")
        found: list[Integer[np.ndarray, " tokens"]] = []
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            columns = _columns(data[begin:end], sizes)
            if columns is None:
                raise InputError(f"{where}: sample {len(found)} is shorter than its columns: damaged")
            arrays = [decode(columns[names.index(one)]) for one, decode in zip(wanted, decoders, strict=True)]
            if len(arrays) == 2 and arrays[0].size != arrays[1].size:
                raise InputError(f"{where}: sample {len(found)}: labels are not as long as {wanted[0]}")
            found.append(restore(*arrays) if len(arrays) == 2 else arrays[0])
        lengths = [ids.size for ids in found]
        yield from batches(
            np.concatenate(found) if found else np.zeros(0, np.int64),
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        )

    return TokenFile(source=name, num_bytes=num_bytes, read=read)


def _shard_bytes(folder: Path, facts: Mapping[str, Any], num_bytes: int) -> bytes:
    """A shard as it was before it was compressed; what lies there uncompressed goes first."""
    path, compression = folder / facts["raw_data"]["basename"], facts["compression"]
    if path.name != facts["raw_data"]["basename"]:
        raise InputError(f"{path}: a shard's name may hold no folder")
    try:
        if path.is_file():
            data = path.read_bytes()
        elif compression is None:
            raise InputError(f"{path}: missing, though the index names it")
        else:
            codec = str(compression).partition(":")[0]
            if codec not in CODECS:
                raise InputError(f"{path}: compressed with {codec}, while {', '.join(CODECS)} are read: decompress it")
            data = CODECS[codec]((folder / Path(facts["zip_data"]["basename"]).name).read_bytes(), num_bytes + 1)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    if len(data) != num_bytes:
        raise InputError(f"{path}: has {len(data):,} bytes, the index says {num_bytes:,}: cut off")
    return data


def _columns(sample: bytes, sizes: list[int | None]) -> list[bytes] | None:
    """The bytes of each column; None if they don't fill the sample."""
    num_open = sizes.count(None)
    if len(sample) < 4 * num_open:
        return None
    stated = iter(np.frombuffer(sample, "<u4", num_open).tolist())
    at, columns = 4 * num_open, []
    for size in sizes:
        end = at + (next(stated) if size is None else size)
        columns.append(sample[at:end])
        at = end
    return columns if at == len(sample) else None


def _decoder(
    encoding: str, column: str, dtype: str | None, where: str
) -> Callable[[bytes], Integer[np.ndarray, " tokens"]]:
    """How a column's bytes become ids."""
    name, _, rest = encoding.partition(":")
    kind, _, shape = rest.partition(":")
    if name == "bytes":
        if dtype is None:
            raise InputError(f"{where}: column {column} holds bytes: say of which type with --dtype, such as uint16")
        return lambda data: _numbers(data, NAMED_TYPES[dtype], where)
    if name != "ndarray" or (kind and kind not in NAMED_TYPES):
        raise InputError(f"{where}: column {column} is {encoding}, while ndarray of integers, or bytes, are read")

    def decode(data: bytes) -> Integer[np.ndarray, " tokens"]:
        known, at = NAMED_TYPES.get(kind), 0
        if known is None:
            known, at = VALUE_TYPES.get(data[0] if data else 0), 1
        if known is None:
            raise InputError(f"{where}: column {column} holds an array that is not of integers")
        if not shape:
            axes = data[at] if len(data) > at else 0
            at += 1 + (axes >> 2) * np.dtype(SHAPE_TYPES[axes & 3]).itemsize
        return _numbers(data[at:], known, where)

    return decode


def _numbers(data: bytes, kind: str, where: str) -> Integer[np.ndarray, " tokens"]:
    if len(data) % np.dtype(kind).itemsize:
        raise InputError(f"{where}: {len(data)} bytes are no whole number of {np.dtype(kind).name}")
    return np.frombuffer(data, kind)
