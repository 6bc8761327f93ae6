"""The steps of `mlm_data.build` as transforms: what Beam adds is spreading, grouping and counting.

Only names of files, signatures and lists of documents or lines cross a border; never text, never tokens. Elements are
JSON or packed records in `bytes`, keys are `int`: Beam codes both without pickling.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from mlm_data.build import cache, select
from mlm_data.build.assemble import Found, assemble_unit, count_groups, matches_that_stay
from mlm_data.build.clean_texts import CleanedUnit, Output, finish, write_texts
from mlm_data.build.context import Context
from mlm_data.build.evaluations import ASSET, load_index, report
from mlm_data.build.prepare import prepare_unit
from mlm_data.build.publish import publish_version
from mlm_data.build.records import AssembledUnit, PreparedUnit
from mlm_data.build.survey import GRAM, choose_cuts, choose_ignored, survey_unit
from mlm_data.build.weights import mix
from mlm_data.duplicates import clusters, exact, lines
from mlm_data.duplicates.decontaminate import MATCH, RUN, decide
from mlm_data.duplicates.records import partition
from mlm_data.types import Unit
from pipelines import metrics

PAYLOAD_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 16 * 2**20
_PREPARED, _COPIES, _NEAR, _HELD, _UNIT, _CUTS, _IGNORED = b"P", b"C", b"N", b"H", b"U", b"L", b"I"
_RUNS = -1  # beside the partitions of lines: where runs of evaluations meet


class _Transform(beam.PTransform):
    """A transform that knows the build."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context


class _Step(beam.DoFn):
    """A step that knows the build."""

    def __init__(self, context: Context) -> None:
        self._context = context


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


class Prepare(_Transform):
    """Units (JSON) to prepared units (JSON): see `prepare_unit`.

    Where lines or evaluations are to be cut, all units are surveyed first: hashes of lines meet by partition, runs of
    evaluations at one place, and what is to be cut, or left, comes back to each unit.
    """

    def expand(self, units: beam.PCollection[bytes]) -> beam.PCollection[bytes]:
        if not self._context.config.is_surveyed:
            return units | "PrepareUnit" >> beam.ParDo(_PrepareUnit(self._context)).with_output_types(bytes)
        cuts = (
            units
            | "Survey" >> beam.ParDo(_Survey(self._context)).with_output_types(tuple[int, bytes])
            | "ByLine" >> beam.GroupByKey()
            | "ChooseCuts" >> beam.ParDo(_ChooseCuts(self._context)).with_output_types(tuple[int, bytes])
        )
        keyed = units | "UnitsByNumber" >> beam.Map(_unit_by_number).with_output_types(tuple[int, bytes])
        return (
            (keyed, cuts)
            | "UnitsAndCuts" >> beam.Flatten()
            | "CutsTogether" >> beam.GroupByKey()
            | "PrepareUnit" >> beam.ParDo(_PrepareCutUnit(self._context)).with_output_types(bytes)
        )


class Deduplicate(_Transform):
    """Prepared units (JSON) to (unit, packed `COPIES`): the later copies of exact duplicates, by unit."""

    def expand(self, prepared: beam.PCollection[bytes]) -> beam.PCollection[tuple[int, bytes]]:
        return (
            prepared
            | "Select" >> beam.ParDo(_Select(self._context)).with_output_types(tuple[int, bytes])
            | "ByPartition" >> beam.GroupByKey()
            | "FindCopies" >> beam.ParDo(_FindCopies(self._context)).with_output_types(tuple[int, bytes])
        )


class NearDuplicates(_Transform):
    """Prepared units (JSON) to (unit, packed `EDGE`): near duplicates of documents that stay, by unit.

    Bands of signatures meet by partition; pairs that resemble each other meet under one key, where it is decided who
    stays: see `clusters`.
    """

    def expand(self, prepared: beam.PCollection[bytes]) -> beam.PCollection[tuple[int, bytes]]:
        return (
            prepared
            | "SelectBands" >> beam.ParDo(_SelectBands(self._context)).with_output_types(tuple[int, bytes])
            | "ByBand" >> beam.GroupByKey()
            | "FindEdges" >> beam.ParDo(_FindEdges(self._context)).with_output_types(tuple[int, bytes])
            | "AllEdges" >> beam.GroupByKey()
            | "Resolve" >> beam.ParDo(_Resolve(self._context)).with_output_types(tuple[int, bytes])
        )


