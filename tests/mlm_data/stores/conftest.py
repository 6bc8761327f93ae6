"""Buckets of running emulators: servers for a module, and where a test finds them."""

from collections.abc import Iterator

import pytest

from tests.mlm_data.stores.emulators import Store, google_server, s3_server


@pytest.fixture(scope="module")
def s3_running() -> Iterator[Store]:
    with s3_server() as store:
        yield store


@pytest.fixture(scope="module")
def google_running() -> Iterator[Store]:
    with google_server() as store:
        yield store


@pytest.fixture
def s3(s3_running, monkeypatch) -> Store:
    """A bucket of S3."""
    s3_running.enter(monkeypatch)
    return s3_running


@pytest.fixture
def google(google_running, monkeypatch) -> Store:
    """A bucket of Google's storage."""
    google_running.enter(monkeypatch)
    return google_running


@pytest.fixture(params=["s3", "google"])
def store(request) -> Store:
    """Each of them."""
    return request.getfixturevalue(request.param)
