"""Masks against a plain twin, and what they promise: exact counts, subsets, and no dependence on who draws them."""

from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data import seeds
from mlm_data.config import MaskSettings
from mlm_data.errors import ConfigError
from mlm_data.rows.masking import (
    KINDS,
    MAX_SPAN,
    MAX_UNIT,
    Plane,
    _hide_words,
    apply,
    choose_targets,
    draw_plane,
    evaluation_plane,
    training_planes,
)
from mlm_data.rows.packing import cut_documents, fill_rows, pack
from mlm_data.shards.writer import masks_table
from mlm_data.types import Roles, Rows

ROLES = Roles(cls=2, sep=3, pad=0, mask=4, unk=1)
NO_SPECIALS = Roles(cls=-1, sep=-1, pad=0, mask=4, unk=-1)
VOCAB = 300
NEVER = np.arange(5)
RANDOM = np.concatenate([np.arange(10, 200), np.arange(205, VOCAB)])


def corpus(lengths, seed=0, *, sequence_length=64, word_share=0.6, unknown_share=0.05, roles=ROLES, max_segments=8):
    """Packed rows of random documents, with the documents' ids and copies."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, VOCAB, offsets[-1]).astype(np.uint16)
    ids[rng.random(ids.size) < unknown_share] = 1
    word_starts = rng.random(ids.size) < word_share
    word_starts[offsets[:-1][np.asarray(lengths) > 0]] = True
    segments = cut_documents(offsets, word_starts, capacity=sequence_length - roles.num_specials)
    packing = pack(
        segments.length + np.int32(roles.num_specials), sequence_length=sequence_length, max_segments=max_segments
    )
    rows = fill_rows(ids, offsets, word_starts, segments, packing, sequence_length=sequence_length, roles=roles)
    keys = np.random.default_rng(99).integers(0, 2**64, (len(lengths), 2), dtype=np.uint64)
    return rows, keys, np.zeros(len(lengths), np.int16)


def draw(rows, keys, copies, plane, roles=ROLES):
    return draw_plane(rows, keys, copies, plane, roles=roles, vocab_size=VOCAB, never_targets=NEVER, random_ids=RANDOM)


def how(kind, ngram=3):
    """A kind as `Plane` takes it."""
    return {"kind": kind, "ngram": ngram if kind == "ngram" else 0}


def bits(masks, length):
    return np.unpackbits(masks.targets, axis=1, count=length, bitorder="little").astype(bool)


def swaps(masks, r):
    part = slice(masks.swap_offsets[r], masks.swap_offsets[r + 1])
    return dict(zip(masks.swap_places[part].tolist(), masks.swap_tokens[part].tolist(), strict=True))


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("targets", "swap_offsets", "swap_places", "swap_tokens")
    )


# ---------------------------------------------------------------- the plain twin


def key(plane, purpose, keys, copies, document):
    state = np.uint64(plane.seed)
    for word in (purpose, plane.index, keys[document, 0], keys[document, 1], copies[document]):
        state = np.uint64(seeds.fold(state, np.uint64(word)))
    return state


def plain_row(rows, r, keys, copies, plane, roles):
    """Targets and swaps of one row, by the rules in words."""
    tokens = rows.tokens[r].tolist()
    word_bits = np.unpackbits(rows.word_starts[r], bitorder="little")
    if plane.kind == "ngram":
        return plain_runs(rows, r, keys, copies, plane, roles)
    units, at, candidates = [], 0, 0  # a unit: (segment, places, place in the document of the first)
    for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
        first, end = at + (roles.cls >= 0), at + rows.segment_lengths[s] - (roles.sep >= 0)
        words, begins = [], True
        for p in range(first, end):
            begins |= bool(word_bits[p])
            if tokens[p] in NEVER:
                continue
            candidates += 1
            if plane.kind == "token" or begins or len(words[-1]) == MAX_UNIT:
                words.append([])
            words[-1].append(p)
            begins = False
        units += [(s, word, rows.segment_starts[s] + word[0] - first) for word in words]
        at += rows.segment_lengths[s]
    documents = rows.segment_documents
    keyed = {
        purpose: {s: key(plane, purpose, keys, copies, documents[s]) for s, _, _ in units}
        for purpose in (seeds.PRIORITY, seeds.SPAN_LENGTH, seeds.CORRUPTION, seeds.RANDOM_TOKEN)
    }
    priority = [int(seeds.draw(keyed[seeds.PRIORITY][s], source)) for s, _, source in units]
    budget = candidates * round(plane.rate * 1_000_000) // 1_000_000
    hidden = {}  # unit -> the unit whose draw decides
    for u in sorted(range(len(units)), key=lambda u: (priority[u], u)):
        if u in hidden:
            continue
        end = u + 1
        if plane.kind == "span":
            x = int(seeds.draw(keyed[seeds.SPAN_LENGTH][units[u][0]], units[u][2])) / 2**64
            shares = [1 - 0.8**n for n in range(1, MAX_SPAN + 1)]
            end = u + next(n for n in range(1, MAX_SPAN + 1) if x < shares[n - 1] / shares[-1])
        for v in range(u, min(end, len(units))):
            if units[v][0] != units[u][0] or len(units[v][1]) > budget:
                break
            if v not in hidden:
                hidden[v] = u
                budget -= len(units[v][1])
    targets, swapped = [], {}
    for v in sorted(hidden):
        s, places, source = units[v]
        for p in places:
            own = source + p - places[0]
            decides = units[hidden[v]][2] if plane.kind == "span" else own
            x = int(seeds.draw(keyed[seeds.CORRUPTION][s], decides)) / 2**64
            targets.append(p)
            if plane.mask_share <= x < plane.mask_share + plane.random_share:
                lucky = seeds.draw(keyed[seeds.RANDOM_TOKEN][s], own)
                swapped[p] = int(RANDOM[int(seeds.below(np.uint64(lucky), RANDOM.size))])
            elif x >= plane.mask_share:
                swapped[p] = tokens[p]
    return targets, swapped


def plain_runs(rows, r, keys, copies, plane, roles):
    """The same for `ngram`: a set of places, and a loop over all places where a run may start."""
    tokens, documents, k = rows.tokens[r].tolist(), rows.segment_documents, plane.ngram
    priorities, inside, at = [], {}, 0  # inside: place -> its segment's keys and its place in the document
    for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
        first, end = at + (roles.cls >= 0), at + rows.segment_lengths[s] - (roles.sep >= 0)
        streams = {
            purpose: key(plane, purpose, keys, copies, documents[s])
            for purpose in (seeds.PRIORITY, seeds.CORRUPTION, seeds.RANDOM_TOKEN)
        }
        for p in range(first, end):
            if tokens[p] not in NEVER:
                inside[p] = (s, streams, rows.segment_starts[s] + p - first)
        at += rows.segment_lengths[s]
    for p, (s, streams, source) in inside.items():
        if all(p + i in inside and inside[p + i][0] == s for i in range(k)):
            priorities.append((int(seeds.draw(streams[seeds.PRIORITY], source)), p))
    budget = len(inside) * round(plane.rate * 1_000_000) // 1_000_000
    start_of = {}
    for _, p in sorted(priorities):
        around = [q for q in range(p - 1, p + k + 1) if q in inside and inside[q][0] == inside[p][0]]
        if budget >= k and not any(q in start_of for q in around):
            start_of |= dict.fromkeys(range(p, p + k), p)
            budget -= k
    swapped = {}
    for p in sorted(start_of):
        _, streams, own = inside[p]
        x = int(seeds.draw(streams[seeds.CORRUPTION], inside[start_of[p]][2])) / 2**64
        if plane.mask_share <= x < plane.mask_share + plane.random_share:
            lucky = seeds.draw(streams[seeds.RANDOM_TOKEN], own)
            swapped[p] = int(RANDOM[int(seeds.below(np.uint64(lucky), RANDOM.size))])
        elif x >= plane.mask_share:
            swapped[p] = tokens[p]
    return sorted(start_of), swapped


@given(
    st.lists(st.integers(0, 150), min_size=1, max_size=8),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([2, 3, 6, 17]),
    st.sampled_from([0.05, 0.15, 0.3, 0.95, 1.0]),
    st.sampled_from([(0.8, 0.1, 0.1), (1, 0, 0), (0, 1, 0), (0.5, 0, 0.5)]),
    st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    st.booleans(),
    st.integers(0, 2**63 - 1),
)
@settings(max_examples=150, deadline=None)
def test_masks_match_the_rules_in_words(lengths, kind, ngram, rate, shares, word_share, specials, seed):
    roles = ROLES if specials else NO_SPECIALS
    rows, keys, copies = corpus(lengths, seed % 1000, word_share=word_share, roles=roles)
    copies[:] = seed % 3
    mask, random, keep = shares
    plane = Plane(
        index=seed % 7,
        **how(kind, ngram),
        rate=rate,
        mask_share=mask,
        random_share=random,
        keep_share=keep,
        seed=seed,
    )
    masks = draw(rows, keys, copies, plane, roles)
    hidden = bits(masks, rows.sequence_length)
    for r in range(len(rows)):
        targets, swapped = plain_row(rows, r, keys, copies, plane, roles)
        assert np.flatnonzero(hidden[r]).tolist() == targets
        assert swaps(masks, r) == swapped
        assert list(swaps(masks, r)) == sorted(swapped)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.floats(0.000_001, 1), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_choose_targets_is_the_rule_of_token(lengths, rate, seed):
    rows, keys, copies = corpus(lengths, seed)
    plane = Plane(index=3, kind="token", rate=rate, seed=seed)
    hidden = bits(draw(rows, keys, copies, plane), rows.sequence_length)
    for r in range(len(rows)):
        priority, candidate = np.zeros(rows.sequence_length, np.uint64), np.zeros(rows.sequence_length, bool)
        at = 0
        for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
            document = key(plane, seeds.PRIORITY, keys, copies, rows.segment_documents[s])
            for p in range(at + 1, at + rows.segment_lengths[s] - 1):
                priority[p] = seeds.draw(document, rows.segment_starts[s] + p - at - 1)
                candidate[p] = rows.tokens[r, p] not in NEVER
            at += rows.segment_lengths[s]
        assert np.array_equal(hidden[r], choose_targets(priority, candidate, rate=rate))


def test_ties_are_broken_by_place():
    """Segments with one key and one start have equal priorities: the earlier places win."""
    rows, keys, copies = corpus([20, 20, 20], sequence_length=80, unknown_share=0)
    keys[:] = keys[0]
    masks = draw(rows, keys, copies, Plane(index=0, rate=0.5))
    hidden = bits(masks, 80)[0]
    first, second, third = hidden[1:21], hidden[23:43], hidden[45:65]
    assert hidden.sum() == 30
    assert not (second & ~first).any()
    assert not (third & ~second).any()


# ---------------------------------------------------------------- promises


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("rate", [0.15, 0.3, 0.7])
def test_counts_are_exact_and_specials_never_targets(kind, rate):
    rows, keys, copies = corpus([5, 90, 33, 8, 300, 1, 60] * 40)
    masks = draw(rows, keys, copies, Plane(index=0, **how(kind), rate=rate))
    hidden = bits(masks, rows.sequence_length)
    candidate = ~np.isin(rows.tokens, NEVER)
    budget = candidate.sum(axis=1) * round(rate * 1e6) // 1_000_000
    assert not (hidden & ~candidate).any()
    assert (hidden.sum(axis=1) <= budget).all()
    if kind == "token":
        assert np.array_equal(hidden.sum(axis=1), budget)
    # Runs of 3 with a visible place between them fill about six tenths of a row.
    assert hidden.sum() > (0.7 if kind == "ngram" else 0.95) * budget.sum()
    assert masks.max_targets == hidden.sum(axis=1).max()
    assert np.array_equal(masks.num_targets(), hidden.sum(axis=1))
    assert np.isin(masks.swap_tokens, np.union1d(RANDOM, rows.tokens)).all()


def test_a_lower_rate_is_a_subset_of_a_higher_one():
    rows, keys, copies = corpus([5, 90, 33, 8, 300, 1, 60] * 20)
    drawn = [draw(rows, keys, copies, Plane(index=0, rate=rate)).targets for rate in (0.1, 0.15, 0.3, 0.31, 0.9)]
    for low, high in pairwise(drawn):
        assert not (low & ~high).any()
        assert (low != high).any()


def test_planes_seeds_documents_and_copies_differ():
    rows, keys, copies = corpus([50] * 40)
    planes = [Plane(index=0), Plane(index=1), Plane(index=0, seed=1)]
    drawn = [draw(rows, keys, copies, plane).targets for plane in planes]
    drawn.append(draw(rows, keys, copies + np.int16(1), planes[0]).targets)
    drawn.append(draw(rows, keys[::-1].copy(), copies, planes[0]).targets)
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            overlap = np.bitwise_count(a & b).sum() / np.bitwise_count(a).sum()
            assert 0.2 < overlap < 0.4


def take(rows, order):
    """The same rows in another order."""
    parts = [np.arange(rows.segment_offsets[r], rows.segment_offsets[r + 1]) for r in order]
    index = np.concatenate(parts)
    return Rows(
        tokens=rows.tokens[order],
        segment_offsets=np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int32),
        segment_lengths=rows.segment_lengths[index],
        segment_documents=rows.segment_documents[index],
        segment_starts=rows.segment_starts[index],
        word_starts=rows.word_starts[order],
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_batches_and_the_order_of_rows_do_not_matter(kind):
    rows, keys, copies = corpus([5, 90, 33, 8, 300, 1, 60] * 10)
    plane = Plane(index=2, **how(kind), seed=5)
    whole = draw(rows, keys, copies, plane)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = draw(take(rows, order), keys, copies, plane)
    assert np.array_equal(shuffled.targets, whole.targets[order])
    assert [swaps(shuffled, i) for i in range(len(order))] == [swaps(whole, r) for r in order]
    for r in range(len(rows)):
        alone = draw(take(rows, [r]), keys, copies, plane)
        assert np.array_equal(alone.targets[0], whole.targets[r])
        assert swaps(alone, 0) == swaps(whole, r)


def test_what_a_target_holds_does_not_depend_on_packing():
    lengths = [5, 60, 33, 8, 30, 1, 60] * 20
    found = []
    for sequence_length in (64, 128):
        rows, keys, copies = corpus(lengths, sequence_length=sequence_length)
        masks = draw(rows, keys, copies, Plane(index=0))
        hidden, places = bits(masks, sequence_length), {}
        for r in range(len(rows)):
            at, changed = 0, swaps(masks, r)
            for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
                for p in range(at + 1, at + rows.segment_lengths[s] - 1):
                    if hidden[r, p]:
                        place = (int(rows.segment_documents[s]), int(rows.segment_starts[s] + p - at - 1))
                        places[place] = changed.get(p)
                at += rows.segment_lengths[s]
        found.append(places)
    common = found[0].keys() & found[1].keys()
    assert len(common) > 0.7 * len(found[0])
    assert [found[0][place] for place in common] == [found[1][place] for place in common]


def test_shares_and_random_tokens_are_what_was_asked_for():
    rows, keys, copies = corpus([500] * 200, sequence_length=512)
    masks = draw(rows, keys, copies, Plane(index=0))
    own = rows.tokens[np.repeat(np.arange(len(rows)), np.diff(masks.swap_offsets)), masks.swap_places]
    changed = masks.swap_tokens[masks.swap_tokens != own]
    targets = masks.num_targets().sum()
    assert masks.swap_places.size / targets == pytest.approx(0.2, abs=0.01)
    assert changed.size / targets == pytest.approx(0.1, abs=0.01)
    counts = np.bincount(changed, minlength=VOCAB)
    assert (counts[RANDOM] > 0).all()
    assert counts.sum() == counts[RANDOM].sum()


def test_words_stay_whole_and_long_ones_go_in_runs():
    rows, keys, copies = corpus([60] * 60, sequence_length=64, word_share=0.3, unknown_share=0)
    masks = draw(rows, keys, copies, Plane(index=0, kind="whole_word"))
    hidden = bits(masks, 64)
    words = np.unpackbits(rows.word_starts, axis=1, bitorder="little").astype(bool)
    partly = 0
    for r in range(len(rows)):
        starts = [*np.flatnonzero(words[r]).tolist(), 61]
        for begin, end in pairwise(starts):
            for run in range(begin, end, MAX_UNIT):
                assert len(set(hidden[r, run : min(end, run + MAX_UNIT)])) == 1
            partly += len(set(hidden[r, begin:end])) > 1
    assert partly > 0


@pytest.mark.parametrize("spread", [1, 40, 2**10, 2**56, 2**63])
def test_words_are_taken_by_rising_priority_as_long_as_they_fit(spread):
    """However many words share the top bits of their priorities, by which they are counted, or all bits."""
    rng = np.random.default_rng(spread % 97)
    for _ in range(200):
        sizes = rng.integers(1, MAX_UNIT + 1, int(rng.integers(0, 60)))
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        num = int(starts[-1])
        priority = rng.integers(0, spread, num + 1, dtype=np.uint64)
        budget = int(rng.integers(0, num + 1))
        taken, left = np.zeros(num, bool), budget
        for u in np.argsort(priority[starts[:-1]], kind="stable"):
            if sizes[u] <= left:
                taken[starts[u] : starts[u + 1]] = True
                left -= sizes[u]
        chosen, keys = np.zeros(num + 1 + MAX_UNIT, np.int32), np.zeros(num + 1, np.uint64)
        counts, work = np.zeros(257, np.int32), np.zeros(num + 1, np.int32)
        count = _hide_words(starts, sizes.size, priority, budget, chosen, keys, work, counts, np.uint64(56))
        assert np.array_equal(chosen[:count], np.flatnonzero(taken))


def test_spans_have_the_lengths_of_spanbert():
    """A rate so low that few spans meet: lengths are Geo(0.2) truncated at 10, mean 3.8; a span shares its fate."""
    rows, keys, copies = corpus([4000] * 60, sequence_length=4096, word_share=1, unknown_share=0)
    plane = Plane(index=0, kind="span", rate=0.02)
    masks = draw(rows, keys, copies, plane)
    lengths, mixed = [], 0
    for r in range(len(rows)):
        places = np.flatnonzero(bits(masks, 4096)[r])
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            lengths.append(len(run))
            fates = {p in swaps(masks, r) for p in run.tolist()}
            mixed += len(fates) > 1
    counts = np.bincount(lengths, minlength=MAX_SPAN + 1)
    shares = 0.2 * 0.8 ** np.arange(MAX_SPAN) / (1 - 0.8**MAX_SPAN)
    assert np.mean(lengths) == pytest.approx(3.8, abs=0.25)
    assert counts[1 : MAX_SPAN + 1] / len(lengths) == pytest.approx(shares, abs=0.04)
    assert mixed < 0.03 * len(lengths)  # two spans side by side


@pytest.mark.parametrize(("ngram", "rate"), [(2, 0.15), (3, 0.3), (6, 0.3), (6, 0.5), (12, 0.15)])
def test_runs_are_exactly_as_long_and_reach_the_rate(ngram, rate):
    """Each run is k places of one segment with something visible around it, and shares what it shows."""
    rows, keys, copies = corpus([700] * 60, sequence_length=512, unknown_share=0.01)
    plane = Plane(index=0, kind="ngram", ngram=ngram, rate=rate)
    masks = draw(rows, keys, copies, plane)
    hidden, most = bits(masks, 512), plane.budget((~np.isin(rows.tokens, NEVER)).sum(axis=1))
    for r in range(len(rows)):
        places, changed = np.flatnonzero(hidden[r]), swaps(masks, r)
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            assert len(run) == ngram
            assert len({p in changed for p in run.tolist()}) == 1
    assert (hidden.sum(axis=1) <= most).all()
    full = rows.used() > 400
    assert (hidden.sum(axis=1)[full] > most[full] - ngram).all()


def test_runs_that_do_not_fit_are_not_drawn():
    """Segments and stretches shorter than a run have no target; a row without room for a run has none at all."""
    rows, keys, copies = corpus([5, 5, 5, 40], sequence_length=64, unknown_share=0)
    masks = draw(rows, keys, copies, Plane(index=0, kind="ngram", ngram=6, rate=0.5))
    hidden, at = bits(masks, 64)[0], 0
    for s in range(rows.segment_offsets[0], rows.segment_offsets[1]):
        length = int(rows.segment_lengths[s])
        assert hidden[at : at + length].any() == (length > 8)
        at += length
    assert not draw(rows, keys, copies, Plane(index=0, kind="ngram", ngram=6, rate=0.1)).targets.any()
    assert masks.num_targets().tolist() == [24]


def test_apply_gives_inputs_and_labels():
    rows, keys, copies = corpus([60, 20, 200])
    masks = draw(rows, keys, copies, Plane(index=0))
    corrupted, labels = apply(rows.tokens, masks, mask_id=ROLES.mask)
    hidden = bits(masks, rows.sequence_length)
    assert np.array_equal(labels[hidden], rows.tokens[hidden])
    assert (labels[~hidden] == -100).all()
    assert np.array_equal(corrupted[~hidden], rows.tokens[~hidden])
    for r in range(len(rows)):
        for p in np.flatnonzero(hidden[r]).tolist():
            assert corrupted[r, p] == swaps(masks, r).get(p, ROLES.mask)
    part = slice(2, 4)
    some = replace(masks, targets=masks.targets[part], swap_offsets=masks.swap_offsets[2:5])
    again, again_labels = apply(rows.tokens[part], some, mask_id=ROLES.mask)
    assert np.array_equal(again, corrupted[part])
    assert np.array_equal(again_labels, labels[part])


def test_no_rows_and_no_candidates():
    rows, keys, copies = corpus([0])
    masks = draw(rows, keys, copies, Plane(index=0))
    assert masks.targets.shape == (0, 8)
    assert masks.max_targets == 0
    for kind in KINDS:
        rows, keys, copies = corpus([30, 2], unknown_share=1)
        masks = draw(rows, keys, copies, Plane(index=0, **how(kind)))
        assert not masks.targets.any()
        assert not masks.swap_offsets.any()


def test_read_only_memory_and_wide_ids():
    rows, keys, copies = corpus([50, 70, 3])
    plane = Plane(index=0, kind="span")
    expected = draw(rows, keys, copies, plane)
    wide = replace(rows, tokens=rows.tokens.astype(np.uint32))
    for array in (*vars(wide).values(), keys, copies):
        array.flags.writeable = False
    masks = draw(wide, keys, copies, plane)
    assert np.array_equal(masks.targets, expected.targets)
    assert masks.swap_tokens.dtype == np.uint32
    assert np.array_equal(masks.swap_tokens, expected.swap_tokens)


@pytest.mark.parametrize(
    ("kind", "targets", "swapped"),
    [
        ("token", "528e0603", {4: 13, 6: 15, 17: 290, 18: 33, 25: 40}),
        ("whole_word", "168f0403", {4: 13, 8: 259, 18: 33, 25: 40}),
        ("span", "1e8e0302", {25: 40}),
        ("ngram", "0e0e0e00", {17: 290, 18: 243, 19: 232}),
    ],
)
def test_known_masks(kind, targets, swapped):
    """Masks are part of every dataset's digest: if these change, so do all of them, and remasking old text differs."""
    tokens = np.zeros((1, 32), np.uint16)
    tokens[0, :27] = [2, *range(10, 22), 3, 2, *range(30, 41), 3]
    words = np.zeros((1, 32), bool)
    words[0, [1, 3, 4, 5, 8, 9, 10, 12, 15, 16, 18, 19, 22, 24, 25]] = True
    rows = Rows(
        tokens=tokens,
        segment_offsets=np.array([0, 2], np.int32),
        segment_lengths=np.array([14, 13], np.int32),
        segment_documents=np.array([0, 1], np.int32),
        segment_starts=np.array([0, 7], np.int32),
        word_starts=np.packbits(words, axis=1, bitorder="little"),
    )
    keys, copies = np.array([[1, 2], [3, 4]], np.uint64), np.array([0, 1], np.int16)
    plane = Plane(index=1, **how(kind), seed=42, rate=0.5, mask_share=0.4, random_share=0.3, keep_share=0.3)
    masks = draw(rows, keys, copies, plane)
    assert masks.targets.tobytes().hex() == targets
    assert swaps(masks, 0) == swapped


