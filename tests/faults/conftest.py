"""One corpus and its right digest, for all tests of a process."""

import pytest

from tests.faults import builds
from tests.faults.builds import Job


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> tuple[Job, str]:
    """A job that was built without a fault, and its digest."""
    made = builds.job(tmp_path_factory.mktemp("whole") / "job")
    return made, builds.finish(made)


@pytest.fixture
def job(whole, tmp_path) -> Job:
    """The same to build, into a new folder."""
    return builds.job(tmp_path / "job", inputs=whole[0].folder / "in")


@pytest.fixture
def right(whole) -> str:
    """The digest that every build of `job` must have."""
    return whole[1]
