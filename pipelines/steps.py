"""The steps of `mlm_data.build` as transforms: what Beam adds is spreading, grouping and counting.

Everything between them is a *message* (`mlm_data.build.account`): `bytes` that say what they are, from and for whom.
So all transforms have one shape: they take collections of messages, pick what is addressed to them, group it by
receiver, and give a collection of messages back. What every part of a step has received and sent goes to PUBLISH, which
balances it: no runner is believed.

Only names of files, signatures and lists of documents or lines cross a border; never text, never tokens. Messages are
`bytes` and receivers `int`: Beam codes both without pickling. No step yields anything when a bundle ends, and none has
side inputs: both are done otherwise, or not at all, by some runners.
"""

import functools
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from mlm_data.build import account, cache, progress, select, status
from mlm_data.build.account import (
    Kind,
    Part,
    Step,
    balance,
    kind_of,
    list_message,
    listed_unit,
    receiver_of,
    unit_lists,
    unit_messages,
)
from mlm_data.build.assemble import Found, assemble_unit, count_groups, matches_that_stay
from mlm_data.build.clean_texts import CleanedUnit, Output, finish, write_texts
from mlm_data.build.context import Context
from mlm_data.build.evaluations import index_of, report
from mlm_data.build.prepare import prepare_unit
from mlm_data.build.publish import publish_version
from mlm_data.build.records import AssembledUnit, PreparedUnit, to_json
from mlm_data.build.survey import GRAM, choose_cuts, choose_ignored, survey_unit
from mlm_data.build.weights import mix
from mlm_data.duplicates import clusters, exact, lines
from mlm_data.duplicates.decontaminate import MATCH, RUN, decide
from mlm_data.duplicates.records import partition
from mlm_data.ending import end_with_parent
from mlm_data.types import Unit
from pipelines import metrics

_WORKER_PROCESS = "apache_beam.runners.worker.sdk_worker_main"
Messages = beam.PCollection[bytes]
Sent = tuple[Any, ...]  # of Messages: Beam would take a hint of that for one of an element


class Units(beam.PTransform):
    """The pipeline's source: one message for each unit of the plan.

    A plan of very many units is written to files of the output's `work/`, so that the pipeline's graph stays small.
    """

    def __init__(self, units: tuple[Unit, ...], context: Context) -> None:
        super().__init__()
        self._units, self._context = units, context

    def expand(self, root) -> Messages:
        names = [cache.store_payload(self._context.work, data) for data in unit_lists(self._units)]
        messages = list(itertools.starmap(list_message, enumerate(names)) if names else unit_messages(self._units))
        sent = root | "List" >> beam.Create(messages, reshuffle=False).with_output_types(bytes)
        return (sent,) | "ListUnits" >> Parts(_List(self._context)) if names else sent


class Prepare(beam.PTransform):
    """Units to prepared units: see `prepare_unit`.

    Where lines or evaluations are to be cut, all units are surveyed first: hashes of lines meet by partition, runs of
    evaluations in one place, and what is to be cut, or left, comes back to each unit.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def expand(self, units: Messages) -> Messages:
        so_far: Sent = (units,)
        if account.SURVEY.takes_part(self._context):
            so_far += (so_far | "Survey" >> Parts(_Survey(self._context)),)
        if account.CHOOSE_CUTS.takes_part(self._context):
            so_far += (so_far | "ChooseCuts" >> Parts(_ChooseCuts(self._context)),)
        if account.CHOOSE_RUNS.takes_part(self._context):
            so_far += (so_far | "ChooseRuns" >> Parts(_ChooseRuns(self._context)),)
        so_far += (so_far | "PrepareUnit" >> Parts(_Prepare(self._context)),)
        return so_far[1:] | "Sent" >> beam.Flatten()


class Deduplicate(beam.PTransform):
    """Prepared units to lists of copies: signatures meet by partition."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def expand(self, prepared: Messages) -> Messages:
        signatures = (prepared,) | "Select" >> Parts(_Select(self._context))
        copies = (signatures,) | "FindCopies" >> Parts(_FindCopies(self._context))
        return (signatures, copies) | "Sent" >> beam.Flatten()


