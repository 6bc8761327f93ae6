"""The share of [UNK], by script and source."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.dataset.unknown import MOST_SOURCES, Unknown, count_unknown

SCRIPTS = ("symbols", "Latin", "Han")


def counted(documents, sources=("a.txt", "b.txt")):
    """From (tokens, unknown, script, source) of each document."""
    columns = [np.array(column, np.int64) for column in zip(*documents, strict=True)] or [np.zeros(0, np.int64)] * 4
    return count_unknown(*columns, script_names=SCRIPTS, source_names=sources)


def test_counts_by_script_and_source():
    found = counted([(100, 0, 1, 0), (50, 25, 2, 1), (50, 5, 1, 1)])
    assert found.by_script == {"Han": (50, 25), "Latin": (150, 5)}
    assert found.by_source == {"b.txt": (100, 30)}
    assert (found.tokens, found.unknown, found.share) == (200, 30, 0.15)


def test_nothing_is_nothing():
    assert counted([]) == Unknown()
    assert Unknown().share == 0
    assert Unknown().warning() is None
    assert Unknown().failure(0) is None


DOCUMENTS = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 2), st.integers(0, 1)).map(
    lambda item: (max(item[:2]), min(item[:2]), *item[2:])
)


@given(st.lists(DOCUMENTS), st.lists(DOCUMENTS))
def test_parts_add_up(one, other):
    assert (counted(one) + counted(other)).by_script == counted(one + other).by_script
    assert (counted(one) + counted(other)).unknown == counted(one + other).unknown


@given(st.lists(DOCUMENTS))
def test_it_survives_json(documents):
    found = counted(documents)
    assert Unknown.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_only_the_worst_sources_are_kept():
    names = [f"{i:03}.txt" for i in range(100)]
    found = counted([(1000, i, 1, i) for i in range(100)], names)
    assert list(found.by_source) == names[: -MOST_SOURCES - 1 : -1]
    assert found.unknown == sum(range(100))


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ([(10_000, 199, 1, 0)], None),
        ([(10_000, 200, 1, 0)], "2.0% of the tokens are [UNK] (Latin 2.0%; most of them in a.txt)"),
        ([(100_000, 0, 1, 0), (500, 400, 2, 1)], "0.4% of the tokens are [UNK] (Han 80.0%; most of them in b.txt)"),
        ([(100_000, 0, 1, 0), (400, 400, 2, 1)], None),  # too little of a script to say
    ],
)
def test_it_is_warned_of_from_two_per_cent(documents, says):
    warning = counted(documents).warning()
    assert (warning is None) == (says is None)
    assert says is None or warning.startswith(says)


def test_it_is_refused_above_the_limit():
    found = counted([(100, 30, 1, 0)])
    assert found.failure(0.3) is None
    line = found.failure(0.25)
    assert line.startswith("30.0% of the tokens are [UNK], more than tokenizer.max_unknown = 0.25 allows (Latin 30.0%")
    assert "kind: characters" in line
