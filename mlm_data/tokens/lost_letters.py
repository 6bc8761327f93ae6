"""Letters that a tokenizer's normalization takes away, in scripts that have no case.

In Latin, Greek and Cyrillic an uncased tokenizer drops case and accents, and people know. Where a script has no case,
the same step drops parts of its spelling: vowel signs of Hindi, voicing marks of Japanese, points of Hebrew.

The rule. Words of the texts are compared with what the normalizer makes of them, both in NFKC, so that another encoding
of one text is no change; of both only letters without case (Unicode's Lo) with the marks behind them count.

    "की" -> "क"         Devanagari: the vowel sign went
    "Ａ" -> "a", "é" -> "e", "가" -> jamo                not counted

Cost: the most frequent MOST_WORDS distinct words with other than ASCII characters are normalized one by one.
"""

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import normalizers

MOST_WORDS = 20_000
# Letters with marks of many scripts: what leaves these alone leaves the others alone, too.
SAMPLE = "की বি கு กี ខ្មែរ မြန်မာ が バ 가 בִ بِ འི ትም 字"


class Lost(NamedTuple):
    """What becomes of one script."""

    script: str
    before: str
    after: str
    num_changed: int  # words, of
    num_words: int

    def __str__(self) -> str:
        """A warning."""
        return (
            f"normalization changes letters of {self.script}, {self.before} -> {self.after or 'nothing'}, in "
            f"{self.num_changed:,} of {self.num_words:,} of its words in the probe: set strip_accents to false where "
            "the tokenizer is trained or a vocab.txt, else take another one"
        )


def may_lose_letters(normalizer: normalizers.Normalizer | None) -> bool:
    """Whether it is worth while to look at texts."""
    return normalizer is not None and _letters(normalizer.normalize_str(SAMPLE)) != _letters(SAMPLE)


def lost_letters(texts: Iterable[pa.LargeStringArray], normalizer: normalizers.Normalizer | None) -> list[Lost]:
    """The scripts that lose letters, most words first.

    Returns:
        One entry a script, with the first changed letter of its most frequent changed word.
    """
    if normalizer is None:
        return []
    examples: dict[str, tuple[str, str]] = {}
    changed: dict[str, int] = {}
    all_words: dict[str, int] = {}
    for word, count in _words(texts):
        before = _letters(word)
        if not before:
            continue
        script = _script(before[0])
        all_words[script] = all_words.get(script, 0) + count
        after = _letters(normalizer.normalize_str(word))
        if after != before:
            examples.setdefault(script, _first_change(before, after))
            changed[script] = changed.get(script, 0) + count
    lost = [Lost(script, *examples[script], changed[script], all_words[script]) for script in changed]
    return sorted(lost, key=lambda one: (-one.num_changed, one.script))


def _words(texts: Iterable[pa.LargeStringArray]) -> list[tuple[str, int]]:
    found = []
    for batch in texts:
        words = pc.list_flatten(pc.utf8_split_whitespace(batch))
        found.append(words.filter(pc.greater(pc.binary_length(words), pc.utf8_length(words))))
    if not found:
        return []
    counted = pc.value_counts(pa.chunked_array(found))
    counts = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    return sorted(counts, key=lambda item: (-item[1], item[0]))[:MOST_WORDS]


def _letters(text: str) -> list[str]:
    """The letters without case, each with the marks behind it."""
    found: list[str] = []
    joins = False
    for character in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(character)
        if category == "Lo":
            found.append(character)
        elif joins and category[0] == "M":
            found[-1] += character
        joins = category == "Lo" or (joins and category[0] == "M")
    return found


def _first_change(before: list[str], after: list[str]) -> tuple[str, str]:
    if len(before) != len(after):
        return "".join(before), "".join(after)
    return next((one, other) for one, other in zip(before, after, strict=True) if one != other)


def _script(letter: str) -> str:
    """A letter's script, as its name begins: DEVANAGARI LETTER KA."""
    return unicodedata.name(letter[0], "an unknown script").split(" LETTER")[0].split(" SYLLABLE")[0].title()
