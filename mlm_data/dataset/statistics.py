"""Counts over a version's rows for people: token frequencies, lengths, sources, how full rows are, what planes hide.

The manifest has sums; this has distributions. They come from one pass over the files. Beyond `MOST_TOKENS` tokens it
reads a sample: whole shards, those of the smallest hashes, until the number is reached. Which shards these are depends
on their content alone, so two machines take the same ones, and a version that shares shards with another tends to
share the sample. What planes hide is counted by the audit's own kernels, in batches of rows, the first of each shard
before the second of any, until `MOST_AUDITED` tokens are counted.

Cost: a table lookup for each token, and a sort of the lengths of each shard's documents. No loop in Python over
documents, rows or tokens.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, Integer

from mlm_data.dataset.dataset import Dataset
from mlm_data.rows.audit_counts import AuditCounts, count_shard
from mlm_data.rows.masking import Plane
from mlm_data.shards import format as fmt
from mlm_data.shards.assemble import groups_of
from mlm_data.shards.planes import planes_in, vocabulary_of
from mlm_data.tokens.reference import Reference

MOST_TOKENS = 1 << 27  # 134 million: a second or two of counting, and more than the figures of a page can show
MOST_AUDITED = 1 << 22  # tokens of each split: at this number a rate of 30 % is known to 0.02 points
MOST_PLANES = 4  # of those that are alike in all but their number, one is enough

ShardKey = tuple[str, int]  # split and number in it


@dataclass(frozen=True, kw_only=True, eq=False)
class Lengths:
    """How often each length occurs; lengths rise, and only those that occur are here."""

    values: Int64[np.ndarray, " lengths"]
    counts: Int64[np.ndarray, " lengths"]

    @property
    def num(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return float((self.values * self.counts).sum() / self.num) if self.num else 0.0

    def quantile(self, share: float) -> int:
        """The smallest length that at least this share of all has or is below; 0 where there are none.

        >>> Lengths(values=np.array([2, 5]), counts=np.array([9, 1])).quantile(0.5)
        2
        """
        if not self.num:
            return 0
        place = int(np.searchsorted(np.cumsum(self.counts), share * self.num, side="left"))
        return int(self.values[min(place, self.values.size - 1)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """What one pass over a version's shards has found, of both splits together where nothing else is said."""

    num_shards: int
    num_shards_read: int
    num_tokens: int  # in segments, special tokens included, of all shards
    num_tokens_read: int
    frequencies: Int64[np.ndarray, " vocabulary"]  # of each id in the content of rows; specials and padding are 0
    documents: Lengths  # content tokens of whole documents
    segments: Lengths  # places, special tokens included
    used: Lengths  # places of rows that are not padding
    row_segments: Lengths  # segments of rows
    sources: Mapping[str, tuple[int, int]]  # documents and their tokens, most tokens first
    audited: Mapping[str, AuditCounts]  # by split
    planes: Mapping[str, Mapping[str, Plane]]  # those that were audited, by split and name

    @property
    def is_whole(self) -> bool:
        """Whether every shard was read."""
        return self.num_shards_read == self.num_shards


def collect_statistics(
    dataset: Dataset, reference: Reference, *, most_tokens: int = MOST_TOKENS, most_audited: int = MOST_AUDITED
) -> Statistics:
    """Count over a version's shards, or over a sample of them.

    Args:
        dataset: the version.
        reference: its tokenizer.
        most_tokens: about how many tokens to read; at least one shard is read of each split that has any.
        most_audited: about how many tokens of each split to count masks of; at least one batch of rows.

    Raises:
        FormatError: if a file is missing or damaged.
    """
    chosen, num_shards, num_tokens, num_read = choose_shards(dataset, most_tokens)
    manifest = dataset.manifest
    frequencies = np.zeros(manifest.vocab_size, np.int64)
    found: dict[str, list[Lengths]] = {name: [] for name in ("documents", "segments", "used", "row_segments")}
    sources: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for split, index in chosen:
        shard = dataset.shard(split, index)
        found["documents"].append(lengths_of(shard.documents["num_tokens"].to_numpy()))
        for name, num, total in by_source(shard.documents):
            sources[name] += num
            tokens[name] += total
        for rows in shard.rows:
            counts = np.bincount(rows.tokens.reshape(-1), minlength=manifest.vocab_size)
            frequencies += counts[: manifest.vocab_size]
            found["segments"].append(lengths_of(rows.segment_lengths))
            found["used"].append(lengths_of(rows.used()))
            found["row_segments"].append(lengths_of(np.diff(rows.segment_offsets)))
    roles = manifest.roles
    frequencies[[role for role in (roles.cls, roles.sep, roles.pad, roles.mask) if role >= 0]] = 0
    ordered = sorted(sources, key=lambda name: (-tokens[name], name))
    planes = shown_planes(dataset)
    return Statistics(
        num_shards=num_shards,
        num_shards_read=len(chosen),
        num_tokens=num_tokens,
        num_tokens_read=num_read,
        frequencies=frequencies,
        documents=merged(found["documents"]),
        segments=merged(found["segments"]),
        used=merged(found["used"]),
        row_segments=merged(found["row_segments"]),
        sources={name: (sources[name], tokens[name]) for name in ordered},
        audited=_audited(dataset, reference, planes, chosen, most_audited),
        planes=planes,
    )


