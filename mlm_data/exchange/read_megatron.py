r"""Megatron's indexed datasets: `NAME.bin` holds ids and nothing else, `NAME.idx` says how long sequences are.

    NAME.idx   b"MMIDIDX\0\0", uint64 1, uint8 code of the ids' type, uint64 sequences n, uint64 document borders d,
               int32 [n] lengths in tokens, int64 [n] places in bytes, int64 [d] sequences before each border,
               and int8 [n] modes in multimodal ones

All little-endian. The borders begin with 0 and end with n: a document is a run of sequences. Source: Megatron-LM,
megatron/core/datasets/indexed_dataset.py.
"""

import struct
from pathlib import Path

import numpy as np

from mlm_data.errors import InputError
from mlm_data.exchange.tokens import TokenFile, batches, check_ends, find_files, map_ids

ENDING = ".idx"
MAGIC = b"MMIDIDX\0\0"
HEAD = struct.Struct("<9sQBQQ")
TYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
FLOATS = {6: "float64", 7: "float32"}


def read_megatron(place: Path) -> list[TokenFile]:
    """The datasets of a folder, or one: the path of its .idx, of its .bin, or both without the ending.

    Raises:
        InputError: if a file is missing, or the two don't fit.
    """
    if not place.is_dir():
        place = place if place.suffix == ENDING else next(filter(Path.is_file, _indexes(place)), place)
    return [_open(source, path) for source, path in find_files(place, ENDING, "index of Megatron")]


def _indexes(place: Path) -> list[Path]:
    return [place.with_suffix(ENDING), place.with_name(place.name + ENDING)]


def _open(source: str, path: Path) -> TokenFile:
    data = path.read_bytes()
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise InputError(f"{path}: no index of Megatron: it doesn't begin with MMIDIDX, or is cut off")
    _, version, code, num_sequences, num_borders = HEAD.unpack_from(data)
    if version != 1:
        raise InputError(f"{path}: version {version}, while 1 is the only one that there is: damaged")
    if code not in TYPES:
        raise InputError(f"{path}: its ids are of type {FLOATS.get(code, code)}, which is no type of ids")
    wanted = HEAD.size + 12 * num_sequences + 8 * num_borders
    if len(data) not in {wanted, wanted + num_sequences}:
        raise InputError(f"{path}: has {len(data):,} bytes, its head says {wanted:,}: cut off or damaged")
    lengths = np.frombuffer(data, "<i4", num_sequences, HEAD.size).astype(np.int64)
    places = np.frombuffer(data, "<i8", num_sequences, HEAD.size + 4 * num_sequences)
    borders = np.frombuffer(data, "<i8", num_borders, HEAD.size + 12 * num_sequences)
    dtype = np.dtype(TYPES[code])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    if (lengths < 0).any() or not np.array_equal(places, ends[:-1] * dtype.itemsize):
        raise InputError(f"{path}: sequences don't follow each other without gaps: damaged, or made by another tool")
    if not borders.size or borders[0] != 0 or borders[-1] != num_sequences or (np.diff(borders) < 0).any():
        raise InputError(f"{path}: the borders of documents don't go from 0 to {num_sequences}: damaged")
    binary = path.with_suffix(".bin")
    if not binary.is_file():
        raise InputError(f"{path}: no {binary.name} beside it, which holds the ids")
    num_bytes = binary.stat().st_size
    if num_bytes != ends[-1] * dtype.itemsize:
        raise InputError(
            f"{binary}: has {num_bytes:,} bytes, {path.name} counts {int(ends[-1]):,} tokens of {dtype.itemsize} "
            "bytes: cut off, or the index of another file"
        )
    offsets = check_ends(ends[borders[1:]], str(path))
    return TokenFile(source=source, num_bytes=num_bytes, read=lambda: batches(map_ids(binary, dtype), offsets))
