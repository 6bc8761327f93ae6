r"""Class tables: what a scanner must know about each code point, read off the tokenizer itself.

Nothing here comes from a table of Unicode properties that could be of another version than the tokenizer's: its own
normalizer and pre-tokenizer are asked about each code point, 256 at a time and only when a text first holds one of
them. Python's properties are used in one place, to be *careful* about more code points than necessary.

    separated words (BERT, T5): the words of "a" + c + "b"
        a|b        SPACE      c separates and leaves nothing
        a|x|b      ISOLATED   c is a word of its own (punctuation, a Chinese character)
        anything else   WORD  (a word with such a character is asked whole, whatever becomes of it)
    byte-level patterns (GPT-2, cl100k): does the regex engine take c for \p{L}, \p{N}, \s, or none of them
"""

import threading
import unicodedata
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from tokenizers import Regex, normalizers, pre_tokenizers

UNKNOWN = 0
# Separated words. Only ISOLATED and SPACE end a word.
WORD, SPACE, ISOLATED = 1, 2, 3
CLINGS = 4  # a word character that may join what is before it, a space even: no border between them is certain
HOLDS = 5  # the same, and it may also join what comes after it
SURVIVES = 8  # flag on WORD: it is at least one character of the normalized word, and never a border
VANISHES = 16  # flag on WORD: nothing is left of it
# Byte-level patterns.
LETTER, NUMBER, BLANK, OTHER = 1, 2, 3, 4

BLOCK = 256
# Characters that join others though their category doesn't say so: Thai and Lao AM, halfwidth sound marks, skin
# tones; then letters that stand before what they join (Grapheme_Cluster_Break=Prepend, Unicode 15.1).
CLINGING_LETTERS = {0x0E33, 0x0EB3, 0xFF9E, 0xFF9F, *range(0x1F3FB, 0x1F400)}
HOLDING_LETTERS = {0x0D4E, 0x111C2, 0x111C3, 0x1193F, 0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02}


class ClassTable:
    """One class per code point, filled by blocks on demand; kernels read `classes` directly.

    Args:
        read: 256 code points (as characters; surrogates are left out) -> a class for each.
    """

    def __init__(self, read: Callable[[list[str]], list[int]]) -> None:
        self.classes: UInt8[np.ndarray, " 1114112"] = np.zeros(0x110000, np.uint8)
        self._read = read
        self._lock = threading.Lock()
        self.learn(0)

    def learn(self, point: int) -> None:
        """Read off the block of a code point."""
        first = point // BLOCK * BLOCK
        with self._lock:
            if self.classes[first] != UNKNOWN:
                return
            points = [p for p in range(first, first + BLOCK) if not 0xD800 <= p < 0xE000]
            block = np.full(BLOCK, WORD, np.uint8)
            if points:
                block[np.array(points) - first] = self._read([chr(p) for p in points])
            self.classes[first : first + BLOCK] = block


def separated_classes(
    normalizer: normalizers.Normalizer | None, pre_tokenizer: pre_tokenizers.PreTokenizer, *, careful: bool
) -> ClassTable:
    """The table of tokenizers whose words are separated by spaces and single characters.

    Args:
        careful: the normalizer looks at neighbours (graphemes, compositions), so marks may cling to a space.
    """

    def words(text: str) -> list[str]:
        normal = text if normalizer is None else normalizer.normalize_str(text)
        return [word.removeprefix("▁") for word, _ in pre_tokenizer.pre_tokenize_str(normal)]

    def one(character: str) -> int:
        if careful:
            point, category = ord(character), unicodedata.category(character)
            if category in ("Cf", "Cn", "Co") or point in HOLDING_LETTERS:
                return HOLDS
            if category[0] == "M" or point in CLINGING_LETTERS:
                return CLINGS
        found = words(f"a{character}b")
        if found == ["a", "b"]:
            return SPACE if not careful or category[0] in "ZC" else WORD
        if len(found) > 2 and found[0] == "a" and found[-1] == "b" and not careful:
            return ISOLATED
        if len(found) == 1 and len(found[0]) > 2 and found[0][0] == "a" and found[0][-1] == "b":
            return WORD | SURVIVES
        return WORD | VANISHES if found == ["ab"] and not careful else WORD

    return ClassTable(lambda characters: [one(character) for character in characters])


def pattern_classes() -> ClassTable:
    """The table of byte-level patterns, from the regex engine that HF `tokenizers` itself uses."""
    kinds = [
        (kind, pre_tokenizers.Split(Regex(pattern), "isolated"))
        for kind, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (BLANK, r"\s"))
    ]

    def read(characters: list[str]) -> list[int]:
        # Between two characters stands one that is in no class, so that each match is a piece of its own.
        text = "!" + "!".join(characters) + "!"
        result = [OTHER] * len(characters)
        for kind, split in kinds:
            for piece, (start, _) in split.pre_tokenize_str(text):
                if len(piece) == 1 and start % 2 == 1 and piece != "!":
                    result[start // 2] = kind
        return result

    return ClassTable(read)
