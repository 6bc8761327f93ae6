"""`premask add`: a version with more documents. Only the new files are read.

    settings     the version's own, from its manifest; what was a path in the build's file is not there
    units        of the new files alone, by the rules of the first build, numbered behind those that there are
    duplicates   among the new documents, and of those that the version holds: these stay, see `known`
    shards       of the new documents alone, behind those of the version, whose files are shared by name
    reports      ledger, funnel, counts of [UNK], packing and audit: the version's and what is new, added up

The steps are those of a build, and so are their functions; here they run in the threads of this process. Whatever needs
all documents of a corpus sees the new ones: lines that many share, and n-grams that are too common to be an
evaluation's, are counted among them; weights of `mixing` count the version's tokens, too.

Memory: that of a build's workers, and 24 bytes for each new document, or 300 where near duplicates are looked for.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from mlm_data.build import cache
from mlm_data.build.account import DEDUPLICATE, Account
from mlm_data.build.add_settings import Request, Settled, check_tokenizer, settle_request
from mlm_data.build.assemble import Found, assemble_unit, count_groups, matches_that_stay
from mlm_data.build.context import Context
from mlm_data.build.evaluations import index_of, report
from mlm_data.build.known import Known
from mlm_data.build.plan import signature_partitions
from mlm_data.build.prepare import document_ids, open_prepared, prepare_unit
from mlm_data.build.publish import add_up, plain_example, with_places
from mlm_data.build.records import AssembledUnit, PreparedUnit
from mlm_data.build.select import COPIES, DOCUMENT, find_copies, find_edges, runs, select_bands, select_signatures
from mlm_data.build.survey import GRAM, Ignored, choose_cuts, choose_ignored, survey_unit
from mlm_data.build.units import Plan, plan_units
from mlm_data.build.weights import mix, most_copies
from mlm_data.config import semantic
from mlm_data.dataset.check import count_masks
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.documents import documents_files
from mlm_data.dataset.forgotten import LIST, current_list, parse_list, write_list
from mlm_data.dataset.funnel import Example, Funnel
from mlm_data.dataset.gates import add_audits, add_packings, judge_masks, library_versions, side_facts
from mlm_data.dataset.heritage import (
    COUNTS,
    attachments_of,
    compression_of,
    read_counts,
    shard_records,
    signatures_of,
    write_counts,
)
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import Manifest, build_manifest
from mlm_data.dataset.publish import check_output, current_version, publish
from mlm_data.dataset.unknown import Unknown
from mlm_data.duplicates import clusters, exact, lines
from mlm_data.duplicates.decontaminate import decide
from mlm_data.errors import BuildError, ConfigError
from mlm_data.hashing import ids_to_arrow
from mlm_data.hiding import hidden
from mlm_data.rows.packing import PackingStatistics
from mlm_data.stores.places import public
from mlm_data.text.inputs import some
from mlm_data.types import Unit

A = TypeVar("A")
Progress = Callable[[int, int], None]  # (steps done, all steps)


@dataclass(frozen=True, kw_only=True)
class Added:
    """What has come of the new files."""

    manifest: Manifest | None  # None: no document was new, and the version stays what it is
    ledger: Ledger  # of the new files alone
    num_files: int  # that were read
    num_skipped: int  # whose sources the version has already
    num_bytes: int  # of the files, as stored
    num_tokens: int = 0  # in new rows, special tokens included
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What there is to do, and with what."""

    parent: Dataset
    settled: Settled
    plan: Plan
    context: Context
    known: Known
    workers: int
    tell: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Assembled:
    """What the new units have become, and what was found by looking at all of them."""

    units: tuple[AssembledUnit, ...]
    account: Account  # all is in one process: there is nothing between steps, but every document was compared
    reports: dict[str, list[dict[str, Any]]]


