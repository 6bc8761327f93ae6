"""`premask forget`: the version without some documents.

    chosen      ids of documents, ids of the user, patterns of sources
    shards      with a chosen document: taken out of its rows, packed, masked, audited and written again
                all others: the parent's files
    counts      of the audit and the packing: of all shards of a split of which one is new

A document that is chosen by an id goes with every copy of its text, wherever it is; one that is chosen by its source
goes alone. Examples in `dropped.jsonl` that show a chosen document go, too, and a mark of a text of which no copy stays
goes to `forgotten.jsonl`.

The parent stays as it is: this makes a version without the documents, it doesn't destroy them. That is what `purge`
does.

Memory: the documents' ids of one file at a time, and for each thread a shard's tokens (at most 2^22, in older
datasets 2^25), rows and masks.
"""

import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from mlm_data.config import PackSettings
from mlm_data.curation.thresholds import FORGOTTEN
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.documents import OWN_ID, DocumentsFile, documents_files, place_of
from mlm_data.dataset.forgotten import LIST, mark, parse_list, write_list
from mlm_data.dataset.heritage import attachments_of, compression_of, signatures_of
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import Manifest
from mlm_data.dataset.publish import current_version
from mlm_data.derive.version import Change, derive_version, record_of, shards_of
from mlm_data.errors import ConfigError, FormatError
from mlm_data.rows.arrays import join_rows
from mlm_data.rows.audit_counts import AuditCounts, count_shard
from mlm_data.rows.packing import Packing, PackingStatistics, statistics, take_out
from mlm_data.rows.row_rules import add_content
from mlm_data.shards import format as fmt
from mlm_data.shards.assemble import AssembledShard, assemble_shard, groups_of
from mlm_data.shards.planes import planes_in, vocabulary_of
from mlm_data.shards.reader import Shard, read_batches
from mlm_data.shards.records import SignaturesRecord
from mlm_data.shards.writer import write_table
from mlm_data.threads import in_threads
from mlm_data.tokens.reference import Reference
from mlm_data.types import TokenIds, id_type

NAMED = 3  # of those that are not there
HEXADECIMAL = 32  # digits of a document's id


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is to be forgotten."""

    ids: Sequence[str] = ()  # the user's own, or the documents' as 32 hexadecimal digits
    sources: Sequence[str] = ()  # patterns as of `fnmatch`: * also matches /


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """The new version, and what it has lost."""

    manifest: Manifest
    num_documents: int
    num_tokens: int
    num_shards: int  # that were made again, or are gone
    num_missing: int  # ids and patterns that no document has
    missing: tuple[str, ...]  # the first of them


def read_ids(path: str) -> list[str]:
    """The ids in a file, one a line; empty lines are none.

    Raises:
        ConfigError: if the file can't be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as UTF-8 text: {error}") from error
    return [line for line in (line.removesuffix("\r") for line in lines) if line]


