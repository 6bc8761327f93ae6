"""Verify a version: every file, every byte, every rule of the format. Each problem is one line that names its file.

Three layers, each trusted only after the one before it:

1. Bytes: every file is there, has its size and its SHA-256; the side file vouches for the manifest and the file table.
2. Meaning: the tables' logical hashes, and the digest that follows from them.
3. Rules: schemas, record batches, segments, specials, padding, targets, swaps, counts, bounds and the ledger.

Cost: one pass over the files, a shard at a time in each thread. Every byte is hashed twice, as a file and as values.
The first hash finds what was changed since it was written; only the second ties what is there to the digest that a
version is named by. Files on a disk that hold their values as they are get both in one pass (`sha256`): so Arrow has
opened and checked such a file before its bytes are known to be sound, but nothing is concluded from it until they are.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.heritage import compression_of
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import (
    ALL,
    Manifest,
    bounds_problems,
    compute_digest,
    count_problems,
    latest,
    load_files,
    load_manifest,
    load_side,
    version_names,
)
from mlm_data.errors import FormatError, NewerFormatError, PremaskError, PurgedError
from mlm_data.rows.mask_rules import look_at_targets, maskable_bits, swap_problems
from mlm_data.rows.masking import KINDS, Plane
from mlm_data.rows.row_rules import add_content, document_problems, problem_line, row_problems
from mlm_data.sha256 import sha256_both
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import Shard, decode, decode_at, fixed_view, read_batches
from mlm_data.shards.table_hash import table_bytes, table_hash
from mlm_data.stores.folder import READ_BYTES, Folder
from mlm_data.threads import in_threads
from mlm_data.types import PlaneMasks

ShardCheck = Callable[[Shard], object]


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What was looked at, and what is wrong; nothing is wrong if `ok`."""

    digest: str
    num_files: int
    num_bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(
    folder: Folder,
    digest: str | None = None,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    on_shard: Callable[[Dataset], ShardCheck] | None = None,
) -> VerifyReport:
    """Check a version, the current one by default.

    Args:
        folder: the dataset.
        digest: of the version.
        workers: threads, each with a shard at a time. The problems and their order don't depend on it.
        progress: called with (bytes done, bytes in all).
        on_shard: given the dataset, what to do with each shard whose files are sound: a look at more than the rules.
            It is called by the threads.

    Raises:
        FormatError: if the folder is no dataset: it has neither a LATEST nor versions.
        NewerFormatError: if its format is newer than this premask.
        PurgedError: if the version was purged.
    """
    try:
        digest = digest or latest(folder)
        manifest = load_manifest(folder, digest)
    except (NewerFormatError, PurgedError):
        raise
    except FormatError as error:
        if not folder.names("versions"):
            raise
        return VerifyReport(digest=digest or "", num_files=0, num_bytes=0, problems=(str(error),))
    problems = list(_version_problems(folder, manifest))
    if problems:  # nothing vouches for the file table any more
        return VerifyReport(digest=manifest.digest, num_files=4, num_bytes=0, problems=tuple(problems))
    files = load_files(folder, manifest)
    dataset = Dataset(folder, manifest, files)
    problems += _meaning_problems(folder, manifest, files)
    check = _Check(dataset, on_shard and on_shard(dataset))
    total, done = int(files["num_bytes"].to_numpy().sum()), 0

    def look(place: tuple[str, int]) -> tuple[list[str], int]:
        shard = dataset.shard(*place)
        return check.shard(shard), sum(file.num_bytes for file in shard.files.values())

    places = [(split, index) for split in fmt.SPLITS for index in range(dataset.num_shards(split))]
    for found, num_bytes in in_threads(look, places, workers=workers):
        problems += found
        done += num_bytes
        if progress:
            progress(done, total)
    for line in files.filter(pa.compute.equal(files["split"], ALL)).to_pylist():
        problems += check.signatures(line)
        done += line["num_bytes"]
        if progress:
            progress(done, total)
    problems += check.totals()
    return VerifyReport(digest=manifest.digest, num_files=files.num_rows + 4, num_bytes=done, problems=tuple(problems))


