"""The funnel step by step: what each step of curation was given and let through, and which ones call for a look.

A step is what the configuration calls by one name; it has one or several reasons. They are in the order in which they
judge a document, and the first that drops it is the one that counts:

    step                  in     dropped   out
    length             1,000          20   980      empty, too_short, no_tokens
    clean.languages      980         300   680      other_language, unsure_language
    gopher_quality       680          80   600      gopher_quality:too_few_words, ...
    deduplicate.exact    600         100   500      exact_duplicate
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlm_data.curation.thresholds import CONTAMINATED, EXACT_DUPLICATE, FORGOTTEN, NEAR_DUPLICATE, THINNED
from mlm_data.dataset.funnel import Counts, Funnel
from mlm_data.quality_settings import PRESETS

KEPT = "kept"
EATEN = 0.5  # of an input's documents: a step that drops more has probably not been meant for it
FEWEST = 10  # documents of an input below which a share says nothing

_STEP_OF = {
    "empty": "length",
    "too_short": "length",
    "no_tokens": "length",
    "lines_removed": "clean.lines",
    "shredded": "decontaminate.cut",
    "blocked_domain": "clean.domains",
    "other_language": "clean.languages",
    "unsure_language": "clean.languages",
    "classifier": "clean.classifier",
    CONTAMINATED: "decontaminate",
    EXACT_DUPLICATE: "deduplicate.exact",
    NEAR_DUPLICATE: "deduplicate.near",
    THINNED: "weight",
}
_BEFORE = (
    "length",
    "clean.lines",
    "decontaminate.cut",
    "clean.domains",
    "clean.languages",
    *PRESETS,
    "clean.classifier",
)
_AFTER = ("deduplicate.exact", "deduplicate.near", "decontaminate", "weight")


@dataclass(frozen=True, kw_only=True)
class Step:
    """Documents, characters and tokens that a step was given, and those that it dropped."""

    name: str
    given: Counts
    dropped: Counts

    @property
    def left(self) -> Counts:
        """What went on to the next step."""
        return _minus(self.given, self.dropped)


def step_of(reason: str) -> str:
    """The step that a reason belongs to.

    >>> [step_of(reason) for reason in ("too_short", "c4:curly_bracket", "custom:my.filters:is_recipe")]
    ['length', 'c4', 'custom:my.filters:is_recipe']
    """
    preset = reason.partition(":")[0]
    return preset if preset in PRESETS else _STEP_OF.get(reason, reason)


def steps(funnel: Funnel) -> list[Step]:
    """Each step that dropped anything, in order; the last one lets through what was kept.

    Filters of the user's are sorted by name: a funnel doesn't know in which order they were asked.

    >>> found = steps(Funnel(fates={("a", "", "kept"): (8, 80, 16), ("a", "", "too_short"): (2, 4, 1)}))
    >>> [(step.name, step.given, step.left) for step in found]
    [('length', (10, 84, 17), (8, 80, 16))]
    """
    sums: dict[str, Counts] = {}
    for (reason,), counts in funnel.by("reason").items():
        if reason != KEPT:
            name = step_of(reason)
            sums[name] = _plus(sums.get(name, (0, 0, 0)), counts)
    others = sorted(set(sums) - set(_BEFORE) - set(_AFTER))
    left: Counts = (0, 0, 0)
    for counts in funnel.fates.values():
        left = _plus(left, counts)
    found = []
    for name in (*_BEFORE, *others, *_AFTER):
        if name in sums:
            found.append(Step(name=name, given=left, dropped=sums[name]))
            left = found[-1].left
    return found


def eaten(funnel: Funnel, *, would: bool = False) -> list[str]:
    """A warning for each step that dropped more than half of the documents of an input.

    Args:
        funnel: of a build, or of a sample.
        would: it is a forecast.
    """
    totals = {name: counts[0] for (name,), counts in funnel.by("input").items()}
    dropped: Counter[tuple[str, str]] = Counter()
    largest: dict[tuple[str, str], tuple[int, str]] = {}
    for (name, reason), counts in sorted(funnel.by("input", "reason").items()):
        if reason in (KEPT, THINNED, FORGOTTEN):  # these were asked for, by a number or a list
            continue
        key = (name, step_of(reason))
        dropped[key] += counts[0]
        largest[key] = max(largest.get(key, (0, "")), (counts[0], reason))
    found = []
    for (name, step), count in sorted(dropped.items()):
        if totals[name] < FEWEST or count <= EATEN * totals[name]:
            continue
        number, reason = largest[name, step]
        most = f", {number:,} of them as {reason}" if reason != step else ""
        verb = "would drop" if would else "dropped"
        found.append(
            f"{step} {verb} {count:,} of the {totals[name]:,} documents of {name} ({count / totals[name]:.0%}){most}: "
            f"{_REMEDY.get(step, _PRESET if step in PRESETS else 'is it meant for this input?')}"
        )
    return found


_PRESET = "presets are made for web pages: leave it out for this input, or set its threshold to null"
_REMEDY = {
    "length": "set clean.min_chars lower where each line is a document",
    "clean.languages": "is its language among those to keep, and min_score not too high?",
    "deduplicate.exact": "is it the same as another input?",
    "deduplicate.near": "is it the same as another input? Raise deduplicate.near.verify to drop less",
    "decontaminate": "does it hold the evaluation itself?",
    "decontaminate.cut": "does it hold the evaluation itself?",
}


def idle(funnel: Funnel, config: Mapping[str, Any]) -> list[str]:
    """A warning for each step that was asked for, and changed and dropped nothing in a whole build.

    Args:
        funnel: of the build.
        config: of its manifest.
    """
    if not funnel.fates:
        return []
    clean, deduplicate = config.get("clean", {}), config.get("deduplicate", {})
    dropping = {step_of(reason) for _, _, reason in funnel.fates if reason != KEPT}
    found = []

    def look(name: str, what: str, acted: bool) -> None:
        if not acted:
            found.append(f"{name} is on and has {what}")

    def changed(text: str) -> bool:
        return any(text in name and count for name, count in funnel.changes.items())

    if clean.get("fix_encoding"):
        look("clean.fix_encoding", "mended no line", changed("mojibake"))
    for kind in clean.get("privacy", ()):
        look(f"clean.privacy: {kind}", "replaced nothing", changed(f"{kind} replaced"))
    for edit in clean.get("lines", ()):
        look(f"clean.lines: {edit}", "cut no line", changed(f"lines of {edit}"))
    if deduplicate.get("lines"):
        look("deduplicate.lines", "cut no line", changed("copies"))
    against = config.get("decontaminate") or {}
    if against.get("action") == "cut":
        look("decontaminate", "cut nothing", changed("evaluations"))
    drops = {
        "clean.domains": clean.get("domains"),
        "clean.languages": (clean.get("languages") or {}).get("keep", "all") != "all",
        "clean.classifier": clean.get("classifier"),
        "deduplicate.near": deduplicate.get("near"),
        "decontaminate": against if against.get("action") != "cut" else None,
    }
    presets = {name for item in config.get("inputs", ()) for name in PRESETS if (item.get("quality") or {}).get(name)}
    drops |= {name: name in presets for name in PRESETS}
    for name, is_on in drops.items():
        if is_on:
            look(name, "dropped no document", name in dropping)
    return found


def _plus(one: Counts, other: Counts) -> Counts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _minus(one: Counts, other: Counts) -> Counts:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]
