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

Cost: a sort of 64-bit hashes over both versions, and smaller ones of what it leaves. No loop in Python over documents.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Int64, UInt64

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.documents import OWN_ID, DocumentsFile, documents_files
from mlm_data.dataset.manifest import Manifest
from mlm_data.hashing import ids_from_arrow

ADDED, REMOVED, CHANGED, MOVED = "added", "removed", "changed", "moved"
FATES = (ADDED, REMOVED, CHANGED, MOVED)
PARTS = 16  # of the documents by their ids, one sorted after the other: memory for a sixteenth of them

Pairs = tuple[np.ndarray, np.ndarray]  # int64 places in the older and in the newer version


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

    files: tuple[DocumentsFile, ...]
    starts: Int64[np.ndarray, " files+1"]  # first document of each file
    ids: UInt64[np.ndarray, " documents 2"]
    sources: Int32[np.ndarray, " documents"]
    num_tokens: Int32[np.ndarray, " documents"]

    def own_ids(self, places: Int64[np.ndarray, " places"]) -> tuple[Int64[np.ndarray, " named"], list[pa.Array]]:
        """Those of some documents, ascending, that have an id of their own, and these ids."""
        pool, named, ids = pa.system_memory_pool(), [np.zeros(0, np.int64)], []
        for number, part in self._shares(places):
            values = self.files[number].read(OWN_ID)[OWN_ID]
            values = pc.take(values, pa.array(part - self.starts[number]), memory_pool=pool)
            named.append(part[np.asarray(values.is_valid(), bool)])
            ids += pc.cast(pc.drop_null(values, memory_pool=pool), pa.large_string(), memory_pool=pool).chunks
        return np.concatenate(named), ids

    def places(self, at: Int64[np.ndarray, " places"]) -> Iterator[dict[str, Any]]:
        """id, source, offset and own id of some documents, in the order that they are asked for."""
        order = np.argsort(at, kind="stable")
        found: list[dict[str, Any]] = [{}] * at.size
        first = 0
        for number, part in self._shares(at[order]):
            table = self.files[number].read("id", "source", "offset", OWN_ID)
            lines = table.take(pa.array(part - self.starts[number])).to_pylist()
            for place, line in zip(order[first : first + part.size].tolist(), lines, strict=True):
                found[place] = line
            first += part.size
        yield from found

    def _shares(self, places: Int64[np.ndarray, " places"]) -> Iterator[tuple[int, Int64[np.ndarray, " part"]]]:
        """The files that hold any of these places, which rise, and which of them."""
        borders = np.searchsorted(places, self.starts)
        for number in np.flatnonzero(np.diff(borders)).tolist():
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
    # Rounds 1 and 2 at once for texts that each version has once, which are nearly all.
    moved, lefts, rights = [], [], []
    for part in range(PARTS):
        mine, theirs = (np.flatnonzero(side.ids[:, 0] % np.uint64(PARTS) == part) for side in (older, newer))
        one, two, left, right = match(older.ids[mine], newer.ids[theirs], once=True)
        other = older.sources[mine[one]] != newer.sources[theirs[two]]
        moved.append((mine[one[other]], theirs[two[other]]))
        lefts.append(mine[left])
        rights.append(theirs[right])
    left, right = np.sort(np.concatenate(lefts)), np.sort(np.concatenate(rights))
    # Round 1: id and source; what stays the same is of no interest.
    _, _, left_of, right_of = match(older.ids[left], newer.ids[right], older.sources[left], newer.sources[right])
    left, right = left[left_of], right[right_of]
    # Round 2: id alone.
    one, two, left_of, right_of = match(older.ids[left], newer.ids[right])
    moved.append((left[one], right[two]))
    left, right = left[left_of], right[right_of]
    # Round 3: own id, of the same source first.
    (left_named, left_texts), (right_named, right_texts) = older.own_ids(left), newer.own_ids(right)
    left_own, right_own = _numbered(left_texts, right_texts)
    own_sources = older.sources[left_named], newer.sources[right_named]
    one, two, left_of, right_of = match(left_own, right_own, *own_sources)
    three, four, _, _ = match(left_own[left_of], right_own[right_of])
    changed = _joined([(left_named[one], right_named[two]), (left_named[left_of[three]], right_named[right_of[four]])])
    return Paired(
        older=older,
        newer=newer,
        names=names,
        added=np.setdiff1d(right, changed[1], assume_unique=True),
        removed=np.setdiff1d(left, changed[0], assume_unique=True),
        changed=changed,
        moved=_joined(moved),
    )


