"""How the scores of a sample are spread, and where each threshold cuts them, by input.

Scores are counted into fixed bins while the sample is read, so memory doesn't grow with it: shares into 200 bins
between 0 and 1, other numbers into 8 bins for each doubling, of either sign. `display` joins neighbours until few are
left:

    share of repeated lines   0          0.1        0.2        0.3
    documents that stay       512  40  9  4  3  1   1  2   0   1 |
    documents that go                                            | 2  0  1
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from mlm_data.build.context import Context
from mlm_data.build.forecast import Judged, judge_documents, read_runs, sample_context, slices_by_input
from mlm_data.build.measures import Measure, measure
from mlm_data.build.plan import make_plan
from mlm_data.build.weights import input_names
from mlm_data.config import BuildConfig
from mlm_data.curation.thresholds import reasons

RUNS = 16  # places of each input that a sample comes from
LEAST_BYTES = 2**20  # of each input, however small the sample
SHARE_BINS = 200
PER_DOUBLING = 8
SMALLEST, LARGEST = -7, 31  # powers of two between which numbers that are no shares have bins of their own


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Counts of a histogram, as they are shown."""

    edges: Float64[np.ndarray, " bins+1"]
    stay: Int64[np.ndarray, " bins"]  # documents that pass this threshold
    go: Int64[np.ndarray, " bins"]  # documents that don't


@dataclass(kw_only=True)
class Histogram:
    """One score of the documents of one input. Grows while the sample is read."""

    reason: str
    step: str
    what: str
    setting: str
    bound: str
    is_share: bool
    thresholds: set[float] = field(default_factory=set)  # several where languages have their own
    stay: Int64[np.ndarray, " all_bins"] = field(default_factory=lambda: np.zeros(0, np.int64))
    go: Int64[np.ndarray, " all_bins"] = field(default_factory=lambda: np.zeros(0, np.int64))
    is_count: bool = True  # all values and thresholds are whole numbers
    num_first: int = 0  # documents that this rule is the first to drop

    @property
    def num_fails(self) -> int:
        """Documents that this rule alone would drop."""
        return int(self.go.sum())

    @property
    def num_documents(self) -> int:
        return int(self.stay.sum()) + self.num_fails

    def add(self, one: Measure) -> None:
        """Count the documents of a batch."""
        edges = all_edges(self.is_share)
        values = np.nan_to_num(one.values, nan=0.0)
        is_whole = all((numbers == np.floor(numbers)).all() for numbers in (values, one.thresholds[one.thresholds > 0]))
        self.is_count = self.is_count and not self.is_share and is_whole
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        stay = np.bincount(place[~one.fails], minlength=len(edges) - 1)
        go = np.bincount(place[one.fails], minlength=len(edges) - 1)
        self.stay, self.go = (self.stay + stay, self.go + go) if len(self.stay) else (stay, go)
        self.thresholds |= set(np.unique(one.thresholds[~np.isnan(one.thresholds)]).tolist())

    def display(self, most: int) -> Bins:
        """At most so many bins, from the smallest score or threshold to the largest."""
        edges = all_edges(self.is_share)
        used = np.flatnonzero(self.stay + self.go)
        cuts = np.searchsorted(edges, sorted(self.thresholds), side="right") - 1
        places = np.concatenate([used, np.clip(cuts, 0, len(edges) - 2)]).astype(np.int64)
        if not len(places):
            places = np.zeros(1, np.int64)
        first, end = int(places.min()), int(places.max()) + 1
        step = -(-(end - first) // most)
        starts = np.arange(first, end, step)
        return Bins(
            edges=np.append(edges[starts], edges[min(starts[-1] + step, len(edges) - 1)]),
            stay=np.add.reduceat(self.stay[:end], starts),
            go=np.add.reduceat(self.go[:end], starts),
        )

    def label(self, edge: float) -> float:
        """A border as people read it: counts begin at the next whole number."""
        return math.ceil(edge) if self.is_count else edge

    def to_dict(self, most: int) -> dict[str, Any]:
        """Plain types for JSON."""
        bins = self.display(most)
        return {
            "step": self.step,
            "reason": self.reason,
            "what": self.what,
            "setting": self.setting,
            "bound": self.bound,
            "thresholds": sorted(self.thresholds),
            "documents": self.num_documents,
            "fails": self.num_fails,
            "first": self.num_first,
            "edges": bins.edges.tolist(),
            "stay": bins.stay.tolist(),
            "go": bins.go.tolist(),
        }


@dataclass(kw_only=True)
class InputScores:
    """The scores of one input's part of a sample."""

    name: str
    num_bytes: int = 0  # that were read
    num_documents: int = 0
    fates: Counter[str] = field(default_factory=Counter)  # documents by reason
    histograms: dict[str, Histogram] = field(default_factory=dict)  # by reason, in the order of judgement

    @property
    def num_kept(self) -> int:
        return self.fates["kept"]

    def add(self, judged: Judged, context: Context) -> None:
        """Count a batch of the input."""
        names = reasons(context.config)
        fates = Counter(names[fate] for fate in judged.fates.tolist())
        self.num_documents += judged.table.num_rows
        self.fates.update(fates)
        for one in measure(judged, context):
            key = one.setting + one.what
            if key not in self.histograms:
                self.histograms[key] = Histogram(
                    reason=one.reason,
                    step=one.step,
                    what=one.what,
                    setting=one.setting,
                    bound=one.bound,
                    is_share=one.is_share,
                )
            histogram = self.histograms[key]
            if one.reason and not histogram.reason:  # the first of its documents that it drops
                histogram.reason, histogram.step, histogram.bound = one.reason, one.step, one.bound
            histogram.add(one)
            if one.reason:
                histogram.num_first += fates[one.reason] + (fates["empty"] if one.reason == "too_short" else 0)


def sample_scores(config: BuildConfig, share: float) -> list[InputScores]:
    """The scores of about so much of each input, and at least LEAST_BYTES; nothing is written."""
    context = sample_context(config)
    return list(_by_input(config, context, share))


def _by_input(config: BuildConfig, context: Context, share: float) -> Iterator[InputScores]:
    names = input_names(config)
    for number, pieces in slices_by_input(make_plan(config)).items():
        found = InputScores(name=names[number])
        wanted = max(LEAST_BYTES, round(share * sum(piece.num_bytes for piece in pieces)))
        for documents in read_runs(pieces, config, runs=RUNS, num_bytes=wanted):
            found.num_bytes += documents.num_bytes_read
            if documents.table.num_rows:
                found.add(judge_documents(documents, number, context), context)
        yield found


@cache
def all_edges(is_share: bool) -> Float64[np.ndarray, " edges"]:
    """The borders of all bins; a bin has its lower one."""
    if is_share:
        return np.arange(SHARE_BINS + 1) / SHARE_BINS
    powers = np.exp2(np.arange(SMALLEST * PER_DOUBLING, LARGEST * PER_DOUBLING + 1) / PER_DOUBLING)
    # Powers of two are exact, so that counts of 1, 2, 4, ... begin a bin.
    return np.concatenate([-powers[::-1], [0.0], powers])
