"""Reads a file's bytes in one format, for tests."""

import gzip

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from mlm_data.text.reading import read_slice
from mlm_data.types import Slice


def read(path, data, kind, *, batch_bytes=8 << 20, replace=False, compress=False, **fields):
    """(rows of text, offset and other columns as dictionaries, quarantined) of a file that holds `data`."""
    path.write_bytes(gzip.compress(data, mtime=0) if compress else data)
    values = {"inputs": [{"path": "x"} | fields], "output": "o", "tokenizer": {"train": {}}}
    values |= {"clean": {"bad_bytes": "replace" if replace else "quarantine"}}
    config = parse_settings(BuildConfig, values, where="test")
    size = path.stat().st_size
    piece = Slice(
        input=0, source="s", path=str(path), format=kind, compression="gzip" if compress else "", start=0, end=size,
        num_bytes=size, identity="",
    )  # fmt: skip
    rows, bad, num_bytes = [], [], 0
    for batch in read_slice(piece, config, batch_bytes=batch_bytes):
        batch.table.validate(full=True)
        rows += batch.table.to_pylist()
        bad += batch.quarantined
        num_bytes += batch.num_bytes_read
    assert num_bytes == len(data)
    return rows, bad


def texts(found):
    return [row["text"] for row in found[0]]


def reasons(found):
    return [(item.offset, item.reason) for item in found[1]]
