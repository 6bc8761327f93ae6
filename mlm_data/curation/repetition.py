"""Runs of words that a text repeats: the n-grams of Gopher's repetition rules (Rae et al. 2021, table A1).

For n = 2, 3, 4: the *commonest* n-gram (of equally common ones that which comes first); its length with a space
between words, times its count. A text whose n-grams are all different has its first one, once; a text of fewer words
than n has 0.

For n = 5 to 10: a *walk* over the words. Where the n words from here on stood at a place where the walk has been, their
characters (without spaces) are counted and the walk goes on behind them; else it remembers them and goes on by one
word.

What makes this cheap: an n-gram can only be repeated where the (n-1)-grams at its first and at its second word are. So
n-grams are found level by level, each level looking only at places that the one before found repeated, and the walks
visit only such places:

    words          a b c a b d        level 1: a b . a b .    level 2: (a b) . . (a b) . .    level 3: none

Each repeated word gets a small number, and an n-gram is the pair (number of its first n-1 words, number of its last
word): it is exact where the words' 64-bit hashes are. A level costs one look-up for each place; there are fewer at
each.
"""

import numpy as np
from jaxtyping import Int32

from mlm_data.curation.words import Words
from mlm_data.kernels import folded, lean_kernel

TOP = (2, 3, 4)
WALKED = (5, 6, 7, 8, 9, 10)

_MOST = 2**31 - 1
_FEWEST_SLOTS = 16
_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)


def count_repetition(words: Words) -> tuple[Int32[np.ndarray, "texts 3"], Int32[np.ndarray, "texts 6"]]:
    """(characters of the commonest n-gram times its count for n in TOP, characters of repeated n-grams for n in
    WALKED).

    Counts that don't fit into 31 bits are 2^31 - 1: the text has fewer characters, so that every rule sees too many.
    """
    num = len(words.offsets) - 1
    top, walked = np.zeros((num, len(TOP)), np.int32), np.zeros((num, len(WALKED)), np.int32)
    most = int(np.diff(words.offsets).max(initial=0))
    slots = max(_FEWEST_SLOTS, 1 << (2 * most).bit_length())
    _count(
        words.offsets, words.hashes, words.chars, np.empty(slots, np.uint64), np.empty(slots, np.int32),
        np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32),
        np.empty(most + 1, np.int64), np.empty(most, np.uint8), top, walked,
    )  # fmt: skip
    return top, walked


@lean_kernel
def _number(key, keys, numbers, mask, num):
    """The number of a key that isn't 0; a new one gets `num`."""
    slot = np.int64(folded(key, _MULTIPLY) & np.uint64(mask))
    while keys[slot] != 0:
        if keys[slot] == key:
            return numbers[slot]
        slot = (slot + 1) & mask
    keys[slot] = key
    numbers[slot] = num
    return np.int32(num)


@lean_kernel
def _clear(keys, places):
    """Empty as many slots as so many places need; the mask for `_number`."""
    size = np.int64(_FEWEST_SLOTS)
    while size < 2 * places:
        size *= 2
    keys[:size] = 0
    return size - 1


@lean_kernel
def _walk(n, places, grams, num_places, num_grams, before, seen):
    """Characters of n-grams that the walk meets again; only repeated ones are among the places."""
    seen[:num_grams] = 0
    total = np.int64(0)
    free = np.int64(0)  # the walk hasn't gone beyond this word yet
    for k in range(num_places):
        place = places[k]
        if place < free:
            continue
        if seen[grams[k]]:
            total += before[place + n] - before[place]
            free = place + n
        else:
            seen[grams[k]] = 1
    return total


@lean_kernel
def _count(offsets, hashes, chars, keys, numbers, of_word, places, grams, counts, before, seen, top, walked):
    for text in range(len(offsets) - 1):
        first_word = offsets[text]
        num_words = offsets[text + 1] - first_word
        before[0] = 0
        for i in range(num_words):
            before[i + 1] = before[i] + chars[first_word + i]

        # Level 1: words that stand in the text more than once, numbered.
        mask = _clear(keys, num_words)
        num_grams = 0
        for i in range(num_words):
            gram = _number(hashes[first_word + i], keys, numbers, mask, num_grams)
            of_word[i] = gram
            if gram == num_grams:
                counts[gram] = 0
                num_grams += 1
            counts[gram] += 1
        num_places = 0
        for i in range(num_words):
            if counts[of_word[i]] > 1:
                places[num_places] = i
                grams[num_places] = of_word[i]
                num_places += 1

        for n in range(2, 11):
            # From the places of repeated (n-1)-grams to those of n-grams that may be repeated.
            mask = _clear(keys, num_places)
            num_grams = 0
            best = np.int64(0)
            kept = 0
            for k in range(num_places - 1):
                place = places[k]
                if places[k + 1] != place + 1:
                    continue
                # Numbers are below 2^31: one added to each keeps pairs apart, and the key from being 0.
                key = (np.uint64(grams[k] + 1) << np.uint64(32)) | np.uint64(of_word[place + n - 1] + 1)
                gram = _number(key, keys, numbers, mask, num_grams)
                if gram == num_grams:
                    counts[gram] = 0
                    num_grams += 1
                counts[gram] += 1
                best = max(best, np.int64(counts[gram]))
                places[kept] = place
                grams[kept] = gram
                kept += 1
            if n <= 4 and num_words >= n:
                place = np.int64(0)  # of the first n-gram, the commonest where none is repeated
                if best > 1:
                    k = 0
                    while counts[grams[k]] < best:
                        k += 1
                    place = places[k]
                top[text, n - 2] = min((before[place + n] - before[place] + n - 1) * max(best, np.int64(1)), _MOST)
            num_places = 0
            for k in range(kept):
                if counts[grams[k]] > 1:
                    places[num_places] = places[k]
                    grams[num_places] = grams[k]
                    num_places += 1
            if n >= 5:
                walked[text, n - 5] = min(_walk(n, places, grams, num_places, num_grams, before, seen), _MOST)
