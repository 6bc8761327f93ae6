"""`premask remask`: other planes over the same rows.

Masks are drawn from what a shard holds: tokens, word starts, and ids and copies of documents. Priorities depend on
nothing else, so the masks are those of a build with the new settings, and so is the digest. Rows, documents, signatures
and validation shards are shared with the parent by hash.

Memory: for each thread a shard's rows and its new masks; a shard holds at most 2^22 content tokens, in
older datasets 2^25.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mlm_data.config import MaskSettings, semantic_mask
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.heritage import compression_of
from mlm_data.dataset.manifest import Manifest
from mlm_data.dataset.publish import current_version
from mlm_data.derive.version import Change, derive_version, record_of, shards_of
from mlm_data.rows.arrays import join_rows
from mlm_data.rows.audit_counts import AuditCounts, Vocabulary, count_shard
from mlm_data.rows.masking import Plane
from mlm_data.settings import parse_settings
from mlm_data.shards import format as fmt
from mlm_data.shards.assemble import AssembledShard, draw_planes, groups_of
from mlm_data.shards.planes import mask_settings, planes_of, vocabulary_of
from mlm_data.shards.reader import Shard
from mlm_data.shards.records import ShardRecord
from mlm_data.shards.writer import masks_table, write_table
from mlm_data.stores.folder import Folder
from mlm_data.threads import in_threads
from mlm_data.tokens.reference import Reference


def remask(
    parent: Dataset,
    changes: Mapping[str, Any],
    *,
    current: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Publish a version with other training planes over the same rows.

    Args:
        parent: the version whose rows they are.
        changes: fields of `mask` and their new values, such as `{"rate": 0.15, "kind": "whole_word", "planes": 8}`.
            A list of rates says how many planes there are, if `planes` doesn't.
        current: the version that must still be the current one at the end; None: whichever is when the work begins.
        workers: threads.
        progress: told (shards done, all shards).

    Raises:
        ConfigError: for settings that can't be right.
        BuildError: if the audit of the new masks fails; nothing is published.
        FormatError: if a file of the parent is damaged.
        StorageError: if another version was published in the meantime.
    """
    parent.folder.clear()  # what killed commands have left
    current = current_version(parent.folder, current)
    config = parent.manifest.config
    settings = change_masks(mask_settings(config), changes)
    planes = planes_of(fmt.TRAIN, settings, int(config["seed"]))
    reference, compression = parent.reference(), compression_of(parent)
    vocabulary = vocabulary_of(reference)

    def work(shard: Shard) -> AssembledShard:
        record = record_of(parent, shard)
        if shard.split != fmt.TRAIN:
            return AssembledShard(record=record)
        return remask_shard(
            shard,
            planes,
            parent.folder,
            reference=reference,
            record=record,
            vocabulary=vocabulary,
            compression=compression,
        )

    done: list[AssembledShard] = []
    total = sum(parent.num_shards(split) for split in fmt.SPLITS)
    for shard in in_threads(work, shards_of(parent), workers=workers):
        done.append(shard)
        if progress:
            progress(len(done), total)
    change = Change(
        made_by="remask",
        current=current,
        config={**config, "mask": semantic_mask(settings)},
        asked={name: list(value) if isinstance(value, tuple) else value for name, value in changes.items()},
    )
    return derive_version(parent, done, change=change)


def change_masks(settings: MaskSettings, changes: Mapping[str, Any]) -> MaskSettings:
    """Mask settings with some fields changed.

    A rate for all planes takes the place of a list, and a list brings its own number of planes.

    Raises:
        ConfigError: for a field that does not exist, or values that can't be right.
    """
    values = settings.model_dump() | dict(changes)
    if changes.get("kind", "ngram") != "ngram" and "ngram" not in changes:
        values.pop("ngram", None)  # of a parent with runs
    rate = values["rate"]
    if isinstance(rate, tuple | list):
        same = len(set(rate)) == 1 and "rate" not in changes
        if same:
            values["rate"] = rate[0]  # of a parent with one rate, so that the number of planes may change
        elif "planes" not in changes:
            values["planes"] = len(rate)
    return parse_settings(MaskSettings, values, where="mask")


def remask_shard(
    shard: Shard,
    planes: Mapping[str, Plane],
    folder: Folder,
    *,
    reference: Reference,
    record: ShardRecord,
    vocabulary: Vocabulary,
    compression: str = "none",
) -> AssembledShard:
    """Draw new masks for a shard and write them; its rows and documents stay the files that they are.

    Args:
        shard: an open shard.
        planes: what to draw, by plane name.
        folder: where the masks go.
        reference: the tokenizer: which ids are special, which a random token may be.
        record: of the shard as it is.
        vocabulary: what the audit knows of each id.
        compression: of the new file.

    Raises:
        FormatError: if a file is damaged.
    """
    rows_file, _, documents_file = record.files
    if not shard.rows:  # all of its documents are empty
        schema = fmt.masks_schema(shard.sequence_length, fmt.token_type(reference.vocab_size), list(planes))
        written = write_table(folder, fmt.MASKS, schema.empty_table(), compression=compression)
        files = (rows_file, written, documents_file)
        return AssembledShard(
            record=replace(record, files=files, max_targets=dict.fromkeys(planes, 0)), audit=AuditCounts()
        )
    rows = join_rows(shard.rows)
    masks = draw_planes(rows, shard.documents, planes, reference)
    audit = count_shard(rows, masks, planes, vocabulary=vocabulary, sources=groups_of(shard.documents))
    written = write_table(folder, fmt.MASKS, masks_table(rows, masks), compression=compression)
    new = replace(
        record,
        files=(rows_file, written, documents_file),
        max_targets={name: plane.max_targets for name, plane in masks.items()},
    )
    return AssembledShard(record=new, audit=audit)
