"""Every rule has a family of documents, each a step from the next: one is dropped for the rule, the one before kept."""

from collections.abc import Callable
from fractions import Fraction
from itertools import count, islice

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.curation.quality import SCORES, quality_scores, score_schema
from mlm_data.curation.quality_languages import LANGUAGES, NAMED, language_indexes
from mlm_data.curation.rules import KEPT, QUALITY_REASONS, RULES, Rule, judge_quality
from mlm_data.quality_settings import PRESETS, QualitySettings


def judge(texts: list[str], quality: object, languages: list[str] | None = None) -> list[str]:
    settings = QualitySettings.model_validate(quality)
    scores = quality_scores(pa.array(texts, pa.large_string()), settings, languages)
    return [QUALITY_REASONS[index] for index in judge_quality(scores, settings, languages)]


def different(number: int, start: int = 0) -> list[str]:
    """So many different words of five letters."""
    return ["".join(chr(97 + n // 26**digit % 26) for digit in range(5)) for n in range(start, start + number)]


def lines(number: int, words: int, start: int = 0) -> list[str]:
    return [" ".join(different(words, start + words * line)) for line in range(number)]


def between(phrases: list[str], gap: int, lead: int = 100) -> str:
    """The phrases with `gap` words between them that stand nowhere else."""
    fresh = iter(different(lead + gap * len(phrases)))
    parts = list(islice(fresh, lead))
    for phrase in phrases:
        parts += [phrase, *islice(fresh, gap)]
    return " ".join(parts)


def twice(n: int) -> Callable[[int], str]:
    """k different runs of n words, each of them twice."""

    def text(k: int) -> str:
        runs = [" ".join(different(n, 100_000 + n * run)) for run in range(k)]
        return between(runs + runs, 2, 500)

    return text


def prose(words: int) -> str:
    return " ".join(["the", "of", *different(words - 2)])


def some_of(k: int, number: int, make: Callable[[str], str], words: int = 6) -> str:
    """Lines of which k are made into something else."""
    return "\n".join(make(line) if place < k else line for place, line in enumerate(lines(number, words)))


SENTENCES = [f"{line.capitalize()}." for line in lines(30, 8)]

# What a step makes worse. At step 0 the document is kept.
FAMILIES: dict[str, Callable[[int], str]] = {
    "gopher_repetition:repeated_paragraphs": lambda k: "\n\n".join(
        ["\n".join(lines(3, 6, 18 * part)) for part in range(20)] + ["ab cd"] * (k + 1)
    ),
    "gopher_repetition:repeated_paragraph_chars": lambda k: "\n\n".join([*lines(30, 2), "x" * k, "yes", "x" * k]),
    "gopher_repetition:repeated_lines": lambda k: "\n".join(
        line + ("\nab cd" if place < k else "") for place, line in enumerate(lines(50, 6))
    ),
    "gopher_repetition:repeated_line_chars": lambda k: "\n".join([*lines(30, 2), "x" * k, "yes", "x" * k]),
    "gopher_repetition:top_2_gram": lambda k: between(["ab cd"] * k, 2),
    "gopher_repetition:top_3_gram": lambda k: between(["ab cd ef"] * k, 2),
    "gopher_repetition:top_4_gram": lambda k: between(["ab cd ef gh"] * k, 2),
    **{f"gopher_repetition:repeated_{n}_grams": twice(n) for n in range(5, 11)},
    "gopher_quality:too_few_words": lambda k: prose(60 - k),
    "gopher_quality:too_many_words": lambda k: "the that with " * 33_333 + "be " * k,
    "gopher_quality:words_too_short": lambda k: prose(60) + " a" * k,
    "gopher_quality:words_too_long": lambda k: prose(60) + "x" * k,
    "gopher_quality:too_many_hashes": lambda k: prose(60) + "#" * k,
    "gopher_quality:too_many_ellipses": lambda k: prose(60) + "…" * k + "x",
    "gopher_quality:bullet_lines": lambda k: "the of " + some_of(k, 20, lambda line: f" - {line}"),
    "gopher_quality:ellipsis_lines": lambda k: "the of " + some_of(k, 20, lambda line: f"{line}..."),
    "gopher_quality:too_few_alphabetic_words": lambda k: prose(60) + " 12345" * k,
    "gopher_quality:too_few_stop_words": lambda k: prose(60).replace("of" if k else "xx", "xx"),
    "c4:lorem_ipsum": lambda k: "\n".join(SENTENCES + ["This is Lorem Ipsum."] * k),
    "c4:curly_bracket": lambda k: "\n".join(SENTENCES + ["This is { here."] * k),
    "c4:too_few_sentences": lambda k: "\n".join(SENTENCES[: 8 - k]),
    "fineweb:too_few_terminated_lines": lambda k: some_of(20 - k, 20, lambda line: f"{line}."),
    "fineweb:short_lines": lambda k: "\n".join([*lines(k, 5), *SENTENCES[:20]]),
    "fineweb:repeated_line_chars": lambda k: "\n".join(["x" * k, *SENTENCES, "x" * k]),
    "fineweb:too_many_line_feeds": lambda k: "\n".join(
        SENTENCES[:10] + [f"{'x' * 15} {'y' * 14}{n} is." for n in range(k)]
    ),
}


def test_every_rule_has_a_family():
    assert tuple(FAMILIES) == QUALITY_REASONS[1:]


@pytest.mark.parametrize("reason", FAMILIES)
def test_one_step_drops_a_document_for_exactly_this_reason(reason):
    preset = reason.partition(":")[0]
    family = FAMILIES[reason]
    documents = [family(0)]
    for step in count(1):
        documents.append(family(step))
        if step % 20 == 0 or reason.endswith("stop_words"):
            fates = judge(documents, preset)
            if any(fate != "kept" for fate in fates):
                break
        assert step < 1500, f"{reason} drops nothing"
    first = next(place for place, fate in enumerate(fates) if fate != "kept")
    assert first > 0, f"the first document is dropped, too: {fates[0]}"
    assert fates[first] == reason
    dropped = documents[first]
    rule = RULES[QUALITY_REASONS.index(reason) - 1]
    off = False if rule.bound == "none" else None
    assert judge([dropped], {preset: {rule.threshold: off}}) != [reason]


def exact(rule: Rule, scores: dict[str, int], threshold: float | bool | None) -> bool:
    """Whether a rule fails, in rational numbers; the threshold is the decimal that people write."""
    if threshold is None or threshold is False:
        return False
    amount = scores[f"{rule.preset}.{rule.amount}"]
    if rule.bound == "none":
        return amount > 0
    whole = scores[f"{rule.preset}.{rule.divided_by}"] if rule.divided_by else 1
    limit = Fraction(str(threshold)) * whole
    return amount > limit if rule.bound == "at_most" else amount < limit


def test_comparisons_are_exact_even_where_floats_are_not():
    draw = np.random.default_rng(3)
    settings = QualitySettings.model_validate(list(PRESETS))
    names = [field.name for field in score_schema(PRESETS)]
    small = {name: draw.integers(0, 12, 4000).astype(np.int32) for name in names}
    large = {name: draw.integers(2**31 - 50, 2**31, 4000).astype(np.int32) for name in names}
    for scores in (small, large):
        fates = judge_quality(scores, settings)
        for place in range(0, 4000, 7):
            own = {name: int(values[place]) for name, values in scores.items()}
            failed = [
                index
                for index, rule in enumerate(RULES, 1)
                if exact(rule, own, getattr(getattr(settings, rule.preset), rule.threshold))
            ]
            assert fates[place] == (failed[0] if failed else KEPT)


@pytest.mark.parametrize(("repeated", "fate"), [(3, "kept"), (4, "gopher_repetition:repeated_lines")])
def test_what_reaches_a_threshold_passes(repeated, fate):
    scores = {field.name: np.array([10], np.int32) for field in score_schema(["gopher_repetition"])}
    scores |= {name: np.array([0], np.int32) for name in scores if "_gram_" in name or "repeated_" in name}
    scores["gopher_repetition.num_repeated_lines"] = np.array([repeated], np.int32)
    settings = QualitySettings.model_validate("gopher_repetition")
    assert QUALITY_REASONS[judge_quality(scores, settings)[0]] == fate


def test_presets_judge_in_their_order():
    text = "# # {"
    assert judge([text], ["fineweb", "c4", "gopher_quality", "gopher_repetition"]) == ["gopher_repetition:top_2_gram"]
    assert judge([text], ["fineweb", "c4", "gopher_quality"]) == ["gopher_quality:too_few_words"]
    assert judge([text], ["fineweb", "c4"]) == ["c4:too_few_sentences"]
    assert judge([text], ["fineweb"]) == ["fineweb:too_few_terminated_lines"]
    assert judge([text], []) == []


def test_rules_name_scores_and_thresholds_that_there_are():
    for rule in RULES:
        kind = type(getattr(QualitySettings.model_validate(rule.preset), rule.preset))
        assert rule.threshold in kind.model_fields
        assert rule.threshold not in kind.SCORED
        assert {rule.amount, rule.divided_by or rule.amount} <= set(SCORES[rule.preset])
    for preset in PRESETS:
        kind = type(getattr(QualitySettings.model_validate(preset), preset))
        judged = {rule.threshold for rule in RULES if rule.preset == preset}
        assert judged | kind.SCORED == set(kind.model_fields)
    assert len(set(QUALITY_REASONS)) == len(QUALITY_REASONS)


def german(stop_words: str) -> str:
    return f"{stop_words} " + " ".join(f"{word}{word}{word}" for word in different(60))  # 15 characters each


def test_a_named_language_has_its_own_stop_words_and_thresholds():
    texts = [german("der und"), german("der the"), german("the of")]
    dropped = "gopher_quality:too_few_stop_words"
    assert judge(texts, "gopher_quality", ["de", "de-AT", "de"]) == ["kept", dropped, dropped]
    assert judge(texts, "gopher_quality", ["en"] * 3) == ["gopher_quality:words_too_long"] * 3
    assert judge(texts, "gopher_quality") == ["gopher_quality:words_too_long"] * 3
    own = {"gopher_quality": {"max_mean_word_chars": 12}}  # what is set holds for all
    assert judge(texts[:1], own, ["de"]) == ["gopher_quality:words_too_long"]
    assert judge(texts[:1], ["gopher_quality", {"by_language": False}], ["de"]) == ["gopher_quality:words_too_long"]


def test_other_languages_are_asked_for_no_stop_words():
    assert judge([prose(60).replace("the of ", "")], "gopher_quality", ["fi"]) == ["kept"]


def test_words_are_not_counted_where_they_are_not_written_apart():
    text = "\n".join("".join(chr(0x4E00 + 40 * line + place) for place in range(40)) + "。" for line in range(12))
    assert judge([text], list(PRESETS), ["zh-Hant"]) == ["kept"]
    assert judge([text + "\n" + text], "gopher_repetition", ["zh"]) == ["gopher_repetition:repeated_lines"]
    assert judge([text], "gopher_quality", ["en"]) == ["gopher_quality:too_few_words"]


def test_codes_of_languages():
    codes = ["en", "de", "pt-BR", "und", "zxx", "", "fi", "zh", "TH", "sv"]
    own = {"de": "de", "pt-BR": "pt", "sv": "sv"}
    expected = [list(NAMED).index(own.get(code, "en")) for code in codes]
    expected[6:9] = [len(NAMED), len(NAMED) + 1, len(NAMED) + 1]
    assert language_indexes(codes, 10).tolist() == expected
    assert language_indexes(pa.array(codes).dictionary_encode(), 10).tolist() == expected
    assert language_indexes(pa.array(["de", None]), 2).tolist() == [1, 0]
    assert language_indexes(None, 2).tolist() == [0, 0]
    assert language_indexes([], 0).tolist() == []
    assert not LANGUAGES[len(NAMED) + 1].has_words


def test_thresholds_of_languages_are_fields():
    for language in LANGUAGES:
        for preset, field in language.thresholds:
            kind = type(getattr(QualitySettings.model_validate(preset), preset))
            assert field in kind.model_fields
            assert field not in kind.SCORED
        assert len(set(language.stop_words)) == len(language.stop_words)
