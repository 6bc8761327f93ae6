"""One corpus and its right digest, for all tests of a process; and a figure for each promise, when all have run."""

from collections import defaultdict

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each test function: docs/explanation/reliability.md has its cases and seconds."""
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            name = report.nodeid.partition("[")[0]
            counts[name][outcome] += 1
            seconds[name] += report.duration
    if counts:
        terminalreporter.section("figures")
    for name, found in sorted(counts.items()):
        told = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
        terminalreporter.line(f"{name}: {told}, {seconds[name]:.0f} s")