def add(
    parent: Dataset,
    request: Request,
    *,
    current: str | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Added:
    """Publish a version that holds a version's documents and those of some files.

    Args:
        parent: the version.
        request: the files, and how they are read.
        current: the version that must still be the current one at the end; None: whichever is when the work begins.
        workers: threads.
        progress: told how far it is.

    Raises:
        ConfigError: for settings that can't be right, files that are there already, or a version that can't be added
            to.
        InputError: a file can't be read, or none matches.
        BuildError: a gate of the build stays shut; nothing is published.
        StorageError: if another version was published in the meantime.
    """
    folder = parent.folder
    check_output(folder)
    cache.clear_output(folder)
    current = current_version(folder, current)
    settled = settle_request(parent, request)
    known = Known(parent, settled.config)
    plan = _plan(parent, settled, request)
    skipped, size = len(plan.skipped), sum(unit.num_bytes for unit in plan.units)
    warnings = (*plan.warnings, *_told(settled))
    if not plan.units:
        return Added(
            manifest=None, ledger=Ledger(), num_files=0, num_skipped=skipped, num_bytes=0, warnings=plan.warnings
        )
    units = tuple(_renumbered(unit, known.next_unit, settled.number) for unit in plan.units)
    plan = replace(plan, units=units)
    steps = iter(range(1, 2 * len(units) + 1))
    work = _Work(
        parent=parent,
        settled=settled,
        plan=plan,
        context=_context(parent, settled, plan),
        known=known,
        workers=workers,
        tell=lambda: progress(next(steps), 2 * len(units)) if progress else None,
    )
    done = _assemble(work)
    ledger, quarantine = add_up(done.units, work.context, done.account)
    added = Added(
        manifest=None,
        ledger=ledger,
        num_files=len(plan.files),
        num_skipped=skipped,
        num_bytes=size,
        num_tokens=sum(shard.num_tokens for unit in done.units for shard in unit.shards),
        warnings=warnings,
    )
    if not ledger.documents_kept:
        return added
    return replace(added, manifest=_publish(work, done, ledger, quarantine, current, request))


def _plan(parent: Dataset, settled: Settled, request: Request) -> Plan:
    """The new files in units; their numbers and inputs are still those of a build of them alone."""
    inputs = tuple(settled.settings.model_copy(update={"path": path}) for path in request.paths)
    reading = settled.config.model_copy(update={"inputs": inputs})
    plan = plan_units(reading, **parent.manifest.plan, known=known_sources(parent))
    if plan.skipped and not request.skip_known:
        raise ConfigError(
            f"{parent.folder.location}: has documents of {some(plan.skipped)} already: name new files alone, or say "
            "--skip-known to leave such files out, or --set name=WORD if others are meant: it is put before their names"
        )
    return plan


def known_sources(dataset: Dataset) -> frozenset[str]:
    """The sources of a version's documents."""
    names: set[str] = set()
    for file in documents_files(dataset):
        for chunk in file.read("source")["source"].chunks:
            names.update(chunk.dictionary.to_pylist())
    return frozenset(names)


def _renumbered(unit: Unit, first: int, number: int) -> Unit:
    pieces = tuple(replace(piece, input=number) for piece in unit.slices)
    return replace(unit, index=first + unit.index, slices=pieces)


def _told(settled: Settled) -> Iterator[str]:
    """What a user may expect otherwise."""
    if settled.config.deduplicate.lines is not None:
        yield "deduplicate.lines: lines are counted among the new documents alone"
    if settled.config.decontaminate is not None:
        yield "decontaminate.max_documents: n-grams are counted among the new documents alone"
    if settled.config.mixing is not None:
        yield "mixing: the weights are for the new documents alone; the others stay as often as they are there"


def _context(parent: Dataset, settled: Settled, plan: Plan) -> Context:
    context = Context(
        config=settled.config.model_copy(update={"compression": compression_of(parent)}),
        tokenizer_sha256=parent.manifest.tokenizer["sha256"],
        num_partitions=signature_partitions(plan),
        unit_bytes=plan.unit_bytes,
        group_modulus=plan.group_modulus,
        versions=library_versions(),
        assets=settled.assets,
        forgotten=_forgotten(parent),
    )
    check_tokenizer(parent, context.reference())
    return context


def _forgotten(parent: Dataset) -> str:
    """Name of the list of what the version, or the dataset's current one, has forgotten."""
    folder = parent.folder
    name = current_list(folder)
    current = parse_list(folder.read(name), where=f"{folder.location}/{name}") if name else set()
    mine = parse_list(attachments_of(parent).get(LIST, b""), where=f"{folder.location}: {LIST}")
    if mine <= current:
        return name
    folder.write(f"work/{LIST}", write_list(mine | current))
    return f"work/{LIST}"


def _assemble(work: _Work) -> _Assembled:
    """All steps from units to shards."""
    context, units = work.context, work.plan.units
    reports: dict[str, list[dict[str, Any]]] = {}
    cuts, ignored = _survey(work, reports)

    def prepare(unit: Unit) -> PreparedUnit:
        return prepare_unit(
            unit,
            context,
            None if cuts is None else cuts.get(unit.index, np.zeros(0, lines.CUT)),
            None if ignored is None else ignored.get(unit.index, np.zeros(0, GRAM)),
        )

    with ThreadPoolExecutor(work.workers, thread_name_prefix="premask-add") as pool:
        prepared = list(_each(pool.map(prepare, units), work.tell))
        signatures = np.concatenate(list(pool.map(lambda unit: select_signatures(unit, context), prepared)))
        copies = _copies(work, signatures)
        near = _near(work, prepared, pool) if context.config.deduplicate.near is not None else {}
        found = {
            unit.unit: Found(
                copies=copies.get(unit.unit, np.zeros(0, COPIES)),
                near=near.get(unit.unit, np.zeros(0, clusters.EDGE)),
            )
            for unit in prepared
        }
        if context.config.decontaminate is not None and not context.config.cuts_evaluations:
            found = _without_evaluations(work, prepared, found, pool, reports)
        weights = _weights(work, prepared, found, pool, reports) if context.config.mixing is not None else {}
        if not context.config.deduplicate.exact:
            found = {unit.unit: _counted_on(work, unit, found[unit.unit], weights) for unit in prepared}
        assembled = tuple(
            _each(
                pool.map(lambda unit: assemble_unit(unit, found[unit.unit], context, weights=weights), prepared),
                work.tell,
            )
        )
    facts = {"documents": len(signatures), "copies": sum(len(copies.get(unit.unit, ())) for unit in prepared)}
    return _Assembled(units=assembled, account=Account(facts={DEDUPLICATE.name: [facts]}), reports=reports)


def _each(results: Iterable[A], tell: Callable[[], None]) -> Iterator[A]:
    for one in results:
        tell()
        yield one


def _by_unit(records: np.ndarray) -> dict[int, np.ndarray]:
    """Records of each unit, which they are sorted by."""
    return {unit: records[start:end] for unit, start, end in runs(records["unit"])}


def _survey(
    work: _Work, reports: dict[str, list[dict[str, Any]]]
) -> tuple[dict[int, lines.Cuts] | None, dict[int, Ignored] | None]:
    """(lines to cut, runs of evaluations to leave) of each unit; None where such are not looked at."""
    context, cuts, ignored = work.context, None, None
    if not context.config.is_surveyed:
        return cuts, ignored
    with ThreadPoolExecutor(work.workers) as pool:
        surveyed = list(pool.map(lambda unit: survey_unit(unit, context), work.plan.units))
    if context.config.deduplicate.lines is not None:
        seen = np.concatenate([one.lines for one in surveyed])
        found = np.concatenate(
            [choose_cuts(part, context) for part in lines.partition_lines(seen, context.num_partitions)]
        )
        cuts = _by_unit(found[np.lexsort((found["line"], found["document"], found["unit"]))])
    if context.config.cuts_evaluations:
        ignored, new = choose_ignored(np.concatenate([one.runs for one in surveyed]), context)
        reports["evaluations"] = _added_evaluations(work.parent.manifest.ledger.get("evaluations", []), new)
    return cuts, ignored


def _copies(work: _Work, new: exact.Records) -> dict[int, np.ndarray]:
    """Later copies of each unit: of new documents, and of those that the version holds."""
    held = work.known.ids(np.stack([new["h1"], new["h2"]], axis=1))
    return dict(find_copies(np.concatenate([held, new])))


def _counted_on(work: _Work, unit: PreparedUnit, found: Found, weights: dict[str, float]) -> Found:
    """Copies that stay are numbered behind those that the version holds."""
    ids = document_ids(open_prepared(unit, work.context))[found.copies["document"]]
    held = work.known.copies(ids)
    if not held:
        return found
    places = pa.compute.index_in(ids_to_arrow(ids), value_set=pa.array(list(held), pa.binary(16))).fill_null(len(held))
    before = np.array([*held.values(), 0]) // most_copies(work.context.config, weights)
    copies = found.copies.copy()
    copies["copy"] += before[places.to_numpy()].astype(np.int32)
    return replace(found, copies=copies)


def _near(work: _Work, prepared: Sequence[PreparedUnit], pool: ThreadPoolExecutor) -> dict[int, clusters.Edges]:
    """Near duplicates of each unit; no edge leads away from what the version holds."""
    context, known = work.context, work.known
    new = np.concatenate(list(pool.map(lambda unit: select_bands(unit, context), prepared)))
    edges = find_edges(np.concatenate([known.bands(new["key"]), new]), prepared, context, known.members)
    return _by_unit(clusters.resolve(edges))


def _without_evaluations(
    work: _Work,
    prepared: Sequence[PreparedUnit],
    found: dict[int, Found],
    pool: ThreadPoolExecutor,
    reports: dict[str, list[dict[str, Any]]],
) -> dict[int, Found]:
    context = work.context
    records = np.concatenate(list(pool.map(lambda unit: matches_that_stay(unit, found[unit.unit], context), prepared)))
    settings, index = index_of(context)
    decision = decide(records, index, share=settings.share, max_documents=settings.max_documents)
    reports["evaluations"] = _added_evaluations(
        work.parent.manifest.ledger.get("evaluations", []), report(decision.report, context)
    )
    held = _by_unit(decision.documents)
    return {
        unit: replace(one, contaminated=held[unit]["document"].astype(DOCUMENT) if unit in held else one.contaminated)
        for unit, one in found.items()
    }


def _added_evaluations(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Contaminated documents add up; an item that was found in both counts as found once, so the larger number is kept:
    it is at least so many.
    """
    before = {line["file"]: line for line in old}
    joined = []
    for line in new:
        mine = before.get(line["file"])
        if mine is not None:
            line = line | {
                "documents": line["documents"] + mine["documents"],
                "found": max(line["found"], mine["found"]),
            }
        joined.append(line)
    return joined


def _weights(
    work: _Work,
    prepared: Sequence[PreparedUnit],
    found: dict[int, Found],
    pool: ThreadPoolExecutor,
    reports: dict[str, list[dict[str, Any]]],
) -> dict[str, float]:
    """Weights of the groups, as if the version's documents and the new ones were mixed together."""
    context, settings = work.context, work.context.config.mixing
    assert settings is not None, "the build mixes"
    total: Counter[str] = Counter(
        {line["group"]: line["tokens"] for line in work.parent.manifest.ledger.get("mixing", [])}
    )
    for counts in pool.map(lambda unit: count_groups(unit, found[unit.unit], context), prepared):
        total.update(counts)
    weights = mix(total, settings)
    reports["mixing"] = [{"group": name, "tokens": total[name], "weight": weight} for name, weight in weights.items()]
    return weights


def _publish(
    work: _Work,
    done: _Assembled,
    ledger: Ledger,
    quarantine: Sequence[Any],
    current: str | None,
    request: Request,
) -> Manifest:
    """Add everything up, and make the version visible."""
    parent, context, old = work.parent, work.context, work.parent.manifest
    folder, config, where = parent.folder, work.settled.config, work.parent.folder.location
    unknown = sum((unit.unknown for unit in done.units), Unknown())
    if problem := unknown.failure(config.tokenizer.max_unknown):
        raise BuildError(f"{where}: {problem}")
    shards = [*shard_records(parent), *(shard for unit in done.units for shard in unit.shards)]
    new_signatures = [unit.signatures for unit in done.units if unit.signatures]
    audits = add_audits(
        [read_counts(parent) or count_masks(parent, workers=work.workers), *(unit.audit for unit in done.units)]
    )
    packings = [_packing(parent), *(unit.packing for unit in done.units)]
    attached = attachments_of(parent)
    funnel = _funnel(work, done, attached)
    manifest, files = build_manifest(
        config=semantic(config, context.assets),
        tokenizer=old.tokenizer,
        shards=shards,
        signatures=[*signatures_of(parent), *new_signatures],
        ledger=Ledger.from_dict(old.ledger) + ledger,
        audit=judge_masks([audits], config.mask, seed=config.seed, where=where),
        packing=add_packings(packings),
        plan=old.plan,
        unknown=old.unknown + unknown if "unknown" in old.ledger else None,
        funnel=funnel if "funnel" in old.ledger else None,
        reports=done.reports,
    )
    facts = side_facts(folder, manifest.digest, made_by="add", parent=parent.digest, versions=dict(library_versions()))
    named = {"name": config.name, "inputs": [public(item.path) for item in config.inputs]}
    asked = {"paths": [public(path) for path in request.paths], "set": [hidden(one) for one in request.overrides]}
    publish(
        folder,
        manifest,
        files,
        tokenizer=parent.tokenizer(),
        side={**facts, **named, "asked": asked},
        attachments=_attachments(attached, funnel, quarantine, context) | {COUNTS: write_counts(audits)},
        expected=current,
    )
    return manifest


def _packing(parent: Dataset) -> dict[str, PackingStatistics]:
    """The packing of each split, as the manifest has it."""
    return {
        split: PackingStatistics.from_dict({name: value for name, value in facts.items() if name != "fullness"})
        for split, facts in parent.manifest.packing.items()
    }


def _funnel(work: _Work, done: _Assembled, attached: dict[str, bytes]) -> Funnel:
    """The version's funnel and that of the new files, with examples that say which document stayed instead."""
    new = sum((unit.funnel for unit in done.units), Funnel())
    there = {one.near for one in new.examples if one.near is not None and one.near[0] < work.known.next_unit}
    places = work.known.places(there)
    examples = tuple(
        replace(one, kept=places[one.near], near=None) if one.near in places else one for one in new.examples
    )
    new = with_places(replace(new, examples=examples), done.units, work.context)
    before = tuple(Example(**json.loads(line)) for line in attached.get("dropped.jsonl", b"").splitlines())
    return replace(work.parent.manifest.funnel, examples=before) + new


def _attachments(
    attached: dict[str, bytes], funnel: Funnel, quarantine: Sequence[Any], context: Context
) -> dict[str, bytes]:
    """The version's further files, with what is new in them."""
    lines_of = {
        "quarantine.jsonl": attached.get("quarantine.jsonl", b"")
        + "".join(json.dumps(item) + "\n" for item in quarantine).encode(),
        "dropped.jsonl": "".join(json.dumps(plain_example(one)) + "\n" for one in funnel.examples).encode(),
        LIST: context.folder.read(context.forgotten) if context.forgotten else b"",
    }
    return {**attached, **{name: data for name, data in lines_of.items() if data}}
