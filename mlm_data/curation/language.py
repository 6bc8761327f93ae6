"""Which language a text is in: py3langid's model, walked by kernels of our own.

py3langid 0.4 (Barbaresi 2021; BSD-3) is langid.py (Lui and Baldwin 2012) with a new model: naive Bayes over 100,053
n-grams of bytes, found by an automaton, for 140 languages. Its model file holds plain arrays, no pickle, and is read
with the library's own loader.

1. *Excerpt*: a text of at most 768 bytes of UTF-8 whole; of a longer one the first, middle and last 256 bytes, cut at
   borders of characters, with a line feed between. The beginning alone misleads: a licence, a table, a list of names.
2. The excerpt is put into NFC, and into small letters if it is all in capitals, as the library does.
3. *Label and score*: the library's on the same bytes, at normalised probabilities: scores of all classes divided by
   the root of the number of bytes, then softmax. Scores are stored in units of 1/10,000.
4. Where not even one feature is found (such as the empty text) the label is `und` with score 0; where there are
   features but no letter, `zxx` with score 1. The library would guess.

The sums are of integers: one machine finds what every other finds. Letters and small letters are those of Python's
Unicode. A language that the model doesn't know scores high under a relative's name.

Cost: mostly one look into the automaton's table for each byte and a row of 142 weights for each feature. The tables
take 70 MB, and 0.8 s to load.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int16, Int32, Int64, UInt8, UInt16, UInt32

from mlm_data.command import require
from mlm_data.curation.language_codes import GROUPS, NO_LANGUAGE, SERBO_CROATIAN, UNDETERMINED, shortest_code
from mlm_data.curation.language_kernels import (
    LETTER,
    LOG_UNIT,
    LOWER,
    MAY_CHANGE,
    SCORE_UNIT,
    UPPER,
    WEIGHT_UNIT,
    classify,
    cut_excerpts,
    excerpt_sizes,
    look,
)
from mlm_data.hashing import string_buffers
from mlm_data.kernels import read_only

ALGORITHM_VERSION = 2  # enters cache keys: count up when any label or score comes out differently

WINDOW = 256  # bytes: three of them find the language of long documents as three of 512 do
WHOLE = 3 * WINDOW  # bytes up to which a text is read whole
_GROWTH = 3  # the most that NFC or small letters lengthen UTF-8 (Unicode Standard Annex 15, section 13.1)
_LIMIT = 0x30000  # code points from here on are letters without case or marks

_CODES = """
und zxx ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv
fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab ki kk km kn ko ku ky la lb lg
lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se sh si sk sl
sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu
"""
LANGUAGES = tuple(_CODES.split())  # every code that `identify_languages` may give, in the order of its numbers


@dataclass(frozen=True, kw_only=True)
class Languages:
    """What a model says of some texts."""

    codes: Int16[np.ndarray, " documents"]  # places in the model's `languages`
    scores: UInt16[np.ndarray, " documents"]  # of 0 to SCORE_UNIT


class LanguageModel(Protocol):
    """What finds languages. `version` names all that its answers depend on, for cache keys."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def languages(self) -> tuple[str, ...]: ...
    def identify(self, texts: pa.LargeStringArray) -> Languages: ...


@dataclass(frozen=True, kw_only=True)
class Py3langid:
    """The default model.

    >>> Py3langid().languages[:3]
    ('und', 'zxx', 'ace')
    """

    group: bool = False  # Bosnian, Croatian and Serbian are one language, `sh`, whose probabilities are added
    name: str = "py3langid"
    languages: tuple[str, ...] = LANGUAGES

    @property
    def version(self) -> str:
        return f"py3langid {model_sha256()} {ALGORITHM_VERSION}{' grouped' if self.group else ''}"

    def identify(self, texts: pa.LargeStringArray) -> Languages:
        return identify_languages(texts, group=self.group)


