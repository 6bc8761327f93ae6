"""Decontamination: which documents hold items that a model will be evaluated on.

Texts and items are folded words (`words`), so that case, accents, punctuation and line breaks don't hide an item.

- An item of `ngram` words or more is its different n-grams.
- A shorter one, of `min_words` or more, is one n-gram: all of its words.
- A still shorter one can't be checked: it would stand everywhere. Such items are counted.
- An n-gram that stands in more than `max_documents` documents is a quotation or a phrase, and is ignored (Brown et al.
  2020: Language Models are Few-Shot Learners, appendix C, has 13-grams and 10 documents). An item all of whose n-grams
  are ignored can't be checked either, and is counted.
- A document is contaminated by an item if it holds at least `share` of the item's n-grams that are not ignored. The
  paper removes what is around any single n-gram instead; one of 13 words is too eager.

    index    one pass over the items
    match    each batch of documents: which n-grams stand in which documents, once each, and where first
    decide   the records of the whole corpus: ignore, compare with the share, report by file

Or documents stay, and lose what they hold of the items, as in the paper: every n-gram that isn't ignored, whatever the
share, with a window of characters on both sides. Pieces of text that are left and shorter than the window go, too. The
paper makes documents of the other pieces; here they stay one, with an empty line where it was cut. There is no
difference to the paper's 200 characters but that a word isn't parted.

    match            as above
    choose_ignored   the records of the whole corpus: which n-grams are too common
    cut_runs         each batch again: without the others

Documents that are copies of each other count as several: decide among those that exact and near duplicates leave, or an
item that stands in a page with many copies is ignored.

How a text is searched: the hash of the `min_words` words that begin at a word rolls along, and one bit of a table says
whether any n-gram begins so. Almost never; only then the n-grams of each length that occurs are looked up, and a hit is
compared word by word. Cost: one look at each byte and one bit for each word, at most `ngram` look-ups where an n-gram
may begin. Memory: that of the index, 4 bytes an n-gram more for each search, 28 bytes a record; a document has at most
one record for each n-gram.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Int64, UInt8, UInt64

from mlm_data.characters import code_point
from mlm_data.duplicates.words import ALONE, BASE, BREAK, MOST_AT_ONCE, folding, next_words, power, word_hashes
from mlm_data.duplicates.words import ngram as hash_ngram
from mlm_data.errors import ConfigError
from mlm_data.hashing import large_strings, string_buffers
from mlm_data.kernels import copy_bytes, grown, kernel
from mlm_data.seeds import mix

MIN_WORDS = 5
CUT_VERSION = 1  # enters cache keys: count up when other places are cut, or leave something else behind
MOST_PASSES = 10  # of cutting: what a cut brings together may be an n-gram again

# Document (unit, document) holds an n-gram of the index, first in its bytes [start, end).
MATCH = np.dtype([("unit", "<i4"), ("document", "<i4"), ("gram", "<i4"), ("start", "<i8"), ("end", "<i8")])
Matches = np.ndarray  # of MATCH

# The same with (half of) the hash of the document's text: two texts share one by chance once in 2^64 / 2.
RUN = np.dtype([*MATCH.descr, ("text", "<u8")])
Runs = np.ndarray  # of RUN

# Document (unit, document) holds `held` of the `counted` n-grams of an item, the first from byte `start` on.
FOUND = np.dtype(
    [("unit", "<i4"), ("document", "<i4"), ("item", "<i4"), ("held", "<i4"), ("counted", "<i4"), ("start", "<i8")]
)
Found = np.ndarray  # of FOUND


class Index(NamedTuple):
    """The n-grams of evaluation items, each once, in the order in which they were met."""

    num_files: int
    ngram: int
    min_words: int
    files: Int32[np.ndarray, " items"]  # which file an item is from
    item_places: Int64[
        np.ndarray, " items+1"
    ]  # where in item_grams the n-grams of an item begin: none, if it is too short
    item_grams: Int32[np.ndarray, " held"]  # n-grams of the items, each once an item
    words: UInt64[np.ndarray, " words"]  # hashes of the words of all items, one after another
    starts: Int64[np.ndarray, " grams"]  # where in `words` an n-gram begins
    lengths: Int32[np.ndarray, " grams"]  # its number of words
    table: Int32[np.ndarray, " slots"]  # n-grams by their hash: open addressing, -1 is empty
    beginnings: UInt8[np.ndarray, " bytes"]  # one bit for each hash of the first `min_words` words of an n-gram


class Report(NamedTuple):
    """What was found, by file of items."""

    items: Int64[np.ndarray, " files"]
    too_short: Int64[np.ndarray, " files"]  # fewer than `min_words` words
    too_common: Int64[np.ndarray, " files"]  # all n-grams in more than `max_documents` documents
    checked: Int64[np.ndarray, " files"]  # all others
    found: Int64[np.ndarray, " files"]  # items by which some document is contaminated
    documents: Int64[np.ndarray, " files"]  # contaminated by some item of the file


class Decision(NamedTuple):
    """Which documents are contaminated, and by what."""

    documents: Found  # each document once, by the item of which it holds most; sorted by (unit, document)
    places: Found  # every document with every item, sorted by (unit, document, item)
    report: Report


def build_index(
    items: pa.LargeStringArray,
    files: Int32[np.ndarray, " items"],
    *,
    num_files: int,
    ngram: int = 13,
    min_words: int = MIN_WORDS,
) -> Index:
    """Index items, each of one of `num_files` files. Items are numbered in their order.

    Raises:
        ConfigError: if an n-gram has fewer words than the shortest item.
    """
    if not 0 < min_words <= ngram:
        raise ConfigError(f"ngram must be at least {min_words} (the words of the shortest items), got {ngram}")
    words, places = word_hashes(items)
    num_words = np.diff(places)
    most = np.where(num_words >= ngram, num_words - ngram + 1, num_words >= min_words)
    slots = 1 << int(2 * most.sum() + 1).bit_length()
    table = np.full(slots, -1, np.int32)
    beginnings = np.zeros(2 * slots, np.uint8)  # 32 bits an n-gram and more: fewer than one word in 32 looks in vain
    starts, lengths = np.empty(int(most.sum()), np.int64), np.empty(int(most.sum()), np.int32)
    item_grams, item_places = np.empty(int(most.sum()), np.int32), np.zeros(len(places), np.int64)
    num_grams = _build(words, places, ngram, min_words, table, beginnings, starts, lengths, item_grams, item_places)
    return Index(
        num_files,
        ngram,
        min_words,
        files,
        item_places,
        item_grams[: item_places[-1]].copy(),
        words,
        starts[:num_grams].copy(),
        lengths[:num_grams].copy(),
        table,
        beginnings,
    )


def find_matches(texts: pa.LargeStringArray, index: Index, *, unit: int = 0, first_document: int = 0) -> Matches:
    """Which n-grams of the index stand in which texts, each once a text, where it stands first; in reading order.

    The texts are documents `first_document` and on of a unit. Places are bytes of a text, from the first letter of the
    n-gram to behind its last.
    """
    data, offsets = string_buffers(texts)
    search = _search(index)
    document, gram, start, end = _match_all(data, offsets, search, _buffers(search))
    records = np.empty(len(document), MATCH)
    records["unit"], records["document"], records["gram"] = unit, document + first_document, gram
    records["start"], records["end"] = start, end
    return records


def decide(records: Matches, index: Index, *, share: float = 0.5, max_documents: int = 10) -> Decision:
    """Which documents are contaminated, from the records of the whole corpus in any order; one may come twice.

    Raises:
        ConfigError: if share is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share must be above 0 and at most 1, got {share}")
    records = _once(records)
    num_grams, num_items = len(index.starts), len(index.files)
    counted = np.bincount(records["gram"], minlength=num_grams) <= max_documents
    records = records[counted[records["gram"]]]
    of_item = np.repeat(np.arange(num_items), np.diff(index.item_places))
    num_counted = np.bincount(of_item[counted[index.item_grams]], minlength=num_items)
    places = _found(records, index, of_item, num_counted)
    # A millionth of an n-gram is rounding of share.
    places = places[places["held"] >= share * places["counted"] - 1e-6]
    return Decision(_best(places), places, _report(places, index, num_counted))


