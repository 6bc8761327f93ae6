"""MDS, the files of mosaicml-streaming: an index and shards of samples, each found by its offset.

    index.json      {"version": 2, "shards": [{"samples": 3, "raw_data": {"basename": ..., "bytes": ...}, ...}, ...]}
    shard.00000.mds number of samples n, uint32; n + 1 offsets from the file's begin, uint32; the columns once more as
                    JSON; the samples
    a sample        the sizes of those columns that have no fixed one, uint32 each; the columns' bytes, by name

All numbers are little-endian. Source: mosaicml-streaming 0.13, streaming/base/format/mds/writer.py and encodings.py. We
write `ndarray:TYPE:LENGTH` (values alone) and `json`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

INDEX = "index.json"
VERSION = 2
SHARD_BYTES = 1 << 26  # streaming's own default


class MdsWriter:
    """Writes samples into a folder; shards of at most `SHARD_BYTES`, as far as samples allow."""

    def __init__(self, folder: Path, encodings: Mapping[str, str], *, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._limit = folder, shard_bytes
        self._names = sorted(encodings)
        sizes = [fixed_size(encodings[name]) for name in self._names]
        self._facts = {
            "version": VERSION,
            "format": "mds",
            "compression": None,
            "hashes": [],
            "size_limit": shard_bytes,
            "column_names": self._names,
            "column_encodings": [encodings[name] for name in self._names],
            "column_sizes": sizes,
        }
        self._fixed = [size is not None for size in sizes]
        self._config = json.dumps(self._facts, sort_keys=True).encode()
        self._samples: list[bytes] = []
        self._num_bytes = self._head_bytes(0)
        self._shards: list[dict[str, Any]] = []

    def write(self, columns: Mapping[str, np.ndarray | Sequence[bytes]]) -> None:
        """Some samples: arrays [samples, values] of columns with a fixed size, bytes of the others."""
        pieces = [_bytes_of(columns[name]) for name in self._names]
        for values in zip(*pieces, strict=True):
            sizes = [len(value) for value, is_fixed in zip(values, self._fixed, strict=True) if not is_fixed]
            sample = np.array(sizes, "<u4").tobytes() + b"".join(values)
            if self._samples and self._num_bytes + 4 + len(sample) > self._limit:
                self._end_shard()
            self._samples.append(sample)
            self._num_bytes += 4 + len(sample)

    def close(self) -> None:
        """Write what is left, and the index."""
        if self._samples:
            self._end_shard()
        index = {"version": VERSION, "shards": self._shards}
        (self._folder / INDEX).write_text(json.dumps(index, sort_keys=True), encoding="utf-8")

    def _head_bytes(self, samples: int) -> int:
        return 4 + 4 * (samples + 1) + len(self._config)

    def _end_shard(self) -> None:
        name = f"shard.{len(self._shards):05}.mds"
        count = len(self._samples)
        offsets = np.concatenate([[0], np.cumsum([len(sample) for sample in self._samples])]) + self._head_bytes(count)
        with (self._folder / name).open("wb") as stream:
            stream.write(np.array([count], "<u4").tobytes() + offsets.astype("<u4").tobytes() + self._config)
            stream.writelines(self._samples)
        raw = {"basename": name, "bytes": int(offsets[-1]), "hashes": {}}
        self._shards.append({**self._facts, "samples": count, "raw_data": raw, "zip_data": None})
        self._samples, self._num_bytes = [], self._head_bytes(0)


def fixed_size(encoding: str) -> int | None:
    """Bytes of every value of an encoding; None where they differ, or where we don't know it.

    >>> fixed_size("ndarray:int32:512"), fixed_size("json")
    (2048, None)
    """
    name, _, rest = encoding.partition(":")
    kind, _, shape = rest.partition(":")
    if name != "ndarray" or not shape:
        return None
    return int(np.prod([int(axis) for axis in shape.split(",")])) * np.dtype(kind).itemsize


def _bytes_of(values: np.ndarray | Sequence[bytes]) -> Sequence[bytes]:
    if not isinstance(values, np.ndarray):
        return values
    rows = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return [row.tobytes() for row in rows]
