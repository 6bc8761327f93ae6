"""Read shards: memory-mapped files as numpy views.

Nothing is copied where a file lies uncompressed on a local disk: the arrays are the file. Compressed and remote files
are decoded into memory, only the columns that are asked for. IPC files and IPC streams are both read, in record batches
of any size; other sizes than `BATCH_ROWS` cost a copy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, UInt8

from mlm_data.errors import FormatError, StorageError
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import Folder
from mlm_data.types import PlaneMasks, Rows


@dataclass(frozen=True)
class ShardFiles:
    """The file table's line for one file of a shard."""

    name: str
    num_bytes: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The segments of some rows. Row r owns segments offsets[r]:offsets[r + 1]; the other names are those of `Rows`."""

    offsets: Int32[np.ndarray, " rows+1"]
    lengths: Int32[np.ndarray, " segments"]
    documents: Int32[np.ndarray, " segments"]
    starts: Int32[np.ndarray, " segments"]


class Shard:
    """One shard of a dataset. Files are opened when something of them is asked for, and stay open with the object."""

    def __init__(
        self,
        folder: Folder,
        split: str,
        index: int,
        unit: int,
        files: dict[str, ShardFiles],
        *,
        vocab_size: int,
        sequence_length: int,
    ) -> None:
        self.split, self.index, self.unit, self.files = split, index, unit, files
        self.num_rows = files[fmt.ROWS].num_rows
        self._folder, self._length = folder, sequence_length
        self._tokens = fmt.token_type(vocab_size)
        self._held: dict[str, pa.Table] = {}

    @property
    def sequence_length(self) -> int:
        return self._length

    def hold(self, tables: Mapping[str, pa.Table]) -> None:
        """Take these files, by kind, from tables that hold all of their columns and have been validated in full."""
        self._held.update(tables)

    @cached_property
    def rows(self) -> tuple[Rows, ...]:
        """The rows in record batches of `BATCH_ROWS`.

        Raises:
            FormatError: if the file is damaged.
        """
        return tuple(_rows_view(batch, self.where(fmt.ROWS)) for batch in self.batches(fmt.ROWS))

    @cached_property
    def segments(self) -> tuple[Segments, ...]:
        """The segments of the rows in the same record batches; nothing else of the rows is decoded.

        Raises:
            FormatError: if the file is damaged.
        """
        names = ("segment_lengths", "segment_documents", "segment_starts")
        return tuple(_segments_view(batch, self.where(fmt.ROWS)) for batch in self.batches(fmt.ROWS, names))

    def targets(self, planes: Sequence[str]) -> list[dict[str, UInt8[np.ndarray, "rows length//8"]]]:
        """The targets of some planes in the same record batches, as bits; nothing else of the masks is decoded.

        Raises:
            FormatError: if the file is damaged, or holds no such plane.
        """
        batches = self.batches(fmt.MASKS, [f"targets_{plane}" for plane in planes], planes=planes)
        width = self._length // 8
        return [
            {plane: fixed_view(bits, width, "uint8") for plane, bits in zip(planes, batch.columns, strict=True)}
            for batch in batches
        ]

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
        if fmt.DOCUMENTS in self._held:
            return self._held[fmt.DOCUMENTS]
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
        if kind in self._held:
            batches = self._held[kind].select(schema.names).to_batches()
        else:
            batches = read_batches(self._folder, file.name, file.num_bytes, columns=schema.names)
        found = sum(batch.num_rows for batch in batches)
        if found != self.num_rows:
            raise FormatError(f"{where}: has {found} rows, the manifest says {self.num_rows}: run premask verify")
        try:
            batches = [batch if batch.schema == schema else _fit(batch, schema) for batch in batches]
            for batch in batches:
                if kind not in self._held:
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


def read_batches(
    folder: Folder,
    name: str,
    num_bytes: int | None = None,
    columns: Sequence[str] | None = None,
    *,
    optional: Sequence[str] = (),
) -> list[pa.RecordBatch]:
    """The record batches of an IPC file or stream; zero-copy where it is memory-mapped and not compressed.

    Args:
        folder: where it is.
        name: of the file.
        num_bytes: that it must have.
        columns: those to read, in the file's order; None: all.
        optional: those of them that the file may lack; without a column there are no batches.

    Raises:
        FormatError: if it is missing, has another size than `num_bytes`, is no Arrow data, or lacks a column.
    """
    where = f"{folder.location}/{name}"
    try:
        stream = folder.open(name, whole=True)
    except StorageError as error:
        if folder.exists(name):
            raise
        raise FormatError(f"{where}: missing: run premask verify") from error
    with stream:
        size = stream.size()
        if num_bytes is not None and size != num_bytes:
            raise FormatError(f"{where}: has {size} bytes, the manifest says {num_bytes}: run premask verify")
        # The whole file as one buffer: each read of a memory map would advise the kernel anew.
        source = pa.BufferReader(stream.read_buffer()) if folder.is_mapped else stream
        return decode_at(where, source, columns, optional=optional, is_mapped=folder.is_mapped)


def decode_at(
    where: str,
    source: pa.NativeFile,
    columns: Sequence[str] | None = None,
    *,
    optional: Sequence[str] = (),
    is_mapped: bool = False,
) -> list[pa.RecordBatch]:
    """`decode`, with errors that name the file.

    Raises:
        FormatError: if it is no Arrow data, or lacks a column.
    """
    try:
        return decode(source, columns, optional=optional, is_mapped=is_mapped)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FormatError(f"{where}: damaged: {str(error).splitlines()[0]}: run premask verify") from error


def decode(
    stream: pa.NativeFile, columns: Sequence[str] | None = None, *, optional: Sequence[str] = (), is_mapped: bool
) -> list[pa.RecordBatch]:
    """The record batches of an IPC file or stream, as they are: errors are Arrow's, and KeyError for a column."""
    is_file = stream.read(len(fmt.FILE_MAGIC)) == fmt.FILE_MAGIC
    open_ipc = pa.ipc.open_file if is_file else pa.ipc.open_stream

    def batches(reader: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
        return map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)

    stream.seek(0)
    reader = open_ipc(stream)
    if columns is None:
        return list(batches(reader))
    names = reader.schema.names
    missing = [name for name in columns if name not in names and name not in optional]
    if missing:
        raise KeyError(f"no column {missing[0]}")
    wanted = sorted(names.index(name) for name in columns if name in names)
    if not wanted:
        return []  # to Arrow no columns are all
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


def _segments_view(batch: pa.RecordBatch, where: str) -> Segments:
    offsets, lengths = list_view(batch.column("segment_lengths"))
    parallel = [list_view(batch.column(name)) for name in ("segment_documents", "segment_starts")]
    if any(not np.array_equal(offsets, other) for other, _ in parallel):
        columns = "segment_lengths, segment_documents and segment_starts"
        raise FormatError(f"{where}: {columns} have different lengths: run premask verify")
    return Segments(offsets=offsets, lengths=lengths, documents=parallel[0][1], starts=parallel[1][1])


def _rows_view(batch: pa.RecordBatch, where: str) -> Rows:
    tokens = batch.column("tokens")
    length = tokens.type.list_size
    segments = _segments_view(batch, where)
    return Rows(
        tokens=fixed_view(tokens, length, str(tokens.type.value_type)),
        segment_offsets=segments.offsets,
        segment_lengths=segments.lengths,
        segment_documents=segments.documents,
        segment_starts=segments.starts,
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