def identify_languages(texts: pa.LargeStringArray, *, group: bool = False) -> Languages:
    """The language of each text, as places in `LANGUAGES`, with a score; see the rules above. Nulls are not allowed.

    Args:
        group: give `sh` for Bosnian, Croatian and Serbian, with the sum of their probabilities.

    Raises:
        ConfigError: py3langid isn't installed.
    """
    model = _model()
    excerpts, has_letters = _as_the_library_reads(cut(texts))
    data, offsets = string_buffers(excerpts)
    labels = np.empty(len(texts), np.int16)
    scores = np.empty(len(texts), np.uint16)
    joins = model.grouped if group else model.joins
    classify(
        data, offsets, model.table, model.first, model.features, model.weights, model.logs, model.priors, joins, labels,
        scores,
    )  # fmt: skip
    codes = np.where(labels >= 0, model.codes[joins[labels]], np.int16(LANGUAGES.index(UNDETERMINED)))
    if group:
        members = [LANGUAGES.index(code) for code in GROUPS[SERBO_CROATIAN]]
        codes = np.where(np.isin(codes, members), np.int16(LANGUAGES.index(SERBO_CROATIAN)), codes)
    is_empty_talk = (labels >= 0) & ~has_letters
    codes[is_empty_talk] = LANGUAGES.index(NO_LANGUAGE)
    scores[is_empty_talk] = SCORE_UNIT
    return Languages(codes=codes, scores=scores)


def cut(texts: pa.LargeStringArray, *, window: int = WINDOW) -> pa.LargeStringArray:
    r"""The excerpts that languages are found in: up to 3 x window + 2 bytes each; the array itself if all are short.

    >>> cut(pa.array(["short", "a" * 9 + "b" * 9 + "c" * 9], pa.large_string()), window=4).to_pylist()
    ['short', 'aaaa\nbbbb\ncccc']
    """
    data, offsets = string_buffers(texts)
    sizes = np.empty(len(texts), np.int64)
    excerpt_sizes(data, offsets, window, 3 * window, sizes)
    if (sizes <= 3 * window).all():
        return texts
    out = np.empty(int(sizes.sum()), np.uint8)
    places = np.zeros(len(texts) + 1, np.int64)
    cut_excerpts(data, offsets, window, 3 * window, out, places)
    return pa.Array.from_buffers(pa.large_string(), len(texts), [None, pa.py_buffer(places), pa.py_buffer(out)])