@dataclass
class _Seen:
    """What the shards of a split add up to."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("num_shards", "num_rows", "num_tokens", "num_segments", "num_documents"), 0
        )
    )
    max_segments: int = 0
    max_targets: dict[str, int] = field(default_factory=dict)

    def add(self, other: "_Seen") -> None:
        for name, count in other.counts.items():
            self.counts[name] += count
        self.max_segments = max(self.max_segments, other.max_segments)
        for plane, most in other.max_targets.items():
            self.max_targets[plane] = max(self.max_targets.get(plane, 0), most)


class _Check:
    def __init__(self, dataset: Dataset, on_shard: ShardCheck | None) -> None:
        self._dataset, self._folder, self._manifest = dataset, dataset.folder, dataset.manifest
        self._lines = {
            (line["split"], line["shard"], line["kind"]): line
            for line in dataset.files.select(
                ["split", "shard", "kind", "logical_hash", "sha256", "num_tokens"]
            ).to_pylist()
        }
        self._on_shard = on_shard
        self._is_plain = compression_of(dataset) == "none"
        self._never = np.zeros(self._manifest.vocab_size, np.bool_)
        self._never[dataset.never_targets()] = True
        self._seen = {split: _Seen() for split in fmt.SPLITS}
        self._lock = Lock()  # for what is seen
        self._complete = True  # no shard was unreadable, so that totals mean something

    def shard(self, shard: Shard) -> list[str]:
        """Problems of one shard's three files."""
        tables: dict[str, pa.Table] = {}
        problems: list[str] = []
        for kind, file in shard.files.items():
            line = self._lines[shard.split, shard.index, kind]
            try:
                line |= {"num_bytes": file.num_bytes, "num_rows": file.num_rows}
                tables[kind] = self._table(kind, file.name, line)
            except PremaskError as error:
                problems.append(str(error))
        if problems:
            self._complete = False
            return problems
        for kind, table in tables.items():
            problems += self._named(shard.files[kind].name, self._schema_problems(kind, shard.split, table))
        if problems:
            self._complete = False
            return problems
        shard.hold(tables)
        problems += self._rules(shard)
        if not problems and self._on_shard:
            self._on_shard(shard)
        return problems

    def signatures(self, line: Mapping[str, Any]) -> list[str]:
        """Problems of one signatures file."""
        try:
            table = self._table(fmt.SIGNATURES, line["name"], line)
        except PremaskError as error:
            return [str(error)]
        near = (self._manifest.config.get("deduplicate") or {}).get("near")  # older datasets have no sketches
        wanted = [fmt.signatures_schema(), fmt.signatures_schema(near["bands"] * near["rows"] if near else 0)]
        if table.schema not in wanted:
            return self._named(line["name"], ["its columns are not those of signatures"])
        return self._named(line["name"], [] if _is_sorted(table["id"]) else ["its ids are not sorted"])

    def totals(self) -> list[str]:
        """Problems of the manifest's counts and bounds."""
        where = version_names(self._manifest)["manifest"]
        if not self._complete:
            return []
        problems = []
        for split in fmt.SPLITS:
            said, counted = dict(self._manifest.splits[split]), self._seen[split].counts
            problems += [
                f"{split}.{name}: says {said.get(name)}, the shards have {counted[name]}"
                for name in counted
                if said.get(name) != counted[name]
            ]
        rates = self._manifest.config["mask"]["rate"]
        train, held_out = self._seen[fmt.TRAIN], self._seen[fmt.VALIDATION]
        targets = [train.max_targets.get(str(plane), 0) for plane in range(len(rates))]
        bounds = {
            "max_segments": max(train.max_segments, held_out.max_segments),
            "max_targets": [max(t for t, r in zip(targets, rates, strict=True) if r == rate) for rate in rates],
            "max_targets_evaluation": held_out.max_targets.get("evaluation", 0),
        }
        problems += [
            f"bounds.{name}: says {self._manifest.bounds.get(name)}, the shards have {value}"
            for name, value in bounds.items()
            if self._manifest.bounds.get(name) != value
        ]
        problems += bounds_problems(self._manifest.bounds, self._manifest.splits)
        return self._named(where, problems)

    def _named(self, name: str, problems: Iterable[str]) -> list[str]:
        return [f"{self._folder.location}/{name}: {problem}" for problem in problems]

    def _table(self, kind: str, name: str, line: Mapping[str, Any]) -> pa.Table:
        """A file's table, validated in full.

        Raises:
            FormatError: if the file is not there, or its bytes, rows or values are not those of the file table.
        """
        where = f"{self._folder.location}/{name}"
        if not self._folder.exists(name):
            raise FormatError(f"{where}: missing")
        table = None
        with self._folder.open(name, whole=True) as stream:
            if stream.size() != line["num_bytes"]:
                raise FormatError(f"{where}: has {stream.size()} bytes, the file table says {line['num_bytes']}")
            # A file that is mapped or small is at hand from here on: it is fetched once, and decoded from there.
            is_at_hand = self._folder.is_mapped or isinstance(stream, pa.BufferReader)
            data = stream.read_buffer() if is_at_hand else None
            if data is not None and self._is_plain:  # it is its values, byte for byte: one pass takes both hashes
                table, values = _as_table(data, kind)
                sha256, logical_hash = sha256_both([data], values)
            else:
                hasher = hashlib.sha256()
                for chunk in _chunks(stream) if data is None else [data]:
                    hasher.update(chunk)
                sha256 = hasher.digest()
        if sha256 != line["sha256"]:
            raise FormatError(f"{where}: a byte was changed: its SHA-256 is not the file table's")
        if table is None:
            batches = read_batches(self._folder, name) if data is None else decode_at(where, pa.BufferReader(data))
            table = pa.Table.from_batches(batches) if batches else _empty_table(self._folder, name)
            try:
                table.validate(full=True)  # nothing points out of its buffers, so that they can be hashed
            except pa.ArrowException as error:
                raise FormatError(f"{where}: damaged: {str(error).splitlines()[0]}") from error
            logical_hash = table_hash(table, kind)
        if table.num_rows != line["num_rows"]:
            raise FormatError(f"{where}: has {table.num_rows} rows, the file table says {line['num_rows']}")
        if logical_hash != line["logical_hash"]:
            raise FormatError(f"{where}: its logical hash is not the file table's")
        return table

    def _schema_problems(self, kind: str, split: str, table: pa.Table) -> Iterator[str]:
        tokens, length = fmt.token_type(self._manifest.vocab_size), self._manifest.sequence_length
        wanted = {
            fmt.ROWS: fmt.rows_schema(length, tokens),
            fmt.MASKS: fmt.masks_schema(length, tokens, self._dataset.planes(split)),
            fmt.DOCUMENTS: fmt.documents_schema(),
        }[kind]
        found = pa.schema(list(table.schema)[: len(wanted)]) if kind == fmt.DOCUMENTS else table.schema
        if found != wanted:
            names = [f.name for f in wanted if f.name not in found.names or found.field(f.name) != f]
            yield f"its columns are not those of {kind}: {', '.join(names) or 'too many'}"
        for name in wanted.names:
            if name in found.names and _num_nulls(table[name]):
                yield f"column {name}: holds nulls"
        sizes = [len(chunk) for chunk in table.column(0).chunks]
        if any(size != fmt.BATCH_ROWS for size in sizes[:-1]) or max(sizes, default=0) > fmt.BATCH_ROWS:
            yield f"its record batches don't have {fmt.BATCH_ROWS} rows each but the last"

    def _rules(self, shard: Shard) -> list[str]:
        seen = _Seen()
        names = {kind: file.name for kind, file in shard.files.items()}
        problems: list[str] = []
        try:
            pieces, documents = shard.rows, shard.documents
            planes = {plane: shard.masks(plane) for plane in self._dataset.planes(shard.split)}
        except FormatError as error:
            self._complete = False
            return [str(error)]
        content = np.zeros(documents.num_rows, np.int64)
        num_tokens = num_segments = 0
        for piece, rows in enumerate(pieces):
            first = piece * fmt.BATCH_ROWS
            breaches = row_problems(
                rows,
                documents["num_tokens"].to_numpy(),
                roles=self._manifest.roles,
                vocab_size=self._manifest.vocab_size,
                first=first,
            )
            wrong = self._named(names[fmt.ROWS], breaches)
            if wrong:  # what follows would index by what is wrong
                self._complete = False
                return problems + wrong
            add_content(content, rows, self._manifest.roles)
            num_tokens += int(rows.segment_lengths.sum(dtype=np.int64))
            num_segments += rows.segment_lengths.size
            seen.max_segments = max(seen.max_segments, int(rows.segments().max(initial=0)))
            free = maskable_bits(rows.tokens, rows.used(), self._never)
            for plane, masks in planes.items():
                beside, found = look_at_targets(masks[piece].targets, free[0])
                lines = self._mask_problems(masks[piece], plane, beside, found, free[1], first)
                problems += self._named(names[fmt.MASKS], (f"plane {plane}: {line}" for line in lines))
                seen.max_targets[plane] = max(seen.max_targets.get(plane, 0), int(found.max(initial=0)))
        is_whole = self._manifest.config["pack"].get("long_documents") == "split"
        lines = document_problems(content, documents["num_tokens"].to_numpy(), is_whole=is_whole)
        problems += self._named(names[fmt.DOCUMENTS], lines)
        said = self._lines[shard.split, shard.index, fmt.ROWS]["num_tokens"]
        if said != num_tokens:
            problems += self._named(names[fmt.ROWS], [f"holds {num_tokens} tokens, the file table says {said}"])
        added = (1, shard.num_rows, num_tokens, num_segments, documents.num_rows)
        seen.counts = dict(zip(seen.counts, added, strict=True))
        with self._lock:
            self._seen[shard.split].add(seen)
        return problems

    def _mask_problems(
        self,
        masks: PlaneMasks,
        plane: str,
        beside: Bool[np.ndarray, " rows"],
        found: Int64[np.ndarray, " rows"],
        maskable: Int64[np.ndarray, " rows"],
        first: int,
    ) -> Iterator[str]:
        """Problems of a plane, whose rows have a target `beside` its places, so many, and so many places."""
        yield from _rows_where("a target is a special token, [UNK], a marker or padding", beside, first)
        rate = fmt.EVALUATION_RATE if plane == "evaluation" else self._manifest.config["mask"]["rate"][int(plane)]
        most = Plane(index=0, rate=rate).budget(maskable)
        yield from _rows_where("more targets than the rate allows", found > most, first)
        if plane == "evaluation" or KINDS[self._manifest.config["mask"]["kind"]].fills:
            yield from _rows_where("fewer targets than the rate demands", found < most, first)
        if plane == "evaluation":
            yield from _rows_where("the evaluation plane has swaps", np.diff(masks.swap_offsets) > 0, first)
        length, vocab_size = self._manifest.sequence_length, self._manifest.vocab_size
        yield from swap_problems(masks, sequence_length=length, vocab_size=vocab_size, first=first)


