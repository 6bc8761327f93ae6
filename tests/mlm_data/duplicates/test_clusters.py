"""Who stays among near duplicates: against a plain Python twin, in any order, and in crowds."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.duplicates.clusters import (
    BAND,
    EDGE,
    HELD,
    MAX_LEADERS,
    Members,
    estimate,
    find_edges,
    min_agreeing,
    pack_bands,
    resolve,
)
from mlm_data.duplicates.minhash import band_keys, sketch
from mlm_data.duplicates.records import from_bytes, partition, to_bytes
from mlm_data.errors import ConfigError

SIZE, BANDS, VERIFY = 8, 4, 0.6


class Document(NamedTuple):
    input: int
    length: int
    id: tuple[int, int]
    values: tuple[int, ...]


class Corpus:
    """Units of documents, each unit of one input, as a build has them."""

    def __init__(self, units: list[list[Document]]) -> None:
        self.units = units
        self.asked: list[int] = []

    def load(self, unit, documents):
        self.asked.append(unit)
        found = [self.units[unit][document] for document in documents.tolist()]
        return Members(
            np.array([document.input for document in found], np.int32),
            np.array([document.length for document in found], np.int64),
            np.array([document.id for document in found], np.uint64).reshape(-1, 2),
            np.array([document.values for document in found], np.uint8).reshape(len(found), -1),
        )

    def records(self, bands=BANDS):
        parts = [np.empty(0, BAND)]
        for unit, documents in enumerate(self.units):
            if documents:
                values = np.array([document.values for document in documents], np.uint8)
                count = len(documents)
                parts.append(
                    pack_bands(band_keys(values, bands=bands), unit, np.arange(count), np.ones(count, np.int64))
                )
        return np.concatenate(parts)

    def dropped(self, *, partitions=1, exact=True, order=None, verify=VERIFY, bands=BANDS):
        records = self.records(bands)
        records = records if order is None else records[order(len(records))]
        edges = [
            find_edges(part, self.load, verify=verify, collapse_equal=exact)
            for part in partition(records, "key", partitions)
        ]
        edges = np.concatenate(edges)
        return resolve(edges if order is None else edges[order(len(edges))]).tolist()


def oracle(units, *, exact, verify=VERIFY):
    """The same by dictionaries and loops."""
    names = [(unit, document) for unit, documents in enumerate(units) for document in range(len(documents))]
    known = {name: units[name[0]][name[1]] for name in names}
    if exact:
        firsts = {}
        for name in names:
            firsts.setdefault(known[name].id, name)
        names = sorted(firsts.values())
    ranked = sorted(names, key=lambda name: (known[name].input, -known[name].length, known[name].id, name))
    size = len(known[names[0]].values) if names else 1
    rows = size // BANDS
    buckets = {}
    for name in ranked:
        for band in range(BANDS):
            buckets.setdefault((band, known[name].values[band * rows : (band + 1) * rows]), []).append(name)
    edges = {}
    for bucket in buckets.values():
        leaders = []
        for name in bucket:
            is_near = False
            for leader in [] if known[name].input == HELD else leaders:
                agreeing = sum(a == b for a, b in zip(known[name].values, known[leader].values, strict=True))
                share = (Fraction(agreeing) - Fraction(size, 256)) / (size - Fraction(size, 256))
                if share >= Fraction(str(verify)):
                    is_near = True
                    edges.setdefault(name, {})[leader] = share
            if not is_near and len(leaders) < MAX_LEADERS:
                leaders.append(name)
    drops = {}
    for name in ranked:
        staying = [(-share, leader) for leader, share in edges.get(name, {}).items() if leader not in drops]
        if staying:
            share, leader = min(staying)
            drops[name] = (*name, *leader, int(-share * 255 + Fraction(1, 2)))
    return [drops[name] for name in sorted(drops)]


# Few different values, lengths and ids, so that much is equal. Documents of equal id have the same text.
ids = st.tuples(st.sampled_from([0, 2**64 - 1]), st.integers(0, 12))
values = st.lists(st.integers(0, 1), min_size=SIZE, max_size=SIZE).map(tuple)


@st.composite
def corpora_of_units(draw):
    texts = draw(st.dictionaries(ids, st.tuples(st.integers(1, 3), values), min_size=1, max_size=14))
    ids_of_units = draw(st.lists(st.lists(st.sampled_from(sorted(texts)), max_size=9), max_size=4))
    first = draw(st.sampled_from([0, HELD]))
    return [
        [Document(first + unit // 2, *by_id(texts, name)) for name in names] for unit, names in enumerate(ids_of_units)
    ]


def by_id(texts, name):
    length, sketched = texts[name]
    return length, name, sketched


@settings(max_examples=300, deadline=None)
@given(corpora_of_units(), st.booleans(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_equals_the_twin_in_any_order(units, exact, partitions, random):
    def order(count):
        places = list(range(count)) + random.sample(range(count), min(count, 3))  # some come twice
        random.shuffle(places)
        return np.array(places, np.int64)

    corpus = Corpus(units)
    assert corpus.dropped(partitions=partitions, exact=exact, order=order) == oracle(units, exact=exact)


@settings(max_examples=100, deadline=None)
@given(corpora_of_units(), st.booleans())
def test_who_is_named_stays_and_one_of_each_family_stays(units, exact):
    drops = Corpus(units).dropped(exact=exact)
    gone = {drop[:2] for drop in drops}
    assert not gone & {drop[2:4] for drop in drops}
    if exact:
        firsts = {}
        for unit, documents in enumerate(units):
            for place, document in enumerate(documents):
                firsts.setdefault(document.id, (unit, place))
        assert gone <= set(firsts.values())  # later copies are left to the exact rule
        assert {drop[2:4] for drop in drops} <= set(firsts.values())


def sketched(*texts):
    return [tuple(row) for row in sketch(pa.array(texts, pa.large_string()), ngram=1, size=112).values.tolist()]


def one_unit(*texts, lengths=None):
    lengths = lengths or [len(text) for text in texts]
    rows = zip(texts, sketched(*texts), lengths, strict=True)
    return Corpus([[Document(0, n, (hash_of(text), 0), row) for text, row, n in rows]])


def hash_of(text):
    return int.from_bytes(text.encode()[:8].ljust(8), "big")


def words(first, count):
    return " ".join(f"w{number}" for number in range(first, first + count))


def test_no_chains():
    """A resembles B, B resembles C, A doesn't resemble C: C stays, though all that it resembles is dropped."""
    chain = one_unit(words(0, 200), words(24, 200), words(48, 200), lengths=[3, 2, 1])
    near = {"verify": 0.7, "bands": 16}
    pairs = [tuple(drop[:4]) for drop in chain.dropped(**near)]
    assert pairs == [(0, 1, 0, 0)]
    alone = Corpus([chain.units[0][1:]])
    assert [tuple(drop[:4]) for drop in alone.dropped(**near)] == [(0, 1, 0, 0)]


