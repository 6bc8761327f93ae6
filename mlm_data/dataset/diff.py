"""What has changed from one version to another: documents, tokens, configuration and tokenizer.

A document is its content id, the hash of its cleaned text. Two lists of documents are paired off in three rounds, each
over what the round before has left:

    1. equal id and equal source     the same document
    2. equal id                      the same text from another source: moved
    3. equal own id                  the same document with another text: changed

What is left of the older version was removed, what is left of the newer one added. A text that is there n times in the
one and m times in the other is paired min(n, m) times. A trace, ids in capitals and own ids in small letters:

    older   A a.txt x    B a.txt y    C b.txt z    C b.txt z
    newer   A c.txt x    D a.txt y    C b.txt z    E b.txt w

    round 1: C with C    round 2: A, moved    round 3: B and D share y, changed    removed: C    added: E

Files that both versions have hold the same documents: they are not read, and leave the pairs as they are.

Own ids are compared by a hash of 128 bits, which is no protection from somebody who forges them.

Cost: one sort by three keys a round, over both versions: about 1 s a million documents of each, and 150 bytes for each
of them. No loop in Python over documents.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, Integer, UInt64

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import Manifest
from mlm_data.errors import FormatError
from mlm_data.hashing import hash128, ids_from_arrow
from mlm_data.shards import format as fmt

ADDED, REMOVED, CHANGED, MOVED = "added", "removed", "changed", "moved"
FATES = (ADDED, REMOVED, CHANGED, MOVED)
OWN_ID = "id_field"

Pairs = tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Documents and their tokens, without special tokens."""

    documents: int = 0
    tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One document that differs; of a moved or changed one both sides are there."""

    fate: str  # one of FATES
    id: str  # hexadecimal; of a changed document the new one
    source: str
    offset: int
    own_id: str | None
    before: tuple[str, str, int] | None = None  # id, source and offset in the older version


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What differs between two versions. A changed document counts with the tokens that it has in the newer one."""

    older: str  # digests
    newer: str
    documents: Mapping[str, Counts]  # by fate
    sources: Mapping[str, Mapping[str, Counts]]  # source -> fate -> counts; those with a change, by name
    languages: Mapping[str, tuple[int, int]]  # language -> documents kept; () where no version looked for languages
    settings: Mapping[str, tuple[Any, Any]]  # dotted name -> values; ABSENT where a version has no such setting
    sizes: Mapping[str, tuple[int, int]]  # documents, tokens, rows: in all
    pairs: "Paired" = field(repr=False)

    def lines(self) -> Iterator[Line]:
        """Every document that differs: removed, added, changed, moved, each in the order of its version."""
        yield from self.pairs.lines()


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Any = _Absent()


