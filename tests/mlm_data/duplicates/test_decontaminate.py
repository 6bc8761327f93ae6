"""Decontamination against plain Python over lists of words."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.duplicates.decontaminate import MATCH, build_index, cut_spans, decide, find_matches
from mlm_data.errors import ConfigError

NGRAM, SHORTEST = 4, 2


def strings(*texts):
    return pa.array(texts, pa.large_string())


def index_of(*items, files=None, num_files=1, **settings):
    files = np.zeros(len(items), np.int32) if files is None else np.array(files, np.int32)
    return build_index(strings(*items), files, num_files=num_files, **settings)


def grams_of(words, n=NGRAM, shortest=SHORTEST):
    """The different n-grams of an item, in order."""
    size = min(n, len(words))
    if size < shortest:
        return []
    return list(dict.fromkeys(tuple(words[k : k + size]) for k in range(len(words) - size + 1)))


def held_by(words, grams):
    """Which n-grams stand in a text, with the number of the first word of each place."""
    found = {}
    for gram in grams:
        places = [k for k in range(len(words) - len(gram) + 1) if tuple(words[k : k + len(gram)]) == gram]
        if places:
            found[gram] = places
    return found


words = st.lists(st.sampled_from("a b c".split()), max_size=12)
few_items = st.lists(words, max_size=5)
few_texts = st.lists(st.lists(st.sampled_from("a b c".split()), max_size=30), max_size=5)


def searched(items, texts):
    index = index_of(*map(" ".join, items), ngram=NGRAM, min_words=SHORTEST)
    return index, find_matches(strings("a a b b c", *(", ".join(text).upper() for text in texts)).slice(1), index)


@settings(max_examples=200, deadline=None)
@given(few_items, few_texts)
def test_matches_equal_the_twin(items, texts):
    index, records = searched(items, texts)
    numbers = {}
    for item in items:
        for gram in grams_of(item):
            numbers.setdefault(gram, len(numbers))
    assert len(index.starts) == len(numbers)
    expected = [
        (0, number, numbers[gram], 3 * places[0], 3 * (places[0] + len(gram)) - 2)
        for number, text in enumerate(texts)
        for gram, places in held_by(text, numbers).items()
    ]
    assert sorted(records.tolist()) == sorted(expected)


@settings(max_examples=200, deadline=None)
@given(
    few_items, few_texts, st.sampled_from([0.01, 0.3, 0.5, 1.0]), st.integers(1, 3), st.randoms(use_true_random=False)
)
def test_decisions_equal_the_twin(items, texts, share, most, random):
    index, records = searched(items, texts)
    places = list(range(len(records))) + random.sample(range(len(records)), min(2, len(records)))
    random.shuffle(places)
    decision = decide(records[np.array(places, np.int64)], index, share=share, max_documents=most)
    all_grams = {gram for item in items for gram in grams_of(item)}
    number_of = {gram: sum(gram in held_by(text, [gram]) for text in texts) for gram in all_grams}
    expected, best = [], []
    countable = [[gram for gram in grams_of(item) if number_of[gram] <= most] for item in items]
    for document, text in enumerate(texts):
        of_document = []
        for item, grams in enumerate(countable):
            held = held_by(text, grams)
            if held and len(held) >= share * len(grams):
                start = min(3 * places[0] for places in held.values())
                of_document.append((0, document, item, len(held), len(grams), start))
        expected += of_document
        best += sorted(of_document, key=lambda found: (-found[3] / found[4], -found[3], found[2]))[:1]
    assert decision.places.tolist() == expected
    assert decision.documents.tolist() == best
    report = decision.report
    assert report.items.tolist() == [len(items)]
    assert report.too_short.tolist() == [sum(len(item) < SHORTEST for item in items)]
    assert report.checked.tolist() == [sum(map(bool, countable))]
    assert (report.too_short + report.too_common + report.checked).tolist() == [len(items)]
    assert report.found.tolist() == [len({found[2] for found in expected})]
    assert report.documents.tolist() == [len(best)]


@settings(max_examples=200, deadline=None)
@given(few_items, few_texts)
def test_spans_cover_all_places_of_the_items_of_a_text(items, texts):
    index, records = searched(items, texts)
    places = decide(records, index, share=0.01, max_documents=100).places
    content = [" ".join(text) for text in texts]
    spans = cut_spans(strings(*content), (places["document"], places["item"]), index)
    expected = []
    for number, text in enumerate(texts):
        covered = set()
        for item in places["item"][places["document"] == number].tolist():
            for gram, starts in held_by(text, grams_of(items[item])).items():
                covered |= {byte for k in starts for byte in range(2 * k, 2 * (k + len(gram)) - 1)}
        for byte in sorted(covered):
            if expected and expected[-1][0] == number and byte <= expected[-1][2]:
                expected[-1][2] = byte + 1
            else:
                expected.append([number, byte, byte + 1])
    assert [list(span) for span in zip(*(column.tolist() for column in spans), strict=True)] == expected


SHORT = "The cat sat on the mat."  # matched whole
LONG = "It was a bright cold day in April, and the clocks were striking thirteen; nobody there had ever heard that."


def test_a_short_item_is_matched_whole_whatever_its_dress():
    index = index_of(SHORT, LONG)
    texts = strings("He wrote: “THE CÁT\nsat—on the mat”, and left.", "The cat sat on the", "the cat sat on that mat")
    records = find_matches(texts, index, unit=3, first_document=10)
    assert records.tolist() == [(3, 10, 0, 13, 13 + len("THE CÁT\nsat—on the mat".encode()))]
    decision = decide(records, index)
    assert decision.documents.tolist() == [(3, 10, 0, 1, 1, 13)]


def test_a_long_item_by_share():
    index = index_of(LONG)
    words = LONG.split()
    num_grams = len(words) - 12
    assert num_grams == 8
    for num_words, is_found in [(15, False), (16, True), (20, True)]:
        records = find_matches(strings("Prose. " + " ".join(words[:num_words]) + " went on."), index)
        assert len(records) == num_words - 12
        assert len(decide(records, index, share=0.5).documents) == is_found
    assert len(decide(records, index, share=1.0).documents) == 1


def test_famous_quotations_are_ignored_and_counted():
    index = index_of(SHORT, "too short")
    for copies, common in [(10, 0), (11, 1)]:
        decision = decide(find_matches(strings(*[SHORT] * copies), index), index)
        assert len(decision.documents) == (0 if common else copies)
        assert decision.report.too_common.tolist() == [common]
        assert decision.report.checked.tolist() == [1 - common]


def test_ignored_ngrams_dont_count_in_the_share():
    """A common beginning of an item is ignored; what is left of it decides."""
    beginning = " ".join(f"same{k}" for k in range(13))
    item = beginning + " " + " ".join(f"own{k}" for k in range(13))
    index = index_of(item)
    texts = strings(*[beginning] * 11, item)
    decision = decide(find_matches(texts, index), index, share=1.0)
    assert decision.documents.tolist() == [(0, 11, 0, 13, 13, decision.documents["start"][0])]


def test_the_report_is_by_file():
    items = [SHORT, "four words are few", LONG, "A quite different item here"]
    index = index_of(*items, files=[0, 0, 2, 2], num_files=4)
    decision = decide(find_matches(strings(SHORT + " " + LONG, SHORT, "none of them"), index), index)
    report = {name: column.tolist() for name, column in decision.report._asdict().items()}
    assert report == {
        "items": [2, 0, 2, 0],
        "too_short": [1, 0, 0, 0],
        "too_common": [0, 0, 0, 0],
        "checked": [1, 0, 2, 0],
        "found": [1, 0, 1, 0],
        "documents": [2, 0, 1, 0],
    }
    assert [found[1:3] for found in decision.places.tolist()] == [(0, 0), (0, 2), (1, 0)]
    assert [found[1:3] for found in decision.documents.tolist()] == [(0, 2), (1, 0)]  # of LONG it holds more


def test_long_texts_cross_the_buffer():
    filler = " ".join(f"w{k}" for k in range(4000))
    texts = [f"{filler} {' '.join(['x'] * shift)} {LONG} {filler} {SHORT}" for shift in range(60, 130)]
    index = index_of(LONG, SHORT)
    records = find_matches(strings(*texts), index)
    assert len(records) == len(texts) * 9
    for start, end in zip(records["start"][records["gram"] == 8], records["end"][records["gram"] == 8], strict=True):
        assert end - start == len("The cat sat on the mat")


def test_hostile_items_and_texts():
    """Everything begins alike: at most `ngram` look-ups a word, one record for each n-gram."""
    items = [" ".join(["x"] * k) for k in range(5, 30)] + [
        "x x x x x " + " ".join(f"y{j}z{k}" for j in range(7)) for k in range(20_000)
    ]
    index = index_of(*items)
    records = find_matches(strings("x " * 5_000_000, "x" * 50_000_000), index)
    assert sorted(records["gram"].tolist()) == list(range(9))
    text, start, end = cut_spans(strings("x " * 1_000_000), (np.zeros(1, np.int32), np.zeros(1, np.int32)), index)
    assert (text.tolist(), start.tolist(), end.tolist()) == ([0], [0], [1_999_999])


def test_nothing_in_nothing_out():
    index = index_of()
    assert len(find_matches(strings("any text of some words", ""), index)) == 0
    decision = decide(np.empty(0, MATCH), index)
    assert len(decision.documents) == len(decision.places) == 0
    assert decision.report.items.tolist() == [0]
    assert len(find_matches(strings(), index_of(SHORT))) == 0
    none = np.empty(0, np.int32)
    assert [len(column) for column in cut_spans(strings("a b"), (none, none), index_of(SHORT))] == [0, 0, 0]


def test_settings_out_of_range():
    with pytest.raises(ConfigError, match="ngram must be at least 5"):
        index_of(SHORT, ngram=4)
    with pytest.raises(ConfigError, match="share must be above 0 and at most 1, got 0"):
        decide(np.empty(0, MATCH), index_of(SHORT), share=0)
