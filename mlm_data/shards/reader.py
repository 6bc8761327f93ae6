"""Read datasets: memory-mapped shards as numpy views, and the answer to "what is in this row, and where from?".

Nothing is copied where a file lies uncompressed on a local disk: the arrays are the file. Compressed and remote files
are decoded into memory, only the columns that are asked for. IPC files and IPC streams are both read, in record batches
of any size; other sizes than `BATCH_ROWS` cost a copy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.dataset.manifest import Manifest, load_files, load_manifest, version_names
from mlm_data.errors import ConfigError, FormatError, StorageError
from mlm_data.rows.masking import PlaneMasks
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import Folder
from mlm_data.types import Rows


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of one document in a row."""

    place: int  # first place in the row
    length: int  # places, special tokens included
    document: int  # row in the shard's documents file
    start: int  # first content token's place in its document
    id: str  # the document's id, in hexadecimal
    source: str
    offset: int  # of the document in its source: bytes for text and jsonl, rows otherwise


@dataclass(frozen=True, kw_only=True)
class PlaneRow:
    """What one plane does to one row."""

    targets: Int64[np.ndarray, " targets"]  # places
    swaps: dict[int, int]  # place -> id that stands there instead of [MASK]


@dataclass(frozen=True, kw_only=True)
class RowView:
    """One row, for people."""

    split: str
    row: int
    shard: int
    tokens: np.ndarray  # [L]
    word_starts: np.ndarray  # [L] bool
    segments: tuple[Segment, ...]
    planes: dict[str, PlaneRow]


@dataclass(frozen=True)
class ShardFiles:
    """The file table's line for one file of a shard."""

    name: str
    num_bytes: int
    num_rows: int


class Shard:
    """One shard of a dataset. Files are opened when something of them is asked for, and stay open with the object."""

    def __init__(self, dataset: "Dataset", split: str, index: int, unit: int, files: dict[str, ShardFiles]) -> None:
        self.split, self.index, self.unit, self.files = split, index, unit, files
        self.num_rows = files[fmt.ROWS].num_rows
        self._folder = dataset.folder
        self._tokens = fmt.token_type(dataset.manifest.vocab_size)
        self._length = dataset.manifest.sequence_length

    @cached_property
    def rows(self) -> tuple[Rows, ...]:
        """The rows in record batches of `BATCH_ROWS`.

        Raises:
            FormatError: if the file is damaged.
        """
        return tuple(_rows_view(batch, self.where(fmt.ROWS)) for batch in self.batches(fmt.ROWS))

    def masks(self, plane: str) -> tuple[PlaneMasks, ...]:
        """One plane's masks in the same record batches.

        Raises:
            FormatError: if the file is damaged, or holds no such plane.
        """
        return tuple(_plane_view(batch, self.where(fmt.MASKS)) for batch in self.batches(fmt.MASKS, planes=[plane]))

    @cached_property
    def documents(self) -> pa.Table:
        """Where the documents came from."""
        file = self.files[fmt.DOCUMENTS]
        table = pa.Table.from_batches(read_batches(self._folder, file.name, file.num_bytes))
        try:
            table.validate(full=True)
        except pa.ArrowException as error:
            raise FormatError(
                f"{self.where(fmt.DOCUMENTS)}: {str(error).splitlines()[0]}: run premask verify"
            ) from error
        return table

    def batches(
        self, kind: str, columns: Sequence[str] | None = None, *, planes: Sequence[str] = ()
    ) -> list[pa.RecordBatch]:
        """The record batches of `rows`, or of some planes of `masks`: `BATCH_ROWS` rows each but the last.

        Raises:
            FormatError: if the file is damaged, or lacks a column.
        """
        if kind == fmt.MASKS:
            schema = fmt.masks_schema(self._length, self._tokens, list(planes))
        else:
            schema = fmt.rows_schema(self._length, self._tokens)
        schema = pa.schema([schema.field(name) for name in columns or schema.names])
        file = self.files[kind]
        where = self.where(kind)
        batches = read_batches(self._folder, file.name, file.num_bytes, columns=schema.names)
        found = sum(batch.num_rows for batch in batches)
        if found != self.num_rows:
            raise FormatError(f"{where}: has {found} rows, the manifest says {self.num_rows}: run premask verify")
        try:
            batches = [batch if batch.schema == schema else _fit(batch, schema) for batch in batches]
            for batch in batches:
                batch.validate(full=True)  # offsets within their buffers: the loader reads through them unchecked
                nulls = [name for name, column in zip(schema.names, batch.columns, strict=True) if column.null_count]
                if nulls:
                    raise TypeError(f"column {nulls[0]} holds nulls")
        except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{where}: {str(error).splitlines()[0]}: run premask verify") from error
        if any(batch.num_rows != fmt.BATCH_ROWS for batch in batches[:-1]) or found > len(batches) * fmt.BATCH_ROWS:
            batches = pa.Table.from_batches(batches).combine_chunks().to_batches(max_chunksize=fmt.BATCH_ROWS)
        return batches

    def where(self, kind: str) -> str:
        """A file's place, for messages."""
        return f"{self._folder.location}/{self.files[kind].name}"


