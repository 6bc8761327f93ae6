"""What each threshold looks at in each document: values, thresholds and verdicts, for people who want to set them.

`thresholds.judge` decides with integers; here the same scores are shares, and the verdicts are those of the judge's own
rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from mlm_data.build.context import Context
from mlm_data.build.curate import languages_of
from mlm_data.build.forecast import Judged
from mlm_data.build.select import scores_of
from mlm_data.curation.rules import measure_quality
from mlm_data.curation.thresholds import (
    SCORE_UNIT,
    Columns,
    fails_after_quality,
    fails_before_quality,
    language_names,
)
from mlm_data.dataset.steps import step_of


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One score of some documents of one input, and where the threshold cuts it."""

    reason: str  # by which documents are counted that it drops; "" where it drops none
    what: str  # what the values are
    setting: str  # of the threshold
    bound: str  # at_most, at_least, none (any at all drops), or "" without a threshold
    is_share: bool  # values are shares, from 0 to 1; those of overlapping runs of words can be above
    values: Float64[np.ndarray, " documents"]
    thresholds: Float64[np.ndarray, " documents"]  # NaN where there is none
    fails: Bool[np.ndarray, " documents"]

    @property
    def step(self) -> str:
        """The step of curation that it belongs to."""
        return step_of(self.reason) if self.reason else self.setting


def measure(judged: Judged, context: Context) -> list[Measure]:
    """Every score of a batch, in the order in which it is judged."""
    columns, config, languages = scores_of(judged.table, context), context.config, languages_of(context.config)
    num, clean = judged.table.num_rows, config.clean
    before = dict(fails_before_quality(columns, config, languages))
    after = dict(fails_after_quality(columns, config))
    none = np.zeros(num, np.bool_)

    def one(
        reason: str,
        what: str,
        setting: str,
        bound: str,
        values: np.ndarray,
        threshold: float | None,
        fails: np.ndarray | None,
        *,
        is_share: bool = True,
    ) -> Measure:
        return Measure(
            reason=reason if fails is not None else "",
            what=what,
            setting=setting,
            bound=bound if fails is not None else "",
            is_share=is_share,
            values=values.astype(np.float64),
            thresholds=np.full(num, np.nan if threshold is None or fails is None else threshold, np.float64),
            fails=none if fails is None else np.asarray(fails),
        )

    found = [
        one("too_short", "characters", "clean.min_chars", "at_least", columns["num_chars"], clean.min_chars,
            before["empty"] | before["too_short"], is_share=False)
    ]  # fmt: skip
    if clean.lines:
        share = columns["words_removed"] / np.maximum(columns["num_words"], 1)
        limit, fails = clean.max_words_removed, before.get("lines_removed")
        name = "words that clean.lines takes / words"
        found.append(one("lines_removed", name, "clean.max_words_removed", "at_most", share, limit, fails))
    if config.decontaminate is not None and config.cuts_evaluations:
        name, limit, fails = "decontaminate.max_cuts", config.decontaminate.max_cuts, before["shredded"]
        cuts = columns["evaluation_cuts"]
        found.append(one("shredded", "cuts of evaluations", name, "at_most", cuts, limit, fails, is_share=False))
    if clean.domains is not None:
        blocked = columns["is_blocked"]
        found.append(one("blocked_domain", "blocked hosts", "clean.domains", "none", blocked, 0, blocked))
    if clean.languages is not None:
        scores = columns["language_score"] / SCORE_UNIT
        name, limit, fails = "clean.languages.min_score", clean.languages.min_score, before.get("unsure_language")
        if "other_language" in before:
            others = before["other_language"]
            found.append(one("other_language", "in other languages", "clean.languages.keep", "none", others, 0, others))
        found.append(one("unsure_language", "score of the language", name, "at_least", scores, limit, fails))
    found += _quality(judged, context, columns, languages)
    if clean.classifier is not None:
        scores, limit = columns["classifier"] / SCORE_UNIT, clean.classifier.min
        name = f"probability of {clean.classifier.label}"
        found.append(one("classifier", name, "clean.classifier.min", "at_least", scores, limit, after["classifier"]))
    for number, name in enumerate(clean.custom):
        values, reason, fails = columns[f"custom.{number}"], f"custom:{name}", after[f"custom:{name}"]
        is_on = bool(fails.any())  # a filter that answers with numbers drops none
        found.append(one(reason, reason, reason, "at_least", values, 1, fails if is_on else None, is_share=False))
    return found


def _quality(judged: Judged, context: Context, columns: Columns, languages: Sequence[str]) -> list[Measure]:
    settings = context.config.inputs[judged.input].quality
    if not settings.presets:
        return []
    scores = {name: values for name, values in columns.items() if name.split(".")[0] in settings.presets}
    return [
        Measure(
            reason=rule.name,
            what=rule.amount if rule.divided_by is None else f"{rule.amount} / {rule.divided_by}",
            setting=f"{rule.preset}.{rule.threshold}",
            bound=rule.bound,
            is_share=rule.divided_by is not None and not rule.threshold.endswith(("_per_word", "_mean_word_chars")),
            values=values,
            thresholds=thresholds,
            fails=fails,
        )
        for rule, values, thresholds, fails in measure_quality(
            scores, settings, language_names(columns, context.config, languages)
        )
    ]  # fmt: skip
