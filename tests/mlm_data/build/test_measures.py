"""Measures say what the judge says."""

import json

import numpy as np
import pytest

from mlm_data.build.forecast import judge_documents, sample_context
from mlm_data.build.measures import measure
from mlm_data.build.plan import make_plan
from mlm_data.config import load_config
from mlm_data.curation.thresholds import reasons
from mlm_data.text.reading import read_unit
from tests.pipelines.small_corpus import sentence, settings


def texts():
    """Texts of every kind: short, repeated, cut into lines, with hashes, in other scripts."""
    rng = np.random.default_rng(0)
    for number in range(200):
        parts = [sentence(number * 50 + i, int(rng.integers(2, 20))) for i in range(int(rng.integers(1, 15)))]
        if number % 5 == 1:
            parts += [parts[0]] * int(rng.integers(1, 9))
        if number % 7 == 2:
            parts += ["# ... " * int(rng.integers(1, 40)), "- list"]
        if number % 11 == 3:
            parts = ["не что иное как набор слов на русском языке, и ещё раз. " * 5]
        if number % 13 == 4:
            parts.append("{")
        yield "\n".join(parts) if number % 2 else " ".join(parts)


@pytest.mark.parametrize("clean", [{}, {"languages": {"keep": ["en"]}, "lines": ["c4"], "max_words_removed": 0.5}])
def test_the_first_measure_that_fails_is_the_judge_s_reason(tmp_path, clean):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()))
    quality = ["gopher_repetition", "gopher_quality", "c4", "fineweb"]
    values = settings(tmp_path, inputs=[{"path": "a.jsonl", "quality": quality}], output="out", clean=clean)
    (tmp_path / "premask.yaml").write_text(json.dumps(values))
    config = load_config(tmp_path / "premask.yaml")
    context, names = sample_context(config), reasons(config)
    seen = set()
    for unit in make_plan(config).units:
        for documents in read_unit(unit, config):
            judged = judge_documents(documents, 0, context)
            measures = measure(judged, context)
            for place, fate in enumerate(judged.fates.tolist()):
                failed = [one.reason for one in measures if one.fails[place]]
                wanted = "too_short" if names[fate] == "empty" else names[fate]
                assert (failed or ["kept"])[0] == wanted
                seen.add(wanted)
            for one in measures:
                beyond = {
                    "at_most": one.values > one.thresholds,
                    "at_least": one.values < one.thresholds,
                    "none": one.values > 0,
                }
                if one.bound and one.step != "clean.languages" and one.reason != "lines_removed":
                    near = np.isclose(one.values, one.thresholds)
                    assert (near | np.isnan(one.thresholds) | (one.fails == beyond[one.bound])).all()
                if one.is_share and "top_" not in one.reason:
                    assert ((one.values >= 0) & (one.values <= 1)).all(), one.reason
    assert len(seen) > 6
