"""ASSEMBLE: one prepared unit and its list of copies to shards: drop, split, pack, mask, audit, write.

Everything here is a function of the unit and the list, so a unit that is assembled twice, or by another worker, writes
the same files under the same names. What a unit has become is kept in the cache, so a build that goes on after a crash
assembles only what is missing.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pyarrow as pa

from mlm_data.build import cache
from mlm_data.build.context import Context
from mlm_data.build.curate import languages_of
from mlm_data.build.evaluations import count_cuts
from mlm_data.build.gather import gather_lists
from mlm_data.build.prepare import document_ids, kept_fields, only_chunk, open_prepared
from mlm_data.build.records import AssembledUnit, PreparedUnit, to_json
from mlm_data.build.select import COPIES, DOCUMENT, input_numbers, is_forgotten, judge_table, list_lengths
from mlm_data.build.split import choose_validation, group_hashes
from mlm_data.build.weights import groups, input_names, repeats
from mlm_data.config import BuildConfig, semantic
from mlm_data.curation.thresholds import (
    CONTAMINATED,
    EXACT_DUPLICATE,
    FORGOTTEN,
    KEPT,
    NEAR_DUPLICATE,
    THINNED,
    reasons,
)
from mlm_data.dataset.funnel import MOST_EXAMPLES, Example, Funnel, choose_examples, count_fates
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.unknown import Unknown, count_unknown
from mlm_data.duplicates.clusters import EDGE, Edges
from mlm_data.duplicates.decontaminate import MATCH, Matches
from mlm_data.rows.audit_counts import AuditCounts
from mlm_data.rows.packing import PackingStatistics
from mlm_data.rows.unicode_scripts import SCRIPTS
from mlm_data.shards.assemble import AssembledShard, assemble_shard
from mlm_data.shards.format import FORMAT_VERSION, SKETCH, SPLITS, VALIDATION, documents_schema
from mlm_data.shards.planes import planes_of
from mlm_data.shards.records import FileRecord, SignaturesRecord
from mlm_data.shards.writer import write_signatures
from mlm_data.stores.folder import Folder

# A unit of more gives several shards, which are made one after another: what a worker holds depends on this and not on
# the unit, which may be one huge compressed file. At 4 bytes a token, units of 16 MiB are one shard.
MAX_SHARD_TOKENS = 2**22
ASSEMBLED_VERSION = 1  # enters keys of kept results: count up when other shards or counts come out of the same unit
MAX_COPY = np.iinfo(np.int16).max  # what the documents file can hold; later copies all count as this one


@dataclass(frozen=True, kw_only=True)
class Found:
    """What looking at all documents has found about those of one unit."""

    copies: np.ndarray = field(default_factory=lambda: np.zeros(0, COPIES))  # later copies of others
    near: Edges = field(default_factory=lambda: np.zeros(0, EDGE))  # near duplicates of others that stay
    contaminated: np.ndarray = field(default_factory=lambda: np.zeros(0, DOCUMENT))  # hold items of an evaluation


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Documents of a prepared unit that stay, and why the others go."""

    kept: np.ndarray  # int64 rows of the prepared table; a repeated document's several times
    copy: np.ndarray  # int16 for each of them: 0 for the first of its text, at most MAX_COPY
    fates: np.ndarray  # of every row, an index in `names`
    names: tuple[str, ...]
    num_repeated: int
    tokens_repeated: int

    def dropped(self, lengths: np.ndarray) -> tuple[dict[str, int], dict[str, int]]:
        """(documents, tokens) by reason; `lengths` are the tokens of every row."""
        documents = np.bincount(self.fates, minlength=len(self.names)).tolist()
        tokens = np.bincount(self.fates, lengths, minlength=len(self.names)).astype(np.int64).tolist()
        gone = {name: i for i, name in enumerate(self.names) if i != KEPT}
        return (
            {name: documents[i] for name, i in gone.items() if documents[i]},
            {name: tokens[i] for name, i in gone.items() if tokens[i]},
        )