def choose_ignored(
    records: Runs, index: Index, *, max_documents: int = 10
) -> tuple[Int32[np.ndarray, " ignored"], Report]:
    """Which n-grams are too common to be cut, sorted, and what was found by file.

    Args:
        records: of the whole corpus, in any order; one may come twice. Copies of one text count as one document.
        index: of the items.
        max_documents: an n-gram that stands in more different texts is ignored.
    """
    order = np.lexsort((records["document"], records["unit"], records["text"], records["gram"]))
    records = records[order]
    records = records[_differs(records, "gram", "text")]
    matches = np.empty(len(records), MATCH)
    for name in MATCH.names or ():
        matches[name] = records[name]
    ignored = np.bincount(matches["gram"], minlength=len(index.starts)) > max_documents
    any_run = 1 / max(1, len(index.item_grams))
    report = decide(matches, index, share=any_run, max_documents=max_documents).report
    return np.flatnonzero(ignored).astype(np.int32), report


def find_cuts(
    texts: pa.LargeStringArray, index: Index, *, ignored: Int32[np.ndarray, " ignored"] | None = None, window: int = 0
) -> tuple[Int32[np.ndarray, " spans"], Int64[np.ndarray, " spans"], Int64[np.ndarray, " spans"]]:
    """What is to be cut: (text, first byte, byte behind the last), sorted; those that overlap or touch are one.

    A span is a place of an n-gram that isn't ignored, `window` characters on both sides of it, and what then is left of
    a word. What is left between two spans, or of the text before the first or behind the last, is part of them if it
    has fewer than `window` characters.
    """
    data, offsets = string_buffers(texts)
    search = _search(index)
    counts = np.ones(len(index.starts), np.bool_)
    counts[[] if ignored is None else ignored] = False
    spans = _spans_all(data, offsets, search, _buffers(search), counts)
    return _widened_all(data, offsets, search.points, window, *spans)


