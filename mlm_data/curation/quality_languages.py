"""Stop words and thresholds by language, and the languages in which nothing that counts words holds.

English is Gopher's and FineWeb's. The other languages named here are FineWeb-2's (Penedo et al. 2025), as its
repository `huggingface/fineweb-2` publishes them (Apache-2.0; `configs/deu_Latn.yml` and its neighbours, read in 2026):
stop words, the repetition of lines and of n-grams, the mean length of words, the share of words with letters, lines
that end in punctuation, line feeds for each word. Its recipe changes five more things for every language that isn't
English, and so do we for the languages named here: repeated paragraphs, their characters and those of repeated lines
aren't looked at (it relies on `fineweb` for the last), short lines neither, and a tenth of the characters may be in
repeated lines.

FineWeb-2 measured its numbers on words as its tokenizers cut them, with punctuation marks as words of their own. With
`words: space` fewer words are without letters, so that its thresholds are milder. French and Italian articles (`l'`,
`d'`) are words only where a tokenizer cuts them off.

Languages that are not named have the English thresholds, and no stop words are asked of them. Documents of which no
language is known are taken for English.

In SPACELESS languages white space parts phrases or nothing, so that what stands between it is no word. Rules that count
words don't hold for them: rules over characters, lines and paragraphs do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8


@dataclass(frozen=True, kw_only=True)
class Language:
    """What the rules take from a language: stop words, and thresholds where they differ from the settings' defaults."""

    stop_words: tuple[str, ...] = ()
    thresholds: Mapping[tuple[str, str], float | None] = field(default_factory=dict)  # (preset, field) -> value
    has_words: bool = True  # between white space


_RECIPE: dict[tuple[str, str], float | None] = {
    ("gopher_repetition", "max_repeated_paragraphs"): None,
    ("gopher_repetition", "max_repeated_paragraph_chars"): None,
    ("gopher_repetition", "max_repeated_line_chars"): None,
    ("fineweb", "max_short_lines"): None,
    ("fineweb", "max_repeated_line_chars"): 0.1,
}


def _fineweb2(
    stop_words: str,
    *,
    lines: float,
    top: Sequence[float],
    runs: Sequence[float],
    word_chars: tuple[float, float],
    alphabetic: float,
    terminated: float,
    line_feeds: float,
) -> Language:
    thresholds = dict(_RECIPE)
    thresholds["gopher_repetition", "max_repeated_lines"] = lines
    for n, share in zip((2, 3, 4), top, strict=True):
        thresholds["gopher_repetition", f"max_top_{n}_gram"] = share
    for n, share in zip((5, 6, 7, 8, 9, 10), runs, strict=True):
        thresholds["gopher_repetition", f"max_repeated_{n}_grams"] = share
    thresholds["gopher_quality", "min_mean_word_chars"], thresholds["gopher_quality", "max_mean_word_chars"] = (
        word_chars
    )
    thresholds["gopher_quality", "min_alphabetic_words"] = alphabetic
    thresholds["fineweb", "min_terminated_lines"] = terminated
    thresholds["fineweb", "max_line_feeds_per_word"] = line_feeds
    return Language(stop_words=tuple(stop_words.split()), thresholds=thresholds)


ENGLISH = Language(stop_words=("the", "be", "to", "of", "and", "that", "have", "with"))
OTHER = Language()  # a language that isn't named here
SPACELESS_LANGUAGE = Language(has_words=False)