class NearDuplicates(beam.PTransform):
    """Prepared units to lists of near duplicates of documents that stay.

    Bands of signatures meet by partition; pairs that resemble each other meet in one place, where it is decided who
    stays: see `clusters`.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def expand(self, prepared: Messages) -> Messages:
        bands = (prepared,) | "SelectBands" >> Parts(_SelectBands(self._context))
        edges = (bands,) | "FindEdges" >> Parts(_FindEdges(self._context))
        near = (edges,) | "Resolve" >> Parts(_Resolve(self._context))
        return (bands, edges, near) | "Sent" >> beam.Flatten()


class Assemble(beam.PTransform):
    """Prepared units, copies and near duplicates to what the units have become: see `assemble_unit`.

    Where there is an `output`, `write_texts`.
    """

    def __init__(self, context: Context, output: Output | None = None) -> None:
        super().__init__()
        self._context, self._output = context, output

    def expand(self, found) -> Messages:
        so_far: Sent = tuple(found)
        if account.MATCH.takes_part(self._context):
            so_far += (so_far | "Matches" >> Parts(_Match(self._context)),)
            so_far += (so_far | "Decide" >> Parts(_Decide(self._context)),)
        if account.MIX.takes_part(self._context):
            so_far += (so_far | "CountGroups" >> Parts(_Size(self._context)),)
            so_far += (so_far | "Mix" >> Parts(_Mix(self._context)),)
        so_far += (so_far | "AssembleUnit" >> Parts(_Assemble(self._context, self._output)),)
        return so_far[len(found) :] | "Sent" >> beam.Flatten()


class Publish(beam.PTransform):
    """All that was sent to the digest of the version that holds it all: see `publish_version`.

    Where there is an `output`, `finish`.
    """

    def __init__(self, context: Context, output: Output | None = None) -> None:
        super().__init__()
        self._context, self._output = context, output

    def expand(self, sent) -> Messages:
        return tuple(sent) | "PublishVersion" >> Parts(_Publish(self._context, self._output))


class _Work(beam.DoFn):
    """A part of a step: opens what came for it, works, and reports."""

    step: Step

    def __init__(self, context: Context) -> None:
        self.context = context

    def setup(self) -> None:
        _end_with_runner()

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        number, messages = element
        with status.working(self.context):
            cache.check_still(self.context.work, self.context.run)
            part = Part(self.step, number, self.context)
            yield from self.work(part, part.open(messages))
            yield part.report()

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        """Messages to others. Where something was lost on the way here, make what can be made: the account tells."""
        raise NotImplementedError

    def load(self, payloads: Iterable[bytes], record: np.dtype) -> np.ndarray:
        """The records of all payloads of `select.store`."""
        return _together([select.load(item, self.context.work, record) for item in payloads], record)


@functools.cache
def _end_with_runner() -> None:
    """Processes that Beam's local runner has started would outlive it when it is killed."""
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main is not None and main.name == _WORKER_PROCESS:
        end_with_parent()


