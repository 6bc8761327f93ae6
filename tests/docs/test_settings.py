"""Every setting of a build and of a run says what it is: the pages of docs/reference are made from it."""

import pytest

import trainer.config  # noqa: F401, its classes are subclasses of Settings, too
from mlm_data.settings import Settings

KINDS = sorted(Settings.__subclasses__(), key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_has_a_description(kind):
    described = kind.descriptions()
    assert list(described) == list(kind.model_fields)
    for field, text in described.items():
        assert text.endswith("."), f"{field}: no sentence: {text}"