NAMED: dict[str, Language] = {
    "en": ENGLISH,
    "de": _fineweb2(
        "der und die in von im den des mit das er dem als wurde für",
        lines=0.263,
        top=(0.169, 0.153, 0.137),
        runs=(0.141, 0.134, 0.126, 0.117, 0.108, 0.098),
        word_chars=(0, 15),
        alphabetic=0.774,
        terminated=0.0,
        line_feeds=0.152,
    ),
    "es": _fineweb2(
        "de la en el y a que del los se por un con una las su",
        lines=0.265,
        top=(0.077, 0.097, 0.112),
        runs=(0.152, 0.137, 0.123, 0.114, 0.107, 0.099),
        word_chars=(4, 14),
        alphabetic=0.825,
        terminated=0.3,
        line_feeds=0.171,
    ),
    "fr": _fineweb2(
        "de la le et à en l' des du les est d' un une il dans par au",
        lines=0.264,
        top=(0.161, 0.149, 0.134),
        runs=(0.15, 0.141, 0.131, 0.121, 0.111, 0.1),
        word_chars=(2, 11),
        alphabetic=0.812,
        terminated=0.1,
        line_feeds=0.185,
    ),
    "it": _fineweb2(
        "di e il la in a del che è della un per nel l' con da i una",
        lines=0.246,
        top=(0.198, 0.156, 0.133),
        runs=(0.144, 0.136, 0.127, 0.118, 0.109, 0.1),
        word_chars=(3, 21),
        alphabetic=0.807,
        terminated=0.025,
        line_feeds=0.2,
    ),
    "nl": _fineweb2(
        "de van in het een en is op voor met door zijn werd hij uit",
        lines=0.333,
        top=(0.093, 0.117, 0.14),
        runs=(0.177, 0.16, 0.145, 0.133, 0.123, 0.112),
        word_chars=(3, 16),
        alphabetic=0.828,
        terminated=0.238,
        line_feeds=0.194,
    ),
    "pl": _fineweb2(
        "w i na z do się roku od a jest przez po jako oraz o został był nie",
        lines=0.353,
        top=(0.096, 0.12, 0.144),
        runs=(0.203, 0.182, 0.163, 0.15, 0.137, 0.126),
        word_chars=(3, 11),
        alphabetic=0.726,
        terminated=0.2,
        line_feeds=0.209,
    ),
    "pt": _fineweb2(
        "de a e o em do da que um no uma com para na é foi",
        lines=0.325,
        top=(0.093, 0.117, 0.139),
        runs=(0.19, 0.172, 0.154, 0.142, 0.131, 0.12),
        word_chars=(3, 13),
        alphabetic=0.814,
        terminated=0.154,
        line_feeds=0.23,
    ),
    "ru": _fineweb2(
        "в и на с года по году из был к не от что за для его как а он также до после",
        lines=0.322,
        top=(0.184, 0.164, 0.146),
        runs=(0.168, 0.156, 0.145, 0.133, 0.121, 0.109),
        word_chars=(3, 11),
        alphabetic=0.713,
        terminated=0.231,
        line_feeds=0.139,
    ),
    "sv": _fineweb2(
        "i och är av en som den med på till att för",
        lines=0.292,
        top=(0.242, 0.195, 0.174),
        runs=(0.156, 0.147, 0.136, 0.125, 0.116, 0.105),
        word_chars=(3, 12),
        alphabetic=0.841,
        terminated=0.2,
        line_feeds=0.135,
    ),
}

# ISO 639: Chinese and its kin, Japanese, Thai, Lao, Khmer, Burmese, Shan, Tibetan, Dzongkha.
SPACELESS = ("zh", "yue", "wuu", "nan", "hak", "gan", "lzh", "ja", "th", "lo", "km", "my", "shn", "bo", "dz")
_UNKNOWN = ("", "und", "zxx", "mul", "en")  # read as English

LANGUAGES: tuple[Language, ...] = (*NAMED.values(), OTHER, SPACELESS_LANGUAGE)
_INDEX = {
    **dict.fromkeys(_UNKNOWN, 0),
    **{code: index for index, code in enumerate(NAMED)},
    **dict.fromkeys(SPACELESS, len(NAMED) + 1),
}


def language_indexes(codes: Sequence[str] | pa.Array | None, num_documents: int) -> UInt8[np.ndarray, " documents"]:
    """The index in LANGUAGES of each document's BCP 47 code, of which only the language counts (`pt-BR` is `pt`).

    None: the language of no document is known. A null is a document of which it isn't.
    """
    if codes is None:
        return np.zeros(num_documents, np.uint8)
    array = codes if isinstance(codes, pa.Array | pa.ChunkedArray) else pa.array(list(codes), pa.string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    assert len(array) == num_documents, "one code for each document"
    if not isinstance(array, pa.DictionaryArray):
        array = array.dictionary_encode()
    known = [_INDEX.get((code or "").split("-")[0].lower(), len(NAMED)) for code in array.dictionary.to_pylist()]
    places = array.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    return np.array([*known, 0], np.uint8)[places]


def thresholds_of(preset: Any, name: str, index: int, *, by_language: bool) -> dict[str, Any]:
    """A preset's settings for the language at `index`: where a threshold is at its default, the language's own.

    Args:
        preset: one of the preset's settings.
        name: the preset's name.
        index: of the language, in LANGUAGES.
        by_language: False leaves all as it is set.
    """
    values = dict(preset)
    if by_language:
        for (owner, key), value in LANGUAGES[index].thresholds.items():
            if owner == name and values[key] == type(preset).model_fields[key].default:
                values[key] = value
    return values
