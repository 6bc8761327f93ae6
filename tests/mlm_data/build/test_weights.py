"""How often a document is in the dataset, and shares computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data import seeds
from mlm_data.build.weights import BILLION, _repeat, input_names, mix
from mlm_data.config import BuildConfig, MixingSettings


def config(*inputs):
    return BuildConfig.model_validate({"inputs": list(inputs), "output": "o", "tokenizer": {"path": "t"}})


def test_inputs_are_called_by_name_or_by_the_end_of_the_path():
    found = input_names(config({"path": "/d/a/*.jsonl"}, {"path": "x", "name": "n"}, {"path": "y", "name": "n"}))
    assert found == ("a/*.jsonl", "n", "n (2)")


def repeat(weight, number=20_000, copies=None):
    ids = np.stack([seeds.draws(seeds.fold(np.uint64(5), 1), number), np.zeros(number, np.uint64)], 1)
    times = np.empty(number, np.int64)
    copies = np.zeros(number, np.int64) if copies is None else copies
    units = np.full(number, round(weight * BILLION), np.int64)
    _repeat(ids, copies, units, np.uint64(seeds.fold(np.uint64(0), seeds.WEIGHT)), times)
    return times


@pytest.mark.parametrize("weight", [0.3, 0.5, 1.0, 1.5, 2.5, 99.999])
def test_whole_copies_and_one_more_for_a_share(weight):
    times = repeat(weight)
    assert set(times.tolist()) <= {int(weight), int(weight) + 1}
    assert abs(times.mean() - weight) < 0.02


def test_a_larger_weight_only_adds():
    assert (repeat(0.5) >= repeat(0.3)).all()
    assert (repeat(1.5) == repeat(0.5) + 1).all()


def test_equal_texts_draw_for_themselves():
    assert (repeat(0.5) != repeat(0.5, copies=np.ones(20_000, np.int64))).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("tokens", "settings", "weights"),
    [
        # Roots 30 and 10: shares 0.75 and 0.25 of 1,000.
        ({"a": 900, "b": 100}, {}, {"a": 750 / 900, "b": 2.5}),
        ({"a": 900, "b": 100}, {"temperature": 1}, {"a": 1, "b": 1}),
        # Equal shares would be 500 each; b gives 400 at most, and a the rest.
        ({"a": 900, "b": 100}, {"temperature": 0}, {"a": 600 / 900, "b": 4}),
        ({"a": 900, "b": 100}, {"temperature": 0, "max_repeats": 10}, {"a": 500 / 900, "b": 5}),
        ({"a": 900, "b": 100}, {"max_repeats": 1}, {"a": 1, "b": 1}),
        # b and c can't give their thirds; what they lack a gives.
        ({"a": 980, "b": 10, "c": 10}, {"temperature": 0}, {"a": 920 / 980, "b": 4, "c": 4}),
        ({"a": 10, "b": 0}, {"temperature": 0}, {"a": 1}),
        ({}, {}, {}),
    ],
)
def test_shares_by_hand(tokens, settings, weights):
    assert mix(tokens, MixingSettings.model_validate(settings)) == pytest.approx(weights, abs=1e-8)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**12), max_size=6),
    st.floats(0, 1),
    st.floats(1, 100),
)
def test_as_many_tokens_as_before_and_no_group_beyond_the_limit(tokens, temperature, most):
    weights = mix(tokens, MixingSettings(temperature=temperature, max_repeats=most))
    assert set(weights) == {name for name, count in tokens.items() if count}
    assert all(0 < weight <= most + 1e-8 for weight in weights.values())
    total = sum(tokens.values())
    assert sum(weights[name] * tokens[name] for name in weights) == pytest.approx(total, rel=1e-6, abs=len(weights))


def test_the_order_of_groups_changes_no_bit():
    tokens = {name: 10**number + number for number, name in enumerate("abcdefgh")}
    assert mix(tokens, MixingSettings()) == mix(dict(reversed(tokens.items())), MixingSettings())