def diff(older: Dataset, newer: Dataset) -> Diff:
    """Compare two versions, of one dataset or of two.

    Raises:
        FormatError: if a documents file is damaged.
    """
    paired = pair(*_read_both(older, newer))
    return Diff(
        older=older.digest,
        newer=newer.digest,
        documents=paired.counts(),
        sources=paired.by_source(),
        languages=_both(_languages(older.manifest), _languages(newer.manifest), 0),
        settings=changed_settings(_settings(older.manifest), _settings(newer.manifest)),
        sizes={name: (_total(older, name), _total(newer, name)) for name in ("documents", "tokens", "rows")},
        pairs=paired,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Documents:
    """The documents of some shards as columns; `sources` count in names that both sides share."""

    tables: tuple[pa.Table, ...]  # memory-mapped where the disk is local
    starts: Int64[np.ndarray, " tables+1"]  # first document of each table
    ids: UInt64[np.ndarray, " documents 2"]
    sources: Int32[np.ndarray, " documents"]
    num_tokens: Int32[np.ndarray, " documents"]

    def own_ids(
        self, places: Int64[np.ndarray, " places"]
    ) -> tuple[Int64[np.ndarray, " named"], UInt64[np.ndarray, " named 2"]]:
        """Those of some documents, ascending, that have an id of their own, and its hash."""
        named, hashes = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.uint64)]
        for number, part in self._shares(places):
            table = self.tables[number]
            if part.size and OWN_ID in table.schema.names:
                values = table[OWN_ID].take(pa.array(part - self.starts[number]))
                there = np.asarray(values.is_valid())
                named.append(part[there])
                hashes.append(hash128(values.drop_null().cast(pa.large_binary()).combine_chunks()))
        return np.concatenate(named), np.concatenate(hashes)

    def places(self, at: Int64[np.ndarray, " places"]) -> Iterator[dict[str, Any]]:
        """id, source, offset and own id of some documents, in the order that they are asked for."""
        order = np.argsort(at, kind="stable")
        found: list[dict[str, Any]] = [{}] * at.size
        for number, part in self._shares(at[order]):
            if part.size:
                table = self.tables[number]
                names = [name for name in ("id", "source", "offset", OWN_ID) if name in table.schema.names]
                first = int(np.searchsorted(at[order], part[0]))
                lines = table.select(names).take(pa.array(part - self.starts[number])).to_pylist()
                for place, line in zip(order[first : first + part.size].tolist(), lines, strict=True):
                    found[place] = line
        yield from found

    def _shares(self, places: Int64[np.ndarray, " places"]) -> Iterator[tuple[int, Int64[np.ndarray, " part"]]]:
        borders = np.searchsorted(places, self.starts)
        for number in range(len(self.tables)):
            yield number, places[borders[number] : borders[number + 1]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Paired:
    """Two lists of documents, paired off."""

    older: Documents
    newer: Documents
    names: pa.Array  # of sources
    added: Int64[np.ndarray, " added"]  # places in `newer`
    removed: Int64[np.ndarray, " removed"]  # places in `older`
    changed: Pairs  # places in `older` and in `newer`
    moved: Pairs

    def counts(self) -> dict[str, Counts]:
        """Documents and tokens by fate."""
        return {
            fate: Counts(documents=at.size, tokens=int(side.num_tokens[at].sum(dtype=np.int64)))
            for fate, side, at in self._fates()
        }

    def by_source(self) -> dict[str, dict[str, Counts]]:
        """The same by source, the newer one where there are two."""
        found: dict[str, dict[str, Counts]] = {}
        for fate, side, at in self._fates():
            size = len(self.names)
            documents = np.bincount(side.sources[at], minlength=size)
            tokens = np.zeros(size, np.int64)
            np.add.at(tokens, side.sources[at], side.num_tokens[at])
            some = np.flatnonzero(documents)
            for name, number in zip(self.names.take(pa.array(some)).to_pylist(), some.tolist(), strict=True):
                counts = Counts(documents=int(documents[number]), tokens=int(tokens[number]))
                found.setdefault(name, {})[fate] = counts
        return dict(sorted(found.items()))

    def lines(self) -> Iterator[Line]:
        """Every document that differs."""
        for fate, side, at in ((REMOVED, self.older, self.removed), (ADDED, self.newer, self.added)):
            for one in side.places(at):
                yield _line(fate, one)
        for fate, (before, after) in ((CHANGED, self.changed), (MOVED, self.moved)):
            for one, other in zip(self.older.places(before), self.newer.places(after), strict=True):
                yield _line(fate, other, (one["id"].hex(), one["source"], one["offset"]))

    def _fates(self) -> list[tuple[str, Documents, Int64[np.ndarray, " places"]]]:
        return [
            (ADDED, self.newer, self.added),
            (REMOVED, self.older, self.removed),
            (CHANGED, self.newer, self.changed[1]),
            (MOVED, self.newer, self.moved[1]),
        ]


def pair(older: Documents, newer: Documents, names: pa.Array) -> Paired:
    """Pair off the documents of two versions, in three rounds: see the module's docstring."""
    # Round 1: id and source; what stays the same is of no interest.
    _, _, left, right = match(older.ids, newer.ids, older.sources, newer.sources)
    # Round 2: id alone.
    one, two, left_of, right_of = match(older.ids[left], newer.ids[right])
    moved = left[one], right[two]
    left, right = left[left_of], right[right_of]
    # Round 3: own id, of the same source first.
    (left_named, left_own), (right_named, right_own) = older.own_ids(left), newer.own_ids(right)
    own_sources = older.sources[left_named], newer.sources[right_named]
    one, two, left_of, right_of = match(left_own, right_own, *own_sources)
    three, four, _, _ = match(left_own[left_of], right_own[right_of])
    before = np.concatenate([left_named[one], left_named[left_of[three]]])
    after = np.concatenate([right_named[two], right_named[right_of[four]]])
    order = np.argsort(after, kind="stable")
    return Paired(
        older=older,
        newer=newer,
        names=names,
        added=np.setdiff1d(right, after, assume_unique=True),
        removed=np.setdiff1d(left, before, assume_unique=True),
        changed=(before[order], after[order]),
        moved=moved,
    )


def match(
    one: UInt64[np.ndarray, "n 2"],
    two: UInt64[np.ndarray, "m 2"],
    one_groups: Int32[np.ndarray, " n"] | None = None,
    two_groups: Int32[np.ndarray, " m"] | None = None,
) -> tuple[
    Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], Int64[np.ndarray, " left"], Int64[np.ndarray, " right"]
]:
    """Pair places of two lists of 128-bit keys that are equal, the first with the first and so on.

    Returns:
        The places of each pair in `one` and in `two`, by rising place in `two`; then the places that have no partner,
        ascending.

    >>> keys = np.array([[5, 5], [7, 7], [5, 5]], np.uint64)
    >>> [part.tolist() for part in match(keys, keys[1:])]
    [[1, 0], [0, 1], [2], []]
    """
    num = len(one)
    keys = np.concatenate([one, two])
    groups = None if one_groups is None or two_groups is None else np.concatenate([one_groups, two_groups])
    # By key, then as they stand: those of `one` first. Sorts from the last key to the first, and the last two are equal
    # for nearly all documents that have an equal first.
    order = np.lexsort((keys[:, 1], keys[:, 0]) if groups is None else (groups, keys[:, 1], keys[:, 0]))
    if not order.size:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty, empty
    is_first = np.ones(order.size, bool)
    ordered = keys[order]
    same = (ordered[1:] == ordered[:-1]).all(1)
    if groups is not None:
        same &= groups[order[1:]] == groups[order[:-1]]
    is_first[1:] = ~same
    run = np.cumsum(is_first) - 1
    begin = np.flatnonzero(is_first)
    is_two = order >= num
    in_run = np.diff(np.append(begin, order.size))
    of_two = np.bincount(run, is_two, minlength=begin.size).astype(np.int64)
    rank = np.arange(order.size) - begin[run]
    of_one = (in_run - of_two)[run]
    rank[is_two] -= of_one[is_two]
    paired = rank < np.minimum(of_one, of_two[run])
    left, right = order[paired & ~is_two], order[paired & is_two] - num
    by_right = np.argsort(right, kind="stable")
    return (
        left[by_right],
        right[by_right],
        np.sort(order[~paired & ~is_two]),
        np.sort(order[~paired & is_two] - num),
    )