class Uncontaminated(NamedTuple):
    """Texts without runs of evaluations."""

    texts: pa.LargeStringArray
    num_cuts: Int32[np.ndarray, " texts"]


def cut_runs(
    texts: pa.LargeStringArray, index: Index, *, ignored: Int32[np.ndarray, " ignored"] | None = None, window: int = 0
) -> Uncontaminated:
    r"""The texts without `find_cuts`; an empty line stands where a text was cut in the middle.

    What a cut brings together may be an n-gram in its turn, so texts that were cut are searched again. One that still
    holds n-grams after MOST_PASSES was made to: nothing of it is left. So no text holds an n-gram that isn't ignored.

    >>> index = build_index(pa.array(["the cat sat on the mat"], pa.large_string()), np.zeros(1, np.int32), num_files=1)
    >>> cut_runs(pa.array(["He said: The cat sat on the mat! And left."], pa.large_string()), index).texts.to_pylist()
    ['He said: \n\n! And left.']
    """
    num_cuts = np.zeros(len(texts), np.int32)
    found = texts
    again, rows = texts, np.arange(len(texts))
    for step in range(MOST_PASSES + 1):
        text, start, behind = find_cuts(again, index, ignored=ignored, window=window)
        if not len(text):
            break
        hit = np.unique(text)
        num_cuts[rows] += np.bincount(text, minlength=len(rows)).astype(np.int32)
        data, offsets = string_buffers(again)
        if step < MOST_PASSES:
            left = _without(data, offsets, text, start, behind)
        else:
            left = large_strings(np.zeros(0, np.uint8), np.zeros(len(again) + 1, np.int64))
        again, rows = left.take(pa.array(hit)), rows[hit]
        if len(rows) == len(texts):
            found = again
        else:
            mask = np.zeros(len(texts), np.bool_)
            mask[rows] = True
            found = pc.replace_with_mask(found, pa.array(mask), again)
    return Uncontaminated(found, num_cuts)


