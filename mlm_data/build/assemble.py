"""ASSEMBLE: one prepared unit and its list of copies to shards: drop, split, pack, mask, audit, write.

Everything here is a function of the unit and the list, so a unit that is assembled twice, or by another worker, writes
the same files under the same names.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlm_data.build.context import Context
from mlm_data.build.prepare import document_ids, kept_fields, only_chunk, open_prepared
from mlm_data.build.records import AssembledUnit, PreparedUnit
from mlm_data.build.select import judge_table
from mlm_data.build.split import choose_validation, group_hashes
from mlm_data.config import BuildConfig
from mlm_data.curation.thresholds import EXACT_DUPLICATE, KEPT, REASONS
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.unknown import Unknown, count_unknown
from mlm_data.errors import BuildError
from mlm_data.rows.audit_counts import AuditCounts, count_shard, source_groups
from mlm_data.rows.masking import draw_plane
from mlm_data.rows.packing import PackingStatistics, cut_documents, fill_rows, pack, statistics
from mlm_data.rows.row_rules import add_content, document_problems, row_problems
from mlm_data.rows.unicode_scripts import SCRIPTS
from mlm_data.shards.format import SPLITS, VALIDATION, documents_schema
from mlm_data.shards.planes import planes_of
from mlm_data.shards.writer import ShardRecord, SignaturesRecord, write_shard, write_signatures
from mlm_data.types import Rows

MAX_SHARD_TOKENS = 2**25  # a unit of one huge compressed file gives several shards, each of at most 64 MiB of ids
MAX_COPY = np.iinfo(np.int16).max  # what the documents file can hold; later copies all count as this one


@dataclass(frozen=True, kw_only=True)
class _Selection:
    """Documents of a prepared unit that stay, and why the others go."""

    kept: np.ndarray  # int64 rows of the prepared table
    copy: np.ndarray  # int16 for each of them: 0 for the first of its text, at most MAX_COPY
    dropped: Mapping[str, int]
    tokens_dropped: Mapping[str, int]


def assemble_unit(prepared: PreparedUnit, copies: np.ndarray, context: Context) -> AssembledUnit:
    """Write the shards of one unit.

    Args:
        prepared: what `prepare_unit` returned.
        copies: `COPIES` records: which of its documents are later copies of others.
        context: the build.
    """
    table = open_prepared(prepared, context)
    lengths = _list_lengths(table.column("tokens"))
    selection = _select(table, lengths, copies, context)
    groups = _groups(table, prepared.sources, context.config)
    held_out = choose_validation(groups, share=context.config.split.validation, seed=context.config.seed)
    shards = []
    audits: dict[str, AuditCounts] = {}
    packings: dict[str, PackingStatistics] = {}
    tokens_in_rows = truncated = 0
    for split in SPLITS:
        mine = np.flatnonzero(held_out[selection.kept] == (split == VALIDATION))
        for part in _parts(mine, lengths[selection.kept]):
            shard = _write_shard(table, selection, part, split, prepared, context)
            shards.append(shard.record)
            tokens_in_rows += (
                shard.record.num_tokens - shard.record.num_segments * context.reference().roles.num_specials
            )
            truncated += shard.num_truncated
            audits[split] = audits[split] + shard.audit if split in audits else shard.audit
            packings[split] = packings[split] + shard.packing if split in packings else shard.packing
    ledger = Ledger(
        bytes_read=prepared.bytes_read,
        documents_read=prepared.documents_read,
        documents_kept=sum(shard.num_documents for shard in shards),
        documents_dropped=selection.dropped,
        documents_quarantined=prepared.quarantined,
        tokens_tokenized=prepared.tokens_tokenized,
        tokens_in_rows=tokens_in_rows,
        tokens_truncated=truncated,
        tokens_dropped=selection.tokens_dropped,
    )
    return AssembledUnit(
        unit=prepared.unit,
        key=prepared.key,
        reused=prepared.reused,
        remade=prepared.remade,
        fields=prepared.fields,
        ledger=ledger,
        shards=tuple(shards),
        signatures=_write_signatures(table, selection, prepared.unit, context),
        audit=audits,
        packing=packings,
        unknown=_count_unknown(table, lengths, selection.kept, prepared.sources),
    )


def _select(table: pa.Table, lengths: np.ndarray, copies: np.ndarray, context: Context) -> _Selection:
    reasons = judge_table(table, context)
    copy = np.zeros(table.num_rows, np.int16)
    copy[copies["document"]] = np.minimum(copies["copy"], MAX_COPY)
    duplicate = (copy > 0) & context.config.deduplicate.exact
    dropped: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for code, reason in enumerate(REASONS):
        if code != KEPT:
            dropped[reason] += int((reasons == code).sum())
            tokens[reason] += int(lengths[reasons == code].sum())
    dropped[EXACT_DUPLICATE] += int(duplicate.sum())
    tokens[EXACT_DUPLICATE] += int(lengths[duplicate].sum())
    kept = np.flatnonzero((reasons == KEPT) & ~duplicate)
    return _Selection(
        kept=kept,
        copy=copy[kept],
        dropped={reason: count for reason, count in dropped.items() if count},
        tokens_dropped={reason: count for reason, count in tokens.items() if count},
    )


@dataclass(frozen=True, kw_only=True)
class _Shard:
    record: ShardRecord
    audit: AuditCounts
    packing: PackingStatistics
    num_truncated: int


def _write_shard(
    table: pa.Table, selection: _Selection, part: np.ndarray, split: str, prepared: PreparedUnit, context: Context
) -> _Shard:
    config, reference = context.config, context.reference()
    length, limit = config.pack.sequence_length, config.pack.segments_per_row
    chosen = table.take(pa.array(selection.kept[part])).combine_chunks()
    ids, offsets = _flatten(chosen.column("tokens"))
    word_starts, _ = _flatten(chosen.column("word_starts"))
    segments = cut_documents(
        offsets,
        word_starts,
        capacity=length - reference.roles.num_specials,
        long_documents=config.pack.long_documents,
    )
    lengths = segments.length + np.int32(reference.roles.num_specials)
    packing = pack(lengths, sequence_length=length, max_segments=limit)
    rows = fill_rows(ids, offsets, word_starts, segments, packing, sequence_length=length, roles=reference.roles)
    num_tokens = np.diff(offsets).astype(np.int32)
    _check_rules(rows, num_tokens, split, prepared, context)
    documents = _documents(chosen, selection.copy[part], num_tokens, prepared.sources, context)
    planes = {
        name: draw_plane(
            rows,
            document_ids(chosen),
            selection.copy[part],
            plane,
            roles=reference.roles,
            vocab_size=reference.vocab_size,
            never_targets=reference.never_targets,
            random_ids=reference.random_ids,
        )
        for name, plane in planes_of(split, config.mask, config.seed).items()
    }
    audit = count_shard(
        rows,
        planes,
        planes_of(split, config.mask, config.seed),
        vocabulary=context.vocabulary(),
        sources=source_groups(prepared.sources)[chosen.column("source").to_numpy()],
    )
    record = write_shard(
        context.folder,
        split=split,
        unit=prepared.unit,
        rows=rows,
        planes=planes,
        documents=documents,
        compression=config.compression,
    )
    return _Shard(
        record=record,
        audit=audit,
        packing=statistics(lengths, packing, sequence_length=length, max_segments=limit),
        num_truncated=segments.num_truncated_tokens,
    )


def _check_rules(rows: Rows, num_tokens: np.ndarray, split: str, prepared: PreparedUnit, context: Context) -> None:
    """The rules by which `verify` will judge these rows, before anybody can see them."""
    reference = context.reference()
    content = np.zeros(len(num_tokens), np.int64)
    add_content(content, rows, reference.roles)
    is_whole = context.config.pack.long_documents == "split"
    problems = [
        *row_problems(rows, num_tokens, roles=reference.roles, vocab_size=reference.vocab_size),
        *document_problems(content, num_tokens, is_whole=is_whole),
    ]
    if problems:
        raise BuildError(f"{prepared.sources[0]}: {split} rows of unit {prepared.unit} break the format: {problems[0]}")


def _documents(
    chosen: pa.Table, copy: np.ndarray, num_tokens: np.ndarray, sources: Sequence[str], context: Context
) -> pa.Table:
    fields, has_id_field = kept_fields(context)
    schema = documents_schema(fields, has_id_field=has_id_field)
    columns = {
        "id": chosen.column("id"),
        "copy": pa.array(copy),
        "source": pa.DictionaryArray.from_arrays(only_chunk(chosen.column("source")), pa.array(sources, pa.string())),
        "offset": chosen.column("offset"),
        "num_tokens": pa.array(num_tokens),
    }
    return pa.table([columns.get(name) or chosen.column(name) for name in schema.names], schema=schema)


def _count_unknown(table: pa.Table, lengths: np.ndarray, kept: np.ndarray, sources: Sequence[str]) -> Unknown:
    return count_unknown(
        lengths[kept],
        table.column("num_unknown").to_numpy()[kept],
        table.column("script").to_numpy()[kept],
        table.column("source").to_numpy()[kept],
        script_names=SCRIPTS,
        source_names=sources,
    )


def _groups(table: pa.Table, sources: Sequence[str], config: BuildConfig) -> np.ndarray:
    by = config.split.by
    if by == "document":
        return document_ids(table)[:, 0]
    if by == "source":
        return group_hashes(pa.array(sources, pa.string()))[table.column("source").to_numpy()]
    return group_hashes(table.column(f"keep.{by}").combine_chunks())


def _parts(mine: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a list of documents where their tokens would pass MAX_SHARD_TOKENS."""
    if not mine.size:
        return
    before = np.cumsum(lengths[mine]) - lengths[mine]
    yield from np.split(mine, np.flatnonzero(np.diff(before // MAX_SHARD_TOKENS)) + 1)


def _write_signatures(table: pa.Table, selection: _Selection, unit: int, context: Context) -> SignaturesRecord | None:
    ids = document_ids(table)[selection.kept[selection.copy == 0]]
    if not len(ids):
        return None
    return write_signatures(context.folder, unit=unit, ids=ids, compression=context.config.compression)


def _list_lengths(column: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks] or [np.zeros(0, np.int64)])


def _flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values and offsets of a list column, offsets from 0."""
    array = only_chunk(column)
    offsets = array.offsets.to_numpy()
    return array.flatten().to_numpy(zero_copy_only=False), offsets - offsets[0]
