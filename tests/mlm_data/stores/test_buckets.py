"""Buckets, by real emulators: what a file costs in requests, and what happens where something goes wrong."""

import hashlib

import pytest

from mlm_data.errors import InputError, PremaskError, StorageError
from mlm_data.stores.folder import Folder, file_info, open_input
from mlm_data.stores.places import parse
from mlm_data.text.find import expand
from tests.mlm_data.stores.emulators import BUCKET, google_server, s3_server

READ, WRITTEN = 3, 4  # requests that a file may cost


@pytest.fixture(scope="module", params=[s3_server, google_server], ids=["s3", "gs"])
def running(request):
    with request.param() as store:
        yield store


@pytest.fixture
def store(running, monkeypatch):
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    running.proxy.faults, running.proxy.always, running.proxy.delay = [], "", 0.0
    running.requests()
    return running


@pytest.fixture(scope="module")
def s3_running():
    with s3_server() as store:
        yield store


@pytest.fixture
def counted(s3_running, monkeypatch):
    """A store behind the proxy."""
    for name, value in s3_running.environment.items():
        monkeypatch.setenv(name, value)
    s3_running.proxy.faults, s3_running.proxy.always, s3_running.proxy.delay = [], "", 0.0
    s3_running.requests()
    return s3_running


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
def test_what_a_file_costs(counted, size):
    folder = Folder(counted.uri(f"costs-{size}"))
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    counted.requests()
    written = folder.create(lambda sink: sink.write(data), lambda sha: f"rows/{sha}.bin")
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    asked = counted.requests()
    assert 1 <= len(asked) <= WRITTEN, asked
    assert folder.read(written.name) == data
    asked = counted.requests()
    assert 1 <= len(asked) <= READ, asked
    with open_input(f"{folder.location}/{written.name}", whole=True) as stream:
        assert stream.read(7) + stream.read() == data
    asked = counted.requests()
    assert 1 <= len(asked) <= READ, asked
    assert folder.names("rows") == [f"{written.sha256}.bin"]
    assert folder.names() == ["rows"]  # no temporary file
    assert [name for name, _ in folder.walk()] == [written.name]


def test_large_files_go_in_parts(store, monkeypatch):
    monkeypatch.setattr("mlm_data.stores.folder.HELD_BYTES", 4 << 20)
    folder = Folder(store.uri("large"))
    data = bytes(23 << 20)
    assert folder.write("x", data).num_bytes == len(data)
    assert folder.read("x") == data


def test_a_failed_write_is_not_there(store):
    folder = Folder(store.uri("half"))

    def fill(sink):
        sink.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="can't write: the disk is full"):
        folder.create(fill, lambda sha: "x")
    assert not folder.exists("x")


def test_names_of_any_kind(store):
    folder = Folder(store.uri("a%20b"))
    folder.write("c d?e%.txt", b"x")
    (name,) = folder.names()
    assert name == "c d?e%.txt"
    assert Folder(folder.location).join("c d?e%.txt").exists()
    found, _ = expand(f"{store.scheme}://{BUCKET}/a b/*.txt", "inputs.0.path")
    assert [item.relative for item in found] == ["c d?e%.txt"]
    with open_input(found[0].path) as stream:
        assert stream.read() == b"x"
    assert file_info(found[0].path).size == 1


@pytest.mark.parametrize("faults", [["500"], ["503", "503"], ["reset"], ["500", "reset", "503"], ["slow"]])
def test_what_goes_wrong_now_and_then_is_tried_again(counted, faults):
    folder = Folder(counted.uri("faults"))
    counted.proxy.faults = list(faults)
    folder.write("x", b"hello" * 1000)
    assert counted.proxy.faults == []
    counted.proxy.faults = list(faults)
    assert folder.read("x") == b"hello" * 1000
    assert counted.proxy.faults == []
    counted.proxy.faults = list(faults)
    assert folder.names() == ["x"]


ACTIONS = {
    "read": lambda folder: folder.read("x"),
    "write": lambda folder: folder.write("x", b"data"),
    "names": lambda folder: folder.names(),
    "exists": lambda folder: folder.exists("x"),
    "walk": lambda folder: folder.walk(),
    "delete": lambda folder: folder.delete("x"),
    "input": lambda folder: open_input(f"{folder.location}/x", whole=True),
    "glob": lambda folder: expand(f"{folder.location}/*.txt", "inputs.0.path"),
}


@pytest.mark.parametrize("action", ["read", "write", "glob"])
@pytest.mark.parametrize("fault", ["500", "reset"])
def test_what_always_goes_wrong_is_one_line(counted, monkeypatch, fault, action):
    monkeypatch.setattr("mlm_data.stores.places.RETRY_SECONDS", 2)
    monkeypatch.setattr("mlm_data.stores.places.ATTEMPTS", 3)
    monkeypatch.setenv("AWS_ATTEMPTS_OF_THIS_TEST", "3")  # another environment, another client
    counted.proxy.always = fault
    with pytest.raises(PremaskError, match="after several attempts") as caught:
        ACTIONS[action](Folder(counted.uri("broken")))
    assert "\n" not in str(caught.value)
    assert 2 <= len(counted.requests()) <= 30


@pytest.mark.parametrize("action", ["read", "write", "glob"])
def test_a_bucket_that_is_not_there(store, action):
    folder = Folder(f"{store.scheme}://no-such-bucket/data")
    with pytest.raises(PremaskError, match=r"no such (bucket|file or folder)|no file matches") as caught:
        ACTIONS[action](folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_an_endpoint_that_is_dead(monkeypatch, action):
    monkeypatch.setattr("mlm_data.stores.places.ATTEMPTS", 2)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    folder = Folder("s3://key:secret@bucket/data?endpoint_override=127.0.0.1:9&scheme=http")
    with pytest.raises(PremaskError, match=r"the store does not answer|127\.0\.0\.1") as caught:
        ACTIONS[action](folder)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_options_stay_behind_names():
    folder = Folder("s3://anonymous@bucket/a%20b?endpoint_override=127.0.0.1:9&scheme=http")
    below = folder.join("c d")
    assert below.location == "s3://anonymous@bucket/a%20b/c%20d?endpoint_override=127.0.0.1%3A9&scheme=http" or (
        below.location == "s3://anonymous@bucket/a%20b/c%20d?endpoint_override=127.0.0.1:9&scheme=http"
    )
    assert below.path("x") == "bucket/a b/c d/x"


@pytest.mark.parametrize(
    ("text", "path", "query"),
    [
        ("s3://b/a?region=eu", "b/a", "region=eu"),
        ("s3://b/a?.txt", "b/a?.txt", ""),
        ("s3://b/?/*.txt?scheme=http&endpoint_override=h:1", "b/?/*.txt", "scheme=http&endpoint_override=h:1"),
        ("gs://anonymous@b/x?y=z", "b/x?y=z", ""),
        ("file:///a/b?region=eu", "/a/b?region=eu", ""),
    ],
)
def test_a_question_mark_is_a_wildcard_or_begins_options(text, path, query):
    place = parse(text, is_quoted=False)
    assert (place.path, place.query) == (path, query)


@pytest.mark.parametrize("uri", ["hf://datasets/x", "abfs://container/x", "ftp://host/x", "s3a://bucket/x"])
def test_schemes_that_nobody_knows_are_one_line(uri):
    for action in (lambda: Folder(uri), lambda: open_input(uri), lambda: expand(f"{uri}/*", "inputs.0.path")):
        with pytest.raises((StorageError, InputError), match=uri.split(":")[0]) as caught:
            action()
        assert "\n" not in str(caught.value)
