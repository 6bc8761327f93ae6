"""Count what a mask audit judges, from rows and masks as they are stored: nothing is believed of who drew them.

Four kinds of counts for each plane, all plain integers that add up over shards in any order:

* faults: things that must not be there, such as a target on [CLS] or past the row's end;
* groups: how many units (tokens, or words) of each group are hidden, and how many were to be expected. Within a row
  units of equal size are alike: if k of the n units of some size are hidden, each of them is hidden with probability
  k / n. So a group with m of them expects m k / n, exactly, whatever was rounded down in the row's budget. In `ngram`
  units are the places where a run may start, and those are alike, or nearly, that lie where as many runs fit;
* shares: targets that hold [MASK], themselves or another token, and where in the vocabulary the other tokens lie;
* pairs: units that two planes hide both, beside the expectation k k' / n. A plane that repeats another stands out.

Expectations are fixed-point integers (units of 2**-24), so that sums don't depend on their order.

Cost: one pass over the rows, and one over the targets of each plane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from mlm_data.errors import FormatError
from mlm_data.kernels import read_only
from mlm_data.rows import audit_kernels as kernels
from mlm_data.rows.arrays import row_arrays
from mlm_data.rows.audit_bits import count_single_pairs, count_unit_targets
from mlm_data.rows.masking import KINDS, Plane, mask_arrays
from mlm_data.rows.unicode_scripts import SCRIPTS, token_scripts
from mlm_data.types import PlaneMasks, Roles, Rows

MAX_PAIRED_PLANES = 16  # with more planes only near neighbours are paired; a fingerprint finds far repeats
NEIGHBOURS = 4
FREQUENCIES = ("1 %", "0.1 %", "0.01 %", "0.001 %", "0 %")  # share of a token in its shard, at least

# Groups, in the order of their columns.
GROUPS = (
    *(f"source group {i}" for i in range(kernels.NUM_SOURCES)),
    *(f"segment length up to {i + 1}/{kernels.NUM_LENGTHS} row" for i in range(kernels.NUM_LENGTHS)),
    *(f"script {name}" for name in SCRIPTS),
    "inside a word",
    "start of a word",
    *(f"token frequency at least {name}" for name in FREQUENCIES),
)

# Faults, in the order of their columns.
FAULTS = (
    "rows whose segments don't hold [CLS], [SEP] or [PAD] where they must",
    "targets on special tokens",
    "targets past a row's end",
    "targets on tokens that are never targets",
    "rows with too many targets",
    "rows with too few targets",
    "words hidden in part",
    "swaps that are no target or out of order",
    "swaps to special or unused tokens",
    "runs of another length",
    "runs of which only some places hold [MASK]",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """What the audit knows of each id. Make it once per tokenizer, with `describe_vocabulary`."""

    never: Bool[np.ndarray, " vocabulary"]
    rank: Integer[np.ndarray, " vocabulary"]  # place among the ids that random tokens are drawn from, or -1
    script: UInt8[np.ndarray, " vocabulary"]
    num_random: int
    roles: Roles


def describe_vocabulary(
    tokens: Sequence[str],
    *,
    roles: Roles,
    never_targets: Integer[np.ndarray, " never"],
    random_ids: Integer[np.ndarray, " random"],
) -> Vocabulary:
    """Tables over ids; arguments as a tokenizer's `Reference` has them."""
    never = np.zeros(len(tokens), np.bool_)
    never[never_targets] = True
    rank = np.full(len(tokens), -1, np.int32)
    rank[np.sort(random_ids)] = np.arange(random_ids.size)
    return Vocabulary(
        never=never, rank=rank, script=token_scripts(tokens), num_random=int(random_ids.size), roles=roles
    )


def source_groups(sources: Sequence[str]) -> UInt8[np.ndarray, " sources"]:
    """A group for every source, by a hash of its name: masks must not depend on where a text came from."""
    return np.array(
        [blake2b(name.encode(), digest_size=1).digest()[0] % kernels.NUM_SOURCES for name in sources], np.uint8
    )


def _add(left: Any, right: Any) -> Any:
    return tuple(a + b for a, b in zip(left, right, strict=True)) if isinstance(left, tuple) else left + right


