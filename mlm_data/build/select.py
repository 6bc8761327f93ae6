"""SELECT and DEDUPLICATE: thresholds first, then duplicates among what passed them.

A document that will be thrown away must not be the copy that is kept, so the thresholds come first. What crosses the
shuffle is packed: signature records of one unit or a block of them (`records`). On a local disk they go to files and
only their names cross.
"""

import itertools
import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from mlm_data.build import cache
from mlm_data.build.context import Context
from mlm_data.build.curate import languages_of
from mlm_data.build.prepare import document_ids, only_chunk, open_prepared
from mlm_data.build.records import PreparedUnit
from mlm_data.curation.thresholds import KEPT, judge
from mlm_data.dataset.forgotten import are_listed
from mlm_data.duplicates import clusters, exact, lines, minhash
from mlm_data.duplicates.records import from_bytes, pack, to_bytes, unpack
from mlm_data.stores.folder import Folder

_INLINE, _FILE = b"\x00", b"\x01"
_PACKED = (exact.RECORD, clusters.BAND, lines.RECORD)  # records of which there are as many as documents, or more
# Payloads up to this are not worth a file. A block of units sends more as there are more partitions,
# so all that can go inline is some MB: 8 for 1 GB of documents of 2 KB, none for 5 GB (computed).
INLINE_BYTES = 16384
MAX_PAYLOAD_BYTES = 16 * 2**20  # of records in memory: more go in pieces

# Which documents of a unit are later copies: `copy` counts from 1.
COPIES = np.dtype([("document", "<i4"), ("copy", "<i4")])
DOCUMENT = np.dtype("<i4")  # which documents of a unit hold items of an evaluation


def select_signatures(prepared: PreparedUnit, context: Context) -> np.ndarray:
    """Signature records of the documents of one prepared unit that pass the thresholds."""
    table = open_prepared(prepared, context)
    passed = np.flatnonzero(_passes(table, prepared, context))
    ids = document_ids(table)[passed]
    return exact.pack_records(ids, prepared.unit, passed)


def select_bands(prepared: PreparedUnit, context: Context) -> clusters.Bands:
    """Band records of the same documents, for near duplicates."""
    assert context.config.deduplicate.near is not None, "the build looks for near duplicates"
    table = open_prepared(prepared, context)
    passed = np.flatnonzero(_passes(table, prepared, context))
    keys = minhash.band_keys(_sketches(table)[passed], bands=context.config.deduplicate.near.bands)
    return clusters.pack_bands(keys, prepared.unit, passed, table.column("num_shingles").to_numpy()[passed])


def judge_table(table: pa.Table, prepared: PreparedUnit, context: Context) -> np.ndarray:
    """`judge` for a prepared unit."""
    scores = scores_of(table, context)
    return judge(scores, context.config, input_numbers(table, prepared), languages=languages_of(context.config))


def is_forgotten(table: pa.Table, context: Context) -> np.ndarray:
    """Bool [documents]: whether the text of each document of a prepared unit was forgotten."""
    if not context.forgotten:
        return np.zeros(table.num_rows, np.bool_)
    return are_listed(table.column("id"), context.forgotten_marks())


def _passes(table: pa.Table, prepared: PreparedUnit, context: Context) -> np.ndarray:
    return (judge_table(table, prepared, context) == KEPT) & ~is_forgotten(table, context)


def scores_of(table: pa.Table, context: Context) -> dict[str, np.ndarray]:
    """All that thresholds look at in the documents of a prepared unit."""
    scores = {
        field.name: _numbers(table.column(field.name))
        for field in table.schema
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)
    }
    if context.has_tokens:
        scores["num_tokens"] = list_lengths(table.column("tokens"))
    return scores


def input_numbers(table: pa.Table, prepared: PreparedUnit) -> np.ndarray:
    """Which input each document is of."""
    return np.array(prepared.inputs, np.int32)[table.column("source").to_numpy()]


