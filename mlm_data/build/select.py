"""SELECT and DEDUPLICATE: thresholds first, then exact duplicates among what passed them.

A document that will be thrown away must not be the copy that is kept, so the thresholds come first. What crosses the
shuffle is packed: fixed-width signature records, buffered to 64 KiB where there is that much. On a local disk the
records go to files and only their names cross.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from mlm_data.build import cache
from mlm_data.build.context import Context
from mlm_data.build.prepare import document_ids, open_prepared
from mlm_data.build.records import PreparedUnit
from mlm_data.curation.thresholds import KEPT, judge_documents
from mlm_data.duplicates import exact
from mlm_data.stores.folder import Folder

_INLINE, _FILE = b"\x00", b"\x01"

# Which documents of a unit are later copies: `copy` counts from 1.
COPIES = np.dtype([("document", "<i4"), ("copy", "<i4")])


def select_signatures(prepared: PreparedUnit, context: Context) -> np.ndarray:
    """Signature records of the documents of one prepared unit that pass the thresholds."""
    table = open_prepared(prepared, context)
    passed = np.flatnonzero(judge_table(table, context) == KEPT)
    ids = document_ids(table)[passed]
    return exact.pack_records(ids, prepared.unit, passed)


def judge_table(table, context: Context) -> np.ndarray:
    """`judge_documents` for a prepared unit."""
    num_chars = table.column("num_chars").to_numpy()
    num_tokens = np.concatenate(
        [np.diff(chunk.offsets.to_numpy()) for chunk in table.column("tokens").chunks] or [np.zeros(0, np.int64)]
    )
    return judge_documents(num_chars, num_tokens, context.config.clean)


def find_copies(records: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(unit, `COPIES`) of each unit that holds later copies, from all signature records of one partition."""
    units, documents, copies = exact.find_duplicates(records)
    for unit, start, end in runs(units):
        packed = np.empty(end - start, COPIES)
        packed["document"], packed["copy"] = documents[start:end], copies[start:end]
        yield unit, packed


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
    data = exact.records_to_bytes(records)
    return _FILE + cache.store_payload(work, data).encode() if work.is_local else _INLINE + data


def load(payload: bytes, work: Folder) -> np.ndarray:
    """The records behind a payload of `store`."""
    return exact.records_from_bytes(
        payload[1:] if payload[:1] == _INLINE else cache.load_payload(work, payload[1:].decode())
    )
