"""Pre-tokenized data to a version: documents of ids are checked, cut, packed, masked and published as a build's are.

    files -> documents -> pieces (`cut`) -> units of about `UNIT_TOKENS` tokens -> shards -> a version

The files are read twice: once to check every id and to find copies, before anything is written; then to write. A
document's id is a hash of its tokens, since its text is gone, so an import knows copies among imports, and none of a
build's. Memory: 24 bytes for each document, and a few units.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from mlm_data.build.split import choose_validation, group_hashes
from mlm_data.config import BuildConfig, semantic
from mlm_data.curation.thresholds import EXACT_DUPLICATE, FORGOTTEN
from mlm_data.dataset.forgotten import LIST, are_listed, current_list, read_list
from mlm_data.dataset.funnel import Funnel
from mlm_data.dataset.gates import add_packings, judge_masks, library_versions, side_facts, tokenizer_facts
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import Manifest, build_manifest, latest
from mlm_data.dataset.publish import check_output, publish
from mlm_data.duplicates.exact import find_duplicates, pack_records
from mlm_data.errors import ConfigError, InputError
from mlm_data.exchange.cut import Pieces, cut, token_rules
from mlm_data.exchange.read_datatrove import read_datatrove
from mlm_data.exchange.read_dolma import read_dolma
from mlm_data.exchange.read_hf import read_hf
from mlm_data.exchange.read_mds import read_mds
from mlm_data.exchange.read_megatron import read_megatron
from mlm_data.exchange.tokens import TokenFile
from mlm_data.exchange.word_starts import find_word_starts, word_marks
from mlm_data.hashing import ids_to_arrow
from mlm_data.settings import apply_overrides, parse_settings
from mlm_data.shards import format as fmt
from mlm_data.shards.assemble import AssembledShard, assemble_shard
from mlm_data.shards.planes import planes_of, vocabulary_of
from mlm_data.shards.records import SignaturesRecord
from mlm_data.shards.writer import write_signatures
from mlm_data.stores.folder import Folder
from mlm_data.stores.places import absolute, public
from mlm_data.threads import in_threads
from mlm_data.tokens.reference import Reference, load_tokenizer

UNIT_TOKENS = 1 << 23
NO_TOKENS = "no_tokens"  # reason of documents that hold nothing but special tokens
KEPT = "kept"
MAX_COPY = np.iinfo(np.int16).max
SETTINGS = ("pack", "mask", "split", "seed", "deduplicate", "compression", "tokenizer")  # that mean something here
KINDS: Mapping[str, Callable[[Path, str | None, str | None], list[TokenFile]]] = {
    "datatrove": lambda place, column, dtype: read_datatrove(place),
    "dolma": lambda place, column, dtype: read_dolma(place),
    "mds": read_mds,
    "megatron": lambda place, column, dtype: read_megatron(place),
    "hf": lambda place, column, dtype: read_hf(place, column),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is to be imported."""

    kind: str  # a key of KINDS
    place: Path
    column: str | None = None  # of `hf` and `mds`
    dtype: str | None = None  # of `mds` with bytes
    separators: tuple[str, ...] = ()

    def files(self) -> list[TokenFile]:
        """The files that are there.

        Raises:
            ConfigError: if the place is not there.
            InputError: if they can't be understood.
        """
        if self.kind not in KINDS:
            raise ConfigError(f"--from {self.kind}: must be one of {', '.join(KINDS)}")
        for name, value, kinds in (("column", self.column, ("hf", "mds")), ("dtype", self.dtype, ("mds",))):
            if value is not None and self.kind not in kinds:
                raise ConfigError(f"--{name} is for {' and '.join(kinds)}, and --from is {self.kind}")
        if self.kind != "megatron" and not self.place.exists():
            raise InputError(f"{self.place}: no such file or folder")
        return KINDS[self.kind](self.place, self.column, self.dtype)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What has come of the files."""

    manifest: Manifest
    overtaken: str  # another version that was published there meanwhile, and is not the current one now; "": none


@dataclass(frozen=True, kw_only=True)
class _Unit:
    index: int
    sources: tuple[str, ...]  # of each of its batches
    pieces: tuple[Pieces, ...]


@dataclass(frozen=True, kw_only=True)
class _Made:
    shards: list[AssembledShard]
    signatures: SignaturesRecord | None
    ledger: Ledger


def make_config(
    dataset: str | os.PathLike[str], source: Source, tokenizer: str, overrides: Sequence[str]
) -> BuildConfig:
    """The configuration of an import: a build's, of which only packing, masks, split and tokenizer mean something.

    Raises:
        ConfigError: for other settings, and for values that can't be right.
    """
    for override in overrides:
        name = override.partition("=")[0].partition(".")[0]
        if name not in SETTINGS:
            raise ConfigError(f"--set {override}: an import reads no text: only {', '.join(SETTINGS)} can be set")
    values = {
        "inputs": [{"path": os.path.abspath(source.place)}],
        "output": os.fspath(dataset),
        "tokenizer": {"path": absolute(tokenizer)},
    }
    config = parse_settings(BuildConfig, apply_overrides(values, overrides), where="import")
    if config.deduplicate.near is not None or config.deduplicate.lines is not None:
        raise ConfigError("deduplicate: near and lines need the text, which is gone: set deduplicate.exact alone")
    if config.split.by not in {"document", "source"}:
        raise ConfigError(f"split.by: {config.split.by}: an import splits by document or source")
    return config


def import_tokens(
    source: Source,
    config: BuildConfig,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Publish a version that holds the documents of other tools' files.

    Args:
        source: what to read.
        config: of `make_config`.
        workers: threads.
        progress: told (units done, all units).

    Raises:
        InputError: if a file is damaged or missing, or an id can't be; nothing is written then.
        TokenizerError: if the tokenizer can't be used.
        BuildError: if a gate of publishing stays shut.
        StorageError: if the dataset's folder can't be written, or holds something else.
    """
    folder = Folder(config.output)
    check_output(folder)
    folder.clear()
    before = latest(folder)
    tokenizer = config.tokenizer
    assert tokenizer.path is not None, "make_config has set it"
    reference = load_tokenizer(
        tokenizer.path, tokenizer.special, markers=tokenizer.markers, mask_markers=config.mask.markers
    )
    files = source.files()
    reading = _Reading(files, reference, token_rules(reference, source.separators))
    importer = _Importer(folder, config, reference, reading, is_named=source.kind == "dolma")
    made: list[_Made] = []
    for one in in_threads(importer.assemble, reading.units(), workers=workers):
        made.append(one)
        if progress:
            progress(len(made), importer.num_units)
    shards = [shard for one in made for shard in one.shards]
    ledger = sum((one.ledger for one in made), Ledger(bytes_read=sum(file.num_bytes for file in files)))
    audits = ({shard.record.split: shard.audit} for shard in shards if shard.audit is not None)
    packings = ({shard.record.split: shard.packing} for shard in shards if shard.packing is not None)
    manifest, table = build_manifest(
        config=_semantic(config, source),
        tokenizer=tokenizer_facts(reference),
        shards=[shard.record for shard in shards],
        signatures=[one.signatures for one in made if one.signatures],
        ledger=ledger,
        audit=judge_masks(audits, config.mask, seed=config.seed, where=config.output),
        packing=add_packings(packings),
        plan={"unit_bytes": config.unit_bytes or 1 << 20, "group_modulus": 1},
        funnel=_funnel(source.kind, ledger),
    )
    facts = side_facts(folder, manifest.digest, made_by="import", versions=dict(library_versions()))
    listed = {LIST: folder.read(importer.forgotten)} if importer.forgotten else {}
    side = {**facts, "inputs": [public(str(source.place))], "asked": {"from": source.kind}}
    overtaken = latest(folder)
    publish(folder, manifest, table, tokenizer=reference.json_bytes, side=side, attachments=listed)
    return Imported(
        manifest=manifest, overtaken=overtaken if overtaken and overtaken not in {before, manifest.digest} else ""
    )


