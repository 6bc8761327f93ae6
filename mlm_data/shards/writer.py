"""Write shards: numpy in, content-addressed Arrow files out, and a record that a manifest can be made of.

A shard is what one unit gives to one split: three files whose rows belong together. `rows` and `masks` have the same
number of rows, in record batches of `BATCH_ROWS`, so that row r of the one lies beside row r of the other. Files are
named by the SHA-256 of their bytes and appear whole or not at all: writing a shard twice is like writing it once.

Cost: the arrays become Arrow without a copy; the bytes are written once and hashed twice (SHA-256 of the file, and of
the table's canonical layout, which does not depend on codec, batches or writer).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mlm_data.hashing import ids_to_arrow
from mlm_data.shards import format as fmt
from mlm_data.shards.records import FileRecord, ShardRecord, SignaturesRecord
from mlm_data.shards.table_hash import table_hash
from mlm_data.stores.folder import Folder
from mlm_data.types import PlaneMasks, Rows


def write_shard(
    folder: Folder,
    *,
    split: str,
    unit: int,
    rows: Rows,
    planes: Mapping[str, PlaneMasks],
    documents: pa.Table,
    documents_file: FileRecord | None = None,
    compression: str = "none",
) -> ShardRecord:
    """Write the three files of one shard and return what the manifest needs.

    Args:
        folder: the dataset.
        split: `train` or `validation`.
        unit: index of the unit that the shard comes from; shards are numbered in this order.
        rows: may be none, where no document of the shard has a token.
        planes: masks by plane name, as `format.plane_names` gives them for the split.
        documents: `format.documents_schema` columns first; others may follow.
        documents_file: where they lie already, as another version of the dataset has the same; None: they are written.
        compression: `none`, `zstd` or `lz4`; only `none` can be memory-mapped.

    Raises:
        StorageError: if the folder can't be written; no file is half there.
        ValueError: if the arrays don't belong together (a bug of the caller).
    """
    for name, plane in planes.items():
        if plane.targets.shape != (len(rows), rows.sequence_length // 8) or plane.swap_offsets.size != len(rows) + 1:
            raise ValueError(f"plane {name} has {plane.targets.shape[0]} rows, the shard {len(rows)}")
    if rows.segment_documents.size and int(rows.segment_documents.max()) >= documents.num_rows:
        raise ValueError(f"a segment names document {rows.segment_documents.max()} of {documents.num_rows}")
    tables = {
        fmt.ROWS: rows_table(rows),
        fmt.MASKS: masks_table(rows, planes),
    }
    if documents_file is None:
        tables[fmt.DOCUMENTS] = documents.replace_schema_metadata(None).unify_dictionaries().combine_chunks()
    files = [write_table(folder, kind, table, compression=compression) for kind, table in tables.items()]
    return ShardRecord(
        split=split,
        unit=unit,
        files=tuple(files if documents_file is None else [*files, documents_file]),
        num_rows=len(rows),
        num_tokens=int(rows.segment_lengths.sum(dtype=np.int64)),
        num_segments=int(rows.segment_lengths.size),
        num_documents=documents.num_rows,
        max_segments=int(rows.segments().max(initial=0)),
        max_targets={name: plane.max_targets for name, plane in planes.items()},
    )


def write_signatures(
    folder: Folder,
    *,
    unit: int,
    ids: np.ndarray,
    sketches: pa.FixedSizeBinaryArray | None = None,
    compression: str = "none",
) -> SignaturesRecord:
    """Write the ids (uint64 [n, 2]) of the documents that a unit kept, sorted by their 16 bytes.

    `sketches` are what near duplicates are compared by, null for a document without words; None: nobody compares.
    """
    columns = [ids_to_arrow(ids)] + ([] if sketches is None else [sketches])
    order = np.argsort(np.ascontiguousarray(ids, dtype="<u8").view("S16").reshape(-1), kind="stable")
    schema = fmt.signatures_schema(0 if sketches is None else sketches.type.byte_width)
    table = pa.table([column.take(pa.array(order)) for column in columns], schema=schema)
    return SignaturesRecord(unit=unit, file=write_table(folder, fmt.SIGNATURES, table, compression=compression))


def write_table(folder: Folder, kind: str, table: pa.Table, *, compression: str = "none") -> FileRecord:
    """Write one table as `<kind>/<sha256>.arrow`, an Arrow IPC file."""
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)

    def fill(sink: Any) -> None:
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=fmt.BATCH_ROWS)

    written = folder.create(fill, lambda sha: f"{kind}/{sha}.arrow", durable=False)  # publish flushes
    return FileRecord(
        kind=kind,
        name=written.name,
        num_bytes=written.num_bytes,
        sha256=written.sha256,
        logical_hash=table_hash(table, kind).hex(),
        num_rows=table.num_rows,
    )


def rows_table(rows: Rows) -> pa.Table:
    """The `rows` table over the same memory."""
    schema = fmt.rows_schema(rows.sequence_length, pa.from_numpy_dtype(rows.tokens.dtype))
    tokens = pa.FixedSizeListArray.from_arrays(pa.array(rows.tokens.reshape(-1)), type=schema.field("tokens").type)
    lists = [
        _lists(rows.segment_offsets, values, schema.field("segment_lengths").type)
        for values in (rows.segment_lengths, rows.segment_documents, rows.segment_starts)
    ]
    return pa.table([tokens, *lists, _bits(rows.word_starts)], schema=schema)


def masks_table(rows: Rows, planes: Mapping[str, PlaneMasks]) -> pa.Table:
    """The `masks` table over the same memory."""
    schema = fmt.masks_schema(rows.sequence_length, pa.from_numpy_dtype(rows.tokens.dtype), list(planes))
    columns = []
    for name, plane in planes.items():
        columns += [
            _bits(plane.targets),
            _lists(plane.swap_offsets, plane.swap_places, schema.field(f"swap_places_{name}").type),
            _lists(plane.swap_offsets, plane.swap_tokens, schema.field(f"swap_tokens_{name}").type),
        ]
    return pa.table(columns, schema=schema)


def _lists(offsets: np.ndarray, values: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(np.ascontiguousarray(values), kind.value_type), type=kind
    )


def _bits(bits: np.ndarray) -> pa.FixedSizeBinaryArray:
    rows, width = bits.shape
    return pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(np.ascontiguousarray(bits))])