def test_who_stays():
    """The earlier input, then the longer, then the smaller id, then the earlier unit and document."""
    near, one = (1, 1, 1, 1, 1, 1, 1, 1), (5, 0)

    def kept(*units):
        drops = Corpus([list(unit) for unit in units]).dropped(exact=False)
        assert len(drops) == sum(map(len, units)) - 1
        (name,) = {tuple(drop[2:4]) for drop in drops}
        return name

    assert kept([Document(1, 9, one, near)], [Document(0, 1, (6, 0), near)]) == (1, 0)
    assert kept([Document(0, 1, one, near), Document(0, 9, (6, 0), near)]) == (0, 1)
    assert kept([Document(0, 9, (6, 0), near), Document(0, 9, one, near)]) == (0, 1)
    assert kept([Document(0, 9, (5, 1), near), Document(0, 9, one, near)]) == (0, 1)
    assert kept([Document(0, 9, one, near)], [Document(0, 9, one, near)]) == (0, 0)


def test_near_keeps_what_exact_keeps():
    """The second copy has the better rank by its input; but exact keeps the first, so only that one takes part."""
    near, other = (1, 1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1, 1, 0)
    units = [[Document(1, 9, (5, 0), near)], [Document(0, 9, (5, 0), near), Document(0, 8, (6, 0), other)]]
    assert [drop[:4] for drop in Corpus(units).dropped(exact=True)] == [(0, 0, 1, 1)]
    assert [drop[:4] for drop in Corpus(units).dropped(exact=False)] == [(0, 0, 1, 0), (1, 1, 1, 0)]


