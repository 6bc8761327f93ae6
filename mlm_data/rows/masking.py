"""Draw mask planes: which places of each row are targets, and what they hold instead.

The rule. A *unit* is what is hidden as a whole: one token, or one word (a long word in runs of at most 8 tokens). Each
unit has a priority, a 64-bit hash of (seed, plane, document id, copy, place in the document) of its first token. The
row's budget is floor(rate x candidates) places; a candidate is a content token that is no special and not unknown.

* `token`: the budget's number of candidates with the lowest priorities. Always exactly the budget, and a lower rate is
  a subset of a higher one.
* `whole_word`: words by rising priority; one that no longer fits is passed over (Devlin et al. 2019, the whole-word
  models of their code).
* `span`: words by rising priority, and each that is not yet hidden starts a span: it and the following words of its
  segment, as many as its length says, drawn from Geo(0.2) truncated at 10, mean 3.8 (Joshi et al. 2020, SpanBERT, sec.
  3.1). A span ends early at a word that no longer fits. SpanBERT may cut a word there and starts spans at random
  tokens; ours keeps words whole and starts at random words.
* `ngram`: runs of exactly `ngram` neighbouring candidates of a segment. Places where a run may start are taken by
  rising priority of their first token; one is passed over where its run would meet or touch a run that is there. So at
  least one visible place is between two runs, and each run is seen for what it is. DNABERT hides k neighbouring k-mers
  likewise, as a letter stands in k of them (Ji et al. 2021, DNABERT, doi:10.1093/bioinformatics/btab083).

Then each target holds [MASK], a random token or itself: a draw keyed in the same way, but with a purpose of its own, so
that it depends on no other target. In `span` all places of a span share their start's draw (same section), in `ngram`
all places of a run: one k-mer that is shown as it is would tell most of its neighbours.

    row       [CLS] the cat sat [SEP] on it [SEP] [PAD] ...      rate 0.4: floor(0.4 x 5) = 2 targets
    priority        71  12  55        90 33                  ->  cat, it
    targets     0   0   1   0    0    0  1   0     0             bits, least significant first: byte 0 = 0b01000100

    ngram 2   a  b  c  d  e  f  g                                runs ab, bc, ..., fg by the priority of their first
    priority  50 20 70 31 12 90 --                           ->  ef (12); bc (20); de, ab, cd, fg would meet or touch

Priorities do not depend on packing; the chosen set does, as rows share out their own budget. BERT draws 15 % of each
sequence and then independently 80/10/10; fixed counts keep batch shapes static.

Cost: `token` two passes over a row and one sort of about 1/256 of it: the lowest priorities are found by counting their
top bits. `whole_word` finds by the same count which words all fit, and goes over the row's words once for each further
one that does, about ten at most. The others sort the words of a row, or the starts of runs, as far as they are needed.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int16, Int32, Int64, Integer, UInt16, UInt32, UInt64

from mlm_data.config import MaskSettings
from mlm_data.errors import ConfigError
from mlm_data.kernels import kernel, read_only
from mlm_data.rows.arrays import row_arrays
from mlm_data.seeds import CORRUPTION, PRIORITY, RANDOM_TOKEN, SPAN_LENGTH, below, draw, fold
from mlm_data.types import IGNORED, PlaneMasks, Roles, Rows

MILLION = 1_000_000
MAX_UNIT = 8  # tokens: words without spaces (Chinese, Japanese, URLs) would swallow a row's budget whole
SPAN_P, MAX_SPAN = 0.2, 10  # SpanBERT, sec. 3.1
TOKEN, WHOLE_WORD, SPAN, NGRAM = range(4)
TAKEN = 2**20  # a flag beside the size of a word, above any budget: it is hidden


class Kind(NamedTuple):
    """What a kind of mask hides together: all that the audit needs to know of it."""

    code: int  # for the kernels
    by_word: bool  # a word is hidden whole, or not at all
    max_words: int  # words that one choice hides at most
    in_runs: bool  # one choice hides several units side by side, and they share what they show

    @property
    def fills(self) -> bool:
        """Whether a row always has all the targets that its rate allows."""
        return not self.by_word and not self.in_runs


# The names are those of `MaskSettings.kind`, and `_draw` has a branch for each code.
KINDS = {
    "token": Kind(TOKEN, by_word=False, max_words=1, in_runs=False),
    "whole_word": Kind(WHOLE_WORD, by_word=True, max_words=1, in_runs=False),
    "span": Kind(SPAN, by_word=True, max_words=MAX_SPAN, in_runs=True),
    "ngram": Kind(NGRAM, by_word=False, max_words=1, in_runs=True),
}

_truncated = 1 - (1 - SPAN_P) ** np.arange(1, MAX_SPAN + 1)
# SPAN_LIMITS[n]: draws below it give a span of at most n + 1 words; the last one takes the rest.
SPAN_LIMITS = (_truncated[:-1] / _truncated[-1] * 2.0**64).astype(np.uint64)


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One static choice of targets for all rows. Two planes differ in their index or their seed."""

    index: int
    kind: str = "token"  # of KINDS
    rate: float = 0.3
    mask_share: float = 0.8
    random_share: float = 0.1
    keep_share: float = 0.1
    seed: int = 0
    ngram: int = 0  # places of a run; 0 for the other kinds

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"mask.kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.ngram > 1) != (self.kind == "ngram"):
            raise ConfigError(f"mask.ngram must be above 1 for kind ngram, and 0 for others, got {self.ngram}")
        if not 0 < self.rate <= 1:
            raise ConfigError(f"mask.rate must be above 0 and at most 1, got {self.rate:g}: 0.15 and 0.30 are usual")
        shares = (self.mask_share, self.random_share, self.keep_share)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(f"mask_share + random_share + keep_share must be 1, got {sum(shares):g}")

    @property
    def millionths(self) -> int:
        """The rate in millionths, so that floor(rate * n) is exact everywhere."""
        return round(self.rate * MILLION)

    @property
    def most_at_once(self) -> int:
        """Places that one choice hides at most."""
        return self.ngram or (MAX_UNIT * KINDS[self.kind].max_words if KINDS[self.kind].by_word else 1)

    def budget(self, candidates: Any) -> Any:
        """Most targets in a row of so many candidates: an int, or an integer array.

        >>> Plane(index=0, rate=0.3).budget(10)
        3
        """
        return candidates * self.millionths // MILLION


