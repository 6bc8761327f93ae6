"""Every setting of a build and of a run says what it is: the pages of docs/reference are made from it."""

import pytest

from docs.tools.reference import classes
from mlm_data.config import BuildConfig
from trainer.config import RunSettings

KINDS = sorted(
    {kind for whole in (BuildConfig, RunSettings) for _, kind in classes(whole)}, key=lambda kind: kind.__name__
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_has_a_description(kind):
    described = kind.descriptions()
    assert list(described) == list(kind.model_fields)
    for field, text in described.items():
        assert text.endswith("."), f"{field}: no sentence: {text}"