def _without(
    data: UInt8[np.ndarray, " bytes"],
    offsets: Int64[np.ndarray, " texts+1"],
    text: Int32[np.ndarray, " spans"],
    start: Int64[np.ndarray, " spans"],
    behind: Int64[np.ndarray, " spans"],
) -> pa.LargeStringArray:
    """The texts without the spans."""
    borders = np.searchsorted(text, np.arange(len(offsets)))
    out = np.empty(int(offsets[-1] - offsets[0]) + 2, np.uint8)
    places = np.zeros(len(offsets), np.int64)
    _take_out(data, offsets, borders, start, behind, out, places)
    return large_strings(out[: places[-1]].copy(), places)


class _Search(NamedTuple):
    """What kernels need of an index, and how words are folded."""

    points: Int32[np.ndarray, " code_points"]
    expansions: Int32[np.ndarray, " expanded"]
    ngram: int
    min_words: int
    sizes: Int64[np.ndarray, " sizes"]  # numbers of words that some n-gram has, ascending
    words: UInt64[np.ndarray, " words"]
    starts: Int64[np.ndarray, " grams"]
    lengths: Int32[np.ndarray, " grams"]
    table: Int32[np.ndarray, " slots"]
    beginnings: UInt8[np.ndarray, " bytes"]


class _Buffers(NamedTuple):
    """Words of a text that are looked at together, and what was found among them."""

    words: UInt64[np.ndarray, " words"]
    spans: Int64[np.ndarray, " words 2"]
    hits: Int64[np.ndarray, " hits 3"]  # n-gram, the number of its first word, of its last


def _search(index: Index) -> _Search:
    sizes = np.unique(index.lengths).astype(np.int64)
    table = index.words, index.starts, index.lengths, index.table, index.beginnings
    return _Search(*folding(), index.ngram, index.min_words, sizes, *table)


def _buffers(search: _Search) -> _Buffers:
    room = search.ngram + 4096 + MOST_AT_ONCE
    hits = np.empty((room * len(search.sizes), 3), np.int64)
    return _Buffers(np.empty(room, np.uint64), np.empty((room, 2), np.int64), hits)


def _once(records: Matches) -> Matches:
    """Each (unit, document, n-gram) once, sorted."""
    records = records[np.lexsort((records["gram"], records["document"], records["unit"]))]
    return records[_differs(records, "unit", "document", "gram")]


def _differs(records: np.ndarray, *names: str) -> Bool[np.ndarray, " records"]:
    """Whether a record differs from the one before in one of these fields; the first one does."""
    differs = np.zeros(len(records), np.bool_)
    differs[:1] = True
    for name in names:
        differs[1:] |= records[name][1:] != records[name][:-1]
    return differs


