r"""Scores of the four quality presets: integers that are counted once; `rules` decides over them later.

Only counts are stored, never a rounded share, so that every decision is exact and any threshold can be changed without
reading a text again. All rules, in the order in which they judge (the first that fails is the reason):

| preset | reason | a document is dropped if | threshold | language |
|---|---|---|---|---|
| gopher_repetition | repeated_paragraphs | num_repeated_paragraphs / num_paragraphs > | 0.30 | yes |
| | repeated_paragraph_chars | repeated_paragraph_characters / num_characters > | 0.20 | yes |
| | repeated_lines | num_repeated_lines / num_lines > | 0.30 | yes |
| | repeated_line_chars | repeated_line_characters / num_characters > | 0.20 | yes |
| | top_2_gram, top_3_gram, top_4_gram | top_n_gram_characters / num_characters > | 0.20, 0.18, 0.16 | yes |
| | repeated_5_grams to _10_grams | repeated_n_gram_characters / num_characters > | .15 .14 .13 .12 .11 .10 | yes |
| gopher_quality | too_few_words | num_text_words < | 50 | |
| | too_many_words | num_text_words > | 100,000 | |
| | words_too_short | text_word_characters / num_text_words < | 3 | yes |
| | words_too_long | text_word_characters / num_text_words > | 10 | yes |
| | too_many_hashes | num_hashes / num_words > | 0.1 | |
| | too_many_ellipses | num_ellipses / num_words > | 0.1 | |
| | bullet_lines | num_bullet_lines / num_lines > | 0.9 | |
| | ellipsis_lines | num_ellipsis_lines / num_lines > | 0.3 | |
| | too_few_alphabetic_words | num_alphabetic_words / num_words < | 0.8 | yes |
| | too_few_stop_words | num_stop_words < | 2 | yes |
| c4 | lorem_ipsum | num_lorem_ipsum_lines > 0 | on | |
| | curly_bracket | num_curly_bracket_lines > 0 | on | |
| | too_few_sentences | num_sentences < | 5 | |
| fineweb | too_few_terminated_lines | num_terminated_lines / num_lines < | 0.12 | yes |
| | short_lines | num_short_lines / num_lines > | 0.67 | yes |
| | repeated_line_chars | repeated_line_characters / num_line_characters > | 0.01 | yes |
| | too_many_line_feeds | num_line_feeds / num_words > | 0.3 | yes |

*language*: other languages than English have a threshold of their own: `quality_languages`.

What is counted:

- `num_words`: what stands between white space, or spaCy's tokens (`words`, `spacy_words`); `num_text_words` those that
  aren't punctuation alone, `text_word_characters` their characters; `num_alphabetic_words` those with a letter;
  `num_stop_words` how many *different* stop words of the document's language are among its words, as they are written.
- Lines differ by preset, see `pieces`: gopher_repetition's are the pieces between runs of line feeds, gopher_quality's
  and c4's those of `str.splitlines`, fineweb's those between line feeds that aren't blank.
- `repeated_...`: later copies; the first one isn't counted. `top_n_gram_characters`, `repeated_n_gram_characters`: see
  `repetition`.
- `num_ellipses`: `...` and `…`, a run of six full stops is two; a bullet is `•` or `-`, white space before it or not.
- `num_sentences`: in the lines that C4's line rules leave, see `line_edits`; a line begins a sentence, and so does a
  word behind one that ends a sentence (`words`). `num_short_lines`: lines of at most 30 characters;
  `num_terminated_lines`: lines whose last character has Unicode's Sentence_Terminal, so that `."` doesn't end one.

Sources: Gopher, Rae et al. 2021, "Scaling Language Models", section A1.1 and table A1; C4, Raffel et al. 2020, section
2.2; FineWeb, Penedo et al. 2024, section 3.6. Papers leave much open; where they do, we count as datatrove 0.10.1 does,
and `words: spacy` is there to count as it does in full. Where we differ:

- Words are what stands between white space by default: Gopher says no more than "words", and on spaCy's tokens, where
  every bracket is a word without a letter, nearly all technical text and law falls under 80 %.
- Thresholds are compared exactly, in millionths.
- An n-gram is a sequence of words; datatrove joins those of 5 to 10 words without spaces, so that `ab c` and `a bc` are
  one.
- A document with both "lorem ipsum" and a curly bracket is dropped for the first; datatrove names whichever comes
  first.
- Empty texts fail no rule here: `thresholds` drops them before.
- Only the first 8 MiB of a document are looked at, so that one of any size takes bounded memory (250 MB at worst,
  where it is all words of one letter).
- White space doesn't include U+001C to U+001F, and the full-width digit one is no punctuation; normalized texts have no
  such controls.
- With `words: spacy`, runs of white space aren't tokens between which a sentence could begin.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, UInt8

from mlm_data.curation.line_edits import c4_lines
from mlm_data.curation.pieces import count_pieces
from mlm_data.curation.quality_languages import LANGUAGES, language_indexes
from mlm_data.curation.repetition import TOP, WALKED, count_repetition
from mlm_data.curation.words import (
    CANNOT_START,
    ENDS_SENTENCE,
    HAS_LETTER,
    HAS_TEXT,
    STARTS_LINE,
    Words,
    scan_flags,
    scan_words,
    slot_of,
    word_table,
)
from mlm_data.hashing import string_buffers
from mlm_data.kernels import kernel
from mlm_data.quality_settings import PRESETS, C4Settings, FinewebSettings, QualitySettings

ALGORITHM_VERSION = 1  # enters cache keys: count up when any score comes out differently

LOOKED_AT_BYTES = 8 * 2**20

# Scores of each preset: name -> where it comes from.
_PIECE_SCORES = {
    "gopher_repetition": {
        "num_characters": "num_characters",
        "num_paragraphs": "num_paragraphs",
        "num_repeated_paragraphs": "num_repeated_paragraphs",
        "repeated_paragraph_characters": "repeated_paragraph_characters",
        "num_lines": "num_pieces",
        "num_repeated_lines": "num_repeated_pieces",
        "repeated_line_characters": "repeated_piece_characters",
    },
    "gopher_quality": {
        "num_hashes": "num_hashes",
        "num_ellipses": "num_ellipses",
        "num_lines": "num_lines",
        "num_bullet_lines": "num_bullet_lines",
        "num_ellipsis_lines": "num_ellipsis_lines",
    },
    "c4": {},
    "fineweb": {
        "num_lines": "num_filled_lines",
        "num_terminated_lines": "num_terminated_lines",
        "num_short_lines": "num_short_lines",
        "repeated_line_characters": "repeated_filled_characters",
        "num_line_feeds": "num_line_feeds",
    },
}
SCORES: dict[str, tuple[str, ...]] = {
    "gopher_repetition": (
        *_PIECE_SCORES["gopher_repetition"],
        *(f"top_{n}_gram_characters" for n in TOP),
        *(f"repeated_{n}_gram_characters" for n in WALKED),
    ),
    "gopher_quality": (
        *("num_words", "num_text_words", "text_word_characters", "num_alphabetic_words", "num_stop_words"),
        *_PIECE_SCORES["gopher_quality"],
    ),
    "c4": ("num_lines", "num_kept_lines", "num_lorem_ipsum_lines", "num_curly_bracket_lines", "num_sentences"),
    "fineweb": ("num_words", "num_line_characters", *_PIECE_SCORES["fineweb"]),
}


def score_schema(presets: Sequence[str]) -> list[pa.Field]:
    """The columns of the scores of these presets, in a fixed order: `preset.name`, int32, never null."""
    return [
        pa.field(f"{preset}.{name}", pa.int32(), nullable=False)
        for preset in PRESETS
        if preset in presets
        for name in SCORES[preset]
    ]


def quality_scores(
    texts: pa.LargeStringArray, settings: QualitySettings, languages: Sequence[str] | pa.Array | None = None
) -> dict[str, Int32[np.ndarray, " texts"]]:
    r"""The scores of the presets that are on, named and ordered as in `score_schema`.

    No text's scores depend on its neighbours. Kernels don't hold the GIL; with `words: spacy` Python is asked once for
    each different word of the batch.

    Args:
        texts: cleaned texts, as they are to be trained on.
        settings: only what `score_key` names matters here, no threshold.
        languages: the texts' BCP 47 codes, whose stop words are counted; None: English.

    Raises:
        ConfigError: `words` is `spacy` and spaCy isn't installed.

    >>> scores = quality_scores(pa.array(["One. Two.\n"], pa.large_string()), QualitySettings.model_validate("fineweb"))
    >>> [int(scores[f"fineweb.{name}"][0]) for name in ("num_words", "num_lines", "num_line_characters")]
    [2, 1, 9]
    """
    presets = settings.presets
    if not presets:
        return {}
    data, offsets = string_buffers(texts)
    starts, ends = offsets[:-1], _looked_at(data, offsets)
    found: dict[str, Int32[np.ndarray, " texts"]] = {}

    def words_of(some: np.ndarray, first: np.ndarray, last: np.ndarray) -> Words:
        words = scan_words(some, first, last)
        if settings.words == "spacy":
            from mlm_data.curation.spacy_words import cut_words

            words = cut_words(words, some)
        return words

    if set(presets) != {"c4"}:
        words = words_of(data, starts, ends)
        fineweb = settings.fineweb or FinewebSettings()
        pieces = count_pieces(data, starts, ends, short_chars=fineweb.short_line_chars)
        for preset in presets:
            for name, piece in _PIECE_SCORES[preset].items():
                found[f"{preset}.{name}"] = pieces[piece]
        if "gopher_repetition" in presets:
            top, walked = count_repetition(words)
            for column, n in enumerate(TOP):
                found[f"gopher_repetition.top_{n}_gram_characters"] = np.ascontiguousarray(top[:, column])
            for column, n in enumerate(WALKED):
                found[f"gopher_repetition.repeated_{n}_gram_characters"] = np.ascontiguousarray(walked[:, column])
        if "gopher_quality" in presets:
            counts = _count_words(words, language_indexes(languages, len(texts)))
            for column, name in enumerate(SCORES["gopher_quality"][:5]):
                found[f"gopher_quality.{name}"] = np.ascontiguousarray(counts[:, column])
        if "fineweb" in presets:
            found["fineweb.num_words"] = np.diff(words.offsets).astype(np.int32)
            found["fineweb.num_line_characters"] = pieces["num_characters"] - pieces["num_line_feeds"]
    if "c4" in presets:
        left = c4_lines(data, starts, ends, settings.c4 or C4Settings(), np.zeros(len(texts), bool))
        if settings.words == "spacy":
            words = words_of(left.data, left.offsets[:-1], left.offsets[1:])
            places, flags = words.offsets, words.flags
        else:
            places, flags = scan_flags(left.data, left.offsets[:-1], left.offsets[1:])
        found["c4.num_lines"] = left.counts.num_lines
        found["c4.num_kept_lines"] = left.counts.num_lines - left.counts.num_lines_removed
        found["c4.num_lorem_ipsum_lines"] = left.num_lorem_ipsum_lines
        found["c4.num_curly_bracket_lines"] = left.num_curly_bracket_lines
        found["c4.num_sentences"] = _count_sentences(places, flags)
    return {field.name: found[field.name] for field in score_schema(presets)}


def _looked_at(
    data: UInt8[np.ndarray, " bytes"], offsets: Int64[np.ndarray, " texts+1"]
) -> Int64[np.ndarray, " texts"]:
    """The end of what is looked at of each text: never in the middle of a character."""
    ends = np.minimum(offsets[1:], offsets[:-1] + LOOKED_AT_BYTES)
    for text in np.flatnonzero(ends < offsets[1:]):  # the few texts that are so long
        while data[ends[text]] & 0xC0 == 0x80:
            ends[text] -= 1
    return ends


def _count_words(words: Words, languages: UInt8[np.ndarray, " texts"]) -> Int32[np.ndarray, "texts 5"]:
    """Words, those that aren't punctuation alone, their characters, those with letters, different stop words."""
    tables = [word_table(language.stop_words) for language in LANGUAGES]
    size = max(map(len, tables))
    stop_words = np.zeros((len(tables), size), np.uint64)
    masks = np.zeros(len(tables), np.int64)
    for row, table in enumerate(tables):
        stop_words[row, : len(table)] = table
        masks[row] = len(table)
    out = np.zeros((len(languages), 5), np.int32)
    _count_words_of(words.offsets, words.hashes, words.chars, words.flags, languages, stop_words, masks, out)
    return out