def training_planes(settings: MaskSettings, seed: int) -> tuple[Plane, ...]:
    """The planes 0 to K - 1 of a configuration."""
    return tuple(
        Plane(
            index=index,
            kind=settings.kind,
            rate=rate,
            mask_share=settings.mask_share,
            random_share=settings.random_share,
            keep_share=settings.keep_share,
            seed=seed,
            ngram=settings.ngram or 0,
        )
        for index, rate in enumerate(settings.rates)
    )


def evaluation_plane(*, seed: int, rate: float) -> Plane:
    """The plane of validation shards: token masking, all [MASK]; seed and rate are constants of the format."""
    return Plane(index=0, kind="token", rate=rate, mask_share=1.0, random_share=0.0, keep_share=0.0, seed=seed)


def choose_targets(
    priority: UInt64[np.ndarray, " length"],
    candidate: Bool[np.ndarray, " length"],
    *,
    rate: float,
) -> Bool[np.ndarray, " length"]:
    """Choose the places of one row that the model must predict: the rule of `token`, one row, plainly.

    The floor(rate * candidates) candidates of lowest priority win. Priorities are keyed hashes, so this is a uniform
    draw without replacement, and a draw at a lower rate is a subset of one at a higher rate. BERT (Devlin et al. 2019,
    sec. 3.1) draws each place alone instead; a fixed count keeps batch shapes static and the variance lower.

    Args:
        priority: one hash per place; ties are broken by place.
        candidate: False at padding and special tokens; those are never chosen.
        rate: fraction of the candidates, in (0, 1], counted in millionths.

    Raises:
        ConfigError: if rate is outside (0, 1].

    >>> choose_targets(np.array([7, 3, 9, 1], np.uint64), np.array([1, 1, 1, 0], bool), rate=0.67)
    array([ True,  True, False, False])
    """
    places = np.flatnonzero(candidate)
    lowest = places[np.argsort(priority[places], kind="stable")]
    chosen = np.zeros(candidate.size, bool)
    chosen[lowest[: Plane(index=0, rate=rate).budget(places.size)]] = True
    return chosen