class Parts(beam.PTransform):
    """Whatever of some collections of messages is for a step, grouped by part and worked on."""

    def __init__(self, work: _Work) -> None:
        super().__init__()
        self._work = work

    def display_data(self) -> dict[str, Any]:
        """The step's name and how many parts it has, for the runner's page."""
        step, context = self._work.step, self._work.context
        return {"step": step.name, "parts": step.parts(context)}

    def expand(self, sent) -> Messages:
        return self.delivered(self.addressed(sent)) | "Work" >> beam.ParDo(self._work).with_output_types(bytes)

    def addressed(self, sent) -> beam.PCollection[tuple[int, bytes]]:
        """The step's messages, each with the number of its part."""
        step = self._work.step
        per = self._work.context.units_per_block if step.by_block else 1
        pick = beam.FlatMap(_addressed, frozenset(int(kind) for kind in step.reads), per)
        return sent | "All" >> beam.Flatten() | "Address" >> pick.with_output_types(tuple[int, bytes])

    def delivered(self, addressed: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection:
        """Each part with all of its messages."""
        return addressed | "Deliver" >> beam.GroupByKey()


def _addressed(message: bytes, kinds: frozenset[int], per: int) -> Iterator[tuple[int, bytes]]:
    if kind_of(message) in kinds:
        yield receiver_of(message) // per, message


class _List(_Work):
    step = account.LIST

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        for name in inbox[Kind.LISTED]:
            for line in cache.load_payload(self.context.work, name.decode()).split(b"\n"):
                yield part.send(Kind.UNIT, *listed_unit(line, self.context.config))


class _Survey(_Work):
    step = account.SURVEY

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        for data in inbox[Kind.UNIT]:
            found = survey_unit(Unit.from_dict(json.loads(data)), self.context)
            if account.CHOOSE_CUTS.takes_part(self.context):
                for number, mine in enumerate(lines.partition_lines(found.lines, self.context.num_partitions)):
                    for piece in _pieces(mine):
                        yield part.send(Kind.LINES, number, select.store(piece, self.context.work))
            if account.CHOOSE_RUNS.takes_part(self.context):
                for piece in _pieces(found.runs):
                    yield part.send(Kind.RUNS, 0, select.store(piece, self.context.work))


class _ChooseCuts(_Work):
    step = account.CHOOSE_CUTS

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        cuts = choose_cuts(self.load(inbox[Kind.LINES], lines.RECORD), self.context)
        cuts = cuts[np.argsort(cuts["unit"], kind="stable")]
        for unit, start, end in select.runs(cuts["unit"]):
            yield part.send(Kind.CUTS, unit, cuts[start:end].tobytes())


class _ChooseRuns(_Work):
    step = account.CHOOSE_RUNS

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        by_unit, lines_of_report = choose_ignored(self.load(inbox[Kind.RUNS], RUN), self.context)
        part.facts = {"lines": lines_of_report}
        for unit, ignored in by_unit.items():
            yield part.send(Kind.IGNORED, unit, ignored.tobytes())


class _Prepare(_Work):
    step = account.PREPARE

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        cuts = ignored = None
        if account.CHOOSE_CUTS.takes_part(self.context):
            cuts = _together([np.frombuffer(item, lines.CUT) for item in inbox[Kind.CUTS]], lines.CUT)
            cuts = cuts[np.lexsort((cuts["line"], cuts["document"]))]
        if account.CHOOSE_RUNS.takes_part(self.context):
            ignored = _together([np.frombuffer(item, GRAM) for item in inbox[Kind.IGNORED]], GRAM)
        for data in inbox[Kind.UNIT]:
            unit = Unit.from_dict(json.loads(data))
            prepared = prepare_unit(unit, self.context, cuts, ignored)
            part.notes = {"reused": int(prepared.reused), "remade": int(prepared.remade)}
            metrics.count("prepare", documents_read=prepared.documents_read, units=1, **part.notes)
            read = {"read": prepared.documents_read, "reused": int(prepared.reused)}
            tokens = prepared.tokens_tokenized
            status.note(self.context, progress.PREPARE, unit.index, unit.num_bytes, documents=read, tokens=tokens)
            yield part.send(Kind.PREPARED, unit.index, prepared.to_bytes())


class _Select(_Work):
    step = account.SELECT

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        found = [select.select_signatures(PreparedUnit.from_bytes(data), self.context) for data in inbox[Kind.PREPARED]]
        records = _together(found, exact.RECORD)
        for number, mine in enumerate(partition(records, "h2", self.context.num_partitions)):
            for piece in _pieces(mine):
                yield part.send(Kind.SIGNATURES, number, select.store(piece, self.context.work))


class _FindCopies(_Work):
    step = account.DEDUPLICATE

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        records = self.load(inbox[Kind.SIGNATURES], exact.RECORD)
        part.facts = {"documents": len(records), "copies": 0}
        for unit, copies in select.find_copies(records):
            part.facts["copies"] += len(copies)
            yield part.send(Kind.COPIES, unit, copies.tobytes())
        metrics.count("deduplicate", **part.facts)


class _SelectBands(_Work):
    step = account.SELECT_BANDS

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        units = [PreparedUnit.from_bytes(data) for data in inbox[Kind.PREPARED]]
        records = _together([select.select_bands(prepared, self.context) for prepared in units], clusters.BAND)
        for number, mine in enumerate(partition(records, "key", self.context.num_partitions)):
            for piece in _pieces(mine):
                yield part.send(Kind.BANDS, number, select.store_bands(piece, units, self.context.work))


class _FindEdges(_Work):
    step = account.FIND_EDGES

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        loaded = [select.load_bands(item, self.context.work) for item in inbox[Kind.BANDS]]
        records = _together([found for found, _ in loaded], clusters.BAND)
        edges = select.find_edges(records, [unit for _, units in loaded for unit in units], self.context)
        metrics.count("near", bands=len(records), edges=len(edges))
        for piece in _pieces(edges):
            yield part.send(Kind.EDGES, 0, select.store(piece, self.context.work))


class _Resolve(_Work):
    step = account.RESOLVE

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        dropped = clusters.resolve(self.load(inbox[Kind.EDGES], clusters.EDGE))
        for unit, start, end in select.runs(dropped["unit"]):
            yield part.send(Kind.NEAR, unit, dropped[start:end].tobytes())


class _Match(_Work):
    step = account.MATCH

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        for data in inbox[Kind.PREPARED]:
            records = matches_that_stay(PreparedUnit.from_bytes(data), _found(inbox), self.context)
            for piece in _pieces(records):
                yield part.send(Kind.MATCHES, 0, select.store(piece, self.context.work))


class _Decide(_Work):
    step = account.DECIDE

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        settings, index = index_of(self.context)
        records = self.load(inbox[Kind.MATCHES], MATCH)
        decision = decide(records, index, share=settings.share, max_documents=settings.max_documents)
        part.facts = {"lines": report(decision.report, self.context)}
        held = decision.documents
        for unit, start, end in select.runs(held["unit"]):
            documents = held["document"][start:end].astype(select.DOCUMENT)
            yield part.send(Kind.HELD, unit, documents.tobytes())


class _Size(_Work):
    step = account.SIZE

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        for data in inbox[Kind.PREPARED]:
            sizes = count_groups(PreparedUnit.from_bytes(data), _found(inbox), self.context)
            yield part.send(Kind.SIZES, 0, to_json(sizes))


class _Mix(_Work):
    """One part, which answers every unit, so that no unit is assembled before the weights are known."""

    step = account.MIX

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        assert self.context.config.mixing is not None, "the build mixes"
        total: Counter[str] = Counter()
        for item in inbox[Kind.SIZES]:
            total.update(json.loads(item))
        if len(inbox[Kind.SIZES]) < self.context.planned.messages:
            return  # a group may have been lost, and would have no weight
        weights = mix(total, self.context.config.mixing)
        part.facts = {
            "lines": [{"group": name, "tokens": total[name], "weight": weight} for name, weight in weights.items()]
        }
        for unit in range(self.context.planned.messages):
            yield part.send(Kind.WEIGHTS, unit, to_json(weights))


class _Assemble(_Work):
    step = account.ASSEMBLE

    def __init__(self, context: Context, output: Output | None) -> None:
        super().__init__(context)
        self._output = output

    def work(self, part: Part, inbox: dict[Kind, list[bytes]]) -> Iterator[bytes]:
        if account.MIX.takes_part(self.context) and not inbox[Kind.WEIGHTS]:
            return  # they were lost
        weights = json.loads(inbox[Kind.WEIGHTS][0]) if inbox[Kind.WEIGHTS] else {}
        for data in inbox[Kind.PREPARED]:
            prepared, found = PreparedUnit.from_bytes(data), _found(inbox)
            if self._output is not None:
                cleaned = write_texts(prepared, found, self.context, self._output, weights=weights)
                ledger = cleaned.ledger
                yield part.send(Kind.RESULT, 0, cleaned.to_bytes())
            else:
                assembled = assemble_unit(prepared, found, self.context, weights=weights)
                ledger = assembled.ledger
                dropped = sum(ledger.documents_dropped.values())
                metrics.count("assemble", documents_kept=ledger.documents_kept, documents_dropped=dropped)
                yield part.send(Kind.RESULT, 0, assembled.to_bytes())
            status.note(
                self.context,
                progress.ASSEMBLE,
                prepared.unit,
                prepared.num_bytes,
                documents={"kept": ledger.documents_kept},
                dropped={**ledger.documents_dropped, **ledger.documents_quarantined},
            )


class _Publish(_Work):
    """Yields the digest, or `done`: nobody reads it, since not every runner hands results back."""

    step = account.PUBLISH

    def __init__(self, context: Context, output: Output | None) -> None:
        super().__init__(context)
        self._output = output

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        number, messages = element
        part = Part(self.step, number, self.context)
        inbox = part.open(messages)
        balanced = balance(inbox[Kind.REPORT], part.received(Kind.RESULT), self.context)
        results = inbox[Kind.RESULT]
        if self._output is not None:
            finish([CleanedUnit.from_bytes(item) for item in results], self.context, self._output, balanced)
            yield b"done"
        else:
            yield publish_version([AssembledUnit.from_bytes(item) for item in results], self.context, balanced).encode()


def _pieces(records: np.ndarray) -> Iterator[np.ndarray]:
    """The records in pieces of at most `select.MAX_PAYLOAD_BYTES`; one without records where there are none."""
    step = select.MAX_PAYLOAD_BYTES // records.itemsize
    for start in range(0, max(1, len(records)), step):
        yield records[start : start + step]


def _found(inbox: dict[Kind, list[bytes]]) -> Found:
    """What has come together about the documents of one unit."""

    def found(kind: Kind, record: np.dtype) -> np.ndarray:
        return _together([np.frombuffer(item, record) for item in inbox.get(kind, ())], record)

    return Found(
        copies=found(Kind.COPIES, select.COPIES),
        near=found(Kind.NEAR, clusters.EDGE),
        contaminated=found(Kind.HELD, select.DOCUMENT),
    )


def _together(arrays: Iterable[np.ndarray], record: np.dtype) -> np.ndarray:
    """All of them in one; without any, an empty one."""
    return np.concatenate([np.zeros(0, record), *arrays])