def assemble_unit(
    prepared: PreparedUnit, found: Found, context: Context, *, weights: Mapping[str, float] | None = None
) -> AssembledUnit:
    """Write the shards of one unit, unless a build that came to the same has written them, and they are whole.

    Args:
        prepared: what `prepare_unit` returned.
        found: which of its documents are copies of others.
        context: the build.
        weights: of languages or inputs, where `mixing` evens them out.
    """
    key = _result_key(prepared, found, context, weights or {})
    kept = cache.kept_result(context.work, key)
    if kept is not None:
        result = AssembledUnit.from_bytes(kept)
        if all(_is_whole(file, context.folder) for file in result.files):
            return result
    result = _assemble(prepared, found, context, weights or {})
    cache.keep_result(context.guarded(context.work), key, result.to_bytes())
    return result


def _result_key(prepared: PreparedUnit, found: Found, context: Context, weights: Mapping[str, float]) -> str:
    """The unit's own key, and a hash of all that its shards and its part of the account may depend on."""
    config = context.config
    values = {
        "prepared": prepared.to_bytes().decode(),
        "found": [hashlib.sha256(getattr(found, one.name).tobytes()).hexdigest() for one in fields(Found)],
        "weights": sorted(weights.items()),
        "config": semantic(config, context.assets),
        "inputs": list(input_names(config)),
        "compression": config.compression,
        "tokenizer": context.tokenizer_sha256,
        "forgotten": context.forgotten,
        "plan": [context.unit_bytes, context.group_modulus],
        "versions": [ASSEMBLED_VERSION, FORMAT_VERSION, *context.versions],
    }
    return f"{prepared.key}-{hashlib.sha256(to_json(values)).hexdigest()}"


def _is_whole(file: FileRecord, folder: Folder) -> bool:
    """Whether a file is there, with the bytes that its record tells; in a bucket, whether it has as many.

    A store checks an object's bytes itself, and a file appears there whole or not at all.
    """
    if not folder.exists(file.name) or folder.num_bytes(file.name) != file.num_bytes:
        return False
    if folder.is_object_store:
        return True
    with folder.open(file.name) as stream:
        return hashlib.sha256(stream.read_buffer()).hexdigest() == file.sha256


def _assemble(prepared: PreparedUnit, found: Found, context: Context, weights: Mapping[str, float]) -> AssembledUnit:
    table = open_prepared(prepared, context)
    lengths = list_lengths(table.column("tokens"))
    selection = select_documents(table, prepared, found, context, weights)
    documents_dropped, tokens_dropped = selection.dropped(lengths)
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
            assert shard.audit is not None, "it was drawn here"
            assert shard.packing is not None, "it was packed here"
            audits[split] = audits[split] + shard.audit if split in audits else shard.audit
            packings[split] = packings[split] + shard.packing if split in packings else shard.packing
    ledger = Ledger(
        bytes_read=prepared.bytes_read,
        documents_read=prepared.documents_read,
        documents_kept=sum(shard.num_documents for shard in shards),
        documents_dropped=documents_dropped,
        documents_quarantined=prepared.quarantined,
        tokens_tokenized=prepared.tokens_tokenized,
        tokens_in_rows=tokens_in_rows,
        tokens_truncated=truncated,
        tokens_dropped=tokens_dropped,
        documents_repeated=selection.num_repeated,
        tokens_repeated=selection.tokens_repeated,
    )
    return AssembledUnit(
        unit=prepared.unit,
        key=prepared.key,
        fields=prepared.fields,
        ledger=ledger,
        shards=tuple(shards),
        signatures=_write_signatures(table, selection, prepared.unit, context),
        audit=audits,
        packing=packings,
        unknown=_count_unknown(table, lengths, selection.kept, prepared.sources),
        funnel=count_funnel(table, selection, prepared, found, context),
    )