def _same(left: Any, right: Any) -> Any:
    if left != right:
        raise ValueError(f"counts of different planes don't add up: {left} and {right}")
    return left


def _summed(how: Any = _add) -> Any:
    return field(metadata={"how": how})


class _Summable:
    """Adds field by field, each in its own way; as plain types for JSON."""

    def __add__(self, other: Any) -> Any:
        pairs = {
            item.name: item.metadata["how"](getattr(self, item.name), getattr(other, item.name))
            for item in fields(self)  # type: ignore[arg-type]
        }
        return type(self)(**pairs)

    def to_dict(self) -> dict[str, Any]:
        """Plain integers, strings and lists of them; `from_dict` is its inverse."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Any:
        return cls(**{name: tuple(item) if isinstance(item, list) else item for name, item in value.items()})


@dataclass(frozen=True, kw_only=True)
class PlaneCounts(_Summable):
    """Counts of one plane."""

    kind: str = _summed(_same)
    millionths: int = _summed(_same)
    num_random_ids: int = _summed(_same)
    num_rows: int = _summed()
    num_candidates: int = _summed()
    num_budget: int = _summed()  # targets that the rate allows, row by row
    num_targets: int = _summed()
    max_targets: int = _summed(max)  # in any row
    faults: tuple[int, ...] = _summed()
    units: tuple[int, ...] = _summed()  # by group
    hidden: tuple[int, ...] = _summed()  # of these
    expected: tuple[int, ...] = _summed()  # to be hidden, in 2**-24
    num_drawable: int = _summed()  # targets whose own token a random draw can hit
    num_same: int = _summed()  # targets that hold themselves
    num_other: int = _summed()  # targets that hold another ordinary token
    num_other_foreign: int = _summed()  # of these, whose own token no draw can hit
    ranges: tuple[int, ...] = _summed()  # of these, the new token in each of 64 ranges of the vocabulary
    own_ranges: tuple[int, ...] = _summed()  # of these, the own token in each range
    lowest: int = _summed(min)  # rank of the lowest and highest random token
    highest: int = _summed(max)
    runs: int = _summed()  # sum of squares of the lengths of runs of neighbouring targets
    choices: int = _summed()  # at least 2**choices sets of targets were equally likely
    fingerprint: int = _summed(lambda left, right: (left + right) % 2**64)
    ngram: int = _summed(_same)


@dataclass(frozen=True, kw_only=True)
class PairCounts(_Summable):
    """What two planes hide both, in tokens."""

    both: int = _summed()
    expected: int = _summed()  # in 2**-24
    most: int = _summed()  # if the smaller were a subset of the larger, row by row


@dataclass(frozen=True, kw_only=True)
class AuditCounts:
    """Counts of some rows. `+` adds those of other rows, or of other planes; `to_dict` is plain JSON."""

    planes: Mapping[str, PlaneCounts] = field(default_factory=dict)
    pairs: Mapping[str, PairCounts] = field(default_factory=dict)  # named "plane/plane"

    def __add__(self, other: "AuditCounts") -> "AuditCounts":
        return AuditCounts(planes=_merge(self.planes, other.planes), pairs=_merge(self.pairs, other.pairs))

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        return {
            "planes": {name: counts.to_dict() for name, counts in self.planes.items()},
            "pairs": {name: counts.to_dict() for name, counts in self.pairs.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "AuditCounts":
        return cls(
            planes={name: PlaneCounts.from_dict(counts) for name, counts in value["planes"].items()},
            pairs={name: PairCounts.from_dict(counts) for name, counts in value["pairs"].items()},
        )


def _merge(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: left[name] + right[name] for name in left.keys() & right.keys()}
    merged = {**left, **right, **both}
    return {name: merged[name] for name in sorted(merged, key=lambda name: (len(name), name))}


def count_shard(
    rows: Rows,
    masks: Mapping[str, PlaneMasks],
    planes: Mapping[str, Plane],
    *,
    vocabulary: Vocabulary,
    sources: UInt8[np.ndarray, " documents"],
) -> AuditCounts:
    """Count all planes of some rows, and their pairs.

    Args:
        rows: any rows of one shard.
        masks: their masks, by plane name.
        planes: what the masks ought to be, by the same names.
        vocabulary: from `describe_vocabulary`.
        sources: group of each document's source, from `source_groups`, as `rows.segment_documents` numbers them.

    Raises:
        FormatError: if lengths, ids or offsets contradict each other.
    """
    if not planes:
        return AuditCounts()
    bands = _check_rows(rows, vocabulary, sources)
    total = AuditCounts()
    for kind in sorted({(plane.kind, plane.ngram) for plane in planes.values()}):
        alike = {name: plane for name, plane in planes.items() if (plane.kind, plane.ngram) == kind}
        total += _count(rows, masks, alike, vocabulary, sources, bands)
    return total + count_pairs(rows, masks, planes, vocabulary=vocabulary)


def _count(
    rows: Rows,
    masks: Mapping[str, PlaneMasks],
    planes: Mapping[str, Plane],
    vocabulary: Vocabulary,
    sources: np.ndarray,
    bands: np.ndarray,
) -> AuditCounts:
    """Planes of one kind, together: what they share is looked at once."""
    for name in planes:
        _check_masks(rows, masks[name])
    faults = np.zeros((len(planes), kernels.NUM_FAULTS), np.int64)
    groups = np.zeros((len(planes), 3, kernels.NUM_GROUPS), np.int64)
    sums = np.zeros((len(planes), kernels.NUM_SUMS), np.int64)
    sums[:, kernels.LOWEST], sums[:, kernels.HIGHEST] = vocabulary.num_random, -1
    ranges = np.zeros((len(planes), 2, kernels.NUM_RANGES), np.int64)
    fingerprints = np.zeros(len(planes), np.uint64)
    kind, ngram = next((plane.kind, plane.ngram) for plane in planes.values())
    arrays = row_arrays(rows)
    targets = np.stack([masks[name].targets for name in planes])
    millionths = np.array([plane.millionths for plane in planes.values()])
    specials = (vocabulary.roles.cls, vocabulary.roles.sep, vocabulary.roles.pad)
    grouping = kernels.Grouping(vocabulary.never, vocabulary.rank >= 0, vocabulary.script, bands, read_only(sources))
    totals = kernels.Totals(faults, groups, sums, fingerprints)
    if ngram:
        kernels.count_run_targets(arrays, targets, ngram, millionths, specials, grouping, totals)
    else:
        by_word, in_runs = KINDS[kind].by_word, KINDS[kind].in_runs
        count_unit_targets(arrays, targets, by_word, in_runs, millionths, specials, grouping, totals)
    counts = {}
    for i, (name, plane) in enumerate(planes.items()):
        mask = masks[name]
        kernels.count_swaps(
            arrays.tokens,
            mask_arrays(mask),
            vocabulary.rank,
            max(1, vocabulary.num_random),
            faults[i],
            sums[i],
            ranges[i],
        )
        if ngram:
            kernels.count_partly_shown(mask_arrays(mask), ngram, faults[i])
        numbers = sums[i].tolist()
        counts[name] = PlaneCounts(
            kind=plane.kind,
            millionths=plane.millionths,
            num_random_ids=vocabulary.num_random,
            num_rows=numbers[kernels.ROWS],
            num_candidates=numbers[kernels.CANDIDATES],
            num_budget=numbers[kernels.BUDGET],
            num_targets=numbers[kernels.TARGETS],
            max_targets=numbers[kernels.MOST],
            faults=tuple(faults[i].tolist()),
            units=tuple(groups[i, 0].tolist()),
            hidden=tuple(groups[i, 1].tolist()),
            expected=tuple(groups[i, 2].tolist()),
            num_drawable=numbers[kernels.DRAWABLE],
            num_same=numbers[kernels.SAME],
            num_other=numbers[kernels.OTHER],
            num_other_foreign=numbers[kernels.OTHER_FOREIGN],
            ranges=tuple(ranges[i, 0].tolist()),
            own_ranges=tuple(ranges[i, 1].tolist()),
            lowest=numbers[kernels.LOWEST],
            highest=numbers[kernels.HIGHEST],
            runs=numbers[kernels.RUNS],
            choices=numbers[kernels.CHOICES],
            fingerprint=int(fingerprints[i]),
            ngram=plane.ngram,
        )
    return AuditCounts(planes=counts)


def count_pairs(
    rows: Rows, masks: Mapping[str, PlaneMasks], planes: Mapping[str, Plane], *, vocabulary: Vocabulary
) -> AuditCounts:
    """Count what pairs of planes hide both; arguments as for `count_shard`."""
    names = list(planes)
    near = len(names) - 1 if len(names) <= MAX_PAIRED_PLANES else NEIGHBOURS
    pairs = [(a, b) for a, b in combinations(range(len(names)), 2) if b - a <= near]
    if not pairs:
        return AuditCounts()
    counts = np.zeros((len(pairs), 3), np.int64)
    words = any(KINDS[plane.kind].by_word for plane in planes.values())
    ngrams = {plane.ngram for plane in planes.values()}
    ngram = ngrams.pop() if len(ngrams) == 1 else 0
    arrays, targets = row_arrays(rows), np.stack([masks[name].targets for name in names])
    specials = (vocabulary.roles.cls >= 0, vocabulary.roles.sep >= 0, vocabulary.never)
    if words or ngram:
        kernels.count_pairs(arrays, targets, np.array(pairs), words, ngram, *specials, counts)
    else:
        count_single_pairs(arrays, targets, np.array(pairs), *specials, counts)
    return AuditCounts(
        pairs={
            f"{names[a]}/{names[b]}": PairCounts(both=both, expected=expected, most=most)
            for (a, b), (both, expected, most) in zip(pairs, counts.tolist(), strict=True)
        }
    )


def _check_rows(rows: Rows, vocabulary: Vocabulary, sources: np.ndarray) -> UInt8[np.ndarray, " vocabulary"]:
    """Refuse rows that the kernels can't walk through; return the frequency band of every id."""
    documents, offsets, vocab_size = rows.segment_documents, rows.segment_offsets, vocabulary.never.size
    if sources.max(initial=0) >= kernels.NUM_SOURCES:
        raise ValueError(f"source group {sources.max()}: take them from source_groups, 0 to {kernels.NUM_SOURCES - 1}")
    _refuse(
        {
            "segment_offsets don't fit the segments": (
                offsets.size != len(rows) + 1
                or (np.diff(offsets) < 0).any()
                or offsets[0] < 0
                or offsets[-1] > min(rows.segment_lengths.size, documents.size)
            )
        }
    )
    counts = kernels.count_tokens(read_only(rows.tokens), vocab_size)
    _refuse(
        {
            "a row's segments are longer than the row": (rows.used() > rows.sequence_length).any(),
            "a segment is shorter than its special tokens": (
                (rows.segment_lengths < max(1, vocabulary.roles.num_specials)).any()
            ),
            "a segment names a document that isn't there": (
                documents.min(initial=0) < 0 or documents.max(initial=-1) >= sources.size
            ),
            f"a token is outside the vocabulary of {vocab_size}": counts[vocab_size] > 0,
        }
    )
    counts = counts[:vocab_size]
    counts[vocabulary.never] = 0
    bands = np.zeros(vocab_size, np.uint8)
    for band in range(1, len(FREQUENCIES)):
        bands += counts * 10 ** (band + 1) < counts.sum()
    return bands


def _check_masks(rows: Rows, masks: PlaneMasks) -> None:
    """Refuse masks that the kernels can't walk through."""
    offsets = masks.swap_offsets
    _refuse(
        {
            "rows and masks have different shapes": masks.targets.shape != (len(rows), rows.sequence_length // 8),
            "swap_offsets don't fit the swaps": (
                offsets.size != len(rows) + 1
                or (np.diff(offsets) < 0).any()
                or offsets[0] < 0
                or offsets[-1] > min(masks.swap_places.size, masks.swap_tokens.size)
            ),
        }
    )


def _refuse(problems: Mapping[str, bool | np.bool_]) -> None:
    for problem, found in problems.items():
        if found:
            raise FormatError(f"can't audit the masks: {problem}: the files are damaged: build the dataset again")