class _Reading:
    """The files as units of pieces, each time the same."""

    def __init__(self, files: Sequence[TokenFile], reference: Reference, rules: np.ndarray) -> None:
        self._files, self._reference, self._rules = files, reference, rules

    def units(self) -> Iterator[_Unit]:
        index, sources, pieces, size = 0, [], [], 0
        for file in self._files:
            for batch in file.read():
                piece = cut(batch, self._rules, self._reference, where=file.source)
                sources.append(file.source)
                pieces.append(piece)
                size += piece.ids.size
                if size >= UNIT_TOKENS:
                    yield _Unit(index=index, sources=tuple(sources), pieces=tuple(pieces))
                    index, sources, pieces, size = index + 1, [], [], 0
        if pieces:
            yield _Unit(index=index, sources=tuple(sources), pieces=tuple(pieces))


class _Importer:
    """What every thread needs to write a unit's shards."""

    def __init__(
        self, folder: Folder, config: BuildConfig, reference: Reference, reading: _Reading, *, is_named: bool
    ) -> None:
        self._folder, self._config, self._reference = folder, config, reference
        self._vocabulary, self._marks = vocabulary_of(reference), word_marks(reference)
        self._schema = fmt.documents_schema(has_id_field=is_named)
        self.forgotten = current_list(folder)
        self._forgotten = read_list(folder, self.forgotten)
        records = []
        self.num_units = 0
        for unit in reading.units():
            hashes = np.concatenate([piece.hashes() for piece in unit.pieces])
            records.append(pack_records(hashes, unit.index, np.arange(len(hashes))))
            self.num_units += 1
        if not records:
            raise InputError("no document is there: the files are empty")
        self._copies = find_duplicates(np.concatenate(records))

    def assemble(self, unit: _Unit) -> _Made:
        """Drop, split, pack, mask and write one unit."""
        ids = np.concatenate([piece.ids for piece in unit.pieces])
        lengths = np.concatenate([np.diff(piece.offsets) for piece in unit.pieces])
        hashes = np.concatenate([piece.hashes() for piece in unit.pieces])
        copy = np.zeros(lengths.size, np.int64)
        first, end = np.searchsorted(self._copies.unit, [unit.index, unit.index + 1])
        copy[self._copies.document[first:end]] = self._copies.copy[first:end]
        arrow_ids = ids_to_arrow(hashes)
        is_forgotten = are_listed(arrow_ids, self._forgotten)
        is_copy = (copy > 0) & ~is_forgotten & self._config.deduplicate.exact
        kept = ~(is_copy | is_forgotten)
        num_empty = sum(piece.num_empty for piece in unit.pieces)
        gone = {EXACT_DUPLICATE: is_copy, FORGOTTEN: is_forgotten}
        documents = self._documents(unit, arrow_ids, copy, lengths)
        held_out = self._held_out(hashes, documents)
        shards: list[AssembledShard] = []
        for split in fmt.SPLITS:
            mine = kept & (held_out == (split == fmt.VALIDATION))
            if mine.any():
                shards.append(self._write(unit, split, mine, ids, lengths, documents))
        return _Made(
            shards=shards,
            signatures=self._sign(unit.index, hashes[kept & (copy == 0)]),
            ledger=Ledger(
                documents_read=lengths.size + num_empty,
                documents_kept=int(kept.sum()),
                documents_dropped={name: int(which.sum()) for name, which in gone.items() if which.any()}
                | ({NO_TOKENS: num_empty} if num_empty else {}),
                tokens_tokenized=int(lengths.sum()),
                tokens_in_rows=sum(
                    shard.record.num_tokens - self._reference.roles.num_specials * shard.record.num_segments
                    for shard in shards
                ),
                tokens_truncated=sum(shard.num_truncated for shard in shards),
                tokens_dropped={name: int(lengths[which].sum()) for name, which in gone.items() if which.any()},
            ),
        )

    def _sign(self, unit: int, hashes: np.ndarray) -> SignaturesRecord | None:
        if not len(hashes):
            return None
        return write_signatures(self._folder, unit=unit, ids=hashes, compression=self._config.compression)

    def _documents(self, unit: _Unit, ids: pa.Array, copy: np.ndarray, lengths: np.ndarray) -> pa.Table:
        names = list(dict.fromkeys(unit.sources))
        codes = [np.full(len(p), names.index(s), np.int32) for s, p in zip(unit.sources, unit.pieces, strict=True)]
        columns = {
            "id": ids,
            "copy": pa.array(np.minimum(copy, MAX_COPY).astype(np.int16)),
            "source": pa.DictionaryArray.from_arrays(pa.array(np.concatenate(codes)), pa.array(names, pa.string())),
            "offset": pa.array(np.concatenate([piece.documents for piece in unit.pieces])),
            "num_tokens": pa.array(lengths.astype(np.int32)),
        }
        if "id_field" in self._schema.names:
            columns["id_field"] = pa.array([own for piece in unit.pieces for own in piece.own_ids or ()], pa.string())
        return pa.table([columns[name] for name in self._schema.names], schema=self._schema)

    def _held_out(self, hashes: np.ndarray, documents: pa.Table) -> Bool[np.ndarray, " documents"]:
        settings = self._config.split
        groups = hashes[:, 0].copy()
        if settings.by == "source":
            source = documents["source"].combine_chunks()
            groups = group_hashes(source.dictionary)[source.indices.to_numpy()]
        return choose_validation(groups, share=settings.validation, seed=self._config.seed)

    def _write(
        self, unit: _Unit, split: str, mine: np.ndarray, ids: np.ndarray, lengths: np.ndarray, documents: pa.Table
    ) -> AssembledShard:
        config = self._config
        own = np.ascontiguousarray(ids[np.repeat(mine, lengths)])
        offsets = np.concatenate([[0], np.cumsum(lengths[mine], dtype=np.int64)])
        return assemble_shard(
            self._folder,
            split=split,
            unit=unit.index,
            documents=documents.filter(pa.array(mine)).combine_chunks(),
            ids=own,
            offsets=offsets,
            word_starts=find_word_starts(own, offsets, self._marks),
            settings=config.pack,
            planes=planes_of(split, config.mask, config.seed),
            reference=self._reference,
            vocabulary=self._vocabulary,
            compression=config.compression,
            where=unit.sources[0],
        )


def _semantic(config: BuildConfig, source: Source) -> dict[str, Any]:
    """The settings that an import's bytes depend on; those of texts are left out."""
    full = semantic(config)
    del full["clean"]
    own_id = "id" if source.kind == "dolma" else None
    return full | {
        "inputs": [{"name": "", "id_field": own_id, "keep_fields": []}],
        "import": {"from": source.kind, "separators": sorted(source.separators)},
    }


def _funnel(kind: str, ledger: Ledger) -> Funnel:
    kept = {KEPT: ledger.documents_kept, **ledger.documents_dropped}
    tokens = {KEPT: ledger.tokens_in_rows + ledger.tokens_truncated, **ledger.tokens_dropped}
    return Funnel(fates={(kind, "", name): (count, 0, tokens.get(name, 0)) for name, count in sorted(kept.items())})
