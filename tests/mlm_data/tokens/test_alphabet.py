"""Which characters get tokens: by frequency, up to a coverage, as far as there is room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.tokens.alphabet import choose_alphabet

COUNTS = {"a": 4, "b": 3, "c": 2, "d": 1}


@pytest.mark.parametrize(
    ("coverage", "room", "characters"),
    [
        (1.0, 9, "abcd"),
        (0.9, 9, "abc"),
        (0.91, 9, "abcd"),
        (0.4, 9, "a"),
        (0.0001, 9, "a"),
        (1.0, 2, "ab"),
        (1.0, 0, ""),
    ],
)
def test_the_most_frequent_up_to_the_coverage(coverage, room, characters):
    assert "".join(choose_alphabet(COUNTS, coverage=coverage, room=room).characters) == characters


def test_what_has_no_room_is_counted_and_said():
    found = choose_alphabet(COUNTS, coverage=0.9, room=2)
    assert (found.num_found, found.covered, found.num_without_room) == (4, 0.7, 1)
    assert str(found) == "2 of 4 characters, 70.00 % of the text; no room for 1 more: raise vocab_size"
    assert str(choose_alphabet(COUNTS, coverage=0.9, room=9)) == "3 of 4 characters, 90.00 % of the text"


def test_equal_counts_go_by_code_point_and_prices_count():
    assert choose_alphabet(dict.fromkeys("zyx", 2), coverage=1, room=2).characters == ("x", "y")
    assert choose_alphabet(COUNTS, coverage=1, room=5, price=lambda c: 2).characters == ("a", "b")


def test_shares_are_rounded_down():
    assert (
        str(choose_alphabet({"a": 999_999, "b": 1}, coverage=0.9, room=9)) == "1 of 2 characters, 99.99 % of the text"
    )
    assert "100.00 %" in str(choose_alphabet({"a": 3}, coverage=1, room=9))
    assert choose_alphabet({}, coverage=1, room=9).covered == 1.0


@given(st.dictionaries(st.characters(), st.integers(1, 50)), st.floats(0.01, 1), st.integers(0, 30))
def test_coverage_is_reached_or_the_room_is_full(counts, coverage, room):
    found = choose_alphabet(counts, coverage=coverage, room=room)
    assert list(found.characters) == sorted(found.characters)
    assert found.covered >= coverage - 1e-9 or len(found.characters) == room
    assert (found.num_without_room > 0) <= (len(found.characters) == room)
    rest = [counts[c] for c in counts if c not in found.characters]
    assert max(rest, default=0) <= min((counts[c] for c in found.characters), default=50)
