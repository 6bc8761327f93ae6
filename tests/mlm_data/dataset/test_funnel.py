"""Sums of fates, in any order, and which examples stay."""

import numpy as np

from mlm_data.dataset.funnel import MOST_EXAMPLES, Example, Funnel, choose_examples, count_fates

ONE = Funnel(fates={("a", "en", "kept"): (2, 20, 5), ("a", "de", "empty"): (1, 0, 0)}, changes={"lines": 2})
OTHER = Funnel(fates={("a", "en", "kept"): (1, 7, 3), ("b", "", "kept"): (4, 40, 8)}, changes={"email": 1})


def example(number, reason="empty", name="a"):
    return Example(input=name, reason=reason, source="s", offset=number, id=f"{number * 7 % 20:032x}", head="h")


def test_a_sum_does_not_depend_on_the_order():
    assert ONE + OTHER == OTHER + ONE
    assert (ONE + OTHER).fates["a", "en", "kept"] == (3, 27, 8)
    assert (ONE + OTHER).changes == {"email": 1, "lines": 2}
    assert list((ONE + OTHER).fates) == sorted((ONE + OTHER).fates)
    assert ONE + Funnel() == Funnel() + ONE


def test_sums_by_some_names():
    both = ONE + OTHER
    assert both.by("reason") == {("kept",): (7, 67, 16), ("empty",): (1, 0, 0)}
    assert both.by("input", "reason")["b", "kept"] == (4, 40, 8)
    assert both.by() == {(): (8, 67, 16)}


def test_plain_types_and_back():
    assert Funnel.from_dict((ONE + OTHER).to_dict()) == ONE + OTHER


def test_fates_are_counted_by_input_language_and_reason():
    found = count_fates(
        np.array([0, 0, 1, 1, 1]),
        np.array([1, 1, 0, 1, 1], np.int16),
        np.array([0, 0, 2, 0, 2], np.uint16),
        np.array([10, 20, 30, 40, 50], np.int32),
        np.array([1, 2, 3, 4, 5]),
        names=(("x", "y"), ("und", "en"), ("kept", "empty", "near")),
    )
    assert found == {
        ("x", "en", "kept"): (2, 30, 3),
        ("y", "en", "kept"): (1, 40, 4),
        ("y", "en", "near"): (1, 50, 5),
        ("y", "und", "near"): (1, 30, 3),
    }


def test_without_languages_and_without_documents():
    none = np.zeros(0, np.int64)
    assert count_fates(none, none, none, none, none, names=(("x",), (), ("kept",))) == {}
    zero = np.zeros(2, np.int64)
    assert count_fates(zero, zero, zero, zero, zero, names=(("x",), (), ("kept",))) == {("x", "", "kept"): (2, 0, 0)}


def test_examples_of_the_smallest_ids_stay_in_whatever_order_they_come():
    some = [example(number) for number in range(12)] + [example(number, "near") for number in range(3)]
    chosen = choose_examples(some)
    assert chosen == choose_examples(some[::-1])
    assert len(chosen) == MOST_EXAMPLES + 3
    assert [one.id for one in chosen[:MOST_EXAMPLES]] == sorted(one.id for one in some[:12])[:MOST_EXAMPLES]
    halves = Funnel(examples=choose_examples(some[:6])) + Funnel(examples=choose_examples(some[6:]))
    assert halves.examples == chosen
