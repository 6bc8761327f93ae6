"""Count what a mask audit judges, from rows and masks as they are stored: nothing is believed of who drew them.

Four kinds of counts for each plane, all plain integers that add up over shards in any order:

* faults: things that must not be there, such as a target on [CLS] or beside the row's end;
* groups: how many units (tokens, or words) of each group are hidden, and how many were to be expected. Within a row
  units of equal size are alike: if k of the n units of some size are hidden, each of them is hidden with probability
  k / n. So a group with m of them expects m k / n, exactly, whatever was rounded down in the row's budget;
* shares: targets that hold [MASK], themselves or another token, and where in the vocabulary the other tokens lie;
* pairs: units that two planes hide both, beside the expectation k k' / n. A plane that repeats another stands out.

Expectations are fixed-point integers (units of 2**-24), so that sums don't depend on their order.

Cost: one pass over rows and masks per plane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from mlm_data.errors import FormatError
from mlm_data.kernels import kernel
from mlm_data.masking import KINDS, MAX_UNIT, MILLION, TOKEN, Plane, PlaneMasks, find_units
from mlm_data.scripts import SCRIPTS, token_scripts
from mlm_data.seeds import fold, mix
from mlm_data.types import Roles, Rows

FRACTION_BITS = 24
MAX_PAIRED_PLANES = 16  # with more planes only near neighbours are paired; a fingerprint finds far repeats
NEIGHBOURS = 4
NUM_SOURCES, NUM_LENGTHS, NUM_RANGES = 16, 8, 64
FREQUENCIES = ("1 %", "0.1 %", "0.01 %", "0.001 %", "0 %")  # share of a token in its shard, at least

# Groups, in the order of their columns.
GROUPS = (
    *(f"source group {i}" for i in range(NUM_SOURCES)),
    *(f"segment length up to {i + 1}/{NUM_LENGTHS} row" for i in range(NUM_LENGTHS)),
    *(f"script {name}" for name in SCRIPTS),
    "inside a word",
    "start of a word",
    *(f"token frequency at least {name}" for name in FREQUENCIES),
)
_LENGTHS = NUM_SOURCES
_SCRIPTS = _LENGTHS + NUM_LENGTHS
_WORDS = _SCRIPTS + len(SCRIPTS)
_FREQUENCIES = _WORDS + 2
NUM_GROUPS = len(GROUPS)

# Faults, in the order of their columns.
FAULTS = (
    "rows whose segments don't hold [CLS], [SEP] or [PAD] where they must",
    "targets on special tokens",
    "targets beside a row's end",
    "targets on tokens that are never targets",
    "rows with too many targets",
    "rows with too few targets",
    "words hidden in part",
    "swaps that are no target or out of order",
    "swaps to special or unused tokens",
)
_SHAPE, _ON_SPECIAL, _BESIDE, _ON_NEVER, _MANY, _FEW, _PARTLY, _SWAP_PLACE, _SWAP_TOKEN = range(len(FAULTS))

POPCOUNT = np.bitwise_count(np.arange(256, dtype=np.uint8))
LOW = 2**32 - 1

# Sums, in the order of their columns.
_ROWS, _CANDIDATES, _BUDGET, _TARGETS, _DRAWABLE, _SAME, _OTHER, _OTHER_FOREIGN, _RUNS, _CHOICES, _LOWEST, _HIGHEST = (
    range(12)
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
    return np.array([blake2b(name.encode(), digest_size=1).digest()[0] % NUM_SOURCES for name in sources], np.uint8)


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
    total = AuditCounts()
    for name, plane in planes.items():
        total += count_plane(rows, masks[name], plane, name=name, vocabulary=vocabulary, sources=sources)
    return total + count_pairs(rows, {name: masks[name] for name in planes}, planes, vocabulary=vocabulary)


def count_plane(
    rows: Rows,
    masks: PlaneMasks,
    plane: Plane,
    *,
    name: str,
    vocabulary: Vocabulary,
    sources: UInt8[np.ndarray, " documents"],
) -> AuditCounts:
    """Count one plane of some rows; arguments and errors as for `count_shard`."""
    _check(rows, masks, vocabulary, sources)
    faults = np.zeros(len(FAULTS), np.int64)
    groups = np.zeros((3, NUM_GROUPS), np.int64)
    sums = np.zeros(12, np.int64)
    sums[_LOWEST], sums[_HIGHEST] = vocabulary.num_random, -1
    ranges = np.zeros((2, NUM_RANGES), np.int64)
    fingerprint, most = _count(
        rows.tokens,
        rows.segment_offsets,
        rows.segment_lengths,
        rows.segment_documents,
        rows.word_starts,
        masks.targets,
        masks.swap_offsets,
        masks.swap_places,
        masks.swap_tokens,
        KINDS[plane.kind],
        plane.millionths,
        vocabulary.roles.cls,
        vocabulary.roles.sep,
        vocabulary.roles.pad,
        vocabulary.never,
        vocabulary.rank,
        max(1, vocabulary.num_random),
        vocabulary.script,
        _frequency_bands(rows, vocabulary),
        sources,
        faults,
        groups,
        sums,
        ranges,
    )
    units, hidden, expected = (tuple(group) for group in groups.tolist())
    numbers = sums.tolist()
    counts = PlaneCounts(
        kind=plane.kind,
        millionths=plane.millionths,
        num_random_ids=vocabulary.num_random,
        num_rows=numbers[_ROWS],
        num_candidates=numbers[_CANDIDATES],
        num_budget=numbers[_BUDGET],
        num_targets=numbers[_TARGETS],
        max_targets=int(most),
        faults=tuple(faults.tolist()),
        units=units,
        hidden=hidden,
        expected=expected,
        num_drawable=numbers[_DRAWABLE],
        num_same=numbers[_SAME],
        num_other=numbers[_OTHER],
        num_other_foreign=numbers[_OTHER_FOREIGN],
        ranges=tuple(ranges[0].tolist()),
        own_ranges=tuple(ranges[1].tolist()),
        lowest=numbers[_LOWEST],
        highest=numbers[_HIGHEST],
        runs=numbers[_RUNS],
        choices=numbers[_CHOICES],
        fingerprint=int(fingerprint),
    )
    return AuditCounts(planes={name: counts})


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
    words = any(plane.kind != "token" for plane in planes.values())
    _count_pairs(
        rows.tokens,
        rows.segment_offsets,
        rows.segment_lengths,
        rows.word_starts,
        np.stack([masks[name].targets for name in names]),
        np.array(pairs),
        words,
        vocabulary.roles.cls >= 0,
        vocabulary.roles.sep >= 0,
        vocabulary.never,
        counts,
    )
    return AuditCounts(
        pairs={
            f"{names[a]}/{names[b]}": PairCounts(both=both, expected=expected, most=most)
            for (a, b), (both, expected, most) in zip(pairs, counts.tolist(), strict=True)
        }
    )


def _check(rows: Rows, masks: PlaneMasks, vocabulary: Vocabulary, sources: np.ndarray) -> None:
    """What the kernels rely on."""
    roles = vocabulary.roles
    vocab_size = vocabulary.never.size
    problems = {
        "a row's segments are longer than the row": (rows.used() > rows.sequence_length).any(),
        "a segment is shorter than its special tokens": (rows.segment_lengths < roles.num_specials).any(),
        "a segment names a document that isn't there": (
            rows.segment_documents.min(initial=0) < 0 or rows.segment_documents.max(initial=-1) >= sources.size
        ),
        f"a token is outside the vocabulary of {vocab_size}": rows.tokens.max(initial=0) >= vocab_size,
        "rows and masks have different shapes": masks.targets.shape != (len(rows), rows.sequence_length // 8),
        "swap_offsets don't fit the swaps": (
            masks.swap_offsets.size != len(rows) + 1
            or (np.diff(masks.swap_offsets) < 0).any()
            or masks.swap_offsets[0] < 0
            or masks.swap_offsets[-1] > min(masks.swap_places.size, masks.swap_tokens.size)
        ),
    }
    for problem, found in problems.items():
        if found:
            raise FormatError(f"can't audit the masks: {problem}: the files are damaged: build the dataset again")


def _frequency_bands(rows: Rows, vocabulary: Vocabulary) -> UInt8[np.ndarray, " vocabulary"]:
    """Index in FREQUENCIES of every id."""
    counts = _count_tokens(rows.tokens, vocabulary.never.size)
    counts[vocabulary.never] = 0
    bands = np.zeros(counts.size, np.uint8)
    for band in range(1, len(FREQUENCIES)):
        bands += counts * 10 ** (band + 1) < counts.sum()
    return bands


@kernel
def _count_tokens(tokens, vocab_size):
    counts = np.zeros(vocab_size, np.int64)
    for row in range(tokens.shape[0]):
        for token in tokens[row]:
            counts[token] += 1
    return counts


@kernel
def _candidates(line, first, last, segment_lengths, has_cls, has_sep, never, place, segment):
    """Write place and segment of every candidate of a row; returns (candidates, places in segments)."""
    num, at = 0, 0
    for s in range(first, last):
        end = at + segment_lengths[s]
        for p in range(at + has_cls, end - has_sep):
            place[num] = p
            segment[num] = s
            num += not never[line[p]]
        at = end
    return num, at


@kernel
def _count(
    tokens,
    segment_offsets,
    segment_lengths,
    segment_documents,
    word_starts,
    targets,
    swap_offsets,
    swap_places,
    swap_tokens,
    kind,
    millionths,
    cls,
    sep,
    pad,
    never,
    rank,
    num_random,
    script,
    frequency,
    sources,
    faults,
    groups,
    sums,
    ranges,
):
    """Add one plane's counts of all rows; returns its fingerprint and the most targets in any row."""
    num_rows, length = tokens.shape
    has_cls, has_sep = int(cls >= 0), int(sep >= 0)
    place = np.empty(length + 1, np.int32)
    segment = np.empty(length + 1, np.int32)
    hit = np.empty(length + 1, np.int32)
    starts = np.arange(length + 2).astype(np.int32)
    hist = np.zeros((MAX_UNIT, NUM_GROUPS), np.int64)  # units, and in the upper half those hidden, by size and group
    sizes = np.zeros(MAX_UNIT, np.int64)  # the same of all groups together
    fingerprint, most = np.uint64(0), 0
    for row in range(num_rows):
        line, bits = tokens[row], targets[row]
        first, last = segment_offsets[row], segment_offsets[row + 1]
        num, used = _candidates(line, first, last, segment_lengths, has_cls, has_sep, never, place, segment)
        faults[_SHAPE] += not _well_shaped(line, first, last, segment_lengths, cls, sep, pad)

        total, on_candidates, drawable = 0, 0, 0
        for byte in bits:
            total += POPCOUNT[byte]
        for i in range(num):
            p = place[i]
            hit[i] = (bits[p >> 3] >> (p & 7)) & 1
            on_candidates += hit[i]
            drawable += hit[i] & (rank[line[p]] >= 0)
        if total != on_candidates:
            _blame(bits, line, first, last, segment_lengths, has_cls, has_sep, never, used, faults)

        units = num
        if kind != TOKEN:
            units = find_units(word_starts[row], place, segment, num, starts)
        smallest_left = length + 1
        for u in range(units):
            i = starts[u]
            size = starts[u + 1] - i
            hidden = 0
            for j in range(i, i + size):
                hidden += hit[j]
            faults[_PARTLY] += 0 < hidden < size
            one = 1 + ((hidden == size) << 32)
            if hidden < size:
                smallest_left = min(smallest_left, size)
            s, p = segment[i], place[i]
            token = line[p]
            counts = hist[size - 1]
            counts[sources[segment_documents[s]]] += one
            counts[_LENGTHS + (segment_lengths[s] - 1) * NUM_LENGTHS // length] += one
            counts[_SCRIPTS + script[token]] += one
            counts[_WORDS + ((word_starts[row, p >> 3] >> (p & 7)) & 1)] += one
            counts[_FREQUENCIES + frequency[token]] += one
            sizes[size - 1] += one
        for size in range(MAX_UNIT):
            if sizes[size] == 0:
                continue
            n, k = sizes[size] & LOW, sizes[size] >> 32
            each = (k << FRACTION_BITS) // n
            sums[_CHOICES] += min(k, n - k)
            counts = hist[size]
            for g in range(NUM_GROUPS):
                m = counts[g] & LOW
                groups[0, g] += m
                groups[1, g] += counts[g] >> 32
                groups[2, g] += m * each
            counts[:] = 0
            sizes[size] = 0

        budget = num * millionths // MILLION
        faults[_MANY] += total > budget
        faults[_FEW] += on_candidates < budget and smallest_left <= budget - on_candidates
        most = max(most, total)
        sums[_ROWS] += 1
        sums[_CANDIDATES] += num
        sums[_BUDGET] += budget
        sums[_TARGETS] += on_candidates
        sums[_DRAWABLE] += drawable
        sums[_RUNS] += _squared_runs(segment, hit, num)
        _count_swaps(
            line,
            bits,
            swap_places[swap_offsets[row] : swap_offsets[row + 1]],
            swap_tokens[swap_offsets[row] : swap_offsets[row + 1]],
            rank,
            num_random,
            faults,
            sums,
            ranges,
        )
        fingerprint += _hash_bits(bits, row)
    return fingerprint, most


@kernel
def _well_shaped(line, first, last, segment_lengths, cls, sep, pad):
    """Whether segments begin with [CLS], end with [SEP], and [PAD] fills the rest."""
    fits, at = True, 0
    for s in range(first, last):
        end = at + segment_lengths[s]
        if cls >= 0:
            fits &= line[at] == cls
        if sep >= 0:
            fits &= line[end - 1] == sep
        at = end
    for p in range(at, line.size):
        fits &= line[p] == pad
    return fits


@kernel
def _blame(bits, line, first, last, segment_lengths, has_cls, has_sep, never, used, faults):
    """Say where the targets of one row lie that are on no candidate."""
    at = 0
    for s in range(first, last):
        end = at + segment_lengths[s]
        for p in range(at, end):
            if (bits[p >> 3] >> (p & 7)) & 1:
                if p < at + has_cls or p >= end - has_sep:
                    faults[_ON_SPECIAL] += 1
                else:
                    faults[_ON_NEVER] += never[line[p]]
        at = end
    for p in range(used, line.size):
        faults[_BESIDE] += (bits[p >> 3] >> (p & 7)) & 1


@kernel
def _squared_runs(segment, hit, num):
    """Sum of squares of the lengths of runs of neighbouring targets; what is no candidate does not end a run."""
    total, run = 0, 0
    for i in range(num):
        joined = i > 0 and segment[i] == segment[i - 1]
        run = (run if joined else 0) * hit[i] + hit[i]
        total += (2 * run - 1) * hit[i]
    return total


@kernel
def _count_swaps(line, bits, places, contents, rank, num_random, faults, sums, ranges):
    """Add what the targets of one row hold that don't hold [MASK]."""
    before = -1
    for q in range(places.size):
        p, new = np.int64(places[q]), np.int64(contents[q])
        if p <= before or p >= line.size or (bits[p >> 3] >> (p & 7)) & 1 == 0:
            faults[_SWAP_PLACE] += 1
            continue
        before = p
        own = line[p]
        if new == own:
            sums[_SAME] += 1
            continue
        if new >= rank.size or rank[new] < 0:
            faults[_SWAP_TOKEN] += 1
            continue
        sums[_OTHER] += 1
        sums[_LOWEST] = min(sums[_LOWEST], rank[new])
        sums[_HIGHEST] = max(sums[_HIGHEST], rank[new])
        ranges[0, rank[new] * NUM_RANGES // num_random] += 1
        if rank[own] < 0:
            sums[_OTHER_FOREIGN] += 1
        else:
            ranges[1, rank[own] * NUM_RANGES // num_random] += 1


@kernel
def _hash_bits(bits, row):
    """A 64-bit hash of one row's bits and number."""
    state = np.uint64(row)
    word = np.uint64(0)
    for i in range(bits.size):
        word = (word << np.uint64(8)) | np.uint64(bits[i])
        if i % 8 == 7 or i == bits.size - 1:
            state = fold(state, word)
            word = np.uint64(0)
    return mix(state)


@kernel
def _count_pairs(
    tokens, segment_offsets, segment_lengths, word_starts, targets, pairs, words, has_cls, has_sep, never, counts
):
    """Add (both, expected, most) of every pair of planes; targets [planes, rows, length / 8]."""
    num_rows, length = tokens.shape
    num_planes = targets.shape[0]
    place = np.empty(length + 1, np.int32)
    segment = np.empty(length + 1, np.int32)
    starts = np.arange(length + 2).astype(np.int32)
    heads = np.zeros((MAX_UNIT, length // 8), np.uint8)  # first places of the units of each size
    sizes = np.zeros(MAX_UNIT, np.int64)
    hidden = np.zeros((num_planes, MAX_UNIT), np.int64)
    for row in range(num_rows):
        first, last = segment_offsets[row], segment_offsets[row + 1]
        num, _ = _candidates(tokens[row], first, last, segment_lengths, has_cls, has_sep, never, place, segment)
        units = find_units(word_starts[row], place, segment, num, starts) if words else num
        heads[:] = 0
        sizes[:] = 0
        for u in range(units):
            p, size = place[starts[u]], starts[u + 1] - starts[u]
            heads[size - 1, p >> 3] |= np.uint8(1) << np.uint8(p & 7)
            sizes[size - 1] += 1
        for size in range(MAX_UNIT):
            if sizes[size] == 0:
                continue
            for plane in range(num_planes):
                k = 0
                for byte in range(length // 8):
                    k += POPCOUNT[targets[plane, row, byte] & heads[size, byte]]
                hidden[plane, size] = k
            for pair in range(len(pairs)):
                a, b = pairs[pair]
                both = 0
                for byte in range(length // 8):
                    both += POPCOUNT[targets[a, row, byte] & targets[b, row, byte] & heads[size, byte]]
                ka, kb = hidden[a, size], hidden[b, size]
                counts[pair, 0] += both * (size + 1)
                counts[pair, 1] += ((ka * kb << FRACTION_BITS) // sizes[size]) * (size + 1)
                counts[pair, 2] += min(ka, kb) * (size + 1)