def _found(
    records: Matches,
    index: Index,
    of_item: Int64[np.ndarray, " held"],
    num_counted: Int64[np.ndarray, " items"],
) -> Found:
    """All pairs of a document and an item of which it holds a n-gram, sorted by (unit, document, item)."""
    by_gram = np.argsort(index.item_grams, kind="stable")
    borders = np.searchsorted(index.item_grams[by_gram], np.arange(len(index.starts) + 1))
    begin, count = borders[records["gram"]], np.diff(borders)[records["gram"]]
    record = np.repeat(np.arange(len(records)), count)
    within = np.arange(len(record)) - np.repeat(np.cumsum(count) - count, count)
    item = of_item[by_gram[begin[record] + within]]
    order = np.lexsort((item, records["document"][record], records["unit"][record]))
    pairs = np.empty(len(order), FOUND)
    for name in ("unit", "document", "start"):
        pairs[name] = records[name][record[order]]
    pairs["item"] = item[order]
    firsts = np.flatnonzero(_differs(pairs, "unit", "document", "item"))
    found = pairs[firsts]
    found["held"] = np.diff(np.append(firsts, len(pairs)))
    found["counted"] = num_counted[found["item"]]
    found["start"] = np.minimum.reduceat(pairs["start"], firsts) if len(firsts) else 0
    return found


def _best(places: Found) -> Found:
    """Of each document the item of which it holds most, by share, then by number of n-grams, then the first."""
    share = places["held"] / np.maximum(places["counted"], 1)
    order = np.lexsort((places["item"], -places["held"], -share, places["document"], places["unit"]))
    places = places[order]
    return places[_differs(places, "unit", "document")]


def _report(places: Found, index: Index, num_counted: Int64[np.ndarray, " items"]) -> Report:
    """Counts by file."""
    is_short = np.diff(index.item_places) == 0
    file_of = index.files[places["item"]]
    document = places["unit"].astype(np.int64) << 32 | places["document"]
    pairs = np.unique(np.stack([file_of.astype(np.int64), document]), axis=1)

    def by_file(files: np.ndarray) -> Int64[np.ndarray, " files"]:
        return np.bincount(files, minlength=index.num_files)

    return Report(
        items=by_file(index.files),
        too_short=by_file(index.files[is_short]),
        too_common=by_file(index.files[~is_short & (num_counted == 0)]),
        checked=by_file(index.files[num_counted > 0]),
        found=by_file(index.files[np.unique(places["item"])]),
        documents=by_file(pairs[0]),
    )


@kernel
def _gram_hash(total, length):
    """The hash of an n-gram, by its number of words, too."""
    return mix(total + np.uint64(length))


@kernel
def _look_up(hashed, words, first, length, known, starts, lengths, table):
    """(slot, n-gram or -1) of words[first:first + length] among the n-grams of the words `known`."""
    slot = np.int64(hashed & np.uint64(len(table) - 1))
    while table[slot] >= 0:
        gram = table[slot]
        if lengths[gram] == length:
            same = True
            for k in range(length):
                if known[starts[gram] + k] != words[first + k]:
                    same = False
                    break
            if same:
                return slot, np.int64(gram)
        slot = (slot + 1) & (len(table) - 1)
    return slot, np.int64(-1)


@kernel
def _build(words, places, n, shortest, table, beginnings, starts, lengths, item_grams, item_places):
    num_grams = np.int64(0)
    num_held = np.int64(0)
    seen_in = np.full(len(starts), -1, np.int64)
    for item in range(len(places) - 1):
        first, behind = places[item], places[item + 1]
        length = min(n, behind - first)
        at = first
        while length >= shortest and at + length <= behind:
            slot, gram = _look_up(
                _gram_hash(hash_ngram(words, at, at + length), length), words, at, length, words, starts, lengths, table
            )
            if gram < 0:
                gram = num_grams
                starts[gram], lengths[gram] = at, length
                table[slot] = gram
                num_grams += 1
                bit = mix(hash_ngram(words, at, at + shortest)) & np.uint64(8 * len(beginnings) - 1)
                beginnings[np.int64(bit >> np.uint64(3))] |= np.uint8(1 << (bit & np.uint64(7)))
            if seen_in[gram] != item:
                seen_in[gram] = item
                item_grams[num_held] = gram
                num_held += 1
            at += 1
        item_places[item + 1] = num_held
    return num_grams


