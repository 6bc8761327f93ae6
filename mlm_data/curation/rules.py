"""The quality rules: which share or count drops a document, in which order, and under what name.

One row a rule. A document is judged by every preset that is on, in the order of RULES, and the first rule that it fails
is its reason. A rule compares an amount (one score, or one score divided by another) with a threshold; reaching it is
allowed, going beyond isn't. Nothing is rounded: `a / b > t` is compared as `a * 1,000,000 > t * b`, t in millionths, in
64-bit integers. Where there is nothing to divide by (no words, no lines) a share is 0, and the rule about too few words
or an empty text speaks.

    score 31, of 100, threshold 0.3, at most:   31 * 1,000,000 > 300,000 * 100   ->  dropped
    score 30                                    30 * 1,000,000 = 300,000 * 100   ->  kept
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64, UInt8

from mlm_data.curation.quality_languages import LANGUAGES, language_indexes, thresholds_of
from mlm_data.quality_settings import MILLION, QualitySettings

KEPT = 0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A reason to drop a document: amount `at_most` or `at_least` a threshold."""

    reason: str  # after the preset's name: `gopher_quality:too_few_words`
    preset: str
    amount: str  # a score of the preset
    divided_by: str | None  # another one; None: the amount is a count
    bound: Literal["at_most", "at_least", "none"]  # `none`: any at all drops, if the threshold is true
    threshold: str  # the field of the preset's settings
    counts_words: bool = False  # so that it doesn't hold where words aren't written apart

    @property
    def name(self) -> str:
        """The name by which documents are counted: `preset:reason`."""
        return f"{self.preset}:{self.reason}"

    @property
    def formula(self) -> str:
        """What drops a document, for people.

        >>> RULES[0].formula
        'num_repeated_paragraphs / num_paragraphs > max_repeated_paragraphs'
        """
        amount = self.amount if self.divided_by is None else f"{self.amount} / {self.divided_by}"
        if self.bound == "none":
            return f"{self.threshold} and {amount} > 0"
        return f"{amount} {'>' if self.bound == 'at_most' else '<'} {self.threshold}"


def _rule(
    preset: str,
    reason: str,
    amount: str,
    divided_by: str | None,
    bound: Literal["at_most", "at_least", "none"],
    threshold: str,
    *,
    counts_words: bool = False,
) -> Rule:
    return Rule(
        reason=reason, preset=preset, amount=amount, divided_by=divided_by, bound=bound, threshold=threshold,
        counts_words=counts_words,
    )  # fmt: skip


_R, _Q, _C, _F = "gopher_repetition", "gopher_quality", "c4", "fineweb"
_PARTS = (("paragraph", "paragraphs"), ("line", "lines"))

RULES: tuple[Rule, ...] = (
    *(
        rule
        for part, parts in _PARTS
        for rule in (
            _rule(_R, f"repeated_{parts}", f"num_repeated_{parts}", f"num_{parts}", "at_most", f"max_repeated_{parts}"),
            _rule(
                _R, f"repeated_{part}_chars", f"repeated_{part}_characters", "num_characters", "at_most",
                f"max_repeated_{part}_chars",
            ),
        )
    ),
    *(
        _rule(_R, f"top_{n}_gram", f"top_{n}_gram_characters", "num_characters", "at_most", f"max_top_{n}_gram",
              counts_words=True)
        for n in (2, 3, 4)
    ),
    *(
        _rule(_R, f"repeated_{n}_grams", f"repeated_{n}_gram_characters", "num_characters", "at_most",
              f"max_repeated_{n}_grams", counts_words=True)
        for n in (5, 6, 7, 8, 9, 10)
    ),
    _rule(_Q, "too_few_words", "num_text_words", None, "at_least", "min_words", counts_words=True),
    _rule(_Q, "too_many_words", "num_text_words", None, "at_most", "max_words", counts_words=True),
    _rule(_Q, "words_too_short", "text_word_characters", "num_text_words", "at_least", "min_mean_word_chars",
          counts_words=True),
    _rule(_Q, "words_too_long", "text_word_characters", "num_text_words", "at_most", "max_mean_word_chars",
          counts_words=True),
    _rule(_Q, "too_many_hashes", "num_hashes", "num_words", "at_most", "max_hashes_per_word", counts_words=True),
    _rule(_Q, "too_many_ellipses", "num_ellipses", "num_words", "at_most", "max_ellipses_per_word", counts_words=True),
    _rule(_Q, "bullet_lines", "num_bullet_lines", "num_lines", "at_most", "max_bullet_lines"),
    _rule(_Q, "ellipsis_lines", "num_ellipsis_lines", "num_lines", "at_most", "max_ellipsis_lines"),
    _rule(_Q, "too_few_alphabetic_words", "num_alphabetic_words", "num_words", "at_least", "min_alphabetic_words",
          counts_words=True),
    _rule(_Q, "too_few_stop_words", "num_stop_words", None, "at_least", "min_stop_words", counts_words=True),
    _rule(_C, "lorem_ipsum", "num_lorem_ipsum_lines", None, "none", "lorem_ipsum"),
    _rule(_C, "curly_bracket", "num_curly_bracket_lines", None, "none", "curly_bracket"),
    _rule(_C, "too_few_sentences", "num_sentences", None, "at_least", "min_sentences", counts_words=True),
    _rule(_F, "too_few_terminated_lines", "num_terminated_lines", "num_lines", "at_least", "min_terminated_lines"),
    _rule(_F, "short_lines", "num_short_lines", "num_lines", "at_most", "max_short_lines"),
    _rule(_F, "repeated_line_chars", "repeated_line_characters", "num_line_characters", "at_most",
          "max_repeated_line_chars"),
    _rule(_F, "too_many_line_feeds", "num_line_feeds", "num_words", "at_most", "max_line_feeds_per_word",
          counts_words=True),
)  # fmt: skip