def _count_sentences(
    offsets: Int64[np.ndarray, " texts+1"], flags: UInt8[np.ndarray, " words"]
) -> Int32[np.ndarray, " texts"]:
    """Sentences of texts, of which each line begins one."""
    out = np.zeros(len(offsets) - 1, np.int32)
    _count_sentences_of(offsets, flags, out)
    return out


@kernel
def _count_words_of(offsets, hashes, chars, flags, languages, stop_words, sizes, out):
    met = np.zeros(stop_words.shape[1], np.uint8)
    for text in range(len(languages)):
        table = stop_words[languages[text], : sizes[languages[text]]]
        met[:] = 0
        num_text = num_chars = num_alphabetic = num_stop = 0
        for word in range(offsets[text], offsets[text + 1]):
            flag = flags[word]
            if flag & HAS_TEXT:
                num_text += 1
                num_chars += chars[word]
            if flag & HAS_LETTER:
                num_alphabetic += 1
                slot = slot_of(hashes[word], table)
                if slot >= 0 and not met[slot]:
                    met[slot] = 1
                    num_stop += 1
        out[text, 0] = offsets[text + 1] - offsets[text]
        out[text, 1] = num_text
        out[text, 2] = num_chars
        out[text, 3] = num_alphabetic
        out[text, 4] = num_stop


@kernel
def _count_sentences_of(offsets, flags, out):
    for text in range(len(out)):
        num = 0
        is_behind_end = False
        for word in range(offsets[text], offsets[text + 1]):
            flag = flags[word]
            if flag & STARTS_LINE or (is_behind_end and flag & CANNOT_START == 0):
                num += 1
                is_behind_end = False
            if flag & ENDS_SENTENCE:
                is_behind_end = True
        out[text] = num
