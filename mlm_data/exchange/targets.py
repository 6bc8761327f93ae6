"""The kinds of files that an export may have. Each takes rows as they come, and holds no more than some of them."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlm_data.exchange.fields import TYPES, Fields
from mlm_data.exchange.mds import MdsWriter

FILE_PLACES = 1 << 24  # of one file: about 220 MB of Arrow
Texts = Mapping[str, list[list[str]]]  # column -> row -> pieces; {} where none are wanted


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is known before the first row."""

    split: str
    num_rows: int
    length: int
    text_columns: tuple[str, ...]
    fingerprint: str  # of the content, for HF `datasets`

    @property
    def rows_per_file(self) -> int:
        return max(1, FILE_PLACES // self.length)

    @property
    def num_files(self) -> int:
        return -(-self.num_rows // self.rows_per_file)


class Target(Protocol):
    """Files being written."""

    def write(self, fields: Fields, texts: Texts) -> None: ...

    def close(self) -> None: ...


class ArrowFiles:
    """`hf` and `parquet`: files of about `FILE_PLACES` token places, named as HF `datasets` names them."""

    def __init__(self, folder: Path, shape: Shape, *, extension: str) -> None:
        self._folder, self._shape, self._extension = folder, shape, extension
        self._schema = _schema(shape)
        self._names: list[str] = []
        self._left = 0  # rows that the open file takes
        self._open = ExitStack()
        self._writer: Any = None

    def write(self, fields: Fields, texts: Texts) -> None:
        table = _table(fields, texts, self._schema)
        while table.num_rows:
            if not self._left:
                self._next()
            part = table.slice(0, self._left)
            self._writer.write_table(part)
            self._left -= part.num_rows
            table = table.slice(part.num_rows)

    def close(self) -> None:
        self._open.close()
        if self._extension == "arrow":
            _describe(self._folder, self._names, self._shape)

    def _next(self) -> None:
        self._open.close()
        stem = "data" if self._extension == "arrow" else self._shape.split
        name = f"{stem}-{len(self._names):05}-of-{self._shape.num_files:05}.{self._extension}"
        path = str(self._folder / name)
        if self._extension == "arrow":
            sink = self._open.enter_context(pa.OSFile(path, "wb"))
            self._writer = self._open.enter_context(pa.ipc.new_stream(sink, self._schema))
        else:
            self._writer = self._open.enter_context(pq.ParquetWriter(path, self._schema, compression="zstd"))
        self._names.append(name)
        self._left = self._shape.rows_per_file


class NumpyFiles:
    """One array [rows, L] for each field, in `<field>.npy`."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        size = (shape.num_rows, shape.length)
        self._arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=size)
            for name, kind in TYPES.items()
        }
        self._at = 0

    def write(self, fields: Fields, texts: Texts) -> None:
        end = self._at + len(fields)
        for name, values in fields.columns().items():
            self._arrays[name][self._at : end] = values
        self._at = end

    def close(self) -> None:
        for array in self._arrays.values():
            array.flush()
        self._arrays = {}


class JsonLines:
    """One object a row."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._stream = (folder / f"{shape.split}.jsonl").open("w", encoding="utf-8", newline="\n")

    def write(self, fields: Fields, texts: Texts) -> None:
        columns = {name: values.tolist() for name, values in fields.columns().items()} | dict(texts)
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            self._stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._stream.close()


class MdsFiles:
    """Shards of mosaicml-streaming; texts are JSON lists."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        encodings = {name: f"ndarray:{np.dtype(kind).name}:{shape.length}" for name, kind in TYPES.items()}
        self._writer = MdsWriter(folder, encodings | dict.fromkeys(shape.text_columns, "json"))

    def write(self, fields: Fields, texts: Texts) -> None:
        lists = {name: [json.dumps(pieces).encode() for pieces in rows] for name, rows in texts.items()}
        self._writer.write({**fields.columns(), **lists})

    def close(self) -> None:
        self._writer.close()


def _schema(shape: Shape) -> pa.Schema:
    lists = [(name, pa.list_(pa.from_numpy_dtype(kind))) for name, kind in TYPES.items()]
    return pa.schema([*lists, *((name, pa.list_(pa.string())) for name in shape.text_columns)])


def _table(fields: Fields, texts: Texts, schema: pa.Schema) -> pa.Table:
    columns = {name: _lists(values) for name, values in fields.columns().items()}
    columns |= {name: pa.array(rows, pa.list_(pa.string())) for name, rows in texts.items()}
    return pa.table(columns, schema=schema)


def _lists(values: np.ndarray) -> pa.ListArray:
    rows, length = values.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(length)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))


def _describe(folder: Path, names: list[str], shape: Shape) -> None:
    """The two files beside the Arrow files by which `datasets.load_from_disk` knows a folder.

    Features are left to be read off the Arrow schema: how they are written differs between versions of `datasets`.
    """
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": shape.fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": shape.split,
    }
    for name, value in (("state.json", state), ("dataset_info.json", {"features": None})):
        (folder / name).write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")


TARGETS: Mapping[str, Callable[[Path, Shape], Target]] = {
    "hf": lambda folder, shape: ArrowFiles(folder, shape, extension="arrow"),
    "parquet": lambda folder, shape: ArrowFiles(folder, shape, extension="parquet"),
    "mds": MdsFiles,
    "numpy": NumpyFiles,
    "jsonl": JsonLines,
}
