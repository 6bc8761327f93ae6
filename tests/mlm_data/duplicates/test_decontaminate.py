"""Decontamination against plain Python over lists of words."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.duplicates.decontaminate import (
    MATCH,
    RUN,
    build_index,
    choose_ignored,
    cut_runs,
    decide,
    find_cuts,
    find_matches,
)
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


def plain_cuts(text, grams, window):
    """`find_cuts` of one text whose words are letters with one space between them: [first byte, byte behind]."""
    words = text.split()
    covered = set()
    for gram, starts in held_by(words, grams).items():
        for k in starts:
            first, behind = 2 * k - window, 2 * (k + len(gram)) - 1 + window
            covered |= set(range(max(0, first), min(behind, len(text))))
    spans = []
    for byte in sorted(covered):
        if spans and byte - spans[-1][1] < max(1, window):
            spans[-1][1] = byte + 1
        else:
            spans.append([byte, byte + 1])
    if spans and spans[0][0] < window:
        spans[0][0] = 0
    if spans and len(text) - spans[-1][1] < window:
        spans[-1][1] = len(text)
    return spans


@settings(max_examples=200, deadline=None)
@given(few_items, few_texts, st.sampled_from([0, 1, 2, 5]), st.randoms(use_true_random=False))
def test_cuts_equal_the_twin(items, texts, window, random):
    """Single letters: a window never ends within a word."""
    index = index_of(*map(" ".join, items), ngram=NGRAM, min_words=SHORTEST)
    grams = list(dict.fromkeys(gram for item in items for gram in grams_of(item)))
    ignored = sorted(random.sample(range(len(grams)), len(grams) // 3))
    left = [gram for number, gram in enumerate(grams) if number not in ignored]
    content = [" ".join(text) for text in texts]
    found = find_cuts(strings("a b", *content).slice(1), index, ignored=np.array(ignored, np.int32), window=window)
    expected = [(number, *span) for number, text in enumerate(content) for span in plain_cuts(text, left, window)]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


@settings(max_examples=200, deadline=None)
@given(few_items, few_texts, st.sampled_from([0, 1, 4]))
def test_nothing_that_was_cut_holds_a_run_any_more(items, texts, window):
    index = index_of(*map(" ".join, items), ngram=NGRAM, min_words=SHORTEST)
    content = [" ".join(text) for text in texts]
    found = cut_runs(strings(*content), index, window=window)
    assert len(find_matches(found.texts, index)) == 0
    held = set(find_matches(strings(*content), index)["document"].tolist())
    assert set(np.flatnonzero(found.num_cuts).tolist()) == held
    for number, text in enumerate(found.texts.to_pylist()):
        if number in held:
            assert len(text) < len(content[number])
        else:
            assert text == content[number]


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
    text, start, end = find_cuts(strings("x " * 1_000_000), index)
    assert (text.tolist(), start.tolist(), end.tolist()) == ([0], [0], [1_999_999])


def test_nothing_in_nothing_out():
    index = index_of()
    assert len(find_matches(strings("any text of some words", ""), index)) == 0
    decision = decide(np.empty(0, MATCH), index)
    assert len(decision.documents) == len(decision.places) == 0
    assert decision.report.items.tolist() == [0]
    assert len(find_matches(strings(), index_of(SHORT))) == 0
    assert [len(column) for column in find_cuts(strings("a b"), index_of(SHORT))] == [0, 0, 0]
    assert cut_runs(strings(), index_of(SHORT)).texts.to_pylist() == []
    assert cut_runs(strings("any text of some words", ""), index).texts.to_pylist() == ["any text of some words", ""]
    ignored, report = choose_ignored(np.empty(0, RUN), index)
    assert (len(ignored), report.items.tolist()) == (0, [0])


@pytest.mark.parametrize(
    ("text", "window", "left"),
    [
        (f"He said: {SHORT} Then he left.", 0, "He said: \n\n. Then he left."),
        ("He said so and THE CÁT\nsat—on the mat", 0, "He said so and "),
        (SHORT[:-1], 0, ""),
        (f"{SHORT[:-1]} {SHORT[:-1]}", 0, ""),
        (f"over {SHORT} and under {SHORT[:-1]} and out", 1, "over\n\nand under\n\nand out"),
        (f"over unparted {SHORT} and out of here", 3, "over \n\nout of here"),
        (f"over {SHORT} bit {SHORT[:-1]} and out", 6, ""),
        (f"貓 坐在墊子上。{SHORT} 貓 坐在墊子上", 2, "貓 坐在墊子\n\n貓 坐在墊子上"),
        ("x" * 300 + f" {SHORT}", 5, ""),
        ("é" * 300 + f"\n{SHORT} " + "ö" * 300, 1, "é" * 300 + "\n\n" + "ö" * 300),
    ],
)
def test_a_window_ends_with_a_word_and_small_pieces_go(text, window, left):
    cut = cut_runs(strings("before", text, "after"), index_of(SHORT), window=window)
    assert cut.texts.to_pylist() == ["before", left, "after"]
    assert cut.num_cuts.tolist()[::2] == [0, 0]


def test_items_that_overlap_are_cut_once_and_what_a_cut_brings_together_too():
    index = index_of("a b c d e f", "d e f g h i", "one two three four five six")
    texts = strings("x a b c d e f g h i y", "one two three a b c d e f four five six end")
    cut = cut_runs(texts, index)
    assert cut.texts.to_pylist() == ["x \n\ny", "end"]
    assert cut.num_cuts.tolist() == [1, 2]


def test_a_text_made_to_survive_all_passes_is_empty():
    inner = "a b c d e"
    for _ in range(30):
        inner = f"a b {inner} c d e"
    cut = cut_runs(strings(f"start {inner} end", f"start {SHORT} end"), index_of("a b c d e"))
    assert cut.texts.to_pylist() == ["", f"start {SHORT} end"]
    assert cut.num_cuts.tolist() == [11, 0]


def test_a_run_in_many_different_texts_is_ignored_and_copies_are_one():
    index = index_of(SHORT, "to be or not to be", files=[0, 1], num_files=2)
    texts = [f"{number} {SHORT}" for number in range(3)] + ["well to be or not to be"] * 9
    matches = find_matches(strings(*texts), index)
    records = np.empty(len(matches), RUN)
    for name in MATCH.names:
        records[name] = matches[name]
    records["text"] = [texts.index(texts[number]) for number in matches["document"]]
    ignored, report = choose_ignored(np.random.default_rng(0).permutation(np.tile(records, 2)), index, max_documents=2)
    assert ignored.tolist() == [0]
    assert report.too_common.tolist() == [1, 0]
    assert report.documents.tolist() == [0, 1]
    assert cut_runs(strings(*texts), index, ignored=ignored).num_cuts.tolist() == [0] * 3 + [1] * 9


def test_settings_out_of_range():
    with pytest.raises(ConfigError, match="ngram must be at least 5"):
        index_of(SHORT, ngram=4)
    with pytest.raises(ConfigError, match="share must be above 0 and at most 1, got 0"):
        decide(np.empty(0, MATCH), index_of(SHORT), share=0)
