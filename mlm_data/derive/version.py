"""A version made from another one: what it shares with it, what is new, and the gates that both went through.

Files are named by their content, so what a new version shares with its parent is not copied, not even opened for
writing: the new file table names the same files. A command makes the new files, shard by shard, and `derive_version`
adds them up, judges the masks, balances the ledger and publishes. Until then nothing is visible; a crash leaves the
parent as it was, and some files that no version names.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.funnel import Funnel
from mlm_data.dataset.gates import add_audits, add_packings, judge_masks, library_versions, side_facts
from mlm_data.dataset.heritage import COUNTS, attachments_of, file_record, read_counts, signatures_of, write_counts
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import Manifest, build_manifest
from mlm_data.dataset.publish import publish
from mlm_data.dataset.unknown import Unknown
from mlm_data.errors import BuildError, FormatError
from mlm_data.rows.audit_counts import AuditCounts
from mlm_data.shards import format as fmt
from mlm_data.shards.assemble import AssembledShard
from mlm_data.shards.planes import mask_settings
from mlm_data.shards.reader import Shard
from mlm_data.shards.records import ShardRecord, SignaturesRecord

ACCOUNTS = frozenset(
    {"bytes", "documents", "tokens", "unknown", "funnel"}
)  # in a ledger; what else is there is reports


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a version differs in from its parent, beside its shards. None: as the parent has it."""

    made_by: str  # the command
    current: str | None  # the dataset's current version when the work began: of `publish.current_version`
    config: Mapping[str, Any]  # the semantic configuration
    ledger: Ledger | None = None
    unknown: Unknown | None = None
    funnel: Funnel | None = None
    signatures: Sequence[SignaturesRecord] | None = None
    attachments: Mapping[str, bytes] | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)  # what the user asked for, for the side file


def derive_version(parent: Dataset, shards: Iterable[AssembledShard], *, change: Change) -> Manifest:
    """Publish a version that is made of these shards, with the gates of a build.

    Args:
        parent: the version that it is made from.
        shards: all of the new version's, in the order of units for each split; those without counts are the parent's,
            and what the parent's manifest says of a split holds if none of its shards has counts.
        change: what else is new.

    Raises:
        BuildError: if the ledger does not balance or the audit of the masks fails; nothing is published.
        StorageError: if another version was published since `change.current`.
    """
    shards = list(shards)
    folder, old = parent.folder, parent.manifest
    settings, seed = mask_settings(change.config), int(change.config["seed"])
    where = folder.location
    audited = add_audits({shard.record.split: shard.audit} for shard in shards if shard.audit is not None)
    packed = ({shard.record.split: shard.packing} for shard in shards if shard.packing is not None)
    _check_counted(shards)
    tokenizer = parent.tokenizer()
    if hashlib.sha256(tokenizer).hexdigest() != old.tokenizer["sha256"]:
        raise FormatError(f"{where}: a byte of the tokenizer was changed: run premask verify")
    reports = {name: lines for name, lines in old.ledger.items() if name not in ACCOUNTS}
    manifest, files = build_manifest(
        config=change.config,
        tokenizer=old.tokenizer,
        shards=[shard.record for shard in shards],
        signatures=signatures_of(parent) if change.signatures is None else change.signatures,
        ledger=Ledger.from_dict(old.ledger) if change.ledger is None else change.ledger,
        audit={**old.audit, **judge_masks([audited], settings, seed=seed, where=where)},
        packing={**old.packing, **add_packings(packed)},
        plan=old.plan,
        unknown=old.unknown if change.unknown is None else change.unknown,
        funnel=old.funnel if change.funnel is None else change.funnel,
        reports=reports,
    )
    facts = side_facts(
        folder, manifest.digest, made_by=change.made_by, parent=parent.digest, versions=dict(library_versions())
    )
    publish(
        folder,
        manifest,
        files,
        tokenizer=tokenizer,
        side={**facts, "asked": dict(change.asked)},
        attachments=_attachments(parent, change, audited),
        expected=change.current,
    )
    return manifest


def _attachments(parent: Dataset, change: Change, audited: Mapping[str, AuditCounts]) -> dict[str, bytes]:
    """The further files of the new version; what the audit has counted of unchanged splits is the parent's."""
    files = dict(attachments_of(parent) if change.attachments is None else change.attachments)
    files.pop(COUNTS, None)
    counts = {**(read_counts(parent) or {}), **audited}
    if set(parent.manifest.audit) <= set(counts):
        files[COUNTS] = write_counts(counts)
    return dict(sorted(files.items()))


def record_of(dataset: Dataset, shard: Shard) -> ShardRecord:
    """What a new version's manifest needs to know of a shard that is there already.

    Cost: reads its segments and one bit a place for each plane.
    """
    lines = dataset.lines(shard.split, shard.index)
    planes = dataset.planes(shard.split)
    return ShardRecord(
        split=shard.split,
        unit=shard.unit,
        files=tuple(file_record(line) for line in lines),
        num_rows=shard.num_rows,
        num_tokens=lines[0]["num_tokens"],
        num_segments=sum(int(rows.segment_offsets[-1] - rows.segment_offsets[0]) for rows in shard.rows),
        num_documents=lines[2]["num_rows"],
        max_segments=max((int(rows.segments().max(initial=0)) for rows in shard.rows), default=0),
        max_targets={plane: max((masks.max_targets for masks in shard.masks(plane)), default=0) for plane in planes},
    )


def shards_of(dataset: Dataset) -> Iterator[Shard]:
    """All shards of a version, train before validation, in the order of their units."""
    for split in fmt.SPLITS:
        for index in range(dataset.num_shards(split)):
            yield dataset.shard(split, index)


def _check_counted(shards: Sequence[AssembledShard]) -> None:
    """Counts of half a split would be judged as if they were all."""
    for split in fmt.SPLITS:
        for name in ("audit", "packing"):
            counted = {getattr(shard, name) is not None for shard in shards if shard.record.split == split}
            if len(counted) > 1:
                raise BuildError(f"some {split} shards have no {name} counts, others have (a bug)")
