"""Sketches of texts, whose agreement estimates how much two texts have in common.

The *shingles* of a text are its n-grams of folded words (`words`); a text of fewer words has one, of all of them. The
Jaccard similarity of two texts is the number of shingles in both over that in either. A sketch holds `size` values; the
share of the places at which two sketches agree estimates it without bias (Broder 1997 for independent hashes).

Ours is *fast similarity sketching* (Dahlgaard, Knudsen, Thorup: Fast Similarity Sketching, FOCS 2017, algorithm 1).
Each shingle is thrown into one bucket in each round, and each bucket keeps its smallest value; a value is larger in
every later round, so rounds end when no bucket is empty:

    round 0           every shingle x: bucket h0(x), value (0, v0(x))   a long text is done here: one hash a shingle
    round t < size    the same with ht(x) and (t, vt(x))                a short one: about size * ln(size) hashes in all
    round size + b    every shingle into bucket b                       so that it always ends: b = 0 ... size - 1

Against `size` independent hashes it costs a fraction, and its estimates spread less: measured at 112 values and Jaccard
.5, .71 of their standard deviation where two texts have 20 shingles in all, .73 at 60, .82 at 300, .95 at 2,000.

All is integers: ht(x) and vt(x) are the upper and lower 32 bits of draw(x, t) (`seeds`). Of each value 8 bits are kept,
enough to verify (Li and König 2010: b-bit minwise hashing): two different values agree once in 256, which `clusters`
corrects. A document is then 112 bytes at 16 x 7, whatever its length.

*Bands* (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4): `bands` runs of size / bands places. Two
texts meet as candidates if they agree in all places of one. The keys of bands are hashes of those bytes, so that they
need not be stored, and other bands of the same size need no new sketches. Keys of whole values would meet less often,
but hardly: at Jaccard J two bands of r places agree with J^r, of bytes with (J + (1 - J) / 256)^r. What meets by chance
is verified away.

Cost: one pass over the text, as fast as `words`. Memory: 8 bytes for each of 64 * size shingles. A text that has more
and still leaves buckets empty repeats itself: its first 64 * size different shingles go through the other rounds.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8, UInt64

from mlm_data.duplicates.words import BASE, MOST_AT_ONCE, folding, next_words, ngram, power
from mlm_data.errors import ConfigError
from mlm_data.hashing import string_buffers
from mlm_data.kernels import kernel
from mlm_data.seeds import draw, fold, mix

ALGORITHM_VERSION = 1  # with that of `words` enters cache keys: count up when any sketch comes out differently

KEPT = 64  # shingles a bucket that are remembered: one of `size` buckets stays empty with a chance of size * e**-64
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


class Sketches(NamedTuple):
    """Of each document; a document without words has num_shingles 0 and values that mean nothing."""

    values: UInt8[np.ndarray, " documents size"]
    num_shingles: Int64[np.ndarray, " documents"]  # with repetitions


def sketch(texts: pa.LargeStringArray, *, ngram: int, size: int) -> Sketches:
    """Sketches of `size` values over the `ngram`-grams of folded words. Nulls are not allowed.

    >>> one, other = sketch(pa.array(["A b, c d e f.", "a B c - D e; F"], pa.large_string()), ngram=5, size=112).values
    >>> bool((one == other).all())
    True
    """
    assert ngram > 0
    assert 0 < size < 1 << 16
    data, offsets = string_buffers(texts)
    values = np.empty((len(texts), size), np.uint8)
    num_shingles = np.empty(len(texts), np.int64)
    _sketch_all(data, offsets, *folding(), ngram, values, num_shingles)
    return Sketches(values, num_shingles)


def band_keys(values: UInt8[np.ndarray, " documents size"], *, bands: int) -> UInt64[np.ndarray, " documents bands"]:
    """The key of each band of each document: 64 bits of hash over the band's number and its size / bands bytes.

    Raises:
        ConfigError: if the sketches can't be cut into so many equal bands.
    """
    size = values.shape[1]
    if size % bands:
        raise ConfigError(f"bands must divide the {size} values of a sketch, got {bands}")
    keys = np.empty((len(values), bands), np.uint64)
    _band_keys(np.ascontiguousarray(values), size // bands, keys)
    return keys


@kernel
def _band_keys(values, rows, keys):
    for document in range(keys.shape[0]):
        for band in range(keys.shape[1]):
            key = np.uint64(band)
            for first in range(band * rows, (band + 1) * rows, 8):
                word = np.uint64(0)
                for place in range(first, min(first + 8, (band + 1) * rows)):
                    word = (word << np.uint64(8)) | np.uint64(values[document, place])
                key = fold(key, word)
            keys[document, band] = key


@kernel
def _next_shingles(data, i, end, points, expansions, n, last, words, carried, spans, shingles):
    """The n-grams that end in the words that are read next: (place behind, n-grams, words carried over).

    The first `carried` words are those before; `last` is the factor BASE ** n.
    """
    i, count = next_words(data, i, end, points, expansions, words, carried, spans)
    found = np.int64(0)
    if count >= n:
        total = ngram(words, 0, n)
        shingles[0] = total
        for k in range(n, count):
            total = total * BASE + words[k] - words[k - n] * last
            shingles[k - n + 1] = total
        found = count - n + 1
        carried = np.int64(n - 1)
        for k in range(carried):
            words[k] = words[count - carried + k]
    else:
        carried = count
    return i, found, carried


@kernel
def _throw(shingles, count, rnd, buckets):
    """One round of shingles into the buckets; whether none is empty then."""
    size = np.uint64(len(buckets))
    upper = np.uint64(rnd) << np.uint64(32)
    for k in range(count):
        drawn = draw(shingles[k], rnd)
        place = ((drawn >> np.uint64(32)) * size) >> np.uint64(32)
        if rnd >= len(buckets):
            place = np.uint64(rnd) - size
        value = upper | (drawn & np.uint64(0xFFFFFFFF))
        buckets[place] = min(buckets[place], value)
    return buckets.max() != _EMPTY


@kernel
def _sketch_all(data, offsets, points, expansions, n, values, num_shingles):
    size = values.shape[1]
    last = power(n)
    limit = KEPT * size
    words = np.empty(n + 4096 + MOST_AT_ONCE, np.uint64)
    shingles = np.empty(len(words), np.uint64)
    kept = np.empty(limit, np.uint64)
    buckets = np.empty(size, np.uint64)
    spans = np.empty((0, 2), np.int64)
    for t in range(len(num_shingles)):
        buckets[:] = _EMPTY
        num_kept = total = carried = np.int64(0)
        i, end = offsets[t], offsets[t + 1]
        is_full = False
        while i < end:
            i, found, carried = _next_shingles(
                data, i, end, points, expansions, n, last, words, carried, spans, shingles
            )
            if i >= end and total == 0 and found == 0 and carried > 0:
                shingles[0] = ngram(words, 0, carried)
                found = np.int64(1)
            taken = min(found, limit - num_kept)
            kept[num_kept : num_kept + taken] = shingles[:taken]
            num_kept += taken
            total += found
            is_full = _throw(shingles, found, 0, buckets)
        num_shingles[t] = total
        if total > limit and not is_full:
            num_kept = _different(data, offsets[t], end, points, expansions, n, last, words, spans, shingles, kept)
        rnd = 1
        while total > 0 and not is_full:
            is_full = _throw(kept, num_kept, rnd, buckets)
            rnd += 1
        for place in range(size):
            values[t, place] = np.uint8(mix(buckets[place]) & np.uint64(0xFF))


@kernel
def _different(data, i, end, points, expansions, n, last, words, spans, shingles, kept):
    """Fill `kept` with a text's first different shingles; return their number."""
    size = 1
    while size < 2 * len(kept):
        size *= 2
    table = np.full(size, -1, np.int32)
    count = carried = np.int64(0)
    while i < end and count < len(kept):
        i, found, carried = _next_shingles(data, i, end, points, expansions, n, last, words, carried, spans, shingles)
        for k in range(found):
            if count == len(kept):
                break
            place = np.int64(mix(shingles[k]) & np.uint64(size - 1))
            while table[place] >= 0 and kept[table[place]] != shingles[k]:
                place = (place + 1) & (size - 1)
            if table[place] < 0:
                table[place] = count
                kept[count] = shingles[k]
                count += 1
    return count
