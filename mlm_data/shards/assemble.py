"""Documents' tokens to one shard: cut, pack, draw planes, check, count for the audit, write.

Whoever makes a shard goes through here: a build from its prepared units, `repack` from the shards of another version.
So equal documents and settings give equal files, wherever their tokens came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt8

from mlm_data.config import PackSettings
from mlm_data.errors import BuildError
from mlm_data.hashing import ids_from_arrow
from mlm_data.rows.audit_counts import AuditCounts, Vocabulary, count_shard, source_groups
from mlm_data.rows.masking import Plane, draw_plane
from mlm_data.rows.packing import PackingStatistics, cut_documents, fill_rows, pack, statistics
from mlm_data.rows.row_rules import add_content, document_problems, row_problems
from mlm_data.shards.records import FileRecord, ShardRecord
from mlm_data.shards.writer import write_shard
from mlm_data.stores.folder import Folder
from mlm_data.tokens.reference import Reference
from mlm_data.types import PlaneMasks, Rows, TokenIds


@dataclass(frozen=True, kw_only=True)
class AssembledShard:
    """A shard that is written, and its part of what is added up before a version is published.

    `audit` and `packing` are None where masks, or rows, are those of another version, which has counted them.
    """

    record: ShardRecord
    audit: AuditCounts | None = None
    packing: PackingStatistics | None = None
    num_truncated: int = 0  # content tokens that are in no row


def assemble_shard(
    folder: Folder,
    *,
    split: str,
    unit: int,
    documents: pa.Table,
    ids: TokenIds,
    offsets: Int64[np.ndarray, " documents+1"],
    word_starts: Bool[np.ndarray, " tokens"],
    settings: PackSettings,
    planes: Mapping[str, Plane],
    reference: Reference,
    vocabulary: Vocabulary,
    compression: str,
    where: str,
    documents_file: FileRecord | None = None,
) -> AssembledShard:
    """Pack documents into the rows of one shard, mask them and write them.

    Args:
        folder: the dataset.
        split: `train` or `validation`.
        unit: of the shard.
        documents: what `documents/` will hold; one line for each document.
        ids: content tokens of all documents, one after another: document d owns ids[offsets[d]:offsets[d + 1]].
        offsets: see `ids`.
        word_starts: True where a token begins a word.
        settings: how to pack.
        planes: what to draw, by plane name.
        reference: the tokenizer.
        vocabulary: what the audit knows of its ids.
        compression: of the files.
        where: what the documents came from, for messages.
        documents_file: of the documents, where another version has the same; None: they are written.

    Raises:
        BuildError: if the rows break the format (a bug).
    """
    length, limit, num_specials = settings.sequence_length, settings.segments_per_row, reference.roles.num_specials
    segments = cut_documents(
        offsets, word_starts, capacity=length - num_specials, long_documents=settings.long_documents
    )
    lengths = segments.length + np.int32(num_specials)
    packing = pack(lengths, sequence_length=length, max_segments=limit)
    rows = fill_rows(ids, offsets, word_starts, segments, packing, sequence_length=length, roles=reference.roles)
    is_whole = settings.long_documents == "split"
    if problem := _problem(rows, np.diff(offsets).astype(np.int32), reference, is_whole=is_whole):
        raise BuildError(f"{where}: {split} rows of unit {unit} break the format: {problem}")
    masks = draw_planes(rows, documents, planes, reference)
    audit = count_shard(rows, masks, planes, vocabulary=vocabulary, sources=groups_of(documents))
    record = write_shard(
        folder,
        split=split,
        unit=unit,
        rows=rows,
        planes=masks,
        documents=documents,
        documents_file=documents_file,
        compression=compression,
    )
    return AssembledShard(
        record=record,
        audit=audit,
        packing=statistics(lengths, packing, sequence_length=length, max_segments=limit),
        num_truncated=segments.num_truncated_tokens,
    )


def draw_planes(
    rows: Rows, documents: pa.Table, planes: Mapping[str, Plane], reference: Reference
) -> dict[str, PlaneMasks]:
    """Masks of some rows of a shard, by plane name; `documents` is the shard's whole table."""
    ids = ids_from_arrow(documents["id"].combine_chunks())
    copies = documents["copy"].combine_chunks().to_numpy()
    return {
        name: draw_plane(
            rows,
            ids,
            copies,
            plane,
            roles=reference.roles,
            vocab_size=reference.vocab_size,
            never_targets=reference.never_targets,
            random_ids=reference.random_ids,
        )
        for name, plane in planes.items()
    }


def groups_of(documents: pa.Table) -> UInt8[np.ndarray, " documents"]:
    """The audit's group of each document's source; a name is hashed once."""
    names = documents["source"].unify_dictionaries().combine_chunks()
    return source_groups(names.dictionary.to_pylist())[names.indices.to_numpy()]


def _problem(rows: Rows, num_tokens: np.ndarray, reference: Reference, *, is_whole: bool) -> str | None:
    """What `verify` would say of these rows, before anybody can see them."""
    content = np.zeros(len(num_tokens), np.int64)
    add_content(content, rows, reference.roles)
    problems = [
        *row_problems(rows, num_tokens, roles=reference.roles, vocab_size=reference.vocab_size),
        *document_problems(content, num_tokens, is_whole=is_whole),
    ]
    return problems[0] if problems else None