def choose_shards(dataset: Dataset, most_tokens: int) -> tuple[list[ShardKey], int, int, int]:
    """The shards to read, those of the smallest hashes first; then shards, tokens, and tokens of the chosen ones."""
    files = dataset.files.filter(pc.equal(dataset.files["kind"], fmt.ROWS))
    lines = files.select(["split", "shard", "num_tokens", "logical_hash"]).to_pylist()
    lines.sort(key=lambda line: (line["logical_hash"], line["split"], line["shard"]))
    chosen, seen, num_read = [], set(), 0
    for line in lines:
        if num_read + line["num_tokens"] <= most_tokens or line["split"] not in seen:
            chosen.append((line["split"], line["shard"]))
            seen.add(line["split"])
            num_read += line["num_tokens"]
    return chosen, len(lines), sum(line["num_tokens"] for line in lines), num_read


def lengths_of(lengths: Integer[np.ndarray, " items"]) -> Lengths:
    """Count lengths, none of them negative."""
    values, counts = np.unique(lengths, return_counts=True)
    return Lengths(values=values.astype(np.int64), counts=counts.astype(np.int64))


def merged(parts: Sequence[Lengths]) -> Lengths:
    """The counts of several parts, added up.

    >>> parts = [lengths_of(np.array([3, 3, 1])), lengths_of(np.array([3, 7]))]
    >>> [part.tolist() for part in vars(merged(parts)).values()]
    [[1, 3, 7], [1, 3, 1]]
    """
    none = np.zeros(0, np.int64)
    values, place = np.unique(np.concatenate([none, *(part.values for part in parts)]), return_inverse=True)
    counts = np.zeros(values.size, np.int64)
    np.add.at(counts, place, np.concatenate([none, *(part.counts for part in parts)]))
    return Lengths(values=values, counts=counts)


def by_source(documents: pa.Table) -> Iterator[tuple[str, int, int]]:
    """Name, documents and tokens of each source in a documents table."""
    column = documents["source"].unify_dictionaries().combine_chunks()
    if not len(column):
        return
    names = column.dictionary.to_pylist()
    codes = column.indices.to_numpy()
    num = np.bincount(codes, minlength=len(names))
    total = np.zeros(len(names), np.int64)
    np.add.at(total, codes, documents["num_tokens"].to_numpy())
    for number in np.flatnonzero(num).tolist():
        yield names[number], int(num[number]), int(total[number])


def shown_planes(dataset: Dataset) -> dict[str, dict[str, Plane]]:
    """By split, the first plane of each rule: a rate, a kind and shares."""
    found: dict[str, dict[str, Plane]] = {}
    for split, planes in planes_in(dataset.manifest.config).items():
        rules: dict[tuple[object, ...], tuple[str, Plane]] = {}
        for name, plane in planes.items():
            rule = (plane.kind, plane.millionths, plane.mask_share, plane.random_share, plane.keep_share)
            rules.setdefault(rule, (name, plane))
        if dataset.num_rows(split):
            found[split] = dict(list(rules.values())[:MOST_PLANES])
    return found


def _audited(
    dataset: Dataset,
    reference: Reference,
    planes: Mapping[str, Mapping[str, Plane]],
    chosen: Sequence[ShardKey],
    most_audited: int,
) -> dict[str, AuditCounts]:
    """Counts of the masks of the first batches of rows; no pairs of planes."""
    vocabulary = vocabulary_of(reference)
    most_rows = max(1, most_audited // dataset.manifest.sequence_length)
    found: dict[str, AuditCounts] = {}
    for split, wanted in planes.items():
        shards = [index for name, index in chosen if name == split]
        most_batches = max(-(-int(dataset.shard_rows(split)[index]) // fmt.BATCH_ROWS) for index in shards)
        seen = 0
        for batch in range(most_batches):
            for index in shards:
                if seen >= most_rows or batch * fmt.BATCH_ROWS >= dataset.shard_rows(split)[index]:
                    continue
                shard = dataset.shard(split, index)
                sources = groups_of(shard.documents)
                for name, plane in wanted.items():
                    counts = count_shard(
                        shard.rows[batch],
                        {name: shard.masks(name)[batch]},
                        {name: plane},
                        vocabulary=vocabulary,
                        sources=sources,
                    )
                    found[split] = found[split] + counts if split in found else counts
                seen += len(shard.rows[batch])
    return found
