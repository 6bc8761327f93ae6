"""A dataset that several tests of commands look at, and none changes."""

from pathlib import Path

import pytest

from tests.pipelines.commands.report_corpus import build_hostile


@pytest.fixture(scope="session")
def hostile_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a dataset whose corpus would like to break out of a page."""
    made: Path = tmp_path_factory.mktemp("hostile")
    return build_hostile(made)