# ---------------------------------------------------------------- planes


def test_planes_of_a_configuration():
    planes = training_planes(MaskSettings(planes=2, rate=(0.15, 0.3), kind="span"), seed=9)
    assert [(plane.index, plane.rate, plane.seed, plane.kind) for plane in planes] == [
        (0, 0.15, 9, "span"),
        (1, 0.3, 9, "span"),
    ]
    evaluation = evaluation_plane(seed=7, rate=0.15)
    assert (evaluation.kind, evaluation.mask_share, evaluation.seed) == ("token", 1.0, 7)
    assert evaluation.budget(np.array([7, 100])).tolist() == [1, 15]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0}, "mask.rate must be above 0"),
        ({"rate": 1.5}, "mask.rate must be above 0"),
        ({"kind": "words"}, "mask.kind must be one of token, whole_word, span, ngram"),
        ({"kind": "ngram"}, "mask.ngram must be above 1"),
        ({"kind": "ngram", "ngram": 1}, "mask.ngram must be above 1"),
        ({"kind": "token", "ngram": 6}, "and 0 for others"),
        ({"mask_share": 0.5}, "must be 1, got 0.7"),
        ({"mask_share": 1.1, "random_share": -0.2}, "must be 1"),
    ],
)
def test_impossible_planes_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Plane(index=0, **wrong)


