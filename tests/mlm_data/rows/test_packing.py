"""Packing against plain twins, its invariants, and how full real books get."""

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.rows.packing import (
    MIN_PIECE,
    STRATEGIES,
    PackingStatistics,
    cut_documents,
    fill_rows,
    lower_bound,
    pack,
    statistics,
)
from mlm_data.tokens.engine import make_engine
from mlm_data.tokens.reference import load_tokenizer
from mlm_data.types import Roles

ROLES = Roles(cls=2, sep=3, pad=0, mask=4, unk=1)


def texts(lengths, rng, word_share=0.6, first_id=5):
    """Documents of these lengths: (ids, offsets, word_starts)."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(first_id, 60_000, offsets[-1]).astype(np.uint16)
    word_starts = rng.random(offsets[-1]) < word_share
    word_starts[offsets[:-1][np.asarray(lengths) > 0]] = True
    return ids, offsets, word_starts


# ---------------------------------------------------------------- cutting


def plain_cut(n, starts, capacity, min_piece, *, truncate=False):
    """Pieces (start, length) of one document, by the rule in words."""
    pieces, at = [], 0
    while at < n:
        end = min(n, at + capacity)
        if end < n:
            fitting = [p for p in range(at + 1, end + 1) if starts[p]]
            end = fitting[-1] if fitting else end
        pieces.append((at, end - at))
        at = end
        if truncate:
            break
    if not truncate and len(pieces) > 1 and pieces[-1][1] < min_piece:
        (first, a), (_, b) = pieces[-2:]
        middle = first + (a + b) // 2
        allowed = [p for p in range(max(first + 1, n - capacity), min(n - 1, first + capacity) + 1) if starts[p]]
        cut = min(allowed, key=lambda p: (abs(p - middle), p), default=middle)
        pieces[-2:] = [(first, cut - first), (cut, n - cut)]
    return pieces


@given(
    st.lists(st.integers(0, 90), max_size=6),
    st.integers(1, 20),
    st.integers(0, 12),
    st.booleans(),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_cutting_matches_the_rule_in_words(lengths, capacity, min_piece, truncate, word_share, seed):
    _, offsets, word_starts = texts(lengths, np.random.default_rng(seed), word_share)
    how = "truncate" if truncate else "split"
    cut = cut_documents(offsets, word_starts, capacity=capacity, long_documents=how, min_piece=min_piece)
    expected = [
        (d, start, length)
        for d, n in enumerate(lengths)
        for start, length in plain_cut(
            n, word_starts[offsets[d] : offsets[d + 1]], capacity, min_piece, truncate=truncate
        )
    ]
    assert list(zip(cut.document.tolist(), cut.start.tolist(), cut.length.tolist(), strict=True)) == expected
    assert cut.num_empty_documents == lengths.count(0)
    assert cut.num_truncated_tokens == sum(lengths) - int(cut.length.sum())
    assert cut.num_truncated_tokens == 0 or truncate
    assert cut.length.max(initial=0) <= capacity


def test_every_segment_starts_at_a_word_and_none_is_tiny():
    ids, offsets, word_starts = texts([5000, 510, 511, 1021, 30, 1500], np.random.default_rng(0), word_share=0.5)
    cut = cut_documents(offsets, word_starts, capacity=510)
    assert word_starts[offsets[cut.document] + cut.start].all()
    assert cut.length.sum() == ids.size
    whole = np.diff(offsets)[cut.document] == cut.length
    assert (cut.length[~whole] >= MIN_PIECE).all()


def test_a_word_longer_than_the_capacity_is_cut_hard():
    offsets, word_starts = np.array([0, 100]), np.zeros(100, bool)
    word_starts[0] = True
    cut = cut_documents(offsets, word_starts, capacity=30, min_piece=1)
    assert cut.length.tolist() == [30, 30, 30, 10]
    shared = cut_documents(offsets, word_starts, capacity=30, min_piece=20)
    assert shared.length.tolist() == [30, 30, 20, 20]


def test_no_documents_no_segments():
    for lengths in ([], [0, 0]):
        _, offsets, word_starts = texts(lengths, np.random.default_rng(0))
        cut = cut_documents(offsets, word_starts, capacity=8)
        assert len(cut) == 0
        assert cut.num_empty_documents == len(lengths)
        packing = pack(cut.length, sequence_length=8, max_segments=2)
        assert len(packing) == 0
        assert packing.row_offsets.tolist() == [0]
    with pytest.raises(ValueError, match="capacity 0"):
        cut_documents(np.array([0, 1]), np.ones(1, bool), capacity=0)


# ---------------------------------------------------------------- packing


def plain_rows(lengths, sequence_length, max_segments, keep, equal):
    """Row by row, over a plain list of the segments that are left; see the head of mlm_data/rows/packing.py."""
    left, rows = list(range(len(lengths))), []
    while left:
        share = -(-len(left) // -(-sum(lengths[s] for s in left) // sequence_length))
        row, room = [], sequence_length
        wanted = max(lengths[s] for s in left)
        while True:
            segment = next(s for s in left if lengths[s] == wanted)
            left.remove(segment)
            row.append(segment)
            room -= wanted
            fitting = [lengths[s] for s in left if lengths[s] <= room]
            if len(row) == max_segments or not fitting:
                break
            pairs = [max(a, b) for a, b in combinations(fitting, 2) if a + b == room and len(row) + 2 <= max_segments]
            if room in fitting:
                wanted = room
            elif share - len(row) > keep and 4 * min(fitting) <= room:
                wanted = min(fitting)
            elif pairs:
                wanted = min(pairs) if equal else max(pairs)
            else:
                wanted = max(fitting)
        rows.append(sorted(row))
    return sorted(rows)


def rows_of(packing):
    return [part.tolist() for part in np.split(packing.order, packing.row_offsets[1:-1])] if len(packing) else []


@given(st.lists(st.integers(1, 64), max_size=60), st.sampled_from([64, 65, 100, 512]), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_packing_is_a_plain_strategy_or_better(lengths, sequence_length, max_segments):
    packing = pack(np.array(lengths, np.int32), sequence_length=sequence_length, max_segments=max_segments)
    rows = rows_of(packing)
    check_packing(rows, lengths, sequence_length, max_segments)
    plain = [plain_rows(lengths, sequence_length, max_segments, *strategy) for strategy in STRATEGIES]
    assert rows in plain or len(rows) < min(map(len, plain))
    bound = lower_bound(np.array(lengths, np.int32), sequence_length=sequence_length, max_segments=max_segments)
    assert len(rows) <= bound + 1 or len(rows) <= min(map(len, plain))


@given(st.lists(st.integers(1, 24), max_size=9), st.sampled_from([24, 25]), st.integers(2, 9))
@settings(max_examples=200, deadline=None)
def test_the_lower_bound_is_never_above_the_best_packing(lengths, sequence_length, max_segments):
    def fits(rows):
        """Whether the segments, one by one, fit so many rows."""

        def place(segment, rooms):
            if segment == len(lengths):
                return True
            return any(
                place(segment + 1, [*rooms[:r], (room - lengths[segment], slots - 1), *rooms[r + 1 :]])
                for r, (room, slots) in enumerate(rooms)
                if room >= lengths[segment] and slots
            )

        return place(0, [(sequence_length, max_segments)] * rows)

    bound = lower_bound(np.array(lengths, np.int32), sequence_length=sequence_length, max_segments=max_segments)
    assert bound >= -(-sum(lengths) // sequence_length)
    assert bound == 0 or not fits(bound - 1)


def check_packing(rows, lengths, sequence_length, max_segments):
    assert sorted(segment for row in rows for segment in row) == list(range(len(lengths)))
    assert all(row == sorted(row) for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert all(sum(lengths[s] for s in row) <= sequence_length for row in rows)
    assert all(len(row) <= max_segments for row in rows)
    bound = lower_bound(np.array(lengths, np.int32), sequence_length=sequence_length, max_segments=max_segments)
    assert len(rows) >= bound


def test_the_trace_of_the_module_head():
    packing = pack(np.array([5, 3, 6, 2, 3, 2], np.int32), sequence_length=8, max_segments=8)
    assert rows_of(packing) == [[0, 1], [2, 3], [4, 5]]


def test_short_segments_meet_long_ones_where_rows_would_close_early():
    rng = np.random.default_rng(1)
    lengths = np.concatenate([rng.integers(3, 12, 20_000), rng.integers(60, 120, 8_000)]).astype(np.int32)
    rng.shuffle(lengths)
    packing = pack(lengths, sequence_length=512, max_segments=16)
    bound = lower_bound(lengths, sequence_length=512, max_segments=16)
    check_packing(rows_of(packing), lengths, 512, 16)
    assert len(packing) <= 1.01 * bound
    assert best_fit_decreasing(lengths, 512, 16) > 1.1 * bound


def test_never_worse_than_best_fit_decreasing():
    rng = np.random.default_rng(5)
    for shape in (rng.integers(3, 200, 20_000), rng.lognormal(4.3, 0.8, 20_000), rng.lognormal(3, 1, 20_000)):
        lengths = np.clip(shape, 3, 512).astype(np.int32)
        packing = pack(lengths, sequence_length=512, max_segments=16)
        bound = lower_bound(lengths, sequence_length=512, max_segments=16)
        check_packing(rows_of(packing), lengths, 512, 16)
        assert len(packing) <= best_fit_decreasing(lengths, 512, 16)
        assert len(packing) <= 1.01 * bound


def best_fit_decreasing(lengths, sequence_length, max_segments):
    """Rows of best-fit decreasing, by a list of rows for each room: quick enough for many segments."""
    at_room = [[] for _ in range(sequence_length + 1)]
    count = 0
    for length in sorted(lengths.tolist(), reverse=True):
        room = next((r for r in range(length, sequence_length + 1) if at_room[r]), None)
        if room is None:
            count += 1
            room, slots = sequence_length, max_segments
        else:
            slots = at_room[room].pop()
        if slots > 1:
            at_room[room - length].append(slots - 1)
    return count


@pytest.mark.parametrize(("sequence_length", "mean"), [(512, 4.3), (512, 5), (1024, 4.5), (8192, 5)])
def test_at_most_one_row_above_the_bound_and_always_the_same(sequence_length, mean):
    lengths = np.random.default_rng(7).lognormal(mean, 0.8, 50_000)
    lengths = np.clip(lengths, 3, sequence_length).astype(np.int32)
    packing = pack(lengths, sequence_length=sequence_length, max_segments=sequence_length // 32)
    again = pack(lengths.copy(), sequence_length=sequence_length, max_segments=sequence_length // 32)
    bound = lower_bound(lengths, sequence_length=sequence_length, max_segments=sequence_length // 32)
    assert len(packing) <= bound + 1
    assert np.array_equal(packing.order, again.order)
    assert np.array_equal(packing.row_offsets, again.row_offsets)


def test_impossible_lengths_are_refused():
    for lengths in ([0, 3], [9]):
        with pytest.raises(ValueError, match="don't fit rows of 8"):
            pack(np.array(lengths, np.int32), sequence_length=8, max_segments=2)


# ---------------------------------------------------------------- rows


@given(st.lists(st.integers(0, 60), max_size=25), st.sampled_from([16, 24, 64]), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_rows_hold_the_documents(lengths, sequence_length, specials, seed):
    roles = Roles(cls=2 if specials & 1 else -1, sep=3 if specials & 2 else -1, pad=0, mask=4, unk=1)
    ids, offsets, word_starts = texts(lengths, np.random.default_rng(seed))
    segments = cut_documents(offsets, word_starts, capacity=sequence_length - roles.num_specials)
    packing = pack(segments.length + roles.num_specials, sequence_length=sequence_length, max_segments=4)
    rows = fill_rows(ids, offsets, word_starts, segments, packing, sequence_length=sequence_length, roles=roles)
    assert rows.tokens.dtype == np.uint16
    flags = np.unpackbits(rows.word_starts, axis=1, bitorder="little").astype(bool)
    assert flags.shape == rows.tokens.shape
    for r in range(len(rows)):
        tokens, words = [], []
        for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
            first = offsets[rows.segment_documents[s]] + rows.segment_starts[s]
            size = rows.segment_lengths[s] - roles.num_specials
            before, after = [roles.cls] * (roles.cls >= 0), [roles.sep] * (roles.sep >= 0)
            tokens += [*before, *ids[first : first + size].tolist(), *after]
            words += [False] * len(before) + word_starts[first : first + size].tolist() + [False] * len(after)
        padding = sequence_length - len(tokens)
        assert rows.tokens[r].tolist() == tokens + [roles.pad] * padding
        assert flags[r].tolist() == words + [False] * padding
    # Every token of every document is in exactly one place.
    assert sorted(rows.tokens[rows.tokens > 4].tolist()) == sorted(ids.tolist())


def test_rows_take_wide_ids_and_read_only_buffers():
    ids, offsets, word_starts = texts([40, 7], np.random.default_rng(0))
    wide = ids.astype(np.uint32) + 100_000
    for array in (wide, offsets, word_starts):
        array.flags.writeable = False
    segments = cut_documents(offsets, word_starts, capacity=14)
    packing = pack(segments.length + 2, sequence_length=16, max_segments=8)
    rows = fill_rows(wide, offsets, word_starts, segments, packing, sequence_length=16, roles=ROLES)
    assert rows.tokens.dtype == np.uint32
    assert sorted(rows.tokens[rows.tokens > 4].tolist()) == sorted(wide.tolist())


# ---------------------------------------------------------------- statistics


def test_statistics_add_up_and_survive_json():
    lengths = np.array([1, 32, 33, 512, 511, 64], np.int32)
    packing = pack(lengths, sequence_length=512, max_segments=16)
    one = statistics(lengths, packing, sequence_length=512, max_segments=16)
    assert one.lengths[0] == 2
    assert one.lengths[1] == 2
    assert one.lengths[15] == 2
    assert (one.num_rows, one.num_rows_bound, one.num_segments, one.num_tokens) == (3, 3, 6, 1153)
    both = one + PackingStatistics.from_dict(one.to_dict())
    assert both.num_tokens == 2 * 1153
    assert both.max_segments == one.max_segments
    assert both.fullness == pytest.approx(one.fullness) == pytest.approx(1153 / 1536)
    with pytest.raises(ValueError, match="don't add up"):
        one + statistics(lengths, packing, sequence_length=1024, max_segments=16)


@pytest.mark.corpora
def test_books_fill_their_rows(corpora):
    """Paragraphs and whole books, BERT's tokenizer, 512 places: at least 99 % full."""
    reference = load_tokenizer(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")
    texts, counts = [], []
    for path in sorted((corpora / "en_classic_books_md").rglob("*.md"))[:4]:
        text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        texts += (paragraphs := [part for part in text.split("\n\n") if part.strip()])
        counts.append(len(paragraphs))
    encoded = make_engine(reference).encode(pa.array(texts, pa.large_string()))
    books = encoded.offsets[np.cumsum([0, *counts])]
    for offsets in (encoded.offsets, books):
        segments = cut_documents(offsets, encoded.word_starts, capacity=510)
        lengths = segments.length + np.int32(2)
        packing = pack(lengths, sequence_length=512, max_segments=16)
        found = statistics(lengths, packing, sequence_length=512, max_segments=16)
        assert found.num_rows > 100
        assert found.fullness > 0.99
        assert segments.length.sum() == encoded.ids.size
