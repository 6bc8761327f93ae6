"""SELECT and DEDUPLICATE: thresholds first, then exact duplicates among what passed them.

A document that will be thrown away must not be the copy that is kept, so the thresholds come first. What crosses the
shuffle is packed: fixed-width signature records, buffered to 64 KiB where there is that much. On a local disk the
records go to files and only their names cross.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from mlm_data.curation.thresholds import KEPT, judge_documents
from mlm_data.duplicates import exact as signatures
from mlm_data.stores.folder import Folder
from pipelines import metrics
from pipelines.context import Context
from pipelines.prepare import document_ids, open_prepared

PAYLOAD_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 16 * 2**20
FOLDER = "signatures"
_INLINE, _FILE = b"\x00", b"\x01"

# Which documents of a unit are later copies: `copy` counts from 1.
COPIES = np.dtype([("document", "<i4"), ("copy", "<i2")])


class Deduplicate(beam.PTransform):
    """Prepared units (JSON) to (unit, packed `COPIES`): the later copies of exact duplicates, by unit."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def expand(self, prepared: beam.PCollection[bytes]) -> beam.PCollection[tuple[int, bytes]]:
        return (
            prepared
            | "Select" >> beam.ParDo(_Select(self._context)).with_output_types(tuple[int, bytes])
            | "ByPartition" >> beam.GroupByKey()
            | "FindCopies" >> beam.ParDo(_FindCopies(self._context)).with_output_types(tuple[int, bytes])
        )


def select_signatures(prepared: dict, context: Context) -> np.ndarray:
    """Signature records of the documents of one prepared unit that pass the thresholds."""
    table = open_prepared(context, prepared["key"])
    passed = np.flatnonzero(judge_table(table, context) == KEPT)
    ids = document_ids(table)[passed]
    return signatures.pack_records(ids, prepared["unit"], passed)


def judge_table(table, context: Context) -> np.ndarray:
    """`judge_documents` for a prepared unit."""
    num_chars = table.column("num_chars").to_numpy()
    num_tokens = np.concatenate(
        [np.diff(chunk.offsets.to_numpy()) for chunk in table.column("tokens").chunks] or [np.zeros(0, np.int64)]
    )
    return judge_documents(num_chars, num_tokens, context.config.clean)


class _Select(beam.DoFn):
    def __init__(self, context: Context) -> None:
        self._context = context

    def start_bundle(self) -> None:
        self._waiting: dict[int, list[np.ndarray]] = {}

    def process(self, element: bytes) -> Iterator[tuple[int, bytes]]:
        records = select_signatures(json.loads(element), self._context)
        for partition, part in enumerate(signatures.partition(records, self._context.num_partitions)):
            if not len(part):
                continue
            waiting = self._waiting.setdefault(partition, [])
            waiting.append(part)
            if sum(item.nbytes for item in waiting) >= PAYLOAD_BYTES:
                yield from self._send(partition)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for partition in sorted(self._waiting):
            for pair in self._send(partition):
                yield WindowedValue(pair, window.max_timestamp(), [window])

    def _send(self, partition: int) -> Iterator[tuple[int, bytes]]:
        records = np.concatenate(self._waiting.pop(partition, []) or [np.zeros(0, signatures.RECORD)])
        step = MAX_PAYLOAD_BYTES // signatures.RECORD.itemsize
        for start in range(0, len(records), step):
            yield partition, _store(signatures.records_to_bytes(records[start : start + step]), self._context.work)


class _FindCopies(beam.DoFn):
    def __init__(self, context: Context) -> None:
        self._context = context

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        _, payloads = element
        work = self._context.work
        records = np.concatenate([signatures.records_from_bytes(_load(item, work)) for item in payloads])
        units, documents, copies = signatures.find_duplicates(records)
        metrics.count("deduplicate", documents=len(records), copies=len(units))
        for unit, start, end in runs(units):
            packed = np.empty(end - start, COPIES)
            packed["document"], packed["copy"] = documents[start:end], copies[start:end]
            yield unit, packed.tobytes()


def runs(values: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(value, start, end) of each run of a sorted array.

    >>> list(runs(np.array([3, 3, 7])))
    [(3, 0, 2), (7, 2, 3)]
    """
    borders = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *borders.tolist(), len(values)] if len(values) else []
    for start, end in itertools.pairwise(edges):
        yield int(values[start]), start, end


def _store(data: bytes, work: Folder) -> bytes:
    if not work.is_local:
        return _INLINE + data
    name = f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.bin"
    if not work.exists(name):
        work.create(lambda sink: sink.write(data), lambda _: name, durable=False)
    return _FILE + name.encode()


def _load(payload: bytes, work: Folder) -> bytes:
    return payload[1:] if payload[:1] == _INLINE else work.read(payload[1:].decode())
