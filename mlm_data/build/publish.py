"""PUBLISH: add everything up, and make the version visible only if it adds up.

The gates, in order: a border between steps that does not balance (`account`); a field that no document has; compressed
files that break off; too much quarantined; a ledger that does not balance, alone or with the signatures; an audit of
the masks that fails; an empty split. A build that stops at one of them changes nothing that a reader can see.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from mlm_data.build import cache
from mlm_data.build.account import CHOOSE_RUNS, DECIDE, DEDUPLICATE, MIX, Account
from mlm_data.build.context import Context
from mlm_data.build.fields import absent_fields, add_counts
from mlm_data.build.progress import Totals
from mlm_data.build.records import AssembledUnit
from mlm_data.config import BuildConfig, semantic
from mlm_data.curation.thresholds import CONTAMINATED, EXACT_DUPLICATE, NEAR_DUPLICATE, THINNED
from mlm_data.dataset.documents import place_of
from mlm_data.dataset.forgotten import LIST
from mlm_data.dataset.funnel import Example, Funnel
from mlm_data.dataset.gates import add_audits, add_packings, judge_masks, side_facts, tokenizer_facts
from mlm_data.dataset.heritage import COUNTS, write_counts
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import build_manifest, latest
from mlm_data.dataset.publish import publish
from mlm_data.dataset.unknown import Unknown
from mlm_data.errors import BuildError
from mlm_data.stores.places import public
from mlm_data.text.blocks import TRUNCATED
from mlm_data.types import FieldCounts


def publish_version(results: Sequence[AssembledUnit], context: Context, account: Account) -> str:
    """Check the sum of all units, write the manifest, move LATEST; returns the digest.

    Args:
        results: of each unit of the plan, once.
        context: the build.
        account: what the steps have sent each other, balanced.

    Raises:
        BuildError: if a gate stays shut.
    """
    results = sorted(results, key=lambda item: item.unit)
    ledger, quarantine = add_up(results, context, account)
    unknown = sum((item.unknown for item in results), Unknown())
    if problem := unknown.failure(context.config.tokenizer.max_unknown):
        raise BuildError(f"{context.config.output}: {problem}")
    funnel = with_places(sum((item.funnel for item in results), Funnel()), results, context)
    config = context.config
    audits = add_audits(item.audit for item in results)
    audit = judge_masks([audits], config.mask, seed=config.seed, where=config.output)
    reference = context.reference()
    manifest, files = build_manifest(
        config=semantic(context.config, context.assets),
        tokenizer=tokenizer_facts(reference),
        shards=[shard for item in results for shard in item.shards],
        signatures=[item.signatures for item in results if item.signatures],
        ledger=ledger,
        audit=audit,
        packing=add_packings(item.packing for item in results),
        unknown=unknown,
        funnel=funnel,
        reports=_reports(account),
        plan={"unit_bytes": context.unit_bytes, "group_modulus": context.group_modulus},
    )
    cache.check_sign(context.work, context.run)
    overtaken = latest(context.folder)  # by another build into this folder, while this one ran
    publish(
        context.folder,
        manifest,
        files,
        tokenizer=reference.json_bytes,
        side=_side(manifest.digest, context),
        attachments=_attachments(quarantine, funnel, context) | {COUNTS: write_counts(audits)},
    )
    cache.note(
        context.work,
        context.run,
        {
            "digest": manifest.digest,
            "units": len(results),
            "reused": account.notes["reused"],
            "remade": account.notes["remade"],
            "totals": vars(Totals.of(ledger, account.notes["reused"])),
            "overtaken": overtaken if overtaken not in {None, manifest.digest, context.current} else "",
        },
    )
    return manifest.digest


class UnitResult(Protocol):
    """What any result of a unit says of itself."""

    @property
    def unit(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def fields(self) -> tuple[tuple[int, FieldCounts], ...]: ...
    @property
    def ledger(self) -> Ledger: ...


def add_up(results: Sequence[UnitResult], context: Context, account: Account) -> tuple[Ledger, list[Mapping[str, Any]]]:
    """The ledger of all units, and what was quarantined in reading order.

    Raises:
        BuildError: a field that no document has, too much that can't be read, or a ledger that doesn't balance, alone
            or with the signatures that were looked at.
    """
    ledger = sum((item.ledger for item in results), Ledger())
    if absent := absent_fields(context.config, add_counts(pair for item in results for pair in item.fields)):
        raise BuildError(absent[0])
    quarantine = list(read_quarantine(results, context))
    check_quarantine(ledger, quarantine, context.config)
    if problems := ledger.problems():
        raise BuildError(f"{context.config.output}: the ledger does not balance: {problems[0]}")
    check_signatures(ledger, account, context.config)
    return ledger, quarantine


def check_signatures(ledger: Ledger, account: Account, config: BuildConfig) -> None:
    """Every document that passed the thresholds was looked for among the others, and every copy was dropped.

    Raises:
        BuildError: one was not.
    """
    later = (EXACT_DUPLICATE, NEAR_DUPLICATE, CONTAMINATED, THINNED)
    dropped = ledger.documents_dropped
    passed = ledger.documents_kept - ledger.documents_repeated + sum(dropped.get(reason, 0) for reason in later)
    if (seen := account.add_up(DEDUPLICATE, "documents")) != passed:
        raise BuildError(f"{config.output}: {passed} documents passed, but {seen} were compared with the others")
    copies = account.add_up(DEDUPLICATE, "copies")
    if config.deduplicate.exact and copies != dropped.get(EXACT_DUPLICATE, 0):
        raise BuildError(f"{config.output}: {copies} copies found, but {dropped.get(EXACT_DUPLICATE, 0)} dropped")


def check_quarantine(ledger: Ledger, quarantine: Sequence[Mapping[str, Any]], config: BuildConfig) -> None:
    """Refuse a build that has lost more than it may.

    Args:
        ledger: of all units.
        quarantine: every `Quarantined` as a dict, in reading order.

    Raises:
        BuildError: names the first place of what was lost, and the remedy.
    """
    broken = [item for item in quarantine if item["reason"] == TRUNCATED]
    if len(broken) > config.max_truncated:
        files = "1 file breaks" if len(broken) == 1 else f"{len(broken)} files break"
        raise BuildError(
            f"{files} off, more than max_truncated = {config.max_truncated} allows; {_first(broken)}: download it "
            f"again, or set max_truncated: {len(broken)} to go on with what can be read"
        )
    lost = sum(item["lost_bytes"] or 0 for item in quarantine)
    counts = {
        "documents": (ledger.num_quarantined, ledger.documents_read),
        "bytes": (sum(item["num_bytes"] for item in quarantine) + lost, ledger.bytes_read + lost),
    }
    limit = config.max_quarantined
    for what, (number, total) in counts.items():
        if number > limit * total:
            reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.documents_quarantined.items())
            raise BuildError(
                f"{number} of {total} {what} ({number / total:.1%}) can't be read ({reasons}), more than "
                f"max_quarantined = {limit:g} allows; {_first(quarantine)}: mend the input or raise max_quarantined"
            )


def _first(quarantine: Sequence[Mapping[str, Any]]) -> str:
    first = quarantine[0]
    return f"the first: {first['source']} at {first['offset']}: {first['reason']} {first['detail']}".rstrip()


def read_quarantine(results: Sequence[UnitResult], context: Context) -> Iterator[Mapping[str, Any]]:
    """All that was quarantined in the units, in reading order."""
    for item in results:
        if item.ledger.num_quarantined:
            facts = cache.unit_facts(context.work, item.key)
            assert facts is not None, "this build has prepared it"
            yield from facts["quarantine"]


def _reports(account: Account) -> dict[str, list[dict[str, Any]]]:
    """What steps have found by looking at all documents."""
    names = {CHOOSE_RUNS: "evaluations", DECIDE: "evaluations", MIX: "mixing"}
    return {name: account.facts[step.name][0]["lines"] for step, name in names.items() if account.facts.get(step.name)}


def with_places(funnel: Funnel, results: Sequence[UnitResult], context: Context) -> Funnel:
    """The funnel with examples of near duplicates that say which document stayed instead."""
    keys = {item.unit: item.key for item in results}
    named = list(funnel.examples)
    for unit in sorted({one.near[0] for one in named if one.near is not None}):
        facts = cache.unit_facts(context.work, keys[unit])
        assert facts is not None, "this build has prepared it"
        table = cache.open_unit(context.work, keys[unit], facts["content"]).select(["source", "offset", "head"])
        for place, one in enumerate(funnel.examples):
            if one.near is not None and one.near[0] == unit:
                (row,) = table.slice(one.near[1], 1).to_pylist()
                kept = place_of(facts["sources"][row["source"]], row["offset"])
                named[place] = replace(one, kept=kept, kept_head=row["head"], near=None)
    return replace(funnel, examples=tuple(named))


def plain_example(example: Example) -> dict[str, Any]:
    """An example as `dropped.jsonl` has it."""
    return {name: value for name, value in asdict(example).items() if name != "near"}


def _attachments(quarantine: Sequence[Mapping[str, Any]], funnel: Funnel, context: Context) -> dict[str, bytes]:
    """One JSON line each: every quarantined document, with its place and reason; examples of dropped ones; and the
    marks of texts that were forgotten, which the next build is to know, too.
    """
    lines = {
        "quarantine.jsonl": [json.dumps(item) + "\n" for item in quarantine],
        "dropped.jsonl": [json.dumps(plain_example(example)) + "\n" for example in funnel.examples],
    }
    listed = {LIST: context.folder.read(context.forgotten)} if context.forgotten else {}
    return {name: "".join(items).encode() for name, items in lines.items() if items} | listed


def _side(digest: str, context: Context) -> dict[str, Any]:
    facts = side_facts(context.folder, digest, made_by="build", versions=dict(context.versions))
    return facts | {"name": context.config.name, "inputs": [public(item.path) for item in context.config.inputs]}
