"""What a tokenizer can't say: the share of [UNK] among the tokens, by writing system and by source.

A document counts for the script of most of its first letters. Of the sources only the worst are kept: there may be
millions of files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Integer

WARN_FROM = 0.02  # of a whole, or of a script of which there is enough
ENOUGH_TOKENS = 500  # of a script: below that a share says little
MOST_SOURCES = 20
SHOWN = 3

Counts = Mapping[str, tuple[int, int]]  # name -> (tokens, unknown ones)


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Tokens and unknown tokens. `+` adds those of other documents."""

    by_script: Counts = field(default_factory=dict)
    by_source: Counts = field(default_factory=dict)  # the sources with most unknown tokens

    @property
    def tokens(self) -> int:
        return sum(tokens for tokens, _ in self.by_script.values())

    @property
    def unknown(self) -> int:
        return sum(unknown for _, unknown in self.by_script.values())

    @property
    def share(self) -> float:
        return self.unknown / self.tokens if self.tokens else 0.0

    def __add__(self, other: "Unknown") -> "Unknown":
        return Unknown(
            by_script=dict(sorted(_merged(self.by_script, other.by_script).items())),
            by_source=_worst(_merged(self.by_source, other.by_source)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        return {
            name: {key: {"tokens": tokens, "unknown": unknown} for key, (tokens, unknown) in counts.items()}
            for name, counts in (("by_script", self.by_script), ("by_source", self.by_source))
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Unknown":
        return cls(
            **{
                name: {key: (item["tokens"], item["unknown"]) for key, item in value[name].items()}
                for name in ("by_script", "by_source")
            }
        )

    def warning(self) -> str | None:
        """One line if the whole, or a script, has a share of [UNK] that one should know of."""
        notable = {
            name: (tokens, unknown)
            for name, (tokens, unknown) in self.by_script.items()
            if tokens >= ENOUGH_TOKENS and unknown >= WARN_FROM * tokens
        }
        if self.share < WARN_FROM and not notable:
            return None
        return f"{self.share:.1%} of the tokens are [UNK]{self._where()}: the tokenizer can't spell that text"

    def failure(self, limit: float) -> str | None:
        """One line if the share of [UNK] is above a limit."""
        if self.share <= limit:
            return None
        return (
            f"{self.share:.1%} of the tokens are [UNK], more than tokenizer.max_unknown = {limit:g} allows"
            f"{self._where()}: take a tokenizer that can spell this text (train one: kind: characters, bpe), "
            "or raise tokenizer.max_unknown"
        )

    def _where(self) -> str:
        scripts = sorted(self.by_script.items(), key=lambda item: (-item[1][1], item[0]))[:SHOWN]
        named = [f"{name} {unknown / tokens:.1%}" for name, (tokens, unknown) in scripts if unknown]
        sources = [source for source, (_, unknown) in self.by_source.items() if unknown][:SHOWN]
        return f" ({', '.join(named)}; most of them in {', '.join(sources)})" if sources else f" ({', '.join(named)})"


def count_unknown(
    num_tokens: Integer[np.ndarray, " documents"],
    num_unknown: Integer[np.ndarray, " documents"],
    scripts: Integer[np.ndarray, " documents"],
    sources: Integer[np.ndarray, " documents"],
    *,
    script_names: Sequence[str],
    source_names: Sequence[str],
) -> Unknown:
    """Add up the documents' tokens and unknown tokens; `scripts` and `sources` are indices of their names."""

    def by(groups: np.ndarray, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        tokens = np.bincount(groups, num_tokens, len(names)).astype(np.int64).tolist()
        unknown = np.bincount(groups, num_unknown, len(names)).astype(np.int64).tolist()
        return {name: (seen, lost) for name, seen, lost in zip(names, tokens, unknown, strict=True) if seen}

    return Unknown(
        by_script={name: (tokens, unknown) for name, (tokens, unknown) in sorted(by(scripts, script_names).items())},
        by_source=_worst({name: (tokens, unknown) for name, (tokens, unknown) in by(sources, source_names).items()}),
    )


def _merged(left: Counts, right: Counts) -> dict[str, tuple[int, int]]:
    none = (0, 0)
    pairs = {name: (left.get(name, none), right.get(name, none)) for name in {**left, **right}}
    return {name: (one[0] + other[0], one[1] + other[1]) for name, (one, other) in pairs.items()}


def _worst(sources: Counts) -> dict[str, tuple[int, int]]:
    ordered = sorted(sources.items(), key=lambda item: (-item[1][1], item[0]))
    return {name: counts for name, counts in ordered[:MOST_SOURCES] if counts[1]}
