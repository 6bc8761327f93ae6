"""The quality presets and line edits on one core, beside datatrove's four filters on the same normalized texts."""

import time
from collections.abc import Callable

import pyarrow as pa
import pytest

from mlm_data.curation.line_edits import edit_lines
from mlm_data.curation.quality import quality_scores
from mlm_data.curation.rules import KEPT, judge_quality
from mlm_data.quality_settings import PRESETS, QualitySettings
from tests.bench.report import show
from tests.mlm_data.curation import datatrove_filters, sources

pytestmark = [pytest.mark.bench, pytest.mark.corpora]


def seconds(what: Callable[[], object], *, times: int = 3) -> float:
    """The shortest of some runs; the first, in which kernels are loaded and caches filled, doesn't count."""
    best = float("inf")
    for run in range(times + (times > 1)):
        start = time.perf_counter()
        what()
        took = time.perf_counter() - start
        best = best if times > 1 and run == 0 else min(best, took)
    return best


def decide(texts: pa.LargeStringArray, settings: QualitySettings) -> list[bool]:
    return (judge_quality(quality_scores(texts, settings), settings) == KEPT).tolist()


def test_presets(corpora):
    by_source = sources.documents(corpora)
    texts = pa.concat_arrays([documents[: len(documents) // 2] for documents in by_source.values()])
    plain = texts.to_pylist()
    megabytes = sum(len(text.encode()) for text in plain) / 1e6
    filters = datatrove_filters.load()
    for judge in filters.values():
        judge(plain[:3])  # its models are loaded
    slow = {preset: seconds(lambda judge=judge: judge(plain), times=1) for preset, judge in filters.items()}
    cases = [("the four together", list(PRESETS), sum(slow.values()))]
    cases += [(preset, [preset], slow[preset]) for preset in PRESETS]
    rows = []
    for name, presets, theirs in cases:
        space = QualitySettings.model_validate(presets)
        spacy = QualitySettings.model_validate([*presets, {"words": "spacy"}])
        ours = seconds(lambda settings=space: decide(texts, settings))
        known = seconds(lambda settings=spacy: decide(texts, settings))
        rows.append(
            (
                name,
                f"{megabytes / ours:.1f}",
                f"{megabytes / known:.1f}",
                f"{megabytes / theirs:.2f}",
                f"{theirs / ours:.0f}",
            )
        )
    for edit in ("c4", "refinedweb"):
        took = seconds(lambda edit=edit: edit_lines(texts, (edit,)))
        rows.append((f"lines: {edit}", f"{megabytes / took:.1f}", "", "", ""))
    columns = ["what", "words: space, MB/s", "words: spacy, met before, MB/s", "datatrove, MB/s", "ratio (space)"]
    show(f"Quality presets, one core, {megabytes:.1f} MB", columns, rows, packages=["datatrove", "spacy", "numba"])


def test_decisions(corpora):
    """Share of equal decisions; datatrove's words are spaCy's."""
    filters = datatrove_filters.load()
    by_source = sources.documents(corpora)
    rows = []
    for preset in PRESETS:
        shares, total, differing = [], 0, {"space": 0, "spacy": 0}
        for texts in by_source.values():
            theirs = [reason == "kept" for reason in filters[preset](texts.to_pylist())]
            total += len(texts)
            for words in differing:
                ours = decide(texts, QualitySettings.model_validate([preset, {"words": words}]))
                num = sum(a != b for a, b in zip(ours, theirs, strict=True))
                differing[words] += num
                if words == "spacy":
                    shares.append(f"{1 - num / len(texts):.3f}")
        rows.append((preset, *(f"{1 - differing[words] / total:.3f}" for words in ("spacy", "space")), *shares))
    columns = ["preset", "all, words: spacy", "all, words: space", *(f"{s} ({len(t)})" for s, t in by_source.items())]
    show("Decisions equal to datatrove's", columns, rows, packages=["datatrove", "spacy"])
