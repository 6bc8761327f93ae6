"""Recipes, files, overrides, and what is refused."""

import pytest

from mlm_data.errors import ConfigError
from trainer.config import ModelSettings, resolve
from trainer.recipes import RECIPES

PLACES = {"data": "d", "out": "o"}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_are_sound(name):
    settings = resolve(recipe_name=name, values=PLACES)
    assert settings.recipe == name
    assert settings.model.head_dim == 64


def test_file_and_overrides_win_over_the_recipe(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text("recipe: small\nmodel: {layers: 3}\nbatch_rows: 16\n")
    settings = resolve(file=file, values=PLACES, overrides=["batch_rows=8", "optimizer.lr=0.001"])
    assert settings.recipe == "small"
    assert (settings.model.layers, settings.model.width) == (3, 256)
    assert settings.batch_rows == 8
    assert settings.optimizer.lr == 0.001


def test_a_budget_of_the_user_replaces_the_recipes():
    settings = resolve(recipe_name="tiny", values=PLACES, overrides=["budget.steps=10"])
    assert (settings.budget.steps, settings.budget.minutes) == (10, None)


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("tini", [], "unknown recipe 'tini': did you mean 'tiny'?"),
        ("tiny", ["model.layer=3"], "unknown field 'model.layer': did you mean 'layers'?"),
        ("tiny", ["model.heads=5"], "width / heads must be a multiple of 8, got 256 / 5: use heads=4"),
        ("tiny", ["budget.steps=3", "budget.minutes=1"], "exactly one of steps, tokens and minutes"),
        ("tiny", ["batch_rows=0"], "batch_rows: input should be greater than or equal to 1, got 0"),
        ("tiny", ["optimizer.kind=sgd"], "optimizer.kind: input should be 'muon' or 'adamw', got 'sgd'"),
        ("tiny", ["nonsense"], "write it as field=value"),
    ],
)
def test_mistakes_are_one_line(recipe, overrides, message):
    with pytest.raises(ConfigError) as caught:
        resolve(recipe_name=recipe, values=PLACES, overrides=overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("accumulate", ["1", "{0: 1, 200: 2}", "{0: 1, 2: 2, 4: 4}", "{0: 3, 5: 1}"])
@pytest.mark.parametrize("places", [1, 255, 256, 257, 1024, 3584, 3585, 100_000])
def test_steps_of_a_budget_in_tokens(accumulate, places):
    settings = resolve(values=PLACES, overrides=[f"budget.tokens={places}", f"accumulate={accumulate}", "batch_rows=2"])
    counted, steps = 0, 0
    while counted < places:
        counted += settings.rows_at(steps) * 2 * 64
        steps += 1
    assert settings.total_steps(64, world=2) == steps


def test_data_and_out_are_needed():
    with pytest.raises(ConfigError, match="'data' is missing; 'out' is missing"):
        resolve(recipe_name="tiny")


def test_head_dimension():
    assert ModelSettings(width=768, heads=12).head_dim == 64