def changed_settings(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by their dotted names.

    >>> changed_settings({"mask": {"rate": [0.3], "planes": 1}}, {"mask": {"rate": [0.3, 0.15], "planes": 2}})
    {'mask.planes': (1, 2), 'mask.rate': ([0.3], [0.3, 0.15])}
    """
    return {
        name: values
        for name, values in _both(dict(_flat(older)), dict(_flat(newer)), ABSENT).items()
        if values[0] is ABSENT or values[1] is ABSENT or values[0] != values[1]
    }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves under dotted names; lists of objects are counted through, other lists are leaves."""
    if isinstance(value, Mapping) and value:
        items = value.items()
    elif isinstance(value, list | tuple) and value and all(isinstance(inner, Mapping) for inner in value):
        items = enumerate(value)
    else:
        yield path, value
        return
    for name, inner in items:
        yield from _flat(inner, f"{path}.{name}" if path else str(name))


def _both(older: Mapping[str, Any], newer: Mapping[str, Any], default: Any) -> dict[str, tuple[Any, Any]]:
    return {name: (older.get(name, default), newer.get(name, default)) for name in sorted({*older, *newer})}


def _settings(manifest: Manifest) -> dict[str, Any]:
    """The configuration, and the tokenizer's own facts beside its settings."""
    tokenizer = {**manifest.config.get("tokenizer", {}), **manifest.tokenizer}
    return {**manifest.config, "tokenizer": tokenizer, "format_version": manifest.format_version}


def _languages(manifest: Manifest) -> dict[str, int]:
    """Documents kept by language, where languages were looked for."""
    kept: Counter[str] = Counter()
    for (language, reason), counts in manifest.funnel.by("language", "reason").items():
        if language and reason == "kept":
            kept[language] += counts[0]
    return dict(kept)


def _total(dataset: Dataset, name: str) -> int:
    return sum(split[f"num_{name}"] for split in dataset.manifest.splits.values())


def _read_both(older: Dataset, newer: Dataset) -> tuple[Documents, Documents, pa.Array]:
    """The documents of both versions without the files that they share, and the names of their sources."""
    names = [_document_files(dataset) for dataset in (older, newer)]
    shared = Counter(names[0]) & Counter(names[1])
    sides = [_read(dataset, files, Counter(shared)) for dataset, files in zip((older, newer), names, strict=True)]
    chunks = [chunk for tables in sides for table in tables for chunk in table["source"].chunks]
    kind = pa.dictionary(pa.int32(), pa.string())
    column = pa.chunked_array(chunks, kind).unify_dictionaries()
    codes = [chunk.indices.to_numpy() for chunk in column.chunks]
    vocabulary = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    every = np.concatenate([np.zeros(0, np.int32), *codes])
    num = sum(table.num_rows for table in sides[0])
    return _columns(sides[0], every[:num]), _columns(sides[1], every[num:]), vocabulary


def _document_files(dataset: Dataset) -> list[str]:
    files = dataset.files
    return files.filter(pa.compute.equal(files["kind"], fmt.DOCUMENTS))["name"].to_pylist()


def _read(dataset: Dataset, names: Sequence[str], shared: Counter[str]) -> list[pa.Table]:
    """The tables of a version's documents; of a file that both versions have so many times, none."""
    tables = []
    places = [(split, index) for split in fmt.SPLITS for index in range(dataset.num_shards(split))]
    for (split, index), name in zip(places, names, strict=True):
        if shared[name]:
            shared[name] -= 1
            continue
        shard = dataset.shard(split, index)
        table = shard.documents
        wanted = fmt.documents_schema()
        for column in ("id", "source", "offset", "num_tokens"):
            if column not in table.schema.names or table.schema.field(column).type != wanted.field(column).type:
                raise FormatError(
                    f"{shard.where(fmt.DOCUMENTS)}: no column {column} as it should be: run premask verify"
                )
            if table[column].null_count:
                raise FormatError(f"{shard.where(fmt.DOCUMENTS)}: column {column} holds nulls: run premask verify")
        tables.append(table)
    return tables


def _columns(tables: Sequence[pa.Table], sources: Integer[np.ndarray, " documents"]) -> Documents:
    starts = np.cumsum([0, *(table.num_rows for table in tables)], dtype=np.int64)
    ids = [ids_from_arrow(chunk) for table in tables for chunk in table["id"].chunks]
    tokens = [chunk.to_numpy() for table in tables for chunk in table["num_tokens"].chunks]
    return Documents(
        tables=tuple(tables),
        starts=starts,
        ids=np.concatenate([np.zeros((0, 2), np.uint64), *ids]),
        sources=sources.astype(np.int32, copy=False),
        num_tokens=np.concatenate([np.zeros(0, np.int32), *tokens]),
    )


def _line(fate: str, one: Mapping[str, Any], before: tuple[str, str, int] | None = None) -> Line:
    return Line(
        fate=fate,
        id=one["id"].hex(),
        source=one["source"],
        offset=one["offset"],
        own_id=one.get(OWN_ID),
        before=before,
    )