def draw_plane(
    rows: Rows,
    ids: UInt64[np.ndarray, "documents 2"],
    copies: Int16[np.ndarray, " documents"],
    plane: Plane,
    *,
    roles: Roles,
    vocab_size: int,
    never_targets: Integer[np.ndarray, " never"],
    random_ids: Integer[np.ndarray, " random"],
) -> PlaneMasks:
    """Draw one plane for packed rows. Each row's masks depend on that row alone.

    Args:
        rows: as `packing.fill_rows` makes them, or as a shard stores them; any batch of rows.
        ids: 128-bit id of every document that `rows.segment_documents` may name.
        copies: number of the copy of every document, 0 for the first.
        plane: what to draw.
        roles: of the tokenizer; tells whether segments begin with [CLS] and end with [SEP].
        vocab_size: largest id + 1.
        never_targets: ids that are never targets: special tokens and the unknown token.
        random_ids: ids that a random token is drawn from: no specials, no unused ones.

    Raises:
        ConfigError: if random tokens are wanted and there are none to draw from.
        ValueError: if rows name tokens or documents that aren't there (a bug of the caller).
    """
    if plane.random_share > 0 and random_ids.size == 0:
        raise ConfigError(
            "mask.random_share needs ordinary tokens to draw from, and the tokenizer has none: set it to 0"
        )
    if rows.tokens.max(initial=0) >= vocab_size or rows.segment_documents.max(initial=-1) >= len(ids):
        raise ValueError(f"rows name tokens from {vocab_size} on, or documents from {len(ids)} on, which aren't there")
    num_rows, length = rows.tokens.shape
    never = np.zeros(vocab_size, np.bool_)
    never[never_targets] = True
    targets = np.zeros((num_rows, length // 8), np.uint8)
    swap_offsets = np.zeros(num_rows + 1, np.int32)
    mask_limit, random_limit = _limits(plane)
    room = int(plane.budget(rows.used().astype(np.int64)).sum()) if plane.mask_share < 1 else 0
    swap_places, swap_tokens = np.empty(room, np.uint16), np.empty(room, rows.tokens.dtype)
    count = _draw(
        row_arrays(rows),
        read_only(ids),
        read_only(copies),
        _Draw(
            kind=KINDS[plane.kind].code,
            ngram=plane.ngram,
            millionths=plane.millionths,
            seed=np.uint64(plane.seed),
            number=np.uint64(plane.index),
            mask_limit=mask_limit,
            random_limit=random_limit,
        ),
        roles.cls >= 0,
        roles.sep >= 0,
        never,
        random_ids.astype(rows.tokens.dtype),
        MaskArrays(targets, swap_offsets, swap_places, swap_tokens),
    )
    return PlaneMasks(
        targets=targets,
        swap_offsets=swap_offsets,
        swap_places=swap_places[:count].copy(),
        swap_tokens=swap_tokens[:count].copy(),
    )


def apply(
    tokens: UInt16[np.ndarray, "rows length"] | UInt32[np.ndarray, "rows length"],
    masks: PlaneMasks,
    *,
    mask_id: int,
) -> tuple[Int32[np.ndarray, "rows length"], Int64[np.ndarray, "rows length"]]:
    """What a model reads and what it must predict, for a range of rows: (corrupted ids, labels).

    Labels are the original ids at targets and -100 elsewhere. This is the plain way; the loader has its own kernel.
    """
    length = tokens.shape[1]
    target = np.unpackbits(masks.targets, axis=1, count=length, bitorder="little").astype(bool)
    corrupted = np.where(target, mask_id, tokens).astype(np.int32)
    row = np.repeat(np.arange(tokens.shape[0]), np.diff(masks.swap_offsets))
    swaps = slice(int(masks.swap_offsets[0]), int(masks.swap_offsets[-1]))
    corrupted[row, masks.swap_places[swaps]] = masks.swap_tokens[swaps]
    return corrupted, np.where(target, tokens.astype(np.int64), IGNORED)


def _limits(plane: Plane) -> tuple[np.uint64, np.uint64]:
    """Draws below the first give [MASK], below the second a random token, the rest themselves; 2**64 - 1 means all."""
    last = 2**64 - 1
    mask = min(last, round(plane.mask_share * 2**64))
    random = last if plane.keep_share == 0 else min(last, round((plane.mask_share + plane.random_share) * 2**64))
    return np.uint64(mask), np.uint64(random)


class MaskArrays(NamedTuple):
    """The arrays of `PlaneMasks`; for kernels."""

    targets: np.ndarray
    swap_offsets: np.ndarray
    swap_places: np.ndarray
    swap_tokens: np.ndarray


def mask_arrays(masks: PlaneMasks) -> MaskArrays:
    """Masks for a kernel that reads them."""
    return MaskArrays(*(read_only(getattr(masks, name)) for name in MaskArrays._fields))


class _Draw(NamedTuple):
    """A plane as `_draw` takes it."""

    kind: int  # a code of KINDS
    ngram: int  # places of a run, for `ngram`
    millionths: int  # the rate
    seed: np.uint64
    number: np.uint64  # of the plane
    mask_limit: np.uint64  # draws below it become [MASK], those below the next one random tokens, others stay
    random_limit: np.uint64


@kernel
def _draw(rows, ids, copies, plane, has_cls, has_sep, never, random_ids, masks):
    """Fill the targets (already 0) and the swaps of `masks`; returns the number of swaps."""
    tokens, segment_offsets, segment_lengths, segment_documents, segment_starts, word_starts = rows
    kind, ngram, millionths, seed, index, mask_limit, random_limit = plane
    targets, swap_offsets, swap_places, swap_tokens = masks
    num_rows, length = tokens.shape
    # Candidates of the row, in order: place in the row, place in the document, segment, priority.
    place = np.empty(length + 1, np.int32)
    source = np.empty(length + 1, np.int32)
    segment = np.empty(length + 1, np.int32)
    priority = np.empty(length + 1, np.uint64)
    drawn = np.empty(length + 1, np.uint64)
    chosen = np.empty(length + 1 + MAX_UNIT, np.int32)  # candidates that are targets, in order; and room for work
    fate = np.arange(length + 1).astype(np.int32)  # whose draw decides what a target holds: itself or its span's start
    scratch = np.empty((4, length + 1), np.int32)
    bits_sorted = 8 if length <= 1024 else 12
    shift = np.uint64(64 - bits_sorted)
    counts = np.empty((1 << bits_sorted) + 1, np.int32)
    priority_key = fold(fold(seed, PRIORITY), index)
    corruption_key = fold(fold(seed, CORRUPTION), index)
    token_key = fold(fold(seed, RANDOM_TOKEN), index)
    span_key = fold(fold(seed, SPAN_LENGTH), index)
    num_swaps = 0
    for row in range(num_rows):
        line = tokens[row]
        num, at = 0, 0
        for s in range(segment_offsets[row], segment_offsets[row + 1]):
            key = _document_key(priority_key, ids, copies, segment_documents[s])
            start = segment_starts[s]
            content = at + has_cls
            size = segment_lengths[s] - has_cls - has_sep
            for j in range(size):
                drawn[j] = draw(key, start + j)
            for j in range(size):
                place[num] = content + j
                source[num] = start + j
                segment[num] = s
                priority[num] = drawn[j]
                num += not never[line[content + j]]
            at += segment_lengths[s]
        budget = num * millionths // MILLION
        if kind == TOKEN:
            count = _lowest(priority, num, budget, chosen, scratch[0], counts, shift)
        elif kind == NGRAM:
            count = _hide_runs(ngram, place, segment, priority, num, budget, chosen, fate, scratch, counts, shift)
        elif kind == WHOLE_WORD:
            units = find_units(word_starts[row], place, segment, num, scratch[0])
            count = _hide_words(scratch[0], units, priority, budget, chosen, drawn, scratch[1], counts, shift)
        elif kind != SPAN:
            raise ValueError("a kind of mask that nobody draws")
        else:
            count = _hide_spans(
                word_starts[row],
                place,
                source,
                segment,
                priority,
                num,
                budget,
                span_key,
                ids,
                copies,
                segment_documents,
                chosen,
                fate,
                scratch,
                counts,
                shift,
            )
        bits = targets[row]
        for t in range(count):
            p = place[chosen[t]]
            bits[p >> 3] |= np.uint8(1) << np.uint8(p & 7)
        if swap_places.size:
            # First which targets don't hold [MASK], then what those hold: few branches that nobody can foresee.
            before = -1
            key = np.uint64(0)
            swaps = 0
            for t in range(count):
                i = chosen[t]
                if segment[i] != before:
                    before = segment[i]
                    key = _document_key(corruption_key, ids, copies, segment_documents[before])
                x = draw(key, source[fate[i]])
                chosen[swaps] = i
                drawn[swaps] = x
                swaps += x >= mask_limit
            before = -1
            for t in range(swaps):
                i = chosen[t]
                if segment[i] != before:
                    before = segment[i]
                    key = _document_key(token_key, ids, copies, segment_documents[before])
                new = line[place[i]]
                if random_ids.size:
                    other = random_ids[below(draw(key, source[i]), random_ids.size)]
                    new = other if drawn[t] < random_limit else new
                swap_places[num_swaps] = place[i]
                swap_tokens[num_swaps] = new
                num_swaps += 1
        swap_offsets[row + 1] = num_swaps
    return num_swaps


@kernel
def _document_key(key, ids, copies, document):
    """Key of one document's stream of draws."""
    return fold(fold(fold(key, ids[document, 0]), ids[document, 1]), copies[document])


@kernel
def _lowest(priority, num, budget, chosen, few, counts, shift):
    """Write the `budget` candidates of lowest priority to `chosen`, in order; equal ones by place."""
    if budget == 0:
        return 0
    counts[:] = 0
    for i in range(num):
        counts[priority[i] >> shift] += 1
    bucket, missing = 0, budget
    while missing > counts[bucket]:
        missing -= counts[bucket]
        bucket += 1
    # Sort the bucket in which the budget ends; its `missing`-th element is the highest priority that wins.
    size = 0
    for i in range(num):
        few[size] = i
        size += priority[i] >> shift == bucket
    _sort(few, 0, size, priority)
    limit = priority[few[missing - 1]]
    ties = 0
    for i in range(missing):
        ties += priority[few[i]] == limit
    count = 0
    for i in range(num):
        chosen[count] = i
        count += priority[i] < limit
        if priority[i] == limit and ties:
            count += 1
            ties -= 1
    return count


@kernel
def _sort(items, begin, end, priority):
    """Insertion sort of items[begin:end] by priority; equal ones keep their order."""
    for i in range(begin + 1, end):
        item = items[i]
        j = i
        while j > begin and priority[items[j - 1]] > priority[item]:
            items[j] = items[j - 1]
            j -= 1
        items[j] = item


@kernel
def find_units(word_starts, place, segment, num, starts):
    """First candidate of each unit of a row, and one more entry at the end; returns the number of units.

    A unit ends before the next word and after MAX_UNIT candidates. `word_starts` are the row's bits; `place` and
    `segment` tell where each of its `num` candidates lies.
    """
    units, run, before = 0, 0, -1
    for i in range(num):
        p = place[i]
        begins = (i == 0) | (segment[i] != segment[max(i - 1, 0)]) | (run == MAX_UNIT)
        for q in range(p if before < 0 else before + 1, p + 1):  # one place, but where others lie between
            begins |= bool((word_starts[q >> 3] >> (q & 7)) & 1)
        starts[units] = i
        units += begins
        run = 1 if begins else run + 1
        before = p
    starts[units] = num
    return units


@kernel
def _by_priority(starts, units, priority, order, counts, shift):
    """Counting sort of units (by first candidate) on the top bits of their priority; bucket b ends at counts[b]."""
    counts[:] = 0
    for u in range(units):
        counts[(priority[starts[u]] >> shift) + np.uint64(1)] += 1
    for bucket in range(counts.size - 1):
        counts[bucket + 1] += counts[bucket]
    for u in range(units):
        bucket = priority[starts[u]] >> shift
        order[counts[bucket]] = starts[u]
        counts[bucket] += 1


@kernel
def _hide_words(starts, units, priority, budget, chosen, keys, sizes, counts, shift):
    """Write the candidates that whole words hide to `chosen`, in order; `keys`, `sizes` and `counts` are for work.

    As long as all words fit, their order does not matter: whole buckets of priorities are taken. From there on at most
    a bucket of words and `MAX_UNIT` more are taken, each the one of lowest priority that still fits.
    """
    counts[:] = 0
    for u in range(units):
        keys[u] = priority[starts[u]]
        sizes[u] = starts[u + 1] - starts[u]
        counts[keys[u] >> shift] += sizes[u]
    bucket, left = 0, budget
    while bucket < counts.size and counts[bucket] <= left:
        left -= counts[bucket]
        bucket += 1
    for u in range(units):
        sizes[u] |= TAKEN * ((keys[u] >> shift) < np.uint64(bucket))
    while left > 0:
        lowest = np.uint64(2**64 - 1)
        for u in range(units):
            lowest = min(lowest, keys[u] if sizes[u] <= left else np.uint64(2**64 - 1))
        u = 0
        while u < units and (sizes[u] > left or keys[u] != lowest):
            u += 1
        if u == units:
            break
        left -= sizes[u]
        sizes[u] |= TAKEN
    count = 0
    for u in range(units):
        for i in range(MAX_UNIT):
            chosen[count + i] = starts[u] + i
        count += (sizes[u] & ~TAKEN) if sizes[u] & TAKEN else 0
    return count


@kernel
def _hide_spans(
    word_starts,
    place,
    source,
    segment,
    priority,
    num,
    budget,
    span_key,
    ids,
    copies,
    segment_documents,
    chosen,
    fate,
    scratch,
    counts,
    shift,
):
    """Write the candidates that spans hide to `chosen`, in order, and whose draw decides to `fate`."""
    starts, order, unit_at, hidden = scratch[0], scratch[1], scratch[2], scratch[3]
    units = find_units(word_starts, place, segment, num, starts)
    _by_priority(starts, units, priority, order, counts, shift)
    for u in range(units):
        unit_at[starts[u]] = u
        hidden[u] = 0
    left, bucket, sorted_to = budget, 0, 0
    for rank in range(units):
        if left == 0:
            break
        while rank == sorted_to:
            _sort(order, rank, counts[bucket], priority)
            sorted_to = counts[bucket]
            bucket += 1
        anchor = order[rank]
        first = unit_at[anchor]
        if hidden[first]:
            continue
        key = _document_key(span_key, ids, copies, segment_documents[segment[anchor]])
        for u in range(first, min(units, first + _span_words(draw(key, source[anchor])))):
            size = starts[u + 1] - starts[u]
            if segment[starts[u]] != segment[anchor] or size > left:
                break
            if hidden[u]:
                continue
            hidden[u] = 1
            left -= size
            fate[starts[u] : starts[u + 1]] = anchor
    count = 0
    for u in range(units):
        if hidden[u]:
            for i in range(starts[u], starts[u + 1]):
                chosen[count] = i
                count += 1
    return count


@kernel
def joined(place, segment, i, j):
    """Whether candidates i and j = i + 1 are neighbours in a segment."""
    return segment[j] == segment[i] and place[j] == place[i] + 1


@kernel
def find_run_starts(ngram, place, segment, num, starts, classes):
    """Candidates at which a run of `ngram` neighbouring places of a segment may start; returns how many there are.

    `classes` tells which starts are alike: 0 where just this one run fits between what is visible, 1 where one of
    several, 2 where more than one run may fit.
    """
    found, begin = 0, 0
    for i in range(num):
        if i + 1 < num and joined(place, segment, i, i + 1):
            continue
        fitting = i + 1 - begin - ngram + 1
        for start in range(begin, begin + fitting):
            starts[found] = start
            classes[found] = 0 if fitting == 1 else 1 if fitting <= ngram + 1 else 2
            found += 1
        begin = i + 1
    return found


@kernel
def run_is_free(ngram, place, segment, num, hidden, start):
    """Whether a run from candidate `start` on would meet and touch no run of the same length."""
    end = start + ngram
    if hidden[start] or hidden[end - 1]:
        return False
    if start > 0 and hidden[start - 1] and joined(place, segment, start - 1, start):
        return False
    return not (end < num and hidden[end] and joined(place, segment, end - 1, end))


@kernel
def _hide_runs(ngram, place, segment, priority, num, budget, chosen, fate, scratch, counts, shift):
    """Write the candidates that runs hide to `chosen`, in order, and whose draw decides to `fate`."""
    starts, order, hidden, classes = scratch[0], scratch[1], scratch[2], scratch[3]
    found = find_run_starts(ngram, place, segment, num, starts, classes)
    _by_priority(starts, found, priority, order, counts, shift)
    hidden[:num] = 0
    left, bucket, sorted_to = budget, 0, 0
    for rank in range(found):
        if left < ngram:
            break
        while rank == sorted_to:
            _sort(order, rank, counts[bucket], priority)
            sorted_to = counts[bucket]
            bucket += 1
        start = order[rank]
        if run_is_free(ngram, place, segment, num, hidden, start):
            hidden[start : start + ngram] = 1
            fate[start : start + ngram] = start
            left -= ngram
    count = 0
    for i in range(num):
        if hidden[i]:
            chosen[count] = i
            count += 1
    return count


@kernel
def _span_words(x):
    """Length of a span in words, from a uniform draw."""
    words = 1
    while words < MAX_SPAN and x >= SPAN_LIMITS[words - 1]:
        words += 1
    return words