class Assemble(_Transform):
    """(prepared units, copies by unit, near duplicates by unit) to what the units have become, as JSON.

    See `assemble_unit`; where there is an `output`, `write_texts`.
    """

    def __init__(self, context: Context, output: Output | None = None) -> None:
        super().__init__(context)
        self._output = output

    def expand(self, inputs):
        prepared, *found = inputs
        marked = [prepared | "PreparedByUnit" >> beam.Map(_prepared_by_unit).with_output_types(tuple[int, bytes])]
        for name, records in zip((_COPIES, _NEAR), found, strict=False):
            label = f"Marked{name.decode()}ByUnit"
            marked.append(records | label >> beam.Map(_marked_by_unit, name).with_output_types(tuple[int, bytes]))
        grouped = marked | "Flatten" >> beam.Flatten() | "ByUnit" >> beam.GroupByKey()
        if self._context.config.decontaminate is not None and not self._context.config.cuts_evaluations:
            held = (
                grouped
                | "Matches" >> beam.ParDo(_Matches(self._context)).with_output_types(tuple[int, bytes])
                | "AllMatches" >> beam.GroupByKey()
                | "Decide" >> beam.ParDo(_Decide(self._context)).with_output_types(tuple[int, bytes])
            )
            marked.append(held | "HeldByUnit" >> beam.Map(_marked_by_unit, _HELD).with_output_types(tuple[int, bytes]))
            grouped = marked | "FlattenAll" >> beam.Flatten() | "AllByUnit" >> beam.GroupByKey()
        weights = []
        if self._context.config.mixing is not None:
            mixed = (
                grouped
                | "CountGroups" >> beam.ParDo(_CountGroups(self._context)).with_output_types(tuple[int, bytes])
                | "AllGroups" >> beam.GroupByKey()
                | "Mix" >> beam.ParDo(_Mix(self._context)).with_output_types(bytes)
            )
            weights = [beam.pvalue.AsSingleton(mixed)]
        write = _AssembleUnit(self._context) if self._output is None else _WriteTexts(self._context, self._output)
        return grouped | "AssembleUnit" >> beam.ParDo(write, *weights).with_output_types(bytes)


class Publish(_Transform):
    """What the units have become (JSON) to the digest of the version that holds it all: see `publish_version`."""

    def expand(self, assembled: beam.PCollection[bytes]) -> beam.PCollection[bytes]:
        return (
            assembled
            | "OneKey" >> beam.Map(_under_one_key).with_output_types(tuple[int, bytes])
            | "Gather" >> beam.GroupByKey()
            | "PublishVersion" >> beam.ParDo(_PublishVersion(self._context)).with_output_types(bytes)
        )


class _Survey(_Step):
    def process(self, element: bytes) -> Iterator[tuple[int, bytes]]:
        found = survey_unit(Unit.from_dict(json.loads(element)), self._context)
        for number, part in enumerate(partition(found.lines, "h2", self._context.num_partitions)):
            for piece in _pieces(part):
                yield number, select.store(piece, self._context.work)
        if self._context.config.cuts_evaluations:
            yield _RUNS, select.store(found.runs, self._context.work)


