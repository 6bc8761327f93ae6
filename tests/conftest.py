"""What all tests share: the corpora, shapes in signatures that are checked, and names of cases that never change."""

import os
from pathlib import Path

import pytest

from tests import shapes

shapes.install(["mlm_data", "pipelines", "trainer", "premask"])

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", autouse=True)
def copies(tmp_path_factory) -> None:
    """Local copies of buckets belong to a file of tests: as they go by content, those of another would be found."""
    os.environ["PREMASK_CACHE"] = str(tmp_path_factory.mktemp("copies"))


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of shared corpora; the test is skipped, with the reason, where it is absent."""
    folder = Path(os.environ.get("PREMASK_CORPORA", ROOT / "../shared/corpora")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}: set PREMASK_CORPORA to their folder")
    return folder


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names of cases hold no bytes: a gzip header has the time of day, and two processes would find other tests."""
    return f"{argname}_of_{len(val)}_bytes" if isinstance(val, bytes) else None