def _as_table(data: pa.Buffer, kind: str) -> tuple[pa.Table | None, list[Any]]:
    """A file as a table, and what its logical hash is of, before anybody knows whether its bytes are sound.

    Arrow checks that nothing points out of the file, so damage can do no harm; what is read means something once the
    bytes are known to be right. None for a file that can't be read so: its bytes say why.
    """
    try:
        table = pa.Table.from_batches(decode(pa.BufferReader(data), is_mapped=True))
        table.validate(full=True)
        return table, list(table_bytes(table, kind))
    except (pa.ArrowException, ValueError, TypeError, OSError, MemoryError):
        return None, []


def _chunks(stream: pa.NativeFile) -> Iterator[pa.Buffer]:
    while chunk := stream.read_buffer(READ_BYTES):
        yield chunk


def _version_problems(folder: Folder, manifest: Manifest) -> Iterator[str]:
    """Problems of the bytes of the files that make up a version, beside its shards."""
    names = version_names(manifest)
    try:
        side = load_side(folder, manifest)
    except FormatError as error:
        yield str(error)
        return
    vouched = {names["manifest"]: side.get("manifest_sha256"), names["files"]: side.get("files_sha256")}
    vouched |= {f"versions/{manifest.digest}.{name}": sha for name, sha in side.get("attachments", {}).items()}
    for name, sha in {**vouched, names["tokenizer"]: manifest.tokenizer["sha256"]}.items():
        if not folder.exists(name):
            yield f"{folder.location}/{name}: missing"
        elif hashlib.sha256(folder.read(name)).hexdigest() != sha:
            yield f"{folder.location}/{name}: a byte was changed: its SHA-256 is another"