def test_rows_that_name_what_is_not_there_are_refused():
    rows, keys, copies = corpus([50, 60])
    with pytest.raises(ValueError, match="documents from 1 on"):
        draw(rows, keys[:1], copies[:1], Plane(index=0))
    with pytest.raises(ValueError, match="tokens from 300 on"):
        draw(replace(rows, tokens=rows.tokens + np.uint16(200)), keys, copies, Plane(index=0))


def test_random_tokens_need_a_vocabulary():
    rows, keys, copies = corpus([50])
    with pytest.raises(ConfigError, match="random_share"):
        draw_plane(
            rows, keys, copies, Plane(index=0), roles=ROLES, vocab_size=VOCAB, never_targets=NEVER, random_ids=NEVER[:0]
        )
    with pytest.raises(ConfigError, match="above 0"):
        choose_targets(np.zeros(3, np.uint64), np.ones(3, bool), rate=0)


def test_every_kind_of_the_settings_is_one_that_is_drawn():
    told = get_args(MaskSettings.model_fields["kind"].annotation)
    assert tuple(KINDS) == told
    assert len({kind.code for kind in KINDS.values()}) == len(told)


def test_ten_planes_take_less_than_four_bytes_a_token():
    """At 30 % with 80/10/10 as they are written: ten bits, and four bytes for each of ten times 0.06 targets."""
    rows, keys, copies = corpus([600] * 300, sequence_length=512, unknown_share=0)
    masks = {str(i): draw(rows, keys, copies, Plane(index=i)) for i in range(10)}
    assert masks_table(rows, masks).nbytes < 3.9 * int(rows.used().sum())
