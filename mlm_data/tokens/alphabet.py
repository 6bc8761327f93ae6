"""The alphabet of a tokenizer that is trained: which characters get tokens of their own.

The rule. The most frequent characters, as many as make up `coverage` of the text (0.9995 as in sentencepiece; Kudo,
Richardson 2018), as far as the vocabulary has room for their tokens; among equally frequent ones the smaller code point
comes first. The others are unknown.

    aaaa bbb cc d, coverage 0.9        a, b, c: 9 of 10 characters          d is left out
    the same, room for two tokens      a, b                                 c has no room
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Alphabet(NamedTuple):
    """Which characters have tokens, and what that means for the text."""

    characters: tuple[str, ...]  # sorted
    num_found: int  # different characters in the text
    covered: float  # share of the text's characters that have a token
    num_without_room: int  # of those that make up the coverage

    def __str__(self) -> str:
        """A line for a plan.

        >>> str(choose_alphabet({"a": 4, "b": 3, "c": 2, "d": 1}, coverage=0.9, room=2))
        '2 of 4 characters, 70.00 % of the text; no room for 1 more: raise vocab_size'
        """
        text = f"{len(self.characters):,} of {self.num_found:,} characters, {_percent(self.covered)} of the text"
        return text + (
            f"; no room for {self.num_without_room:,} more: raise vocab_size" if self.num_without_room else ""
        )


def choose_alphabet(
    counts: Mapping[str, int], *, coverage: float, room: int, price: Callable[[str], int] = lambda character: 1
) -> Alphabet:
    """Choose the alphabet of a text.

    Args:
        counts: how often each character occurs.
        coverage: share of the occurrences that should have a token, in (0, 1].
        room: tokens that the alphabet may take.
        price: how many tokens a character takes.
    """
    total = sum(counts.values())
    chosen: list[str] = []
    covered = wanted = num_wanted = used = 0
    for character in sorted(counts, key=lambda character: (-counts[character], character)):
        if wanted >= coverage * total:
            break
        wanted += counts[character]
        num_wanted += 1
        used += price(character)
        if used <= room:
            chosen.append(character)
            covered += counts[character]
    share = covered / total if total else 1.0
    return Alphabet(tuple(sorted(chosen)), len(counts), share, num_wanted - len(chosen))


def _percent(share: float) -> str:
    """Rounded down, so that 100 % is all.

    >>> _percent(0.99996)
    '99.99 %'
    """
    return f"{int(share * 10_000) / 100:.2f} %"