def _meaning_problems(folder: Folder, manifest: Manifest, files: pa.Table) -> Iterator[str]:
    """Problems of what the manifest and the file table say."""
    where = f"{folder.location}/{version_names(manifest)['manifest']}"
    if folder.read(version_names(manifest)["manifest"]) != manifest.to_bytes():
        yield f"{where}: not canonical JSON"
    tables = [value.hex() for value in files["logical_hash"].to_pylist()]
    digest = compute_digest(manifest.config, manifest.tokenizer["sha256"], tables)
    if digest != manifest.digest:
        yield f"{where}: its digest should be {digest}"
    for problem in count_problems(manifest.splits, Ledger.from_dict(manifest.ledger), manifest.roles):
        yield f"{where}: ledger: {problem}"


def _empty_table(folder: Folder, name: str) -> pa.Table:
    with folder.open(name) as stream:
        return pa.ipc.open_file(stream).schema.empty_table()


def _is_sorted(ids: pa.ChunkedArray) -> bool:
    """Whether ids of 16 bytes rise, or stay, as bytes do."""
    parts = [fixed_view(chunk, 2, ">u8") for chunk in ids.chunks if len(chunk)]
    both = np.concatenate(parts) if parts else np.zeros((0, 2), ">u8")
    high, low = both[:, 0], both[:, 1]
    return bool(((high[1:] > high[:-1]) | (high[1:] == high[:-1]) & (low[1:] >= low[:-1])).all())


def _num_nulls(column: pa.ChunkedArray) -> int:
    inner = sum(chunk.values.null_count for chunk in column.chunks if hasattr(chunk, "values"))
    return column.null_count + inner


def _rows_where(problem: str, wrong: Bool[np.ndarray, " rows"], first: int) -> Iterator[str]:
    """One line for all rows with a problem."""
    rows = np.flatnonzero(wrong)
    if rows.size:
        yield problem_line(first + rows[0], problem, rows.size)
