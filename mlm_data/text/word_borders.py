"""Where the words of a text begin that its user cut: `word_field`, a list of words beside the text.

    text   "我爱 自然语言处理"      words ["我", "爱", "自然语言", "处理"]      ->      begins at characters 0, 1, 3, 7

The words in their order must be the text, white space aside: in both it may stand anywhere, inside words too. Text and
words are compared as they are after normalization (`normalize`), each word for itself, so that the places are those of
the text that becomes tokens. A document whose words are something else is quarantined, `words_do_not_fit`; so is one in
which normal form C joins the end of a word with the beginning of the next. Words that come to nothing are passed over.

Other cleaning that edits texts is refused beside `word_field` (`config`), as words would no longer fit.

Cost: one JSON list a document is decoded by Python, which is little beside the tokenization by HF that these
documents get; the comparison is a kernel.
"""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from mlm_data.characters import code_point
from mlm_data.config import CleanSettings
from mlm_data.hashing import string_buffers
from mlm_data.kernels import kernel
from mlm_data.text.batches import WORDS
from mlm_data.text.normalize import is_break, is_space, normalize
from mlm_data.types import Documents, Quarantined

WORDS_DO_NOT_FIT = "words_do_not_fit"


def with_borders(documents: Documents, field: str, settings: CleanSettings) -> Documents:
    """Documents whose column of words, as JSON, has become places: characters of the normalized text, int32.

    Args:
        documents: a batch with the column `words`, strings.
        field: the user's name of it, for details of the quarantine.
        settings: of normalization.
    """
    table = documents.table
    if WORDS not in table.schema.names:
        return documents
    found = [_words(value) for value in table.column(WORDS).to_pylist()]
    lists = pa.array([words if isinstance(words, list) else [] for words in found], pa.large_list(pa.large_string()))
    texts = normalize(table.column("text"), settings)
    places, offsets, fits = find_borders(texts, lists, settings)
    bad = list(documents.quarantined)
    good = fits & np.array([isinstance(words, list) for words in found], np.bool_)
    for number in np.flatnonzero(~good).tolist():
        problem = found[number]
        told = problem if isinstance(problem, str) else "its words are not the text"
        bad.append(
            Quarantined(
                source=documents.source,
                offset=table.column("offset")[number].as_py(),
                reason=WORDS_DO_NOT_FIT,
                detail=f"field {field!r}: {told}"[:200],
                num_bytes=len(table.column("text")[number].as_py().encode()),
            )
        )
    borders = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(places))
    table = table.set_column(table.schema.get_field_index(WORDS), WORDS, borders)
    if not good.all():
        bad.sort(key=lambda item: item.offset)
        table = table.filter(pa.array(good))
    return replace(documents, table=table, quarantined=tuple(bad))


def find_borders(
    texts: pa.LargeStringArray, words: pa.LargeListArray, settings: CleanSettings
) -> tuple[np.ndarray, Int64[np.ndarray, " documents+1"], Bool[np.ndarray, " documents"]]:
    """(first characters of all words, where each document's begin, whether its words are its text).

    Args:
        texts: normalized.
        words: of each text, as the user has them.
        settings: of normalization.
    """
    lists = words.offsets.to_numpy()
    data, bounds = string_buffers(texts)
    word_data, word_bounds = string_buffers(normalize(words.values, settings))
    places, offsets = np.empty(int(lists[-1]), np.int32), np.zeros(len(texts) + 1, np.int64)
    fits = np.empty(len(texts), np.bool_)
    match_words(data, bounds, word_data, word_bounds, lists, places, offsets, fits)
    return places[: offsets[-1]], offsets, fits


def _words(value: str | None) -> list[str] | str:
    """The words of a document, or what is wrong with them."""
    if value is None:
        return "there is none"
    try:
        words = json.loads(value)
    except (ValueError, RecursionError):
        return "no list of words"
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return "no list of words"
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        return "a surrogate that is alone"
    return words


@kernel
def match_words(data, bounds, word_data, word_bounds, lists, places, offsets, fits):
    """Walk through each text and its words side by side, white space aside; `places` counts characters of the text.

    Cost: one pass over both.
    """
    count = 0
    for document in range(len(fits)):
        at, end, character, good = bounds[document], bounds[document + 1], 0, True
        before = count
        for word in range(lists[document], lists[document + 1]):
            begins, i = True, word_bounds[word]
            while good and i < word_bounds[word + 1]:
                code, width = code_point(word_data, i)
                i += width
                if is_space(code) or is_break(code):
                    continue
                at, character = _behind_space(data, at, end, character)
                if at == end:
                    good = False
                    break
                own, own_width = code_point(data, at)
                if own != code:
                    good = False
                    break
                if begins:
                    places[count] = character
                    count += 1
                    begins = False
                at += own_width
                character += 1
        at, character = _behind_space(data, at, end, character)
        fits[document] = good and at == end
        count = count if fits[document] else before
        offsets[document + 1] = count


@kernel
def _behind_space(data, at, end, character):
    while at < end:
        code, width = code_point(data, at)
        if not (is_space(code) or is_break(code)):
            break
        at += width
        character += 1
    return at, character