def settle(
    table: pa.Table, prepared: PreparedUnit, found: Found, context: Context
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(fate of each document before weights, names of the fates)."""
    names = (*reasons(context.config), EXACT_DUPLICATE, NEAR_DUPLICATE, CONTAMINATED, THINNED, FORGOTTEN)
    fates = judge_table(table, prepared, context)
    fates[is_forgotten(table, context) & (fates == KEPT)] = names.index(FORGOTTEN)
    if context.config.deduplicate.exact:
        fates[found.copies["document"]] = names.index(EXACT_DUPLICATE)
    near = found.near["document"]
    fates[near[fates[near] == KEPT]] = names.index(NEAR_DUPLICATE)
    held = found.contaminated
    fates[held[fates[held] == KEPT]] = names.index(CONTAMINATED)
    return fates, names


def matches_that_stay(prepared: PreparedUnit, found: Found, context: Context) -> Matches:
    """N-grams of evaluations in those documents that duplicates leave: a copy is not to make an item look common."""
    table = open_prepared(prepared, context)
    fates, _ = settle(table, prepared, found, context)
    grams = table.column("matched_grams")
    documents = np.repeat(np.arange(table.num_rows, dtype=np.int32), list_lengths(grams))
    records = np.empty(len(documents), MATCH)
    records["unit"], records["document"] = prepared.unit, documents
    records["gram"] = grams.combine_chunks().flatten().to_numpy()
    records["start"] = table.column("matched_starts").combine_chunks().flatten().to_numpy()
    records["end"] = records["start"]  # nobody asks where they end
    return records[fates[documents] == KEPT]


def num_tokens(table: pa.Table) -> np.ndarray:
    """Tokens of each document, int64; 0 where documents are texts."""
    return (
        list_lengths(table.column("tokens")) if "tokens" in table.schema.names else np.zeros(table.num_rows, np.int64)
    )


def count_groups(prepared: PreparedUnit, found: Found, context: Context) -> dict[str, int]:
    """Tokens (without a tokenizer, characters) of the documents that stay, by the group that `mixing` evens out.

    Weights of inputs count.
    """
    table = open_prepared(prepared, context)
    fates, _ = settle(table, prepared, found, context)
    own = np.array([item.weight for item in context.config.inputs])[input_numbers(table, prepared)]
    sizes = num_tokens(table) if context.has_tokens else table.column("num_chars").to_numpy()
    lengths = np.where(fates == KEPT, sizes * own, 0)
    names, codes = groups(table, prepared, context)
    sums = np.bincount(codes, lengths, minlength=len(names))
    return {name: round(total) for name, total in zip(names, sums.tolist(), strict=True) if total}


def select_documents(
    table: pa.Table,
    prepared: PreparedUnit,
    found: Found,
    context: Context,
    weights: Mapping[str, float],
) -> Selection:
    """Who stays of a unit, how often, and why the others go."""
    fates, names = settle(table, prepared, found, context)
    copy = np.zeros(table.num_rows, np.int64)
    copy[found.copies["document"]] = found.copies["copy"]
    kept = np.flatnonzero(fates == KEPT)
    times, most = repeats(table, kept, copy, prepared, context, weights)
    fates[kept[times == 0]] = names.index(THINNED)
    repeated = np.repeat(kept, times)
    starts = np.repeat(np.cumsum(times) - times, times)
    numbers = copy[repeated] * most + np.arange(len(repeated)) - starts
    again = np.maximum(times - 1, 0)
    return Selection(
        kept=repeated,
        copy=np.minimum(numbers, MAX_COPY).astype(np.int16),
        fates=fates,
        names=names,
        num_repeated=int(again.sum()),
        tokens_repeated=int((again * num_tokens(table)[kept]).sum()),
    )


def count_funnel(
    table: pa.Table,
    selection: Selection,
    prepared: PreparedUnit,
    found: Found,
    context: Context,
) -> Funnel:
    """What became of the documents of a unit."""
    languages = languages_of(context.config)
    numbers = input_numbers(table, prepared)
    inputs = input_names(context.config)
    codes = table.column("language").to_numpy() if languages else np.zeros(table.num_rows, np.int16)
    fates = count_fates(
        numbers,
        codes,
        selection.fates,
        table.column("num_chars").to_numpy(),
        num_tokens(table),
        names=(inputs, languages, selection.names),
    )
    changes = Counter(prepared.changes)
    if context.config.cuts_evaluations:
        changes.update(cut_evaluations(table, numbers, inputs))
    return Funnel(fates=fates, changes=changes, examples=_examples(table, selection, prepared, found, inputs, context))


def cut_evaluations(table: pa.Table, numbers: np.ndarray, inputs: Sequence[str]) -> dict[str, int]:
    """`evaluations.count_cuts` of prepared documents."""
    cuts, characters = (table.column(f"evaluation_{name}").to_numpy() for name in ("cuts", "chars"))
    return count_cuts(cuts, characters, numbers, inputs)


def _examples(
    table: pa.Table, selection: Selection, prepared: PreparedUnit, found: Found, inputs: Sequence[str], context: Context
) -> tuple[Example, ...]:
    """Of each reason and input the dropped documents of the smallest ids."""
    if "head" not in table.schema.names:
        return ()
    numbers = input_numbers(table, prepared)
    dropped = np.flatnonzero((selection.fates != KEPT) & ~is_forgotten(table, context))  # nothing shows those
    order = np.lexsort((document_ids(table)[dropped, 0], selection.fates[dropped], numbers[dropped]))
    dropped = dropped[order]
    group = numbers[dropped].astype(np.int64) * len(selection.names) + selection.fates[dropped]
    first = np.searchsorted(group, group)
    chosen = dropped[np.arange(len(group)) - first < MOST_EXAMPLES]
    rows = table.select(["id", "source", "offset", "head"]).take(pa.array(chosen)).to_pylist()
    near = {int(edge["document"]): edge for edge in found.near}
    examples = []
    for row, place in zip(rows, chosen.tolist(), strict=True):
        kept = near.get(place) if selection.names[selection.fates[place]] == NEAR_DUPLICATE else None
        examples.append(
            Example(
                input=inputs[numbers[place]],
                reason=selection.names[selection.fates[place]],
                source=prepared.sources[row["source"]],
                offset=row["offset"],
                id=row["id"].hex(),
                head=row["head"],
                near=None if kept is None else (int(kept["kept_unit"]), int(kept["kept_document"])),
            )
        )
    return choose_examples(examples)


def _write_shard(
    table: pa.Table, selection: Selection, part: np.ndarray, split: str, prepared: PreparedUnit, context: Context
) -> AssembledShard:
    config = context.config
    rows = selection.kept[part]
    chosen = table.drop_columns(["tokens", "word_starts"]).take(pa.array(rows)).combine_chunks()
    ids, offsets = gather_lists(table.column("tokens"), rows)
    word_starts, _ = gather_lists(table.column("word_starts"), rows)
    num_tokens = np.diff(offsets).astype(np.int32)
    return assemble_shard(
        context.growing,
        split=split,
        unit=prepared.unit,
        documents=_documents(chosen, selection.copy[part], num_tokens, prepared.sources, context),
        ids=ids,
        offsets=offsets,
        word_starts=word_starts,
        settings=config.pack,
        planes=planes_of(split, config.mask, config.seed),
        reference=context.reference(),
        vocabulary=context.vocabulary(),
        compression=config.compression,
        where=prepared.sources[0],
    )


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


def _write_signatures(table: pa.Table, selection: Selection, unit: int, context: Context) -> SignaturesRecord | None:
    config = context.config
    # The first copy of a text may be gone, and another one stay: then each unit names the texts that it has.
    may_lose_first = not config.deduplicate.exact and (
        config.deduplicate.near is not None
        or config.mixing is not None
        or any(item.weight < 1 for item in config.inputs)
    )
    kept = selection.kept if may_lose_first else selection.kept[selection.copy == 0]
    ids = document_ids(table)[kept]
    if may_lose_first:
        ids, first = np.unique(ids, axis=0, return_index=True)
        kept = kept[first]
    if not len(ids):
        return None
    sketches = None
    if config.deduplicate.near is not None:
        chosen = table.select([SKETCH, "num_shingles"]).take(pa.array(kept)).combine_chunks()
        has_words = pa.compute.greater(chosen["num_shingles"], 0)
        column = pa.compute.if_else(has_words, chosen[SKETCH], pa.scalar(None, chosen[SKETCH].type))
        sketches = only_chunk(column)
    return write_signatures(
        context.growing, unit=unit, ids=ids, sketches=sketches, compression=context.config.compression
    )
