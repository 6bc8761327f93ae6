"""`premask repack`: rows of another length from the same tokens.

A document's tokens lie in the segments of its shard's rows, cut where rows ended. They are put together again
(`segment_documents`, `segment_starts`) and packed anew by the same code that packs a build, and masks are drawn with
the settings that the manifest has. So the version is that of a build with another `pack.sequence_length`, digest and
all. Documents and signatures are shared with the parent by hash.

    L = 8:  [CLS] a b c d e f [SEP]   [CLS] g h [SEP] ...        ->   a b c d e f g h   ->   L = 16 ...
             document 0, start 0        document 0, start 6

What `truncate` cut off is in no row, so such a dataset can't be repacked: rows of another length would hold other
tokens than a build with it.

Memory: for each thread a shard's tokens (at most 2^22, in older datasets 2^25, 3 bytes each), its rows and its masks.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from mlm_data.config import PackSettings, semantic_pack
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.heritage import compression_of, file_record
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import Manifest
from mlm_data.dataset.publish import current_version
from mlm_data.derive.version import Change, derive_version, shards_of
from mlm_data.errors import ConfigError, FormatError
from mlm_data.rows.packing import take_out
from mlm_data.settings import parse_settings
from mlm_data.shards import format as fmt
from mlm_data.shards.assemble import AssembledShard, assemble_shard
from mlm_data.shards.planes import planes_in, vocabulary_of
from mlm_data.shards.reader import Shard
from mlm_data.threads import in_threads
from mlm_data.tokens.reference import Reference
from mlm_data.types import TokenIds, id_type


def repack(
    parent: Dataset,
    length: int,
    *,
    max_segments: int | None = None,
    current: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Publish a version with rows of another length.

    Args:
        parent: the version whose tokens they are.
        length: places of a row.
        max_segments: documents' pieces that a row may hold; None: the default for the length, or what the parent has
            where that is not the default for its own length.
        current: the version that must still be the current one at the end; None: whichever is when the work begins.
        workers: threads.
        progress: told (shards done, all shards).

    Raises:
        ConfigError: if documents were truncated, or for a length that can't be right.
        BuildError: if the ledger or the audit fails; nothing is published.
        FormatError: if a file of the parent is damaged.
        StorageError: if another version was published in the meantime.
    """
    parent.folder.clear()  # what killed commands have left
    current = current_version(parent.folder, current)
    check_whole(parent)
    config = parent.manifest.config
    settings = change_length(config, length, max_segments)
    packing = semantic_pack(settings)
    repacker = _Repacker(parent, settings)
    done: list[AssembledShard] = []
    total = sum(parent.num_shards(split) for split in fmt.SPLITS)
    for shard in in_threads(repacker.repack, shards_of(parent), workers=workers):
        done.append(shard)
        if progress:
            progress(len(done), total)
    old = Ledger.from_dict(parent.manifest.ledger)
    num_specials = parent.manifest.roles.num_specials
    in_rows = sum(shard.record.num_tokens - num_specials * shard.record.num_segments for shard in done)
    change = Change(
        made_by="repack",
        current=current,
        config={**config, "pack": packing},
        ledger=replace(old, tokens_in_rows=in_rows, tokens_truncated=sum(shard.num_truncated for shard in done)),
        asked={"length": length} | ({} if max_segments is None else {"max_segments": max_segments}),
    )
    return derive_version(parent, done, change=change)


def check_whole(parent: Dataset) -> None:
    """Refuse a version whose rows don't hold all tokens of its documents.

    Raises:
        ConfigError: says how many are missing.
    """
    lost = Ledger.from_dict(parent.manifest.ledger).tokens_truncated
    if lost:
        raise ConfigError(
            f"{parent.folder.location}: {lost:,} tokens of long documents were cut off (pack.long_documents: truncate) "
            "and are in no row, so they can't be packed anew: build again with the other sequence_length"
        )


def change_length(config: Mapping[str, Any], length: int, max_segments: int | None) -> PackSettings:
    """The pack settings of a semantic configuration, for another length.

    Raises:
        ConfigError: for values that can't be right.
    """
    old = PackSettings.model_validate(config["pack"])
    if max_segments is None:
        by_length = PackSettings(sequence_length=old.sequence_length).segments_per_row
        max_segments = None if old.max_segments == by_length else old.max_segments
    values = old.model_dump() | {"sequence_length": length, "max_segments": max_segments}
    return parse_settings(PackSettings, values, where="pack")


def documents_tokens(
    shard: Shard, reference: Reference
) -> tuple[TokenIds, Int64[np.ndarray, " documents+1"], Bool[np.ndarray, " tokens"]]:
    """Ids, offsets and word starts of a shard's documents, put together from its rows.

    Raises:
        FormatError: if the rows don't hold each document whole.
    """
    offsets = np.zeros(shard.documents.num_rows + 1, np.int64)
    np.cumsum(shard.documents["num_tokens"].to_numpy(), out=offsets[1:])
    ids = np.zeros(int(offsets[-1]), id_type(reference.vocab_size))
    word_starts = np.zeros(ids.size, np.bool_)
    held = 0
    for rows in shard.rows:
        try:
            take_out(rows, offsets, ids, word_starts, roles=reference.roles)
        except FormatError as error:
            raise FormatError(f"{shard.where(fmt.ROWS)}: {error}") from error
        held += int(rows.used().sum(dtype=np.int64)) - reference.roles.num_specials * int(
            rows.segment_offsets[-1] - rows.segment_offsets[0]
        )
    if held != ids.size:
        raise FormatError(
            f"{shard.where(fmt.ROWS)}: holds {held} tokens of documents that have {ids.size}: run premask verify"
        )
    return ids, offsets, word_starts


class _Repacker:
    """What every thread needs to pack a shard anew."""

    def __init__(self, parent: Dataset, settings: PackSettings) -> None:
        self._parent, self._settings = parent, settings
        self._reference, self._compression = parent.reference(), compression_of(parent)
        self._vocabulary = vocabulary_of(self._reference)
        self._planes = planes_in(parent.manifest.config)

    def repack(self, shard: Shard) -> AssembledShard:
        ids, offsets, word_starts = documents_tokens(shard, self._reference)
        return assemble_shard(
            self._parent.folder,
            split=shard.split,
            unit=shard.unit,
            documents=shard.documents,
            documents_file=file_record(self._parent.lines(shard.split, shard.index)[2]),
            ids=ids,
            offsets=offsets,
            word_starts=word_starts,
            settings=self._settings,
            planes=self._planes[shard.split],
            reference=self._reference,
            vocabulary=self._vocabulary,
            compression=self._compression,
            where=self._parent.folder.location,
        )