def test_texts_without_words_are_never_candidates():
    values, count = sketch(pa.array(["", "...", "", "a"], pa.large_string()), ngram=5, size=112)
    records = pack_bands(band_keys(values, bands=16), 3, np.arange(4), count)
    assert len(records) == 16
    assert set(records["document"].tolist()) == {3}


def test_nothing_in_nothing_out():
    def load(unit, documents):
        raise AssertionError("nobody is asked")

    assert len(find_edges(np.empty(0, BAND), load, verify=0.7, collapse_equal=True)) == 0
    alone = pack_bands(np.arange(16, dtype=np.uint64)[None], 0, np.arange(1), np.ones(1, np.int64))
    assert len(find_edges(alone, load, verify=0.7, collapse_equal=True)) == 0
    assert len(resolve(np.empty(0, EDGE))) == 0


def test_units_are_asked_once_and_only_for_members():
    twin = (1, 1, 1, 1, 1, 1, 1, 1)
    corpus = Corpus([[Document(0, 1, (0, 0), (9, 9, 9, 9, 9, 9, 9, 9))], [], *[[Document(0, 1, (0, 1), twin)]] * 2])
    corpus.dropped(exact=False)
    assert corpus.asked == [2, 3]


@pytest.mark.parametrize("is_alike", [True, False])
def test_a_hostile_bucket_of_100_000(is_alike):
    """Equal keys whatever the texts: at most MAX_LEADERS comparisons each."""
    count = 100_000
    values = np.random.default_rng(0).integers(0, 256, (count, 112)).astype(np.uint8)
    if is_alike:
        values[:] = values[0]

    def load(unit, documents):
        ids = np.stack([documents, documents], axis=1).astype(np.uint64)
        return Members(np.zeros(count, np.int32), np.ones(count, np.int64), ids, values[documents])

    keys = np.zeros((count, 1), np.uint64)
    records = pack_bands(keys, 0, np.arange(count), np.ones(count, np.int64))
    edges = find_edges(records, load, verify=0.7, collapse_equal=False)
    drops = resolve(edges)
    assert len(drops) == (count - 1 if is_alike else 0)
    assert len(edges) <= MAX_LEADERS * count
    if is_alike:
        assert set(drops["kept_document"].tolist()) == {0}
        assert set(drops["estimate"].tolist()) == {255}


def test_a_long_chain_of_edges_is_resolved_without_recursion():
    count = 200_000
    edges = np.zeros(count, EDGE)
    edges["document"], edges["kept_document"], edges["estimate"] = np.arange(1, count + 1), np.arange(count), 200
    drops = resolve(edges[np.random.default_rng(0).permutation(count)])
    assert drops["document"].tolist() == list(range(1, count + 1, 2))


@given(st.integers(1, 300), st.integers(1, 100))
def test_verify_is_a_number_of_places(size, percent):
    """The least number whose corrected share is `verify` or more, by fractions."""
    verify = Fraction(percent, 100)
    expected = next(m for m in range(size + 1) if Fraction(256 * m - size, 255 * size) >= verify)
    assert min_agreeing(size, percent / 100) == expected
    shares = [max(0, int(Fraction(256 * m - size, size) + Fraction(1, 2))) for m in range(size + 1)]
    shares = [share if 256 * m >= size else 0 for m, share in enumerate(shares)]
    found = estimate(np.arange(size + 1), size).tolist()
    assert max(abs(a - b) for a, b in zip(found, shares, strict=True)) <= 1
    assert found[-1] == 255
    assert found == sorted(found)


@pytest.mark.parametrize("verify", [0, -0.1, 1.01])
def test_verify_out_of_range(verify):
    with pytest.raises(ConfigError, match="verify must be above 0 and at most 1, got"):
        min_agreeing(112, verify)


def test_records_round_trip_in_16_bytes():
    records = Corpus([[Document(0, 1, (0, 0), (1,) * SIZE)]]).records()
    data = to_bytes(records)
    assert len(data) == 16 * len(records)
    np.testing.assert_array_equal(from_bytes(data, BAND), records)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(1, 5))
def test_partitions_keep_equal_keys_together(keys, count):
    records = np.zeros(len(keys), BAND)
    records["key"] = keys
    parts = partition(records, "key", count)
    assert len(parts) == count
    assert sorted(key for part in parts for key in part["key"].tolist()) == sorted(keys)
    for part in parts:
        others = [key for other in parts if other is not part for key in other["key"].tolist()]
        assert not set(part["key"].tolist()) & set(others)
