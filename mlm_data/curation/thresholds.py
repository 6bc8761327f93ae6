"""Thresholds over stored scores: which documents pass, and the reason for each that doesn't.

Scores are stored with the prepared documents, so changing a threshold reads and tokenizes nothing again. The first
reason in the order of `reasons` is the one that counts:

    empty, too_short, no_tokens       what is left of the text
    lines_removed                     `clean.lines` took too much of it
    shredded                          evaluations were cut out of it at too many places
    blocked_domain                    its host
    other_language, unsure_language   its language
    gopher_repetition:..., ...        the rules of the input's quality presets, see `rules`
    classifier                        a model of the user's
    custom:module:function            filters of the user's, in their order
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, UInt16

from mlm_data.config import BuildConfig
from mlm_data.curation.language_codes import parse_languages
from mlm_data.curation.rules import QUALITY_REASONS, judge_quality

KEPT = 0
BEFORE_QUALITY = (
    "kept",
    "empty",
    "too_short",
    "no_tokens",
    "lines_removed",
    "shredded",
    "blocked_domain",
    "other_language",
    "unsure_language",
)
SCORE_UNIT = 10_000  # scores of languages and classifiers are counts of ten-thousandths
# Given later, by what looks at all documents.
EXACT_DUPLICATE, NEAR_DUPLICATE, CONTAMINATED, THINNED = "exact_duplicate", "near_duplicate", "contaminated", "thinned"
FORGOTTEN = "forgotten"  # by `premask forget`: builds into the same folder drop it, too

Columns = Mapping[str, np.ndarray]


def reasons(config: BuildConfig) -> tuple[str, ...]:
    """The reasons of `judge`, in the order of its numbers."""
    custom = tuple(f"custom:{name}" for name in config.clean.custom)
    return (*BEFORE_QUALITY, *QUALITY_REASONS[1:], "classifier", *custom)


def judge(
    columns: Columns,
    config: BuildConfig,
    inputs: Int32[np.ndarray, " documents"],
    *,
    languages: Sequence[str] = (),
) -> UInt16[np.ndarray, " documents"]:
    """The index in `reasons` of each document's fate; 0 keeps it.

    Args:
        columns: the scores of a prepared unit, by name.
        config: the build.
        inputs: which of its inputs each document is of.
        languages: the codes that the column `language` counts in.
    """
    names = reasons(config)
    fates = np.full(len(inputs), KEPT, np.uint16)

    def drop(failures: Iterator[tuple[str, Bool[np.ndarray, " documents"]]]) -> None:
        for reason, fails in failures:
            fates[(fates == KEPT) & fails] = names.index(reason)

    drop(fails_before_quality(columns, config, languages))
    _judge_quality(columns, config, inputs, language_names(columns, config, languages), fates)
    drop(fails_after_quality(columns, config))
    return fates


def language_names(columns: Columns, config: BuildConfig, languages: Sequence[str]) -> np.ndarray | None:
    """The code of each document; None where no language was looked for."""
    if config.clean.languages is None:
        return None
    return np.array(languages, dtype=object)[columns["language"]]


def fails_before_quality(
    columns: Columns, config: BuildConfig, languages: Sequence[str]
) -> Iterator[tuple[str, Bool[np.ndarray, " documents"]]]:
    """(reason, which documents there are to drop for it), of all that judges before the quality presets, in order."""
    clean = config.clean
    num_chars = columns["num_chars"]
    yield "empty", num_chars == 0
    yield "too_short", num_chars < clean.min_chars
    if "num_tokens" in columns:
        yield "no_tokens", columns["num_tokens"] == 0
    if clean.max_words_removed < 1:
        most = round(clean.max_words_removed * 1_000_000) * columns["num_words"].astype(np.int64)
        yield "lines_removed", columns["words_removed"].astype(np.int64) * 1_000_000 > most
    if config.decontaminate is not None and config.cuts_evaluations:
        yield "shredded", columns["evaluation_cuts"] > config.decontaminate.max_cuts
    if clean.domains is not None:
        yield "blocked_domain", columns["is_blocked"]
    if clean.languages is not None and clean.languages.keep != "all":
        wanted = np.isin(languages, parse_languages(clean.languages.keep, languages))[columns["language"]]
        yield "other_language", ~wanted
        yield "unsure_language", columns["language_score"] < round(clean.languages.min_score * SCORE_UNIT)


def fails_after_quality(columns: Columns, config: BuildConfig) -> Iterator[tuple[str, Bool[np.ndarray, " documents"]]]:
    """The same of all that judges after them."""
    clean = config.clean
    if clean.classifier is not None:
        yield "classifier", columns["classifier"] < round(clean.classifier.min * SCORE_UNIT)
    for number, name in enumerate(clean.custom):
        yield f"custom:{name}", ~columns[f"custom.{number}.keep"]


def _judge_quality(
    columns: Columns, config: BuildConfig, inputs: np.ndarray, codes: Any, fates: UInt16[np.ndarray, " documents"]
) -> None:
    for number, settings in enumerate(config.inputs):
        if not settings.quality.presets:
            continue
        mine = np.flatnonzero((inputs == number) & (fates == KEPT))
        if not len(mine):
            continue
        scores = {
            name: values[mine] for name, values in columns.items() if name.split(".")[0] in settings.quality.presets
        }
        found = judge_quality(scores, settings.quality, None if codes is None else codes[mine].tolist()).astype(
            np.uint16
        )
        fates[mine] = np.where(found > 0, found + np.uint16(len(BEFORE_QUALITY) - 1), KEPT)