def _numbered(
    one: Sequence[pa.Array], two: Sequence[pa.Array]
) -> tuple[UInt64[np.ndarray, "one 2"], UInt64[np.ndarray, "two 2"]]:
    """Numbers for strings, equal for equal ones, as `match` takes them."""
    texts = pa.chunked_array([*one, *two], pa.large_string())
    # One dictionary for all. The system's allocator gives large blocks back; Arrow's own keeps 30 MB of this.
    encoded = pc.dictionary_encode(texts, memory_pool=pa.system_memory_pool())
    codes = np.concatenate([np.zeros(0, np.int32), *(chunk.indices.to_numpy() for chunk in encoded.chunks)])
    keys = np.zeros((codes.size, 2), np.uint64)
    keys[:, 0] = codes
    num = sum(map(len, one))
    return keys[:num], keys[num:]


def _joined(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several rounds, by rising place in the newer version."""
    before, after = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    order = np.argsort(after, kind="stable")
    return before[order], after[order]


def match(
    one: UInt64[np.ndarray, "n 2"],
    two: UInt64[np.ndarray, "m 2"],
    one_groups: Int32[np.ndarray, " n"] | None = None,
    two_groups: Int32[np.ndarray, " m"] | None = None,
    *,
    once: bool = False,
) -> tuple[
    Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], Int64[np.ndarray, " left"], Int64[np.ndarray, " right"]
]:
    """Pair places of two lists of 128-bit keys that are equal, the first with the first and so on.

    Args:
        one, two: the keys.
        one_groups, two_groups: numbers that must be equal, too.
        once: pair only keys that each list has once.

    Returns:
        The places of each pair in `one` and in `two`, by rising place in `two`; then the places that have no partner,
        ascending.

    >>> keys = np.array([[5, 5], [7, 7], [5, 5]], np.uint64)
    >>> [part.tolist() for part in match(keys, keys[1:])]
    [[1, 0], [0, 1], [2], []]
    """
    num, total = len(one), len(one) + len(two)
    if not total:
        return (np.zeros(0, np.int64),) * 4
    # By key and group, then as they stand, those of `one` first.
    columns = [(one[:, 0], two[:, 0]), (one[:, 1], two[:, 1])]
    if one_groups is not None and two_groups is not None:
        columns.append((one_groups, two_groups))
    order, is_first = _sorted(columns)
    begin = np.flatnonzero(is_first).astype(np.int32)  # of each run of equal ones
    run = np.cumsum(is_first, dtype=np.int32) - np.int32(1)
    is_two = order >= num
    of_two = np.bincount(run[is_two], minlength=begin.size).astype(np.int32)
    of_one = np.diff(begin, append=np.int32(total)) - of_two
    pairs = np.where((of_one == 1) & (of_two == 1), 1, 0) if once else np.minimum(of_one, of_two)
    # Place of each in its run and list: those of `two` stand behind those of `one`.
    rank = np.arange(total, dtype=np.int32) - begin[run]
    rank[is_two] -= of_one[run[is_two]]
    paired = rank < pairs[run]
    del rank, run
    left, right = order[paired & ~is_two], order[paired & is_two] - num
    by_right = np.argsort(right, kind="stable")
    alone, alone_two = order[~paired & ~is_two], order[~paired & is_two] - num
    return left[by_right], right[by_right], np.sort(alone), np.sort(alone_two)


def _sorted(
    columns: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[Int64[np.ndarray, " items"], Bool[np.ndarray, " items"]]:
    """A stable order of two lists together by all columns, and where in it a new combination begins.

    The first column decides alone where it can: half of a 128-bit hash hardly ever says the same of two.
    """
    order = np.argsort(np.concatenate(columns[0]), kind="stable")
    begins = _begins(columns[0], order)
    if all((_begins(column, order) <= begins).all() for column in columns[1:]):
        return order, begins
    order = np.lexsort([np.concatenate(column) for column in reversed(columns)])
    return order, np.logical_or.reduce([_begins(column, order) for column in columns])


def _begins(column: tuple[np.ndarray, np.ndarray], order: Int64[np.ndarray, " items"]) -> Bool[np.ndarray, " items"]:
    ordered = np.concatenate(column)[order]
    begins = np.ones(order.size, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    return begins


def changed_settings(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by their dotted names.

    >>> changed_settings({"mask": {"rate": [0.3], "planes": 1}}, {"mask": {"rate": [0.3, 0.15], "planes": 2}})
    {'mask.planes': (1, 2), 'mask.rate': ([0.3], [0.3, 0.15])}
    """
    return {
        name: values
        for name, values in _both(dict(leaves(older)), dict(leaves(newer)), ABSENT).items()
        if values[0] is ABSENT or values[1] is ABSENT or values[0] != values[1]
    }


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves under dotted names; lists of objects are counted through, other lists are leaves."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, Mapping) and value:
        items = value.items()
    elif isinstance(value, list | tuple) and value and all(isinstance(inner, Mapping) for inner in value):
        items = enumerate(value)
    else:
        yield path, value
        return
    for name, inner in items:
        yield from leaves(inner, f"{path}.{name}" if path else str(name))


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
    every = [documents_files(dataset) for dataset in (older, newer)]
    counts = [Counter(file.name for file in files) for files in every]
    shared = counts[0] & counts[1]
    sides = [_without(files, shared.copy()) for files in every]
    chunks = [_sources(file) for files in sides for file in files]
    column = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
    codes = np.concatenate([np.zeros(0, np.int32), *(chunk.indices.to_numpy() for chunk in column.chunks)])
    names = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    num = sum(file.num_rows for file in sides[0])
    del chunks, column
    pa.default_memory_pool().release_unused()  # what Arrow keeps for later would stand beside the ids
    return _documents(sides[0], codes[:num]), _documents(sides[1], codes[num:]), names


def _without(files: Sequence[DocumentsFile], shared: Counter[str]) -> list[DocumentsFile]:
    """Files but those that the other version has, too, each as often as it has it."""
    left = []
    for file in files:
        if shared[file.name]:
            shared[file.name] -= 1
        else:
            left.append(file)
    return left


def _sources(file: DocumentsFile) -> pa.DictionaryArray:
    """The sources of a file's documents, copied: nothing of the file stays mapped."""
    column = file.read("source")["source"].unify_dictionaries()
    codes = np.concatenate([np.zeros(0, np.int32), *(chunk.indices.to_numpy() for chunk in column.chunks)])
    names = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes), names.take(pa.array(np.arange(len(names)))))


def _documents(files: Sequence[DocumentsFile], sources: Int32[np.ndarray, " documents"]) -> Documents:
    starts = np.cumsum([0, *(file.num_rows for file in files)], dtype=np.int64)
    ids = np.empty((sources.size, 2), np.uint64)
    num_tokens = np.empty(sources.size, np.int32)
    for number, file in enumerate(files):
        table, part = file.read("id", "num_tokens"), slice(starts[number], starts[number + 1])
        ids[part] = np.concatenate([np.zeros((0, 2), np.uint64), *map(ids_from_arrow, table["id"].chunks)])
        num_tokens[part] = table["num_tokens"].to_numpy()
    return Documents(files=tuple(files), starts=starts, ids=ids, sources=sources, num_tokens=num_tokens)


def _line(fate: str, one: Mapping[str, Any], before: tuple[str, str, int] | None = None) -> Line:
    return Line(
        fate=fate,
        id=one["id"].hex(),
        source=one["source"],
        offset=one["offset"],
        own_id=one.get(OWN_ID),
        before=before,
    )