def model_sha256() -> str:
    """SHA-256 of the model file, in hexadecimal: for cache keys.

    Raises:
        ConfigError: py3langid isn't installed.
    """
    return hashlib.sha256(_model_path().read_bytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Model:
    """The arrays of `language_kernels.classify`, and the code of each class."""

    table: UInt32[np.ndarray, "rows 256"]
    first: Int32[np.ndarray, " rows+1"]
    features: Int32[np.ndarray, " states"]
    weights: Int16[np.ndarray, "features padded"]
    logs: Int64[np.ndarray, " counts"]
    priors: Int64[np.ndarray, " classes"]
    joins: Int64[np.ndarray, " classes"]
    grouped: Int64[np.ndarray, " classes"]
    codes: Int16[np.ndarray, " classes"]


def _model_path() -> Path:
    langid = require("py3langid", extra="curation").langid
    return Path(langid.MODEL_DIR) / langid.MODEL_FILE


@lru_cache(maxsize=1)
def _model() -> _Model:
    """The library's model in our arrays."""
    path = _model_path()
    from py3langid.modelio import load_model

    weights, priors, classes, moves, row_of_state, feature_of_state = load_model(path)
    table, first, features = _automaton(
        np.asarray(moves, np.uint32).reshape(-1, 256), np.asarray(row_of_state), np.asarray(feature_of_state, np.int32)
    )
    padded = np.zeros((len(weights), -(-len(classes) // 16) * 16), np.int16)
    padded[:, : len(classes)] = np.rint(weights.astype(np.float64) * WEIGHT_UNIT)
    codes = [LANGUAGES.index(shortest_code(name) or name) for name in classes]
    members = {LANGUAGES.index(code) for code in GROUPS[SERBO_CROATIAN]}
    in_group = [min(members) if code in members else code for code in codes]
    most = _GROWTH * (WHOLE + 2) + 1
    return _Model(
        table=read_only(table),
        first=read_only(first),
        features=read_only(features),
        weights=read_only(padded),
        logs=np.rint(np.log1p(np.arange(most)) * LOG_UNIT).astype(np.int64),
        priors=np.rint(np.asarray(priors, np.float64) * (WEIGHT_UNIT * LOG_UNIT)).astype(np.int64),
        joins=np.array([codes.index(code) for code in codes]),
        grouped=np.array([in_group.index(code) for code in in_group]),
        codes=np.array(codes, np.int16),
    )


def _automaton(
    moves: UInt32[np.ndarray, "rows 256"],
    row_of_state: np.ndarray,
    feature_of_state: Int32[np.ndarray, " states"],
) -> tuple[UInt32[np.ndarray, "rows 256"], Int32[np.ndarray, " rows+1"], Int32[np.ndarray, " all_features"]]:
    """The library's automaton, with (row, which of its features) for each state: see `language_kernels`.

    The library's tables lead from (row of the state, byte) to the next state, and from a state to its feature or -1.
    """
    swap = np.arange(len(moves))
    swap[[0, row_of_state[0]]] = row_of_state[0], 0  # a text begins in the row of state 0: let that be row 0
    row_of_state = swap[row_of_state]
    order = np.flatnonzero(feature_of_state >= 0)
    order = order[np.argsort(row_of_state[order], kind="stable")]
    num_own = np.bincount(row_of_state[order], minlength=len(moves))
    begins = np.concatenate([[0], np.cumsum(num_own)])
    which = np.zeros(len(row_of_state), np.int64)
    which[order] = np.arange(len(order)) - begins[row_of_state[order]] + 1
    assert len(moves) <= 1 << 16, "a row has 16 bits"
    assert which.max() < 1 << 16, "so has a row's feature"
    entries = (row_of_state << 16 | which).astype(np.uint32)
    return entries[moves[swap]], (begins - 1).astype(np.int32), feature_of_state[order]


def _as_the_library_reads(
    texts: pa.LargeStringArray,
) -> tuple[pa.LargeStringArray, Bool[np.ndarray, " documents"]]:
    """The texts in NFC, and in small letters where all letters are capitals; and which of them have letters.

    Such texts are rare, and pass through Python one by one.
    """
    data, offsets = string_buffers(texts)
    needs_care = np.empty(len(texts), np.bool_)
    has_letters = np.empty(len(texts), np.bool_)
    look(data, offsets, *_characters(), needs_care, has_letters)
    if not needs_care.any():
        return texts, has_letters
    read = [
        unicodedata.normalize("NFC", text.lower() if text.isupper() else text)
        for text in texts.filter(pa.array(needs_care)).to_pylist()
    ]
    changed = pc.replace_with_mask(texts, pa.array(needs_care), pa.array(read, pa.large_string()))
    return changed, has_letters


@lru_cache(maxsize=1)
def _characters() -> tuple[UInt8[np.ndarray, " code_points"], UInt8[np.ndarray, " code_points"]]:
    """For each code point below `_LIMIT` the bits of `language_kernels`; and 0, its combining class, or MAY_CHANGE."""
    kinds = np.zeros(_LIMIT, np.uint8)
    marks = np.zeros(_LIMIT, np.uint8)
    for code in range(_LIMIT):
        char = chr(code)
        if char.isalpha():
            kinds[code] = LETTER
        if char.isupper():
            kinds[code] |= UPPER
        elif char.islower() or char.istitle():
            kinds[code] |= LOWER
        marks[code] = unicodedata.combining(char)
        parts = unicodedata.decomposition(char).split()
        if parts and not parts[0].startswith("<"):
            if not unicodedata.is_normalized("NFC", char):
                marks[code] = MAY_CHANGE
            elif len(parts) == 2:
                marks[int(parts[1], 16)] = MAY_CHANGE
    for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)):  # vowels and finals of Hangul
        marks[code] = MAY_CHANGE
    return read_only(kinds), read_only(marks)
