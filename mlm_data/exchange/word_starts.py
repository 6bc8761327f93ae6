"""Where words begin in a row of ids whose text is gone, by their tokens alone.

The rule, by what the tokenizer is:

    WordPiece           a token that doesn't begin with the mark of a continuation, mostly `##`
    byte-level BPE      a token that begins with a space (`Ġ`), or one whose first character is of another class than
                        the last one before it: letters, digits, white space, all else
    Metaspace           a token that begins with `▁`
    anything else       every token

    wordpiece  play ##ing ( x )      1 0 1 1 1          byte-level  Ġplay ing (x )      1 0 1 1 1

And the first token of every document. For WordPiece and Metaspace that is what the text gives. Byte-level patterns know
more than classes: `'t` is one word there, and two here where it is two tokens; a text full of such differs in one place
of a hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from mlm_data.characters import byte_characters
from mlm_data.tokens.reference import Reference

SPACE_MARKS = ("\u0120", "\u2581")
NOTHING, LETTER, DIGIT, BLANK, OTHER = range(5)  # classes of a character; NOTHING borders on nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class WordMarks:
    """What each id says of words."""

    begins: Bool[np.ndarray, " vocabulary"]  # whatever stands before it
    first: UInt8[np.ndarray, " vocabulary"]  # class of the first character; NOTHING where classes say nothing
    last: UInt8[np.ndarray, " vocabulary"]


def word_marks(reference: Reference) -> WordMarks:
    """Read them off a tokenizer."""
    tokens, settings = reference.tokens, reference.settings
    kinds = set(_kinds(settings.get("pre_tokenizer")))
    nothing = np.zeros(len(tokens), np.uint8)
    if settings["model"].get("type") == "WordPiece":
        mark = settings["model"].get("continuing_subword_prefix") or "##"
        return WordMarks(begins=_each(tokens, lambda token: not token.startswith(mark)), first=nothing, last=nothing)
    marked = _each(tokens, lambda token: token.startswith(SPACE_MARKS))
    if "ByteLevel" in kinds:
        names = {char: value for value, char in enumerate(byte_characters())}
        texts = [bytes(names.get(char, 63) for char in token).decode(errors="replace") for token in tokens]
        return WordMarks(
            begins=marked,
            first=np.array([_class(text[:1]) for text in texts], np.uint8),
            last=np.array([_class(text[-1:]) for text in texts], np.uint8),
        )
    if "Metaspace" in kinds or marked.any():
        return WordMarks(begins=marked, first=nothing, last=nothing)
    return WordMarks(begins=np.ones(len(tokens), bool), first=nothing, last=nothing)


def find_word_starts(
    ids: Integer[np.ndarray, " tokens"], offsets: Int64[np.ndarray, " documents+1"], marks: WordMarks
) -> Bool[np.ndarray, " tokens"]:
    """True where a token begins a word; documents without a token are no harm."""
    starts = marks.begins[ids]
    before, now = marks.last[ids[:-1]], marks.first[ids[1:]]
    starts[1:] |= (before != now) & (before != NOTHING) & (now != NOTHING)
    starts[offsets[:-1][offsets[:-1] < ids.size]] = True
    return starts


def _each(tokens: Sequence[str], rule) -> Bool[np.ndarray, " vocabulary"]:
    return np.array([rule(token) for token in tokens], bool)


def _class(character: str) -> int:
    if character in {"", " ", "\ufffd"}:  # a space goes with what comes after it; U+FFFD is a part of a character
        return NOTHING
    if character.isspace():
        return BLANK
    return LETTER if character.isalpha() else DIGIT if character.isnumeric() else OTHER


def _kinds(pre_tokenizer) -> list[str]:
    if not pre_tokenizer:
        return []
    inner = pre_tokenizer.get("pretokenizers", [])
    return [pre_tokenizer["type"], *(kind for one in inner for kind in _kinds(one))]
