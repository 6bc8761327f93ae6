"""Lines of all documents, numbered as PREPARE numbers them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlm_data.build.plan import make_context, make_plan
from mlm_data.build.prepare import open_prepared, prepare_unit
from mlm_data.build.survey import choose_cuts, survey_unit
from mlm_data.config import BuildConfig
from mlm_data.duplicates.lines import partition_lines
from mlm_data.settings import parse_settings

MENU = "Home | About | Contact us | Imprint"


@pytest.fixture
def build(tmp_path):
    """Units of a few documents; each has the menu, a line of its own, and some an empty text."""
    for name in "ab":
        lines = [f"{MENU}\nThis line stands only in {name}, and its number is {i}.\nshort" for i in range(40)]
        lines[3] = ""
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    values = {
        "inputs": [{"path": str(tmp_path / "*.jsonl")}],
        "output": str(tmp_path / "out"),
        "tokenizer": {"path": "none"},
        "deduplicate": {"lines": {"min_chars": 20, "max_copies": 7}},
        "unit_bytes": 1024,
    }
    config = parse_settings(BuildConfig, values, where="test")
    plan = make_plan(config)
    assert len(plan.units) > 4
    return plan.units, make_context(config, plan, None)


def test_cuts_are_the_later_copies_and_reach_their_documents(build):
    units, context = build
    (records,) = partition_lines(np.concatenate([survey_unit(unit, context).lines for unit in units]), 1)
    assert len(records) == 2 * 39 * 2
    cuts = choose_cuts(records, context)
    assert len(cuts) == 2 * 39 - 7
    texts = []
    for unit in units:
        mine = cuts[cuts["unit"] == unit.index]
        table = open_prepared(prepare_unit(unit, context, mine), context)
        texts += table.column("text").to_pylist()
    filled = [text for text in texts if text]
    assert len(filled) == 78
    assert all(text.startswith(MENU) for text in filled[:7])
    assert not any(MENU in text for text in filled[7:])
    assert all(text.endswith("\nshort") for text in filled)


def test_the_order_of_records_does_not_matter(build):
    units, context = build
    (records,) = partition_lines(np.concatenate([survey_unit(unit, context).lines for unit in units]), 1)
    shuffled = np.random.default_rng(0).permutation(np.concatenate([records, records[:50]]))
    assert choose_cuts(shuffled, context).tolist() == choose_cuts(records, context).tolist()


def test_a_unit_is_made_again_only_where_its_cuts_change(build):
    units, context = build
    context = replace(context, run="one")
    (records,) = partition_lines(np.concatenate([survey_unit(unit, context).lines for unit in units]), 1)
    cuts = choose_cuts(records, context)
    mine = [cuts[cuts["unit"] == unit.index] for unit in units]
    assert not any(prepare_unit(unit, context, some).reused for unit, some in zip(units, mine, strict=True))
    # The same build finds its own work and doesn't call it reused: a runner may do a unit twice.
    assert not any(prepare_unit(unit, context, some).reused for unit, some in zip(units, mine, strict=True))
    context = replace(context, run="another")
    assert all(prepare_unit(unit, context, some).reused for unit, some in zip(units, mine, strict=True))
    assert not prepare_unit(units[-1], context, mine[-1][:-1]).reused
