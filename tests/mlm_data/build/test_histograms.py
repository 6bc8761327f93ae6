"""Histograms hold every document once, and say what the judge says."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.build.forecast import forecast, judge_documents, sample_context
from mlm_data.build.histograms import Histogram, all_edges, sample_scores
from mlm_data.build.measures import Measure
from mlm_data.build.plan import make_plan
from mlm_data.config import load_config
from mlm_data.text.reading import read_unit
from tests.pipelines.small_corpus import settings, text, write_jsonl


def histogram(values, threshold, *, is_share, bound="at_least"):
    values = np.array(values, np.float64)
    one = Measure(
        reason="r",
        what="w",
        setting="s",
        bound=bound,
        is_share=is_share,
        values=values,
        thresholds=np.full(len(values), threshold, np.float64),
        fails=values < threshold if bound == "at_least" else values > threshold,
    )
    made = Histogram(reason="r", step="s", what="w", setting="s", bound=bound, is_share=is_share)
    made.add(one)
    return made, one


numbers = st.lists(st.floats(-1e12, 1e12) | st.integers(-5, 200).map(float), max_size=60)


@given(numbers, st.floats(-1000, 1000), st.integers(1, 50))
def test_no_document_is_lost_by_joining_bins(values, threshold, most):
    made, one = histogram(values, threshold, is_share=False)
    bins = made.display(most)
    assert len(bins.stay) == len(bins.go) == len(bins.edges) - 1 <= most
    assert bins.stay.sum() + bins.go.sum() == made.num_documents == len(values)
    assert bins.go.sum() == made.num_fails == one.fails.sum()
    assert (np.diff(bins.edges) > 0).all()


@given(st.lists(st.floats(0, 1.5), min_size=1, max_size=60), st.integers(1, 99).map(lambda n: n / 100))
def test_bins_of_shares_end_where_usual_thresholds_lie(values, threshold):
    made, _ = histogram(values, threshold, is_share=True, bound="at_most")
    edges = all_edges(True)
    place = np.searchsorted(edges, threshold, side="right") - 1
    assert edges[place] == pytest.approx(threshold)
    assert made.go[:place].sum() == 0


def test_small_counts_have_bins_of_their_own():
    made, _ = histogram([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2, is_share=False)
    assert made.is_count
    assert (made.stay + made.go).max() == 1
    bins = made.display(10_000)
    assert [made.label(edge) for edge in bins.edges[np.flatnonzero(bins.stay + bins.go)]] == list(range(10))


def test_numbers_that_happen_to_be_whole_are_no_counts_under_a_threshold_that_isn_t():
    made, _ = histogram([0.0, 0.0], 0.1, is_share=False, bound="at_most")
    assert not made.is_count
    assert made.label(0.105) == 0.105


def test_nothing_at_all_has_a_histogram_too():
    made = Histogram(reason="", step="s", what="w", setting="s", bound="", is_share=True)
    made.add(histogram([], 0, is_share=True)[1])
    assert made.num_documents == 0
    assert len(made.display(10).stay) == 1


def test_odd_answers_of_a_filter_are_counted():
    made, _ = histogram([np.nan, np.inf, -np.inf, -3.5], -1, is_share=False)
    assert made.num_documents == 4
    assert not made.is_count


def test_a_sample_says_what_the_judge_says(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", range(60))
    write_jsonl(tmp_path / "b.jsonl", [])
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": text(n, n % 9)}) + "\n" for n in range(70)))
    quality = ["gopher_repetition", {"gopher_quality": {"min_words": 60}}, {"c4": {"min_sentences": 4}}]
    inputs = [{"path": "a.jsonl", "name": "a"}, {"path": "b.jsonl", "name": "b", "quality": quality}]
    values = settings(tmp_path, inputs=inputs, output="out", deduplicate={"near": True})
    (tmp_path / "premask.yaml").write_text(json.dumps(values))
    config = load_config(tmp_path / "premask.yaml")
    scores = sample_scores(config, 1.0)
    context = sample_context(config)
    judged = [
        judge_documents(documents, ("a", "b").index(documents.source[0]), context)
        for unit in make_plan(config).units
        for documents in read_unit(unit, config)
    ]
    wanted = forecast(judged, config).by("input", "reason")
    assert {(one.name, reason): count for one in scores for reason, count in one.fates.items()} == {
        key: counts[0] for key, counts in wanted.items()
    }
    for one in scores:
        assert {histogram.num_documents for histogram in one.histograms.values()} == {one.num_documents}
        assert one.num_kept + sum(histogram.num_first for histogram in one.histograms.values()) == one.num_documents
        for histogram in one.histograms.values():
            assert histogram.num_first <= histogram.num_fails
    assert {histogram.step for histogram in scores[0].histograms.values()} == {"length"}
    assert len(scores[1].histograms) == 1 + 13 + 10 + 3
