"""The funnel: what became of the documents, by input, language and reason, and what cleaning has changed in them.

    input   language   reason                             documents   characters   tokens
    wiki    en         kept                                  81,220   ...
    crawl   en         gopher_quality:too_few_words          12,034
    crawl   de         other_language                         4,410

The ledger says that the sums are right; this says where they come from. Characters and tokens are those that were left
when the document was judged. Some dropped documents are kept as examples, chosen by their ids.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

MOST_EXAMPLES = 5  # of a reason and input

Key = tuple[str, str, str]  # input, language ("" where none was looked for), reason
Counts = tuple[int, int, int]  # documents, characters, tokens


@dataclass(frozen=True, kw_only=True)
class Example:
    """A document that was dropped, and what it begins with."""

    input: str
    reason: str
    source: str
    offset: int
    id: str  # hexadecimal
    head: str
    kept: str = ""  # the near duplicate that stayed: see `documents.place_of`
    kept_head: str = ""  # what that one begins with
    near: tuple[int, int] | None = None  # its unit and document, as long as `kept` doesn't name it


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """Fates of documents, added up. `+` adds those of other units."""

    fates: Mapping[Key, Counts] = field(default_factory=dict)
    changes: Mapping[str, int] = field(default_factory=dict)  # by step: lines, addresses or characters
    examples: tuple[Example, ...] = ()

    def __add__(self, other: "Funnel") -> "Funnel":
        fates = dict(self.fates)
        for key, counts in other.fates.items():
            mine = fates.get(key, (0, 0, 0))
            fates[key] = (mine[0] + counts[0], mine[1] + counts[1], mine[2] + counts[2])
        return Funnel(
            fates=dict(sorted(fates.items())),
            changes=dict(sorted((Counter(self.changes) + Counter(other.changes)).items())),
            examples=choose_examples([*self.examples, *other.examples]),
        )

    def by(self, *names: str) -> dict[tuple[str, ...], Counts]:
        """Sums by some of `input`, `language`, `reason`.

        >>> Funnel(fates={("a", "en", "kept"): (2, 20, 5), ("b", "en", "kept"): (1, 10, 2)}).by("reason")
        {('kept',): (3, 30, 7)}
        """
        if unknown := set(names) - {"input", "language", "reason"}:
            raise ValueError(f"no sums by {', '.join(sorted(unknown))}")
        places = [("input", "language", "reason").index(name) for name in names]
        sums: dict[tuple[str, ...], Counts] = {}
        for key, counts in self.fates.items():
            short = tuple(key[place] for place in places)
            mine = sums.get(short, (0, 0, 0))
            sums[short] = (mine[0] + counts[0], mine[1] + counts[1], mine[2] + counts[2])
        return sums

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON, without the examples; `from_dict` is its inverse."""
        return {"fates": [[*key, *counts] for key, counts in self.fates.items()], "changes": dict(self.changes)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Funnel":
        fates = {
            (name, language, reason): (documents, characters, tokens)
            for name, language, reason, documents, characters, tokens in value["fates"]
        }
        return cls(fates=fates, changes=value["changes"])


def count_fates(
    inputs: Integer[np.ndarray, " documents"],
    languages: Integer[np.ndarray, " documents"],
    fates: Integer[np.ndarray, " documents"],
    num_chars: Integer[np.ndarray, " documents"],
    num_tokens: Int64[np.ndarray, " documents"],
    *,
    names: tuple[Sequence[str], Sequence[str], Sequence[str]],
) -> dict[Key, Counts]:
    """Documents, characters and tokens of each combination; `names` are those of inputs, languages and fates."""
    sizes = [max(1, len(part)) for part in names]
    code = (inputs.astype(np.int64) * sizes[1] + languages) * sizes[2] + fates
    found, place = np.unique(code, return_inverse=True)
    documents = np.bincount(place, minlength=len(found))
    sums = [np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)]
    np.add.at(sums[0], place, num_chars)
    np.add.at(sums[1], place, num_tokens)
    counts: dict[Key, Counts] = {}
    for i, number in enumerate(found.tolist()):
        rest, fate = divmod(number, sizes[2])
        which, language = divmod(rest, sizes[1])
        key = (names[0][which], names[1][language] if names[1] else "", names[2][fate])
        counts[key] = (int(documents[i]), int(sums[0][i]), int(sums[1][i]))
    return dict(sorted(counts.items()))


def choose_examples(examples: Iterable[Example], most: int = MOST_EXAMPLES) -> tuple[Example, ...]:
    """At most so many of each input and reason: those of the smallest ids, whatever order they come in."""
    ordered = sorted(examples, key=lambda one: (one.input, one.reason, one.id, one.source, one.offset))
    counts: Counter[tuple[str, str]] = Counter()
    chosen = []
    for one in ordered:
        counts[one.input, one.reason] += 1
        if counts[one.input, one.reason] <= most:
            chosen.append(one)
    return tuple(chosen)
