"""With spaCy's words our presets decide as datatrove's filters do, for the same reasons."""

import pytest

from mlm_data.curation.quality import quality_scores
from mlm_data.curation.rules import QUALITY_REASONS, judge_quality
from mlm_data.quality_settings import PRESETS, QualitySettings
from tests.mlm_data.curation import datatrove_filters, sources

pytestmark = [pytest.mark.slow, pytest.mark.corpora]

THEIR_REASONS = {
    "gopher_repetition:repeated_paragraphs": "dup_para_frac",
    "gopher_repetition:repeated_paragraph_chars": "dup_para_char_frac",
    "gopher_repetition:repeated_lines": "dup_line_frac",
    "gopher_repetition:repeated_line_chars": "dup_line_char_frac",
    **{f"gopher_repetition:top_{n}_gram": f"top_{n}_gram" for n in (2, 3, 4)},
    **{f"gopher_repetition:repeated_{n}_grams": f"duplicated_{n}_n_grams" for n in range(5, 11)},
    "gopher_quality:too_few_words": "gopher_short_doc",
    "gopher_quality:too_many_words": "gopher_long_doc",
    "gopher_quality:words_too_short": "gopher_below_avg_threshold",
    "gopher_quality:words_too_long": "gopher_above_avg_threshold",
    "gopher_quality:too_many_hashes": "gopher_too_many_hashes",
    "gopher_quality:too_many_ellipses": "gopher_too_many_ellipsis",
    "gopher_quality:bullet_lines": "gopher_too_many_bullets",
    "gopher_quality:ellipsis_lines": "gopher_too_many_end_ellipsis",
    "gopher_quality:too_few_alphabetic_words": "gopher_below_alpha_threshold",
    "gopher_quality:too_few_stop_words": "gopher_enough_stop_words",
    "c4:lorem_ipsum": "lorem_ipsum",
    "c4:curly_bracket": "curly_bracket",
    "c4:too_few_sentences": "too_few_sentences",
    "fineweb:too_few_terminated_lines": "line_punct_ratio",
    "fineweb:short_lines": "short_line_ratio",
    "fineweb:repeated_line_chars": "char_dup_ratio",
    "fineweb:too_many_line_feeds": "list_ratio",
    "kept": "kept",
}


def test_every_reason_has_its_like():
    assert set(THEIR_REASONS) == set(QUALITY_REASONS)


@pytest.mark.parametrize("preset", PRESETS)
def test_decisions_and_reasons_are_datatroves(corpora, preset):
    """The named differences (see `quality`) change none of these documents."""
    pytest.importorskip("spacy")
    theirs = datatrove_filters.load()[preset]
    settings = QualitySettings.model_validate([preset, {"words": "spacy"}])
    for source, texts in sources.documents(corpora).items():
        fates = judge_quality(quality_scores(texts, settings), settings)
        ours = [THEIR_REASONS[QUALITY_REASONS[fate]] for fate in fates]
        assert ours == theirs(texts.to_pylist()), source
