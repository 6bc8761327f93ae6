"""Steps of the funnel, and warnings of those that eat an input or do nothing."""

from mlm_data.config import BuildConfig, semantic
from mlm_data.curation.rules import QUALITY_REASONS
from mlm_data.curation.thresholds import BEFORE_QUALITY, CONTAMINATED, EXACT_DUPLICATE, NEAR_DUPLICATE, THINNED
from mlm_data.dataset.funnel import Funnel
from mlm_data.dataset.steps import _AFTER, _BEFORE, eaten, idle, step_of, steps


def funnel(changes=None, **counts):
    """Counts by `input__reason`."""
    fates = {(key.split("__")[0], "", key.split("__")[1]): (n, 10 * n, n) for key, n in counts.items()}
    return Funnel(fates=fates, changes=changes or {})


def config(**changes):
    values = {"inputs": [{"path": "a"}], "output": "o", "tokenizer": {"train": {}}}
    return semantic(BuildConfig.model_validate(values | changes))


def test_each_reason_belongs_to_a_step_that_has_a_place():
    for reason in (*BEFORE_QUALITY, *QUALITY_REASONS, "classifier", CONTAMINATED, EXACT_DUPLICATE, NEAR_DUPLICATE):
        assert reason == "kept" or step_of(reason) in (*_BEFORE, *_AFTER), reason
    assert step_of(THINNED) == "weight"


def test_what_a_step_lets_through_is_given_to_the_next():
    reasons = {"too_short": 1, "other_language": 2, "exact_duplicate": 4, "kept": 8}
    found = steps(Funnel(fates={("a", "", name): (n, n, n) for name, n in reasons.items()}))
    assert [(step.name, step.given[0], step.dropped[0], step.left[0]) for step in found] == [
        ("length", 15, 1, 14),
        ("clean.languages", 14, 2, 12),
        ("deduplicate.exact", 12, 4, 8),
    ]
    assert steps(Funnel()) == []


def test_a_filter_of_the_user_s_stands_between_classifier_and_decontamination():
    reasons = ("kept", "contaminated", "custom:m:f", "classifier")
    found = steps(Funnel(fates={("a", "", name): (1, 1, 1) for name in reasons}))
    assert [step.name for step in found] == ["clean.classifier", "custom:m:f", "decontaminate"]


def test_a_step_that_eats_an_input_is_named_with_its_largest_reason():
    quality = {"gopher_quality:too_few_words": 400, "gopher_quality:bullet_lines": 200, "kept": 400}
    fates = {("law", "", name): (n, n, n) for name, n in quality.items()}
    fates |= {("books", "", "kept"): (900, 1, 1), ("books", "", "too_short"): (100, 1, 1)}
    (line,) = eaten(Funnel(fates=fates))
    assert line.startswith(
        "gopher_quality dropped 600 of the 1,000 documents of law (60%), 400 of them as gopher_quality:too_few_words: "
    )
    assert eaten(Funnel(fates=fates), would=True)[0].startswith("gopher_quality would drop 600")


def test_exactly_half_of_few_documents_and_thinning_are_no_reason_to_warn():
    assert not eaten(funnel(a__kept=10, a__too_short=10))
    assert eaten(funnel(a__kept=9, a__too_short=10))
    assert not eaten(funnel(a__kept=1, a__too_short=8))
    assert not eaten(funnel(a__kept=10, a__thinned=90))


def test_a_step_that_changed_nothing_is_named():
    asked = config(
        inputs=[{"path": "a", "quality": ["c4", "fineweb"]}],
        clean={"fix_encoding": True, "privacy": ["email", "ip"], "lines": ["c4"], "languages": {"keep": ["en"]}},
        deduplicate={"near": True},
    )
    none = idle(funnel(a__kept=5), asked)
    assert [line.split(" is on")[0] for line in none] == [
        "clean.fix_encoding",
        "clean.privacy: email",
        "clean.privacy: ip",
        "clean.lines: c4",
        "clean.languages",
        "deduplicate.near",
        "c4",
        "fineweb",
    ]
    changes = {"mojibake lines mended": 1, "email replaced": 2, "characters cut by the lines of c4": 3}
    some = {("a", "", reason): (1, 1, 1) for reason in ("near_duplicate", "unsure_language", "c4:curly_bracket")}
    assert [line.split(" is on")[0] for line in idle(Funnel(fates=some, changes=changes), asked)] == [
        "clean.privacy: ip",
        "fineweb",
    ]


def test_lines_that_many_documents_share_are_a_change_of_their_own():
    asked = config(deduplicate={"lines": True})
    assert [line.split(" is on")[0] for line in idle(funnel(a__kept=5), asked)] == ["deduplicate.lines"]
    assert not idle(funnel(a__kept=5, changes={"characters cut as copies of lines": 9}), asked)


def test_what_was_not_asked_for_can_t_be_idle():
    assert not idle(funnel(a__kept=5), config())
    assert not idle(funnel(a__kept=5), config(clean={"languages": {}}))
    assert not idle(Funnel(), config(clean={"fix_encoding": True}))