@kernel
def _begins(total, beginnings):
    """Whether an n-gram may begin with the words of this hash."""
    bit = mix(total) & np.uint64(8 * len(beginnings) - 1)
    return (beginnings[np.int64(bit >> np.uint64(3))] >> (bit & np.uint64(7))) & np.uint64(1) != np.uint64(0)


@kernel
def _next_hits(data, i, end, search, buffers, carried):
    """Find n-grams among the next words of a text: (place behind, number of hits, words that are done, words in all).

    The first `carried` words are those before. Words that are done begin no n-gram any more; the others, fewer than
    `ngram`, are to be carried over.
    """
    words = buffers.words
    i, count = next_words(data, i, end, search.points, search.expansions, words, carried, buffers.spans)
    # At a text's end any word may begin an n-gram that is whole; before, only those with `ngram` words from there on.
    shortest = search.min_words
    num_done = max(np.int64(0), count - (shortest if i >= end else search.ngram) + 1)
    num_hits = np.int64(0)
    total = np.uint64(0)
    highest = power(shortest - 1)
    for k in range(num_done):
        if k == 0:
            total = hash_ngram(words, 0, shortest)
        else:
            total = (total - words[k - 1] * highest) * BASE + words[k + shortest - 1]
        if not _begins(total, search.beginnings):
            continue
        for size in search.sizes:
            if k + size > count:
                break
            hashed = _gram_hash(hash_ngram(words, k, k + size), size)
            _, gram = _look_up(hashed, words, k, size, search.words, search.starts, search.lengths, search.table)
            if gram >= 0:
                buffers.hits[num_hits, 0] = gram
                buffers.hits[num_hits, 1] = k
                buffers.hits[num_hits, 2] = k + size - 1
                num_hits += 1
    return i, num_hits, num_done, count


@kernel
def _carry(buffers, num_done, count):
    """Move the words from `num_done` on to the front; their number."""
    for k in range(num_done, count):
        buffers.words[k - num_done] = buffers.words[k]
        buffers.spans[k - num_done, 0] = buffers.spans[k, 0]
        buffers.spans[k - num_done, 1] = buffers.spans[k, 1]
    return count - num_done


@kernel
def _match_all(data, offsets, search, buffers):
    room = 1024
    document, gram_of = np.empty(room, np.int32), np.empty(room, np.int32)
    start, behind = np.empty(room, np.int64), np.empty(room, np.int64)
    total = 0
    seen_in = np.full(len(search.starts), -1, np.int32)
    for t in range(len(offsets) - 1):
        i, end = offsets[t], offsets[t + 1]
        carried = np.int64(0)
        while i < end:
            i, num_hits, num_done, count = _next_hits(data, i, end, search, buffers, carried)
            for k in range(num_hits):
                gram, first, last = buffers.hits[k]
                if seen_in[gram] == t:
                    continue
                seen_in[gram] = t
                if total == room:
                    room *= 2
                    document, gram_of = grown(document, room), grown(gram_of, room)
                    start, behind = grown(start, room), grown(behind, room)
                document[total], gram_of[total] = t, gram
                start[total] = buffers.spans[first, 0] - offsets[t]
                behind[total] = buffers.spans[last, 1] - offsets[t]
                total += 1
            carried = _carry(buffers, num_done, count)
    return document[:total], gram_of[:total], start[:total], behind[:total]


@kernel
def _spans_all(data, offsets, search, buffers, counts):
    room = 1024
    text, start, behind = np.empty(room, np.int32), np.empty(room, np.int64), np.empty(room, np.int64)
    total = 0
    for t in range(len(offsets) - 1):
        i, end = offsets[t], offsets[t + 1]
        carried = np.int64(0)
        first_of_text = total
        while i < end:
            i, num_hits, num_done, count = _next_hits(data, i, end, search, buffers, carried)
            for k in range(num_hits):
                gram, first, last = buffers.hits[k]
                if not counts[gram]:
                    continue
                begin = buffers.spans[first, 0] - offsets[t]
                stop = buffers.spans[last, 1] - offsets[t]
                # They come in the order of their beginnings.
                if total > first_of_text and begin <= behind[total - 1]:
                    behind[total - 1] = max(behind[total - 1], stop)
                    continue
                if total == room:
                    room *= 2
                    text, start, behind = grown(text, room), grown(start, room), grown(behind, room)
                text[total], start[total], behind[total] = t, begin, stop
                total += 1
            carried = _carry(buffers, num_done, count)
    return text[:total], start[:total], behind[:total]