class _ChooseCuts(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        number, payloads = element
        kind = RUN if number == _RUNS else lines.RECORD
        records = np.concatenate([select.load(item, self._context.work, kind) for item in payloads])
        if number == _RUNS:
            for unit, ignored in choose_ignored(records, self._context):
                yield unit, _IGNORED + ignored.tobytes()
            return
        cuts = choose_cuts(records, self._context)
        cuts = cuts[np.argsort(cuts["unit"], kind="stable")]
        for unit, start, end in select.runs(cuts["unit"]):
            yield unit, _CUTS + cuts[start:end].tobytes()


class _PrepareCutUnit(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        unit, cuts, ignored = None, [np.zeros(0, lines.CUT)], np.zeros(0, GRAM)
        for part in element[1]:
            if part[:1] == _UNIT:
                unit = Unit.from_dict(json.loads(part[1:]))
            elif part[:1] == _IGNORED:
                ignored = np.frombuffer(part, GRAM, offset=1)
            else:
                cuts.append(np.frombuffer(part, lines.CUT, offset=1))
        assert unit is not None, "lines of a unit that nobody planned"
        together = np.concatenate(cuts)
        ordered = together[np.lexsort((together["line"], together["document"]))]
        config = self._context.config
        yield from _prepared(
            unit,
            self._context,
            ordered if config.deduplicate.lines is not None else None,
            ignored if config.cuts_evaluations else None,
        )


class _PrepareUnit(_Step):
    def process(self, element: bytes) -> Iterator[bytes]:
        yield from _prepared(Unit.from_dict(json.loads(element)), self._context)


class _Matches(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        prepared, found = _gathered(element[1])
        records = matches_that_stay(prepared, found, self._context)
        yield 0, select.store(records, self._context.work)


class _Decide(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        settings = self._context.config.decontaminate
        assert settings is not None, "the build looks for evaluations"
        records = np.concatenate([select.load(item, self._context.work, MATCH) for item in element[1]])
        index = load_index(settings, self._context.asset(ASSET))
        decision = decide(records, index, share=settings.share, max_documents=settings.max_documents)
        cache.write_report(self._context.work, "evaluations", report(decision.report, self._context))
        held = decision.documents
        for unit, start, end in select.runs(held["unit"]):
            yield unit, held["document"][start:end].astype(select.DOCUMENT).tobytes()


def _prepared(
    unit: Unit, context: Context, cuts: lines.Cuts | None = None, ignored: np.ndarray | None = None
) -> Iterator[bytes]:
    prepared = prepare_unit(unit, context, cuts, ignored)
    metrics.count(
        "prepare",
        documents_read=prepared.documents_read,
        units=1,
        reused=int(prepared.reused),
        remade=int(prepared.remade),
    )
    metrics.advance("prepare", unit.num_bytes)
    yield prepared.to_bytes()


class _Select(_Step):
    """Signatures by partition, gathered over a bundle's units until a payload is worth sending."""

    def start_bundle(self) -> None:
        self._waiting: dict[int, list[np.ndarray]] = {}

    def process(self, element: bytes) -> Iterator[tuple[int, bytes]]:
        records = select.select_signatures(PreparedUnit.from_bytes(element), self._context)
        for number, part in enumerate(partition(records, "h2", self._context.num_partitions)):
            if not len(part):
                continue
            waiting = self._waiting.setdefault(number, [])
            waiting.append(part)
            if sum(item.nbytes for item in waiting) >= PAYLOAD_BYTES:
                yield from self._send(number)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for number in sorted(self._waiting):
            for pair in self._send(number):
                yield WindowedValue(pair, window.max_timestamp(), (window,))

    def _send(self, number: int) -> Iterator[tuple[int, bytes]]:
        records = np.concatenate(self._waiting.pop(number, []) or [np.zeros(0, exact.RECORD)])
        for piece in _pieces(records):
            yield number, select.store(piece, self._context.work)


class _FindCopies(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        _, payloads = element
        records = np.concatenate([select.load(item, self._context.work) for item in payloads])
        num_copies = 0
        for unit, copies in select.find_copies(records):
            num_copies += len(copies)
            yield unit, copies.tobytes()
        metrics.count("deduplicate", documents=len(records), copies=num_copies)


class _SelectBands(_Step):
    def process(self, element: bytes) -> Iterator[tuple[int, bytes]]:
        prepared = PreparedUnit.from_bytes(element)
        records = select.select_bands(prepared, self._context)
        for number, part in enumerate(partition(records, "key", self._context.num_partitions)):
            for piece in _pieces(part):
                yield number, select.store_bands(piece, prepared, self._context.work)


class _FindEdges(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        _, payloads = element
        loaded = [select.load_bands(item, self._context.work) for item in payloads]
        records = np.concatenate([part for part, _ in loaded])
        edges = select.find_edges(records, [unit for _, unit in loaded], self._context)
        metrics.count("near", bands=len(records), edges=len(edges))
        for piece in _pieces(edges):
            yield 0, select.store(piece, self._context.work)


class _Resolve(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        _, payloads = element
        edges = np.concatenate([select.load(item, self._context.work, clusters.EDGE) for item in payloads])
        dropped = clusters.resolve(edges)
        for unit, start, end in select.runs(dropped["unit"]):
            yield unit, dropped[start:end].tobytes()


class _CountGroups(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        prepared, found = _gathered(element[1])
        yield 0, json.dumps(count_groups(prepared, found, self._context)).encode()


class _Mix(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        total: Counter[str] = Counter()
        for item in element[1]:
            total.update(json.loads(item))
        assert self._context.config.mixing is not None, "the build mixes"
        weights = mix(total, self._context.config.mixing)
        lines = [{"group": name, "tokens": total[name], "weight": weight} for name, weight in weights.items()]
        cache.write_report(self._context.work, "mixing", lines)
        yield json.dumps(weights).encode()


class _AssembleUnit(_Step):
    def process(self, element: tuple[int, Iterable[bytes]], weights: bytes = b"{}") -> Iterator[bytes]:
        prepared, found = _gathered(element[1])
        assembled = assemble_unit(prepared, found, self._context, weights=json.loads(weights))
        ledger = assembled.ledger
        metrics.count(
            "assemble",
            documents_kept=ledger.documents_kept,
            documents_dropped=sum(ledger.documents_dropped.values()),
        )
        metrics.advance("assemble", prepared.num_bytes)
        yield assembled.to_bytes()


class _WriteTexts(_Step):
    def __init__(self, context: Context, output: Output) -> None:
        super().__init__(context)
        self._output = output

    def process(self, element: tuple[int, Iterable[bytes]], weights: bytes = b"{}") -> Iterator[bytes]:
        prepared, found = _gathered(element[1])
        cleaned = write_texts(prepared, found, self._context, self._output, weights=json.loads(weights))
        metrics.advance("assemble", prepared.num_bytes)
        yield cleaned.to_bytes()


class Finish(_Transform):
    """What the units have become (JSON), as files of cleaned documents: see `finish`."""

    def __init__(self, context: Context, output: Output) -> None:
        super().__init__(context)
        self._output = output

    def expand(self, cleaned: beam.PCollection[bytes]) -> beam.PCollection[bytes]:
        return (
            cleaned
            | "OneKey" >> beam.Map(_under_one_key).with_output_types(tuple[int, bytes])
            | "Gather" >> beam.GroupByKey()
            | "FinishTexts" >> beam.ParDo(_FinishTexts(self._context, self._output)).with_output_types(bytes)
        )


class _FinishTexts(_Step):
    def __init__(self, context: Context, output: Output) -> None:
        super().__init__(context)
        self._output = output

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        finish([CleanedUnit.from_bytes(item) for item in element[1]], self._context, self._output)
        yield b"done"


class _PublishVersion(_Step):
    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        _, results = element
        yield publish_version([AssembledUnit.from_bytes(item) for item in results], self._context).encode()


def _pieces(records: np.ndarray) -> Iterator[np.ndarray]:
    """The records in pieces of at most MAX_PAYLOAD_BYTES; none where there are none."""
    step = MAX_PAYLOAD_BYTES // records.itemsize
    for start in range(0, len(records), step):
        yield records[start : start + step]


def _unit_by_number(item: bytes) -> tuple[int, bytes]:
    return Unit.from_dict(json.loads(item)).index, _UNIT + item


def _values(item: tuple[int, Iterable[bytes]]) -> Iterable[bytes]:
    return item[1]


def _prepared_by_unit(item: bytes) -> tuple[int, bytes]:
    return PreparedUnit.from_bytes(item).unit, _PREPARED + item


def _marked_by_unit(item: tuple[int, bytes], mark: bytes) -> tuple[int, bytes]:
    return item[0], mark + item[1]


def _gathered(parts: Iterable[bytes]) -> tuple[PreparedUnit, Found]:
    """What has come together for one unit, whatever the order."""
    prepared: PreparedUnit | None = None
    kinds = {_COPIES: select.COPIES, _NEAR: clusters.EDGE, _HELD: select.DOCUMENT}
    found = {mark: [np.zeros(0, kind)] for mark, kind in kinds.items()}
    for part in parts:
        if part[:1] == _PREPARED:
            prepared = PreparedUnit.from_bytes(part[1:])
        else:
            found[part[:1]].append(np.frombuffer(part, kinds[part[:1]], offset=1))
    assert prepared is not None, "copies of a unit that nobody prepared"
    copies, near, contaminated = (np.concatenate(found[mark]) for mark in kinds)
    return prepared, Found(copies=copies, near=near, contaminated=contaminated)


def _under_one_key(item: bytes) -> tuple[int, bytes]:
    return 0, item