def list_lengths(column: pa.ChunkedArray) -> np.ndarray:
    """How many items each list of a column has, int64."""
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks] or [np.zeros(0, np.int64)])


def find_copies(records: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(unit, `COPIES`) of each unit that holds later copies, from all signature records of one partition."""
    units, documents, copies = exact.find_duplicates(records)
    for unit, start, end in runs(units):
        packed = np.empty(end - start, COPIES)
        packed["document"], packed["copy"] = documents[start:end], copies[start:end]
        yield unit, packed


def find_edges(
    records: clusters.Bands, units: Sequence[PreparedUnit], context: Context, known: clusters.Load | None = None
) -> clusters.Edges:
    """Pairs of near duplicates of one partition, from all its band records and the units that they come from.

    `known` tells of units that another build has prepared.
    """
    near = context.config.deduplicate.near
    assert near is not None, "the build looks for near duplicates"
    by_number = {prepared.unit: prepared for prepared in units}

    def load(unit: int, documents: np.ndarray) -> clusters.Members:
        if known is not None and unit not in by_number:
            return known(unit, documents)
        prepared = by_number[unit]
        table = open_prepared(prepared, context)
        return clusters.Members(
            input=input_numbers(table, prepared)[documents],
            length=table.column("num_chars").to_numpy()[documents].astype(np.int64),
            ids=document_ids(table)[documents],
            values=_sketches(table)[documents],
        )

    return clusters.find_edges(records, load, verify=near.verify, collapse_equal=context.config.deduplicate.exact)


def runs(values: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(value, start, end) of each run of a sorted array.

    >>> list(runs(np.array([3, 3, 7])))
    [(3, 0, 2), (7, 2, 3)]
    """
    borders = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *borders.tolist(), len(values)] if len(values) else []
    for start, end in itertools.pairwise(edges):
        yield int(values[start]), start, end


def store(records: np.ndarray, work: Folder) -> bytes:
    """What crosses the shuffle for these records: themselves, or on a local disk the name of a file that holds them."""
    data = pack(records) if records.dtype in _PACKED else to_bytes(records)
    to_file = work.is_local and len(data) > INLINE_BYTES
    return _FILE + cache.store_payload(work, data).encode() if to_file else _INLINE + data


def load(payload: bytes, work: Folder, record: np.dtype = exact.RECORD) -> np.ndarray:
    """The records behind a payload of `store`."""
    data = payload[1:] if payload[:1] == _INLINE else cache.load_payload(work, payload[1:].decode())
    return unpack(data, record) if record in _PACKED else from_bytes(data, record)


def store_bands(records: np.ndarray, units: Sequence[PreparedUnit], work: Folder) -> bytes:
    """What crosses the shuffle for band records: the units that they come from, and `store`."""
    heads = [[prepared.unit, prepared.key, prepared.content, list(prepared.inputs)] for prepared in units]
    return json.dumps(heads).encode() + b"\n" + store(records, work)


def load_bands(payload: bytes, work: Folder) -> tuple[clusters.Bands, list[PreparedUnit]]:
    """The inverse of `store_bands`; the units know only where their documents lie, and of which inputs they are."""
    heads, _, rest = payload.partition(b"\n")
    units = [
        PreparedUnit.reference(unit, key, content, tuple(inputs)) for unit, key, content, inputs in json.loads(heads)
    ]
    return load(rest, work, clusters.BAND), units


def _sketches(table: pa.Table) -> np.ndarray:
    """uint8 [documents, bands * rows]"""
    array = only_chunk(table.column("sketch"))
    size = array.type.byte_width
    flat = np.frombuffer(array.buffers()[1], np.uint8, count=len(array) * size, offset=array.offset * size)
    return flat.reshape(len(array), size)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as numbers; 0 where a document has no such score."""
    return (
        column.fill_null(False if pa.types.is_boolean(column.type) else 0) if column.null_count else column
    ).to_numpy()