@kernel
def _is_inside(data, i, first, end, points):
    """Whether the character border i parts a word: letters stand on both of its sides."""
    if i <= first or i >= end:
        return False
    code, _ = code_point(data, i)
    before, _ = code_point(data, _back(data, i, first))
    return _is_letter(code, points) and _is_letter(before, points)


@kernel
def _is_letter(code, points):
    """Whether a code point is of a word with others; skipped ones stand in words."""
    if code >= len(points):
        return False
    return points[code] != BREAK and (points[code] < 0 or points[code] & ALONE == 0)


@kernel
def _back(data, i, first):
    """Where the character before i begins."""
    i -= 1
    while i > first and data[i] & 0xC0 == 0x80:
        i -= 1
    return i


@kernel
def _ahead(data, i, end):
    """Where the character at i ends."""
    i += 1
    while i < end and data[i] & 0xC0 == 0x80:
        i += 1
    return i


@kernel
def _is_short(data, i, end, window):
    """Whether data[i:end] has fewer than `window` characters; empty is short."""
    count = 0
    while i < end and count < window:
        i = _ahead(data, i, end)
        count += 1
    return count < window or (i == end and count == 0)


@kernel
def _widened_all(data, offsets, points, window, text, start, behind):
    """Widen spans by the window to whole words, and join those that leave too little between them."""
    total = 0
    for k in range(len(text)):
        t = text[k]
        first, end = offsets[t], offsets[t + 1]
        joins = total > 0 and text[total - 1] == t
        least = first + behind[total - 1] if joins else first  # bytes before are cut already, or of another text
        i, j = first + start[k], first + behind[k]
        for _ in range(window):
            if i <= least:
                break
            i = _back(data, i, least)
        while i > least and _is_inside(data, i, least, end, points):
            i = _back(data, i, least)
        for _ in range(window):
            if j >= end:
                break
            j = _ahead(data, j, end)
        while _is_inside(data, j, first, end, points):
            j = _ahead(data, j, end)
        if i <= least or _is_short(data, least, i, window):
            i = least
        if _is_short(data, j, end, window):
            j = end
        if joins and i == least:
            behind[total - 1] = max(behind[total - 1], j - first)
            continue
        text[total], start[total], behind[total] = t, i - first, j - first
        total += 1
    return text[:total].copy(), start[:total].copy(), behind[:total].copy()


@kernel
def _is_white(byte):
    return byte == 32 or byte == 9 or byte == 10


@kernel
def _take_out(data, offsets, borders, start, behind, out, places):
    """Write what is left of each text. A cut takes two bytes or more, and leaves two at most."""
    at = np.int64(0)
    for t in range(len(offsets) - 1):
        first, end = offsets[t], offsets[t + 1]
        begin, i = at, first
        for k in range(borders[t], borders[t + 1]):
            at = _append(data, i, first + start[k], out, begin, at, i > first)
            i = first + behind[k]
        at = _append(data, i, end, out, begin, at, i > first)
        places[t + 1] = at


@kernel
def _append(data, i, end, out, begin, at, is_behind_cut):
    """Write data[i:end], behind a cut below an empty line and without white space before; the place behind."""
    if is_behind_cut:
        while i < end and _is_white(data[i]):
            i += 1
        if i < end and at > begin:
            out[at], out[at + 1] = 10, 10
            at += 2
    return copy_bytes(data, i, end, out, at)
