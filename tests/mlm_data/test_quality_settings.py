import pytest

from mlm_data.errors import ConfigError
from mlm_data.quality_settings import PRESETS, GopherQualitySettings, PresetSettings, QualitySettings
from mlm_data.settings import Settings, parse_settings, parse_yaml


class Holder(Settings):
    quality: QualitySettings = QualitySettings()


def read(text: str) -> QualitySettings:
    return parse_settings(Holder, parse_yaml(text, where="test"), where="test").quality


@pytest.mark.parametrize(
    ("text", "presets"),
    [
        ("quality: gopher_quality", ("gopher_quality",)),
        ("quality: [fineweb, c4]", ("c4", "fineweb")),
        ("quality: {c4: , fineweb: true, gopher_quality: false}", ("c4", "fineweb")),
        ("quality: [c4, {gopher_quality: {min_words: 30}}, {words: spacy}]", ("gopher_quality", "c4")),
        ("quality: []", ()),
        ("quality: {}", ()),
        ("{}", ()),
    ],
)
def test_all_spellings(text, presets):
    settings = read(text)
    assert settings.presets == presets
    assert QualitySettings.model_validate(settings.model_dump(mode="json")) == settings


def test_values_arrive():
    settings = read("quality: [gopher_repetition, {gopher_quality: {min_words: 50}}, {words: spacy}]")
    assert settings.words == "spacy"
    assert settings.gopher_quality == GopherQualitySettings(min_words=50)
    assert read("quality: {gopher_quality: {min_words: null}}").gopher_quality.min_words is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quality: gofer", "test: quality: unknown preset 'gofer': there are gopher_repetition, gopher_quality, c4, "),
        ("quality: [c4, c4]", "names c4 twice"),
        ("quality: [3]", "write names of presets, or `name: {threshold: value}`, got 3"),
        ("quality: {c4: {min_word: 3}}", "unknown field 'quality.c4.min_word': did you mean 'min_words_per_line'?"),
        ("quality: {c4: {min_sentences: -1}}", "greater than or equal to 0, got -1"),
        ("quality: {fineweb: {max_short_lines: 1.5}}", "less than or equal to 1, got 1.5"),
        ("quality: {fineweb: {max_short_lines: 0.1234567}}", "must have at most six decimals, got 0.1234567"),
        ("quality: {words: letters}", "quality.words"),
    ],
)
def test_one_line_says_what_is_wrong(text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scores_depend_on_no_threshold():
    assert read("quality: gopher_quality").score_key() == read("quality: {gopher_quality: {min_words: 7}}").score_key()
    assert read("quality: c4").score_key() == read("quality: {c4: {min_sentences: 7}}").score_key()
    assert read("quality: c4").score_key() != read("quality: {c4: {min_words_per_line: 7}}").score_key()
    assert read("quality: c4").score_key() != read("quality: [c4, {words: spacy}]").score_key()
    assert read("quality: c4").score_key() != read("quality: [c4, fineweb]").score_key()
    assert read("quality: {words: spacy}").score_key() == {}


def test_every_field_says_what_it_is():
    for kind in (QualitySettings, *PresetSettings.__subclasses__()):
        assert kind.descriptions().keys() == kind.model_fields.keys()
    assert set(PRESETS) < QualitySettings.model_fields.keys()
    for kind in PresetSettings.__subclasses__():
        assert kind.model_fields.keys() >= kind.SCORED