def forget(
    parent: Dataset,
    chosen: Chosen,
    *,
    current: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Forgotten:
    """Publish a version without some documents.

    Args:
        parent: the version that has them.
        chosen: which. Those that are not there are counted and named.
        current: the version that must still be the current one at the end; None: whichever is when the work begins.
        workers: threads.
        progress: told (shards done, all shards).

    Raises:
        ConfigError: if there is none of them, or a split would become empty.
        BuildError: if the ledger or the audit fails; nothing is published.
        FormatError: if a file of the parent is damaged.
        StorageError: if another version was published in the meantime.
    """
    parent.folder.clear()  # what killed commands have left
    current = current_version(parent.folder, current)
    found = _find(parent, chosen)
    _check_left(parent, found)
    changed = {key[0] for key, gone in found.gone.items() if gone.size}
    forgetter = _Forgetter(parent, found, changed)
    done: list[_Done] = []
    total = sum(parent.num_shards(split) for split in fmt.SPLITS)
    for part in in_threads(forgetter.work, shards_of(parent), workers=workers):
        done.append(part)
        if progress:
            progress(len(done), total)
    shards = [part.shard for part in done if part.shard is not None]
    num_documents = sum(gone.size for gone in found.gone.values())
    num_tokens = sum(part.tokens_gone for part in done)
    change = Change(
        made_by="forget",
        current=current,
        config=parent.manifest.config,
        ledger=_ledger(parent, shards, num_documents, num_tokens, sum(part.untruncated for part in done)),
        signatures=_signatures(parent, found.lost_ids),
        attachments=_attachments(parent, found),
        asked={"ids": len(chosen.ids), "sources": list(chosen.sources)},  # their marks stand in the list
    )
    return Forgotten(
        manifest=derive_version(parent, shards, change=change),
        num_documents=num_documents,
        num_tokens=num_tokens,
        num_shards=sum(gone.size > 0 for gone in found.gone.values()),
        num_missing=len(found.missing),
        missing=tuple(found.missing[:NAMED]),
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    gone: dict[tuple[str, int], Int64[np.ndarray, " documents"]]  # (split, shard) -> rows of its documents file
    ids: frozenset[bytes]  # of what goes
    lost_ids: frozenset[bytes]  # of those the ones that no document that stays has
    places: frozenset[str]  # `source at offset` of what goes
    missing: list[str]


def _find(parent: Dataset, chosen: Chosen) -> _Found:
    """Two passes over the documents: which texts are chosen by their ids, and then all documents that go."""
    where = parent.folder.location
    files = documents_files(parent)
    keys = [(split, index) for split in fmt.SPLITS for index in range(parent.num_shards(split))]
    by_id = _texts(files, chosen.ids)
    wanted = pa.array(sorted(by_id.texts), pa.binary(16))
    unseen = dict.fromkeys(chosen.sources)
    gone: dict[tuple[str, int], Int64[np.ndarray, " documents"]] = {}
    ids: set[bytes] = set()
    places: set[str] = set()
    for key, file in zip(keys, files, strict=True):
        table = file.read("id", "source")
        is_gone = np.asarray(pa.compute.is_in(table["id"], value_set=wanted), bool)
        source = table["source"].unify_dictionaries().combine_chunks()
        names = source.dictionary.to_pylist()
        used = np.unique(source.indices.to_numpy()).tolist()
        for pattern in chosen.sources:
            numbers = [number for number in used if fnmatch.fnmatchcase(names[number], pattern)]
            if numbers:
                unseen.pop(pattern, None)
                is_gone |= np.isin(source.indices.to_numpy(), numbers)
        gone[key] = np.flatnonzero(is_gone)
        if gone[key].size:
            lines = file.read("id", "source", "offset").take(pa.array(gone[key])).to_pylist()
            ids.update(line["id"] for line in lines)
            places.update(place_of(line["source"], line["offset"]) for line in lines)
    missing = [*by_id.missing, *unseen]
    if not ids:
        named = ", ".join(repr(name) for name in missing[:NAMED])
        raise ConfigError(
            f"{where}: no document of this version is chosen ({named or 'nothing was named'}): give ids as the input "
            "names them, 32 hexadecimal digits of documents' ids, or patterns of sources, such as books/*.jsonl"
        )
    # Every copy of what is chosen by id goes; of what is chosen by source a copy may stay elsewhere.
    left = _left_of(files, [gone[key] for key in keys], ids) if chosen.sources else set()
    return _Found(
        gone=gone, ids=frozenset(ids), lost_ids=frozenset(ids - left), places=frozenset(places), missing=missing
    )


@dataclass(frozen=True, kw_only=True)
class _Texts:
    texts: set[bytes]
    missing: list[str]


def _texts(files: Sequence[DocumentsFile], names: Sequence[str]) -> _Texts:
    """Ids of the documents that the user's names mean, and names that mean none."""
    if not names:
        return _Texts(texts=set(), missing=[])
    own = pa.array(sorted(set(names)), pa.string())
    binary = {name: value for name in names if (value := as_id(name)) is not None}
    ids = pa.array(sorted(set(binary.values())), pa.binary(16))
    seen: set[str] = set()
    texts: set[bytes] = set()
    for file in files:
        table = file.read("id", OWN_ID)
        mine = table.filter(pa.compute.is_in(table[OWN_ID], value_set=own))
        seen.update(mine[OWN_ID].to_pylist())
        texts.update(mine["id"].to_pylist())
        texts.update(table["id"].filter(pa.compute.is_in(table["id"], value_set=ids)).to_pylist())
    missing = [name for name in dict.fromkeys(names) if name not in seen and binary.get(name) not in texts]
    return _Texts(texts=texts, missing=missing)


def as_id(name: str) -> bytes | None:
    """A document's id from its 32 hexadecimal digits; None for another name."""
    if len(name) != HEXADECIMAL or not set(name.lower()) <= set("0123456789abcdef"):
        return None
    return bytes.fromhex(name)


def _left_of(files: Iterable[DocumentsFile], gone: Iterable[np.ndarray], ids: set[bytes]) -> set[bytes]:
    """Those of some ids that documents have that stay."""
    left: set[bytes] = set()
    wanted = pa.array(sorted(ids), pa.binary(16))
    for file, rows in zip(files, gone, strict=True):
        column = file.read("id")["id"]
        stays = np.ones(len(column), np.bool_)
        stays[rows] = False
        mine = stays & np.asarray(pa.compute.is_in(column, value_set=wanted), bool)
        left.update(column.filter(pa.array(mine)).to_pylist())
    return left


def _check_left(parent: Dataset, found: _Found) -> None:
    """Refuse to empty a split, before any work is done."""
    for split in fmt.SPLITS:
        there = parent.manifest.splits[split]["num_documents"]
        gone = sum(rows.size for (name, _), rows in found.gone.items() if name == split)
        if there and gone == there:
            raise ConfigError(
                f"{parent.folder.location}: all {there:,} documents of the {split} split would be forgotten: "
                "a version needs some in each split that it has"
            )


def _ledger(
    parent: Dataset, shards: Sequence[AssembledShard], num_documents: int, num_tokens: int, untruncated: int
) -> Ledger:
    """The parent's ledger, with what goes moved from `kept` to `dropped`."""
    old = Ledger.from_dict(parent.manifest.ledger)
    num_specials = parent.manifest.roles.num_specials
    lost = Ledger(
        documents_dropped={FORGOTTEN: num_documents}, tokens_dropped={FORGOTTEN: num_tokens} if num_tokens else {}
    )
    return replace(
        old + lost,
        documents_kept=sum(shard.record.num_documents for shard in shards),
        tokens_in_rows=sum(shard.record.num_tokens - num_specials * shard.record.num_segments for shard in shards),
        tokens_truncated=old.tokens_truncated - untruncated,
    )


def _signatures(parent: Dataset, lost: frozenset[bytes]) -> list[SignaturesRecord]:
    """The signatures files without the ids that no document has any more; files without such ids are shared."""
    compression = compression_of(parent)
    wanted = pa.array(sorted(lost), pa.binary(16))
    kept = []
    for record in signatures_of(parent):
        batches = read_batches(parent.folder, record.file.name, record.file.num_bytes)
        table = pa.Table.from_batches(batches, None if batches else fmt.signatures_schema())
        stays = pa.compute.invert(pa.compute.is_in(table["id"], value_set=wanted))
        left = table.filter(stays).combine_chunks()
        if left.num_rows == table.num_rows:
            kept.append(record)
        elif left.num_rows:
            kept.append(replace(record, file=write_table(parent.folder, fmt.SIGNATURES, left, compression=compression)))
    return kept


def _attachments(parent: Dataset, found: _Found) -> dict[str, bytes]:
    """The parent's, without examples that show what goes, and with its marks on the list."""
    files = attachments_of(parent)
    listed = parse_list(files.pop(LIST, b""), where=f"{parent.folder.location}: {LIST}")
    listed |= {mark(one) for one in found.lost_ids}
    ids = frozenset(one.hex() for one in found.ids)
    if "dropped.jsonl" in files:
        lines = files.pop("dropped.jsonl").splitlines(keepends=True)
        left = [line for line in lines if not shows(json.loads(line), ids, found.places)]
        files |= {"dropped.jsonl": b"".join(left)} if left else {}
    if listed:
        files[LIST] = write_list(listed)
    return dict(sorted(files.items()))


def shows(example: Mapping[str, object], ids: frozenset[str], places: frozenset[str]) -> bool:
    """Whether an example is a copy or a near duplicate of what goes."""
    return example.get("id") in ids or example.get("kept") in places


@dataclass(frozen=True, kw_only=True)
class _Done:
    shard: AssembledShard | None  # None: none of its documents stays
    tokens_gone: int = 0  # of the documents that go, those that were cut off included
    untruncated: int = 0  # fewer tokens are counted as cut off than before


class _Forgetter:
    """What every thread needs to make a shard again, or to count one that stays."""

    def __init__(self, parent: Dataset, found: _Found, changed: set[str]) -> None:
        self._parent, self._found, self._changed = parent, found, changed
        self._reference, self._compression = parent.reference(), compression_of(parent)
        self._vocabulary = vocabulary_of(self._reference)
        self._settings = PackSettings.model_validate(parent.manifest.config["pack"])
        self._planes = planes_in(parent.manifest.config)

    def work(self, shard: Shard) -> _Done:
        gone = self._found.gone[shard.split, shard.index]
        if gone.size:
            return self._without(shard, gone)
        record = record_of(self._parent, shard)
        if shard.split not in self._changed:
            return _Done(shard=AssembledShard(record=record))
        audit, packing = self._count(shard)
        return _Done(shard=AssembledShard(record=record, audit=audit, packing=packing))

    def _without(self, shard: Shard, gone: Int64[np.ndarray, " gone"]) -> _Done:
        ids, offsets, word_starts, cut_off = whole_documents(shard, self._reference)
        lengths = np.diff(offsets)
        stays = np.ones(lengths.size, np.bool_)
        stays[gone] = False
        tokens_gone = int(lengths[gone].sum())
        if not stays.any():
            return _Done(shard=None, tokens_gone=tokens_gone, untruncated=cut_off)
        tokens = np.repeat(stays, lengths)
        left = np.zeros(int(stays.sum()) + 1, np.int64)
        np.cumsum(lengths[stays], out=left[1:])
        made = assemble_shard(
            self._parent.folder,
            split=shard.split,
            unit=shard.unit,
            documents=_documents(shard.documents, stays),
            ids=ids[tokens],
            offsets=left,
            word_starts=word_starts[tokens],
            settings=self._settings,
            planes=self._planes[shard.split],
            reference=self._reference,
            vocabulary=self._vocabulary,
            compression=self._compression,
            where=self._parent.folder.location,
        )
        return _Done(shard=made, tokens_gone=tokens_gone, untruncated=cut_off - made.num_truncated)

    def _count(self, shard: Shard) -> tuple[AuditCounts, PackingStatistics]:
        """What was counted when the shard was made: the sums of a split are not those of its shards."""
        planes = self._planes[shard.split]
        audit = AuditCounts()
        groups = groups_of(shard.documents)
        masks = {name: shard.masks(name) for name in planes}
        for number, rows in enumerate(shard.rows):
            batch = {name: batches[number] for name, batches in masks.items()}
            audit += count_shard(rows, batch, planes, vocabulary=self._vocabulary, sources=groups)
        lengths, row_offsets = np.zeros(0, np.int32), np.zeros(1, np.int32)
        if shard.rows:
            joined = join_rows(shard.rows)
            first, end = int(joined.segment_offsets[0]), int(joined.segment_offsets[-1])
            lengths, row_offsets = joined.segment_lengths[first:end], joined.segment_offsets - np.int32(first)
        packing = Packing(order=np.arange(lengths.size, dtype=np.int32), row_offsets=row_offsets)
        length, limit = self._settings.sequence_length, self._settings.segments_per_row
        return audit, statistics(lengths, packing, sequence_length=length, max_segments=limit)


def whole_documents(
    shard: Shard, reference: Reference
) -> tuple[TokenIds, Int64[np.ndarray, " documents+1"], Bool[np.ndarray, " tokens"], int]:
    """Ids, offsets and word starts of a shard's documents, put together from its rows; and how many are not there.

    What `truncate` cut off is there as zeros, and the first of them begins a word: packed again with the same settings,
    a document is cut at the same place.

    Raises:
        FormatError: if the rows don't fit the documents.
    """
    num_tokens = shard.documents["num_tokens"].to_numpy()
    offsets = np.zeros(num_tokens.size + 1, np.int64)
    np.cumsum(num_tokens, out=offsets[1:])
    ids = np.zeros(int(offsets[-1]), id_type(reference.vocab_size))
    word_starts = np.zeros(ids.size, np.bool_)
    held = np.zeros(num_tokens.size, np.int64)
    for rows in shard.rows:
        try:
            take_out(rows, offsets, ids, word_starts, roles=reference.roles)
        except FormatError as error:
            raise FormatError(f"{shard.where(fmt.ROWS)}: {error}") from error
        add_content(held, rows, reference.roles)
    if (held > num_tokens).any():
        raise FormatError(f"{shard.where(fmt.ROWS)}: holds more of a document than there is: run premask verify")
    cut = np.flatnonzero(held < num_tokens)
    word_starts[offsets[cut] + held[cut]] = True
    return ids, offsets, word_starts, int((num_tokens - held).sum())


def _documents(documents: pa.Table, stays: Bool[np.ndarray, " documents"]) -> pa.Table:
    """The lines that stay; a source of which none does is named no more."""
    table = documents.filter(pa.array(stays)).unify_dictionaries().combine_chunks()
    names = table["source"].cast(pa.string()).dictionary_encode().unify_dictionaries()
    place = table.schema.get_field_index("source")
    return table.set_column(place, table.schema.field(place), names).combine_chunks()
