"""The steps of `mlm_data.build` as transforms: what Beam adds is spreading, grouping and counting.

Only names of files, signatures and lists of copies cross a border; never text, never tokens. Elements are JSON or
packed records in `bytes`, keys are `int`: Beam codes both without pickling.
"""

import json
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from mlm_data.build import select
from mlm_data.build.assemble import assemble_unit
from mlm_data.build.context import Context
from mlm_data.build.prepare import prepare_unit
from mlm_data.build.publish import publish_version
from mlm_data.build.records import AssembledUnit, PreparedUnit
from mlm_data.duplicates import exact
from mlm_data.types import Unit
from pipelines import metrics

PAYLOAD_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 16 * 2**20
_PREPARED, _COPIES = b"P", b"C"


class Units(beam.PTransform):
    """The pipeline's source: one element for each unit, as JSON.

    Grouping by the unit's number spreads them over the workers. Beam's own Reshuffle would do the same with pickled
    windows.
    """

    def __init__(self, units: tuple[Unit, ...]) -> None:
        super().__init__()
        self._elements = [(unit.index, json.dumps(unit.to_dict()).encode()) for unit in units]

    def expand(self, root):
        return (
            root
            | "List" >> beam.Create(self._elements, reshuffle=False).with_output_types(tuple[int, bytes])
            | "Spread" >> beam.GroupByKey()
            | "Elements" >> beam.FlatMap(_values).with_output_types(bytes)
        )


class Prepare(beam.PTransform):
    """Units (JSON) to prepared units (JSON): see `prepare_unit`."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def expand(self, units: beam.PCollection[bytes]) -> beam.PCollection[bytes]:
        return units | "PrepareUnit" >> beam.ParDo(_PrepareUnit(self._context)).with_output_types(bytes)


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


class Assemble(beam.PTransform):
    """(prepared units, copies by unit) to what the units have become, as JSON: see `assemble_unit`."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def expand(self, inputs):
        prepared, copies = inputs
        keyed = prepared | "PreparedByUnit" >> beam.Map(_prepared_by_unit).with_output_types(tuple[int, bytes])
        marked = copies | "CopiesByUnit" >> beam.Map(_copies_by_unit).with_output_types(tuple[int, bytes])
        return (
            (keyed, marked)
            | "Flatten" >> beam.Flatten()
            | "ByUnit" >> beam.GroupByKey()
            | "AssembleUnit" >> beam.ParDo(_AssembleUnit(self._context)).with_output_types(bytes)
        )


class Publish(beam.PTransform):
    """What the units have become (JSON) to the digest of the version that holds it all: see `publish_version`."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def expand(self, assembled: beam.PCollection[bytes]) -> beam.PCollection[bytes]:
        return (
            assembled
            | "OneKey" >> beam.Map(_under_one_key).with_output_types(tuple[int, bytes])
            | "Gather" >> beam.GroupByKey()
            | "PublishVersion" >> beam.ParDo(_PublishVersion(self._context)).with_output_types(bytes)
        )


class _PrepareUnit(beam.DoFn):
    def __init__(self, context: Context) -> None:
        self._context = context

    def process(self, element: bytes) -> Iterator[bytes]:
        unit = Unit.from_dict(json.loads(element))
        prepared = prepare_unit(unit, self._context)
        metrics.count(
            "prepare",
            documents_read=prepared.documents_read,
            units=1,
            reused=int(prepared.reused),
            remade=int(prepared.remade),
        )
        metrics.advance("prepare", unit.num_bytes)
        yield prepared.to_bytes()


class _Select(beam.DoFn):
    """Signatures by partition, gathered over a bundle's units until a payload is worth sending."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def start_bundle(self) -> None:
        self._waiting: dict[int, list[np.ndarray]] = {}

    def process(self, element: bytes) -> Iterator[tuple[int, bytes]]:
        records = select.select_signatures(PreparedUnit.from_bytes(element), self._context)
        for partition, part in enumerate(exact.partition(records, self._context.num_partitions)):
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
                yield WindowedValue(pair, window.max_timestamp(), (window,))

    def _send(self, partition: int) -> Iterator[tuple[int, bytes]]:
        records = np.concatenate(self._waiting.pop(partition, []) or [np.zeros(0, exact.RECORD)])
        step = MAX_PAYLOAD_BYTES // exact.RECORD.itemsize
        for start in range(0, len(records), step):
            yield partition, select.store(records[start : start + step], self._context.work)


class _FindCopies(beam.DoFn):
    def __init__(self, context: Context) -> None:
        self._context = context

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        _, payloads = element
        records = np.concatenate([select.load(item, self._context.work) for item in payloads])
        num_copies = 0
        for unit, copies in select.find_copies(records):
            num_copies += len(copies)
            yield unit, copies.tobytes()
        metrics.count("deduplicate", documents=len(records), copies=num_copies)


class _AssembleUnit(beam.DoFn):
    def __init__(self, context: Context) -> None:
        self._context = context

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        _, parts = element
        copies, prepared = [np.zeros(0, select.COPIES)], None
        for part in parts:
            if part[:1] == _PREPARED:
                prepared = PreparedUnit.from_bytes(part[1:])
            else:
                copies.append(np.frombuffer(part, select.COPIES, offset=1))
        assert prepared is not None, "copies of a unit that nobody prepared"
        assembled = assemble_unit(prepared, np.concatenate(copies), self._context)
        ledger = assembled.ledger
        metrics.count(
            "assemble",
            documents_kept=ledger.documents_kept,
            documents_dropped=sum(ledger.documents_dropped.values()),
        )
        metrics.advance("assemble", prepared.num_bytes)
        yield assembled.to_bytes()


class _PublishVersion(beam.DoFn):
    def __init__(self, context: Context) -> None:
        self._context = context

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        _, results = element
        yield publish_version([AssembledUnit.from_bytes(item) for item in results], self._context).encode()


def _values(item: tuple[int, Iterable[bytes]]) -> Iterable[bytes]:
    return item[1]


def _prepared_by_unit(item: bytes) -> tuple[int, bytes]:
    return PreparedUnit.from_bytes(item).unit, _PREPARED + item


def _copies_by_unit(item: tuple[int, bytes]) -> tuple[int, bytes]:
    return item[0], _COPIES + item[1]


def _under_one_key(item: bytes) -> tuple[int, bytes]:
    return 0, item
