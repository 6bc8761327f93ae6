"""Judge the counts of a mask audit: the gate before a dataset is published, and what `verify` runs again.

The rule. Faults must be 0 and fixed counts must hold exactly. Whatever is random is tested: a count that is a sum of
independent draws strays from its expectation by t or more with a probability of at most

    2 exp(-t² / (2 (V + b t / 3)))            V its variance, b the largest single step     (Bernstein's inequality)

at every size, not only in the limit. A test fails if that is below 1e-9 shared among all tests *and* the deviation is
large enough to matter; it warns at 1e-4 and half that deviation. So a build that was drawn right fails with a
probability below 1e-9, whatever its seed, and a difference that is real but harmless fails nothing.

What is tested, for each plane (see `audit_counts` for the expectations):

* groups by source, segment length, script, word start and token frequency: V <= the expectation. In `span` and `ngram`
  places are not alike (a segment's first word is covered by fewer spans than its last), so there groups only warn;
* the shares of [MASK], of other tokens and of unchanged ones. In `span` and `ngram` whole runs share their fate: b is
  the longest run and V the sum of squares of the runs of targets;
* random tokens over 64 ranges of the vocabulary, and their smallest and largest id: of n draws from N ids all lie below
  m with probability (m / N)^n, so a range that was cut short shows at once;
* what two planes hide both, of `ngram` the runs that begin at the same place. Two planes of a large K that are not
  compared place by place are told apart by a fingerprint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any

from mlm_data.rows.audit_counts import (
    FAULTS,
    GROUPS,
    AuditCounts,
    PairCounts,
    PlaneCounts,
    Vocabulary,
    count_pairs,
    count_shard,
    describe_vocabulary,
    source_groups,
)
from mlm_data.rows.audit_kernels import FRACTION_BITS, NUM_RANGES
from mlm_data.rows.masking import KINDS, MAX_UNIT, Plane

__all__ = [
    "AuditCounts",
    "AuditReport",
    "Vocabulary",
    "count_pairs",
    "count_shard",
    "describe_vocabulary",
    "judge",
    "source_groups",
]

FAIL, WARN = 1e-9, 1e-4  # for all tests together
EFFECT = 0.02  # of the expectation: below it a deviation harms no training run
SPAN_EFFECT = 1.0  # of the expectation, for groups in `span`
PAIR_EFFECT = 0.05  # of the way from independent to identical planes
SPAN_PAIR_EFFECT = 0.5
ONE = 1 << FRACTION_BITS
REMEDY = "the masks are damaged or were drawn by a faulty version: build the dataset again"


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """The outcome: a dataset with failures must not be published. Every line says plane, what and how many."""

    failures: list[str]
    warnings: list[str]
    table: list[dict[str, Any]]  # plane, check, observed, expected, verdict: plain integers and strings

    @property
    def ok(self) -> bool:
        return not self.failures


@dataclass(frozen=True, kw_only=True)
class _Test:
    """One count beside its expectation."""

    plane: str
    check: str
    observed: int
    expected: float
    variance: float
    step: int = 1
    effect: float  # of a deviation that matters, as a count
    gates: bool = True  # False: it can only warn
    listed: bool = True  # False: in the table only if it doesn't pass
    limit: float | None = None  # a probability that is known exactly, instead of Bernstein's

    def probability(self) -> float:
        """At most so likely by chance."""
        if self.limit is not None:
            return self.limit
        away = abs(self.observed - self.expected)
        return min(1.0, 2 * exp(-(away**2) / (2 * (self.variance + self.step * away / 3)))) if away else 1.0

    def verdict(self, num_tests: int) -> str:
        away, chance = abs(self.observed - self.expected), self.probability()
        if self.gates and away > self.effect and chance < FAIL / num_tests:
            return "failed"
        return "warned" if away > self.effect / 2 and chance < WARN / num_tests else "passed"

    def sentence(self) -> str:
        return f"plane {self.plane}: {self.check}: {self.observed:,}, expected {round(self.expected):,}"


def judge(counts: AuditCounts, planes: Mapping[str, Plane]) -> AuditReport:
    """Judge the counts of a whole split.

    Args:
        counts: of all its shards, added up.
        planes: what the split's masks ought to be, by plane name.
    """
    failures, warnings, table = [], [], []
    for name, plane in planes.items():
        found = counts.planes.get(name)
        if found is None:
            failures.append(f"plane {name}: it was not counted: {REMEDY}")
        else:
            failures += [f"plane {name}: {problem}: {REMEDY}" for problem in _exact(found, plane)]
            table.append(_line(name, "targets", found.num_targets, found.num_budget, "counted"))
    failures += [f"plane {name}: the configuration has no such plane" for name in counts.planes if name not in planes]
    failures += [f"planes {a} and {b} hide the same places: {REMEDY}" for a, b in _repeated(counts)]
    tests = [
        test for name in planes if name in counts.planes for test in _tests(name, counts.planes[name], planes[name])
    ]
    tests += [_pair(name, pair, planes) for name, pair in counts.pairs.items()]
    for test in tests:
        verdict = test.verdict(len(tests))
        if verdict == "failed":
            failures.append(f"{test.sentence()}: {REMEDY}")
        elif verdict == "warned":
            warnings.append(f"{test.sentence()}: unlikely by chance, but small")
        if test.listed or verdict != "passed":
            table.append(_line(test.plane, test.check, test.observed, round(test.expected), verdict))
    return AuditReport(failures=failures, warnings=warnings, table=table)


def _line(plane: str, check: str, observed: int, expected: int, verdict: str) -> dict[str, Any]:
    return {"plane": plane, "check": check, "observed": observed, "expected": expected, "verdict": verdict}


def _exact(counts: PlaneCounts, plane: Plane) -> Iterator[str]:
    """What must hold to the last target."""
    if counts.ngram != plane.ngram:
        yield f"counted in runs of {counts.ngram} places, not {plane.ngram}"
    if (counts.kind, counts.millionths) != (plane.kind, plane.millionths):
        yield f"counted as {counts.kind} at {counts.millionths} millionths, not {plane.kind} at {plane.millionths}"
    for fault, number in zip(FAULTS, counts.faults, strict=True):
        if number:
            yield f"{number:,} {fault}"
    swaps = counts.num_same + counts.num_other
    if plane.mask_share == 1 and swaps:
        yield f"{swaps:,} targets don't hold [MASK], and all should"
    if plane.mask_share == 0 and swaps < counts.num_targets:
        yield f"{counts.num_targets - swaps:,} targets hold [MASK], and none should"
    if plane.random_share == 0 and counts.num_other:
        yield f"{counts.num_other:,} targets hold another token, and none should"


def _tests(name: str, counts: PlaneCounts, plane: Plane) -> Iterator[_Test]:
    in_runs = KINDS[plane.kind].in_runs
    for group, units, hidden, fixed in zip(GROUPS, counts.units, counts.hidden, counts.expected, strict=True):
        if units:
            expected = fixed / ONE
            yield _Test(
                plane=name,
                check=f"hidden, {group}",
                observed=hidden,
                expected=expected,
                variance=expected,
                effect=(SPAN_EFFECT if in_runs else EFFECT) * expected,
                gates=not in_runs,
            )
    yield from _shares(name, counts, plane)
    yield from _random_tokens(name, counts)


def _shares(name: str, counts: PlaneCounts, plane: Plane) -> Iterator[_Test]:
    if plane.mask_share == 1:
        return
    # A random token is the own one by chance, once in num_random_ids.
    lucky = counts.num_drawable * plane.random_share / max(1, counts.num_random_ids)
    total = counts.num_targets
    others = total * plane.random_share - lucky
    kept = total * plane.keep_share + lucky
    in_runs = KINDS[plane.kind].in_runs
    spread = counts.runs / total if in_runs and total else 1.0
    for what, observed, expected in (
        ("hold [MASK]", total - counts.num_same - counts.num_other, total - others - kept),
        ("hold another token", counts.num_other, others),
        ("hold themselves", counts.num_same, kept),
    ):
        yield _Test(
            plane=name,
            check=f"targets that {what}",
            observed=observed,
            expected=expected,
            variance=expected * (1 - expected / total) * spread if total else 0.0,
            step=plane.most_at_once if in_runs else 1,
            effect=EFFECT * expected,
        )


def _random_tokens(name: str, counts: PlaneCounts) -> Iterator[_Test]:
    drawn, ids = counts.num_other, counts.num_random_ids
    if not drawn or ids < 2:
        return
    own = sum(counts.own_ranges)
    for band, observed in enumerate(counts.ranges):
        # Ids whose rank * NUM_RANGES // ids is this band. A draw that hit the own token is not among these.
        size = -(-(band + 1) * ids // NUM_RANGES) - -(-band * ids // NUM_RANGES)
        if size == 0:
            continue
        expected = (own * size - counts.own_ranges[band]) / (ids - 1) + counts.num_other_foreign * size / ids
        yield _Test(
            plane=name,
            check=f"random tokens in range {band + 1}/{NUM_RANGES} of the vocabulary",
            observed=observed,
            expected=expected,
            variance=expected,
            effect=EFFECT * expected,
            listed=False,
        )
    for what, observed, end, free in (
        ("lowest", counts.lowest, 0, counts.lowest),
        ("highest", counts.highest, ids - 1, ids - 1 - counts.highest),
    ):
        # All draws left `free` ids at one end unused; the own token may have been one of them.
        chance = exp(drawn * log(min(1.0, (ids - free) / (ids - 1)))) if free < ids else 0.0
        yield _Test(
            plane=name,
            check=f"{what} random token, by rank",
            observed=observed,
            expected=end,
            variance=0.0,
            effect=0.0,
            limit=chance,
        )


def _pair(name: str, pair: PairCounts, planes: Mapping[str, Plane]) -> _Test:
    both = [planes[plane] for plane in name.split("/") if plane in planes]
    expected = pair.expected / ONE
    # Units step by their size; what comes in runs is not alike at all places.
    step = max((plane.most_at_once for plane in both), default=MAX_UNIT)
    return _Test(
        plane=name,
        check="hidden by both planes",
        observed=pair.both,
        expected=expected,
        variance=expected * step,
        step=step,
        effect=(SPAN_PAIR_EFFECT if any(KINDS[plane.kind].in_runs for plane in both) else PAIR_EFFECT)
        * (pair.most - expected),
    )


def _repeated(counts: AuditCounts) -> Iterator[tuple[str, str]]:
    """Planes that agree to the last bit where that can't be chance."""
    first: dict[int, str] = {}
    # 2**-30 is about 1e-9, and any of K² pairs could agree. A span of up to 10 words is one choice.
    needed = 30 + 2 * len(counts.planes).bit_length()
    for name, plane in counts.planes.items():
        choices = plane.choices // KINDS[plane.kind].max_words
        if choices >= needed:
            if plane.fingerprint in first:
                yield first[plane.fingerprint], name
            first.setdefault(plane.fingerprint, name)
