"""Tokenized data in Arrow or Parquet files, as HF `datasets` writes them: a column holds a list of ids a document.

A folder of `save_to_disk`, a folder of files, or one file; Arrow as IPC streams and IPC files. Where there is a column
`labels` of lists as long, a label other than -100 takes the place of the id: what a mask has hidden is shown again.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Integer

from mlm_data.errors import InputError
from mlm_data.exchange.tokens import TokenBatch, TokenFile, batches, find_files
from mlm_data.types import IGNORED

COLUMNS = ("input_ids", "tokens")  # taken where none is named
LABELS = "labels"
BATCH_ROWS = 1024


def read_hf(place: Path, column: str | None = None) -> list[TokenFile]:
    """The files of a dataset.

    Args:
        place: a folder or a file.
        column: that holds the ids; None: the first of `COLUMNS` that is there.

    Raises:
        InputError: if there is no file, or no such column.
    """
    if (place / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in place.glob("*/state.json"))
        raise InputError(f"{place}: holds several splits: name the folder of one: {', '.join(splits)}")
    return [_open(source, path, column) for source, path in _files(place)]


def restore(
    ids: Integer[np.ndarray, " tokens"], labels: Integer[np.ndarray, " tokens"]
) -> Integer[np.ndarray, " tokens"]:
    """The ids before anything was hidden."""
    return np.where(labels == IGNORED, ids, labels)


def pick_column(names: Sequence[str], column: str | None, where: str) -> str:
    """The column that holds the ids.

    Raises:
        InputError: if there is none of this name.
    """
    wanted = COLUMNS if column is None else (column,)
    for name in wanted:
        if name in names:
            return name
    raise InputError(f"{where}: no column {' or '.join(wanted)}: it has {', '.join(names)}: name one with --column")


def _files(place: Path) -> list[tuple[str, Path]]:
    state = place / "state.json"
    if state.is_file():
        try:
            names = [entry["filename"] for entry in json.loads(state.read_bytes())["_data_files"]]
            paths = [(name, place / name) for name in names if Path(name).name == name]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{state}: not what `save_to_disk` writes: {error}") from error
        if missing := [path for _, path in paths if not path.is_file()]:
            raise InputError(f"{missing[0]}: missing, though state.json names it")
        return paths
    if place.is_dir() and any(place.rglob("*.parquet")):
        return find_files(place, ".parquet", "Parquet files")
    return find_files(place, ".arrow", "Arrow or Parquet files")


def _open(source: str, path: Path, column: str | None) -> TokenFile:
    def read() -> Iterator[TokenBatch]:
        first = 0
        try:
            for batch in _record_batches(path, column):
                ids, offsets = _lists(batch, batch.schema.names[0], str(path))
                if LABELS in batch.schema.names:
                    labels, others = _lists(batch, LABELS, str(path))
                    if not np.array_equal(offsets, others):
                        raise InputError(f"{path}: labels are not as long as {batch.schema.names[0]}")
                    ids = restore(ids, labels)
                yield from batches(ids, offsets, first=first)
                first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: damaged, or neither Arrow nor Parquet: {str(error).splitlines()[0]}") from error

    return TokenFile(source=source, num_bytes=path.stat().st_size, read=read)


def _record_batches(path: Path, column: str | None) -> Iterator[pa.RecordBatch]:
    """The column of ids, and of labels where there is one, some rows at a time."""
    with pa.OSFile(str(path)) as file:
        magic = file.read(6)
    if magic[:4] == b"PAR1":
        with pq.ParquetFile(path) as parquet:
            wanted = _wanted(parquet.schema_arrow, column, str(path))
            for batch in parquet.iter_batches(BATCH_ROWS, columns=wanted):
                yield batch.select(wanted)
        return
    with pa.memory_map(str(path)) as stream:
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(stream)
            wanted = _wanted(reader.schema, column, str(path))
            parts = map(reader.get_batch, range(reader.num_record_batches))
        else:
            reader = pa.ipc.open_stream(stream)
            wanted = _wanted(reader.schema, column, str(path))
            parts = iter(reader)
        for part in parts:
            for begin in range(0, part.num_rows, BATCH_ROWS):
                yield part.select(wanted).slice(begin, BATCH_ROWS)


def _wanted(schema: pa.Schema, column: str | None, where: str) -> list[str]:
    ids = pick_column(schema.names, column, where)
    has_labels = LABELS in schema.names and ids != LABELS and _holds_lists(schema.field(LABELS).type)
    return [ids, LABELS] if has_labels else [ids]


def _holds_lists(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and pa.types.is_integer(kind.value_type)


def _lists(
    batch: pa.RecordBatch, name: str, where: str
) -> tuple[Integer[np.ndarray, " tokens"], Int64[np.ndarray, " documents+1"]]:
    """A column's ids one after another, and where each row's begin.

    Raises:
        InputError: if it holds something else than lists of integers.
    """
    array = batch.column(name)
    if not _holds_lists(array.type):
        raise InputError(f"{where}: column {name} holds {array.type}, and not lists of integers")
    flat = array.flatten()
    if array.null_count or flat.null_count:
        raise InputError(f"{where}: column {name} holds nulls")
    lengths = pa.compute.list_value_length(array).to_numpy().astype(np.int64)
    return flat.to_numpy(), np.concatenate([[0], np.cumsum(lengths)])