class Dataset:
    """One version of a dataset, open for reading."""

    def __init__(self, folder: Folder, manifest: Manifest, files: pa.Table) -> None:
        self.folder, self.manifest, self.files = folder, manifest, files
        self._shards = {split: self._shard_lines(split) for split in fmt.SPLITS}

    @classmethod
    def open(cls, path: str | Path | Folder, digest: str | None = None) -> "Dataset":
        """Open the current version, or the one with this digest.

        Raises:
            FormatError: if there is none, it is damaged, or its format is newer than this premask.
        """
        folder = path if isinstance(path, Folder) else Folder(path)
        manifest = load_manifest(folder, digest)
        return cls(folder, manifest, load_files(folder, manifest))

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def tokenizer(self) -> bytes:
        """The tokenizer.json's bytes."""
        return self.folder.read(version_names(self.manifest)["tokenizer"])

    def num_shards(self, split: str) -> int:
        return len(self._shards[split][0])

    def shard_rows(self, split: str) -> Int64[np.ndarray, " shards"]:
        """Rows of each shard."""
        return self._shards[split][1]

    def num_rows(self, split: str) -> int:
        return int(self.shard_rows(split).sum())

    def shard(self, split: str, index: int) -> Shard:
        """A shard by its number in the split."""
        lines = self.files.slice(int(self._shards[split][0][index]), 3).to_pylist()
        files = {line["kind"]: ShardFiles(line["name"], line["num_bytes"], line["num_rows"]) for line in lines}
        return Shard(self, split, index, lines[0]["unit"], files)

    def planes(self, split: str) -> list[str]:
        """Names of a split's planes."""
        return fmt.plane_names(self.manifest.num_planes, split=split)

    def locate(self, split: str, row: int) -> tuple[int, int]:
        """Shard and row in the shard of a row counted through the split.

        Raises:
            ConfigError: if there is no such row.
        """
        ends = np.cumsum(self.shard_rows(split))
        if not 0 <= row < self.num_rows(split):
            raise ConfigError(f"row {row}: the {split} split has rows 0 to {self.num_rows(split) - 1}")
        shard = int(np.searchsorted(ends, row, side="right"))
        return shard, row - int(ends[shard] - self.shard_rows(split)[shard])

    def where(self, split: str, row: int) -> tuple[Segment, ...]:
        """Which documents a row holds, and where they came from."""
        return self.row(split, row, planes=()).segments

    def row(self, split: str, row: int, planes: Sequence[str] | None = None) -> RowView:
        """One row with its segments and what each plane does to it."""
        index, local = self.locate(split, row)
        shard = self.shard(split, index)
        batch, r = divmod(local, fmt.BATCH_ROWS)
        rows = shard.rows[batch]
        wanted = self.planes(split) if planes is None else planes
        return RowView(
            split=split,
            row=row,
            shard=index,
            tokens=rows.tokens[r],
            word_starts=np.unpackbits(rows.word_starts[r], bitorder=fmt.BITS).astype(bool),
            segments=_segments(shard, rows, r),
            planes={plane: _plane_row(shard.masks(plane)[batch], r) for plane in wanted},
        )

    def _shard_lines(self, split: str) -> tuple[Int64[np.ndarray, " shards"], Int64[np.ndarray, " shards"]]:
        """Line of each shard's first file in the file table, and its rows."""
        split_of = np.asarray(self.files["split"].to_numpy(zero_copy_only=False))
        lines = np.flatnonzero(split_of == split)
        kinds = self.files["kind"].take(pa.array(lines)).to_pylist()
        if kinds != [fmt.ROWS, fmt.MASKS, fmt.DOCUMENTS] * (len(lines) // 3):
            raise FormatError(f"{self.folder.location}: the file table of {self.digest} is out of order")
        first = lines[::3]
        return first, self.files["num_rows"].to_numpy()[first]


def read_batches(
    folder: Folder, name: str, num_bytes: int | None = None, columns: Sequence[str] | None = None
) -> list[pa.RecordBatch]:
    """The record batches of an IPC file or stream; zero-copy where it is memory-mapped and not compressed.

    Raises:
        FormatError: if it is missing, has another size than `num_bytes`, is no Arrow data, or lacks a column.
    """
    where = f"{folder.location}/{name}"
    try:
        stream = folder.open(name)
    except StorageError as error:
        if folder.exists(name):
            raise
        raise FormatError(f"{where}: missing: run premask verify") from error
    with stream:
        size = stream.size()
        if num_bytes is not None and size != num_bytes:
            raise FormatError(f"{where}: has {size} bytes, the manifest says {num_bytes}: run premask verify")
        try:
            # The whole file as one buffer: each read of a memory map would advise the kernel anew.
            source = pa.BufferReader(stream.read_buffer()) if folder.is_local else stream
            return _decode(source, columns, is_mapped=folder.is_local)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise FormatError(f"{where}: damaged: {str(error).splitlines()[0]}: run premask verify") from error


def _decode(stream: pa.NativeFile, columns: Sequence[str] | None, *, is_mapped: bool) -> list[pa.RecordBatch]:
    is_file = stream.read(len(fmt.FILE_MAGIC)) == fmt.FILE_MAGIC
    open_ipc = pa.ipc.open_file if is_file else pa.ipc.open_stream

    def batches(reader: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
        return map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)

    stream.seek(0)
    reader = open_ipc(stream)
    if columns is None:
        return list(batches(reader))
    names = reader.schema.names
    missing = [name for name in columns if name not in names]
    if missing:
        raise KeyError(f"no column {missing[0]}")
    wanted = sorted(names.index(name) for name in columns)
    if is_mapped:
        every = batches(reader)
        first = next(every, None)
        if first is None or not is_decoded(first):
            # Nothing is copied here, while Arrow copies what it reads by column.
            return [batch.select(wanted) for batch in chain([first] if first else [], every)]
    stream.seek(0)
    return list(batches(open_ipc(stream, options=pa.ipc.IpcReadOptions(included_fields=wanted))))


def is_decoded(batch: pa.RecordBatch) -> bool:
    """Whether a batch was decompressed into memory: decoded buffers are mutable, those of a file are not."""
    return any(part is not None and part.is_mutable for column in batch.columns for part in column.buffers())


def _fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Files that others wrote again may have lost `not null` or wear metadata: the same data under our schema."""
    table = pa.Table.from_batches([batch]).select(schema.names).replace_schema_metadata(None)
    return table.cast(schema).combine_chunks().to_batches()[0]


def fixed_view(array: pa.Array, width: int, dtype: str) -> np.ndarray:
    """A FixedSizeBinary or FixedSizeList array as [rows, width], without a copy."""
    flat = np.frombuffer(array.buffers()[-1], np.dtype(dtype))
    return flat[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)


def list_view(array: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """A list array's offsets [rows + 1] and values, without a copy."""
    return array.offsets.to_numpy(), array.values.to_numpy()


def _rows_view(batch: pa.RecordBatch, where: str) -> Rows:
    tokens = batch.column("tokens")
    length = tokens.type.list_size
    offsets, lengths = list_view(batch.column("segment_lengths"))
    parallel = [list_view(batch.column(name)) for name in ("segment_documents", "segment_starts")]
    if any(not np.array_equal(offsets, other) for other, _ in parallel):
        columns = "segment_lengths, segment_documents and segment_starts"
        raise FormatError(f"{where}: {columns} have different lengths: run premask verify")
    return Rows(
        tokens=fixed_view(tokens, length, str(tokens.type.value_type)),
        segment_offsets=offsets,
        segment_lengths=lengths,
        segment_documents=parallel[0][1],
        segment_starts=parallel[1][1],
        word_starts=fixed_view(batch.column("word_starts"), length // 8, "uint8"),
    )


def _plane_view(batch: pa.RecordBatch, where: str) -> PlaneMasks:
    bits, places, tokens = batch.columns
    offsets, values = list_view(places)
    others, ids = list_view(tokens)
    if not np.array_equal(offsets, others):
        columns = f"{batch.schema.names[1]} and {batch.schema.names[2]}"
        raise FormatError(f"{where}: {columns} have different lengths: run premask verify")
    return PlaneMasks(
        targets=fixed_view(bits, bits.type.byte_width, "uint8"),
        swap_offsets=offsets,
        swap_places=values,
        swap_tokens=ids,
    )


def _segments(shard: Shard, rows: Rows, r: int) -> tuple[Segment, ...]:
    begin, end = int(rows.segment_offsets[r]), int(rows.segment_offsets[r + 1])
    documents = shard.documents.take(pa.array(rows.segment_documents[begin:end])).to_pylist()
    places = np.cumsum(rows.segment_lengths[begin:end]) - rows.segment_lengths[begin:end]
    return tuple(
        Segment(
            place=int(place),
            length=int(rows.segment_lengths[s]),
            document=int(rows.segment_documents[s]),
            start=int(rows.segment_starts[s]),
            id=document["id"].hex(),
            source=document["source"],
            offset=document["offset"],
        )
        for s, place, document in zip(range(begin, end), places, documents, strict=True)
    )


def _plane_row(masks: PlaneMasks, r: int) -> PlaneRow:
    begin, end = int(masks.swap_offsets[r]), int(masks.swap_offsets[r + 1])
    swaps = zip(masks.swap_places[begin:end].tolist(), masks.swap_tokens[begin:end].tolist(), strict=True)
    return PlaneRow(
        targets=np.flatnonzero(np.unpackbits(masks.targets[r], bitorder=fmt.BITS)),
        swaps=dict(swaps),
    )