# The names by which documents are counted; `judge_quality` answers with an index in it.
QUALITY_REASONS: tuple[str, ...] = ("kept", *(rule.name for rule in RULES))
assert len(QUALITY_REASONS) <= 256, "an index is one byte"


def judge_quality(
    scores: Mapping[str, np.ndarray],
    settings: QualitySettings,
    languages: Sequence[str] | pa.Array | None = None,
) -> UInt8[np.ndarray, " documents"]:
    """The index in QUALITY_REASONS of the first rule that each document fails; 0 keeps it.

    Args:
        scores: those that `quality.quality_scores` gave for these presets, by name; more do no harm.
        settings: the presets that are on, and their thresholds.
        languages: the documents' BCP 47 codes, as they were when they were scored; None: not known.

    >>> scores = {f"gopher_quality.{name}": np.array([60, 60], np.int32) for name in (
    ...     "num_words", "num_text_words", "num_lines", "num_alphabetic_words", "num_stop_words")}
    >>> scores |= {f"gopher_quality.{name}": np.zeros(2, np.int32) for name in (
    ...     "num_ellipses", "num_bullet_lines", "num_ellipsis_lines")}
    >>> scores |= {"gopher_quality.text_word_characters": np.array([300, 300], np.int32)}
    >>> scores |= {"gopher_quality.num_hashes": np.array([6, 7], np.int32)}
    >>> judged = judge_quality(scores, QualitySettings.model_validate("gopher_quality"))
    >>> [QUALITY_REASONS[index] for index in judged]
    ['kept', 'gopher_quality:too_many_hashes']
    """
    rules = [(index, rule) for index, rule in enumerate(RULES, 1) if rule.preset in settings.presets]
    if not rules:
        return np.zeros(len(next(iter(scores.values()))) if scores else 0, np.uint8)
    num = len(scores[_score(rules[0][1], rules[0][1].amount)])
    out = np.zeros(num, np.uint8)
    codes = language_indexes(languages, num)
    for code in np.unique(codes):
        documents = slice(None) if (codes == code).all() else np.flatnonzero(codes == code)
        own = {name: values[documents] for name, values in scores.items()}
        fate = np.zeros(len(out[documents]), np.uint8)
        for index, rule in rules:
            threshold = _threshold(rule, settings, int(code))
            if threshold is not None:
                fate[(fate == KEPT) & _fails(rule, own, threshold)] = index
        out[documents] = fate
    return out


class Measured(NamedTuple):
    """What a rule looked at in each document, and what it said."""

    rule: Rule
    values: Float64[np.ndarray, " documents"]  # the amount, or the share; 0 where there is nothing to divide by
    thresholds: Float64[np.ndarray, " documents"]  # of the document's language; NaN where the rule doesn't hold
    fails: Bool[np.ndarray, " documents"]


def measure_quality(
    scores: Mapping[str, np.ndarray], settings: QualitySettings, languages: Sequence[str] | pa.Array | None = None
) -> list[Measured]:
    """What `judge_quality` looks at, rule by rule, for people: all rules of the presets that are on, in order."""
    found = []
    for rule in RULES:
        if rule.preset not in settings.presets:
            continue
        amount = scores[_score(rule, rule.amount)].astype(np.float64)
        if rule.divided_by is not None:
            whole = scores[_score(rule, rule.divided_by)]
            amount = np.where(whole > 0, amount / np.maximum(whole, 1), 0.0)
        thresholds, fails = np.full(len(amount), np.nan), np.zeros(len(amount), np.bool_)
        codes = language_indexes(languages, len(amount))
        for code in np.unique(codes):
            mine = np.flatnonzero(codes == code)
            threshold = _threshold(rule, settings, int(code))
            if threshold is not None:
                thresholds[mine] = 0 if rule.bound == "none" else float(threshold)
                fails[mine] = _fails(rule, {name: values[mine] for name, values in scores.items()}, threshold)
        found.append(Measured(rule, amount, thresholds, fails))
    return found


def _threshold(rule: Rule, settings: QualitySettings, language: int) -> float | None:
    """A rule's threshold for documents of one language; None: it doesn't hold for them."""
    if rule.counts_words and not LANGUAGES[language].has_words:
        return None
    if rule.threshold == "min_stop_words" and not LANGUAGES[language].stop_words:
        return None
    preset = getattr(settings, rule.preset)
    threshold = thresholds_of(preset, rule.preset, language, by_language=settings.by_language)[rule.threshold]
    return None if threshold is False else threshold


def _fails(rule: Rule, scores: Mapping[str, np.ndarray], threshold: float) -> Bool[np.ndarray, " documents"]:
    """Which documents fail a rule."""
    amount = scores[_score(rule, rule.amount)].astype(np.int64)
    if rule.bound == "none":
        return amount > 0
    if rule.divided_by is None:
        return amount > threshold if rule.bound == "at_most" else amount < threshold
    whole = scores[_score(rule, rule.divided_by)].astype(np.int64)
    limit = round(threshold * MILLION)
    return amount * MILLION > limit * whole if rule.bound == "at_most" else amount * MILLION < limit * whole


def _score(rule: Rule, name: str) -> str:
    return f"{rule.preset}.{name}"
