"""PUBLISH: add everything up, and make the version visible only if it adds up.

The gates, in order: too much quarantined; a ledger that does not balance; an audit of the masks that fails; an empty
split. A build that stops at one of them changes nothing that a reader can see.
"""

import datetime
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlm_data.build import cache
from mlm_data.build.context import Context
from mlm_data.build.records import AssembledUnit
from mlm_data.config import semantic
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import build_manifest, latest
from mlm_data.dataset.publish import publish
from mlm_data.dataset.unknown import Unknown
from mlm_data.errors import BuildError, FormatError
from mlm_data.rows.audit import judge
from mlm_data.shards.format import SPLITS
from mlm_data.shards.planes import planes_of


def publish_version(results: Sequence[AssembledUnit], context: Context) -> str:
    """Check the sum of all units, write the manifest, move LATEST; returns the digest.

    Raises:
        BuildError: if a gate stays shut.
    """
    results = sorted(results, key=lambda item: item.unit)
    ledger = sum((item.ledger for item in results), Ledger())
    _check_quarantine(ledger, results, context)
    if problems := ledger.problems():
        raise BuildError(f"{context.config.output}: the ledger does not balance: {problems[0]}")
    unknown = sum((item.unknown for item in results), Unknown())
    if problem := unknown.failure(context.config.tokenizer.max_unknown):
        raise BuildError(f"{context.config.output}: {problem}")
    audit = _audit(results, context)
    reference = context.reference()
    roles = reference.roles
    manifest, files = build_manifest(
        config=semantic(context.config),
        tokenizer={
            "sha256": reference.sha256,
            "vocab_size": reference.vocab_size,
            "roles": {name: getattr(roles, name) for name in ("cls", "sep", "pad", "mask", "unk")},
        },
        shards=[shard for item in results for shard in item.shards],
        signatures=[item.signatures for item in results if item.signatures],
        ledger=ledger,
        audit=audit,
        packing=_packing(results),
        unknown=unknown,
        plan={"unit_bytes": context.unit_bytes, "group_modulus": context.group_modulus},
    )
    publish(
        context.folder,
        manifest,
        files,
        tokenizer=reference.json_bytes,
        side=_side(manifest.digest, context),
        attachments=_attachments(results, context),
    )
    cache.write_last(
        context.work,
        {
            "digest": manifest.digest,
            "units": len(results),
            "reused": sum(item.reused for item in results),
            "remade": sum(item.remade for item in results),
        },
    )
    return manifest.digest


def _check_quarantine(ledger: Ledger, results: Sequence[AssembledUnit], context: Context) -> None:
    limit = context.config.max_quarantined
    if ledger.num_quarantined > limit * ledger.documents_read:
        share = ledger.num_quarantined / ledger.documents_read
        first = next(_quarantine(results, context))
        reasons = ", ".join(f"{reason} {number}" for reason, number in ledger.documents_quarantined.items())
        raise BuildError(
            f"{ledger.num_quarantined} of {ledger.documents_read} documents ({share:.1%}) can't be read ({reasons}), "
            f"more than max_quarantined = {limit:g} allows; the first: {first['source']} at {first['offset']}: "
            f"{first['reason']} {first['detail']}".rstrip()
            + ": mend the input or raise max_quarantined"
        )


def _audit(results: Sequence[AssembledUnit], context: Context) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    for split in SPLITS:
        counts = [item.audit[split] for item in results if split in item.audit]
        if not counts:
            continue
        report = judge(sum(counts[1:], counts[0]), planes_of(split, context.config.mask, context.config.seed))
        if report.failures:
            raise BuildError(f"{context.config.output}: the audit of the masks failed ({split}): {report.failures[0]}")
        outcome[split] = {"warnings": list(report.warnings), "table": list(report.table)}
    return outcome


def _packing(results: Sequence[AssembledUnit]) -> dict[str, Any]:
    totals = {}
    for split in SPLITS:
        parts = [item.packing[split] for item in results if split in item.packing]
        if parts:
            total = sum(parts[1:], parts[0])
            totals[split] = total.to_dict() | {"fullness": round(total.fullness, 6)}
    return totals


def _quarantine(results: Sequence[AssembledUnit], context: Context) -> Iterator[Mapping[str, Any]]:
    for item in results:
        if item.ledger.num_quarantined:
            facts = cache.unit_facts(context.work, item.key)
            assert facts is not None, "this build has prepared it"
            yield from facts["quarantine"]


def _attachments(results: Sequence[AssembledUnit], context: Context) -> dict[str, bytes]:
    """Every quarantined document, with its place and reason, one JSON line each."""
    lines = [json.dumps(item) + "\n" for item in _quarantine(results, context)]
    return {"quarantine.jsonl": "".join(lines).encode()} if lines else {}


def _side(digest: str, context: Context) -> dict[str, Any]:
    try:
        parent = latest(context.folder)
    except FormatError:
        parent = None
    return {
        "parent": parent if parent != digest else None,
        "name": context.config.name,
        "published": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "process": os.getpid(),
        "python": platform.python_version(),
        "versions": dict(context.versions),
        "inputs": [item.path for item in context.config.inputs],
    }
