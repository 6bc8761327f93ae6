"""Which documents pass, and the reason for each that doesn't."""

import numpy as np
import pytest

from mlm_data.config import BuildConfig
from mlm_data.curation.thresholds import judge, reasons


def config(*, quality=None, **clean):
    item = {"path": "a", "keep_fields": ["url"]} | ({"quality": quality} if quality else {})
    values = {"inputs": [item, {"path": "b"}], "output": "o", "tokenizer": {"path": "t"}, "clean": clean}
    return BuildConfig.model_validate(values)


def fates(settings, inputs=None, languages=(), **columns):
    arrays = {name: np.array(values) for name, values in columns.items()}
    count = len(arrays["num_chars"])
    found = judge(arrays, settings, np.array(inputs or [0] * count, np.int32), languages=languages)
    return [reasons(settings)[code] for code in found]


def test_what_is_left_of_the_text_comes_first():
    found = fates(config(min_chars=100), num_chars=[0, 99, 100, 500], num_tokens=[0, 20, 20, 0])
    assert found == ["empty", "too_short", "kept", "no_tokens"]


def test_no_threshold_of_length():
    assert fates(config(min_chars=0), num_chars=[1, 0], num_tokens=[1, 0]) == ["kept", "empty"]


def test_where_there_are_no_tokens_nothing_is_said_of_them():
    assert fates(config(min_chars=0), num_chars=[1, 0]) == ["kept", "empty"]


def test_languages_by_code_and_score():
    settings = config(min_chars=0, languages={"keep": ["en", "de"], "min_score": 0.35})
    found = fates(
        settings,
        languages=("und", "en", "fr", "de"),
        num_chars=[9] * 5,
        language=[0, 1, 2, 3, 3],
        language_score=[9999, 3500, 9999, 3499, 9999],
    )
    assert found == ["other_language", "kept", "other_language", "unsure_language", "kept"]


def test_all_languages_are_scored_and_none_is_dropped():
    settings = config(min_chars=0, languages={"keep": "all"})
    assert fates(settings, languages=("und",), num_chars=[9], language=[0], language_score=[0]) == ["kept"]


@pytest.mark.parametrize(("removed", "fate"), [(5, "kept"), (6, "lines_removed")])
def test_a_share_of_words_may_be_removed(removed, fate):
    settings = config(min_chars=0, lines=["refinedweb"], max_words_removed=0.05)
    assert fates(settings, num_chars=[9], num_words=[100], words_removed=[removed]) == [fate]


def test_hosts_classifiers_and_filters():
    settings = config(
        min_chars=0,
        domains={"drop": "hosts"},
        classifier={"path": "m", "label": "hq", "min": 0.02},
        custom=["a:one", "a:two"],
    )
    columns = {
        "num_chars": [9] * 6,
        "is_blocked": [True, False, False, False, False, False],
        "classifier": [0, 199, 200, 200, 200, 200],
        "custom.0.keep": [False, True, False, True, True, True],
        "custom.1.keep": [False, True, False, False, True, True],
    }
    expected = ["blocked_domain", "classifier", "custom:a:one", "custom:a:two", "kept", "kept"]
    assert fates(settings, **columns) == expected


def test_presets_are_those_of_the_input():
    scores = {
        "gopher_quality.num_words": [60, 60],
        "gopher_quality.num_text_words": [49, 49],
        "gopher_quality.num_lines": [5, 5],
        "gopher_quality.num_alphabetic_words": [60, 60],
        "gopher_quality.num_stop_words": [5, 5],
        "gopher_quality.num_ellipses": [0, 0],
        "gopher_quality.num_bullet_lines": [0, 0],
        "gopher_quality.num_ellipsis_lines": [0, 0],
        "gopher_quality.text_word_characters": [245, 245],
        "gopher_quality.num_hashes": [0, 0],
    }
    settings = config(min_chars=0, quality="gopher_quality")
    found = fates(settings, inputs=[0, 1], num_chars=[300, 300], **scores)
    assert found == ["gopher_quality:too_few_words", "kept"]
    lower = config(min_chars=0, quality={"gopher_quality": {"min_words": 49}})
    assert fates(lower, inputs=[0, 1], num_chars=[300, 300], **scores) == ["kept", "kept"]


def test_every_reason_has_one_name():
    settings = config(custom=["a:one"], quality="c4")
    assert len(set(reasons(settings))) == len(reasons(settings))
