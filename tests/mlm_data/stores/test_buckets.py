"""Buckets, by real emulators: what a file costs in requests, and what happens where something goes wrong."""

import hashlib
import threading
import time

import numpy as np
import pytest

from mlm_data.errors import InputError, PremaskError, StorageError
from mlm_data.stores import amazon
from mlm_data.stores.folder import Folder, file_info, open_input
from mlm_data.stores.places import parse
from mlm_data.text.find import expand
from tests.mlm_data.stores.emulators import BUCKET, impatient

READ, WRITTEN = 3, 4  # requests that a file may cost


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
def test_what_a_file_costs(store, size):
    folder = Folder(store.uri(f"costs-{size}"))
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    store.requests()
    written = folder.create(lambda sink: sink.write(data), lambda sha: f"rows/{sha}.bin")
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    asked = store.requests()
    assert 1 <= len(asked) <= WRITTEN, asked
    assert folder.read(written.name) == data
    asked = store.requests()
    assert 1 <= len(asked) <= READ, asked
    with open_input(f"{folder.location}/{written.name}", whole=True) as stream:
        assert stream.read(7) + stream.read() == data
    asked = store.requests()
    assert 1 <= len(asked) <= READ, asked
    assert folder.names("rows") == [f"{written.sha256}.bin"]
    assert folder.names() == (["rows"] if store.scheme == "s3" else [])  # no temporary file; Google has no folders
    assert [name for name, _ in folder.walk()] == [written.name]


@pytest.mark.parametrize("size", [(10 << 20) - 1, 10 << 20, 25 << 20, 64 << 20, (64 << 20) + 1, 130 << 20])
def test_what_a_large_file_costs_on_s3(s3, size):
    data = np.random.default_rng(size).bytes(size)
    written = Folder(s3.uri("large")).write("x", data)
    assert len(s3.requests()) == (1 if size <= 64 << 20 else -(-size // (64 << 20)) + 2)
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    assert Folder(s3.uri("large")).read("x") == data


@pytest.mark.parametrize("size", [(10 << 20) - 1, 10 << 20, 25 << 20])
def test_without_boto3_a_large_file_has_small_parts_on_s3(s3, size, monkeypatch):
    """Arrow's client has one size of parts, which no option changes: 10 MiB."""
    monkeypatch.setattr(amazon, "is_installed", lambda: False)
    Folder(s3.uri("parts")).write("x", bytes(size))
    parts = -(-size // (10 << 20))
    assert len(s3.requests()) == (1 if size < 10 << 20 else parts + 2)


@pytest.mark.parametrize("size", [11 << 20, 65 << 20])
@pytest.mark.parametrize(
    ("fault", "message"),
    [("403", "access denied"), ("key", "credentials are not valid"), ("503", "the store"), ("429", "fewer requests")],
)
def test_a_large_file_that_s3_does_not_take_is_told(s3, size, fault, message, monkeypatch):
    impatient(monkeypatch)
    s3.proxy.set(always=fault)
    with pytest.raises(StorageError, match=message) as caught:
        Folder(s3.uri("large")).write("refused", bytes(size))
    assert "\n" not in str(caught.value)


def test_other_threads_run_while_a_file_is_read(store):
    """No client holds Python's lock while it waits."""
    folder = Folder(store.uri("lock"))
    folder.write("x", b"x" * 1000)
    store.proxy.set(delay=0.5)
    longest, is_over = [0.0], threading.Event()

    def tick():
        before = time.monotonic()
        while not is_over.wait(0.005):
            longest[0], before = max(longest[0], time.monotonic() - before), time.monotonic()

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    try:
        assert folder.read("x") == b"x" * 1000
        with open_input(f"{folder.location}/x", whole=True) as stream:
            assert stream.size() == 1000
    finally:
        is_over.set()
        thread.join()
    assert longest[0] < (time.monotonic() - begin) / 4


@pytest.mark.slow
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


@pytest.mark.parametrize("glob", ["*/*.txt", "r*/a.txt", "**/a.txt", "**", "rows/*", "rows/a.txt"])
def test_wildcards_in_folders(store, glob):
    folder = Folder(store.uri(f"globs-{len(glob)}"))
    folder.write("rows/a.txt", b"x")
    folder.write("rows/.hidden", b"x")
    folder.write("other.bin", b"x")
    found, _ = expand(f"{folder.location}/{glob}", "inputs.0.path")
    wanted = ["rows/a.txt"] if glob != "**" else ["other.bin", "rows/a.txt"]
    assert [item.path for item in found] == [f"{folder.location}/{name}" for name in wanted]


FAULTS = [
    ["reset"],
    ["slow"],
    pytest.param(["500"], marks=pytest.mark.slow),
    pytest.param(["503", "503"], marks=pytest.mark.slow),
    pytest.param(["500", "reset", "503"], marks=pytest.mark.slow),
]


@pytest.mark.parametrize("faults", FAULTS)
def test_what_goes_wrong_now_and_then_is_tried_again(s3, faults):
    folder = Folder(s3.uri("faults"))
    s3.proxy.faults = list(faults)
    folder.write("x", b"hello" * 1000)
    assert s3.proxy.faults == []
    s3.proxy.faults = list(faults)
    assert folder.read("x") == b"hello" * 1000
    assert s3.proxy.faults == []
    s3.proxy.faults = list(faults)
    assert folder.names() == ["x"]


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """How long it was waited before it was asked again; nobody waits."""
    found: list[float] = []
    monkeypatch.setattr("mlm_data.stores.patience.time.sleep", found.append)
    return found


@pytest.mark.parametrize("size", [1000, 11 << 20])
def test_a_store_like_s3_that_is_asked_too_often_is_asked_again(s3, waits, size):
    """429 where S3 answers 503: Arrow's client does not ask again."""
    folder, data = Folder(s3.uri(f"busy-{size}")), bytes(size)

    def opened():
        with folder.open("x.bin") as stream:
            assert stream.read(10) == data[:10]
            s3.proxy.faults = ["429", "429"]
            assert stream.read() == data[10:]
            stream.seek(5)
            s3.proxy.faults = ["429"]
            assert stream.read_buffer(5).to_pybytes() == data[5:10]
            assert (stream.size(), stream.tell()) == (size, 10)

    actions = {
        "write": lambda: folder.write("x.bin", data),
        "read": lambda: folder.read("x.bin"),
        "open": opened,
        "names": lambda: folder.names() == ["x.bin"],
        "walk": lambda: [name for name, _ in folder.walk()] == ["x.bin"],
        "glob": lambda: [item.relative for item in expand(f"{folder.location}/*.bin", "inputs.0.path")[0]] == ["x.bin"],
        "deep glob": lambda: len(expand(f"{folder.location}/**", "inputs.0.path")[0]) == 1,
        "input": lambda: open_input(f"{folder.location}/x.bin", whole=True),
        "delete": lambda: folder.delete("x.bin"),
    }
    for name, action in actions.items():
        for faults in (["429"], ["", "429"], ["429", "429"]):
            s3.proxy.faults = faults
            assert action() is not False, name
            if name == "delete":
                folder.write("x.bin", data)
    assert len(waits) > len(actions)
    assert len(set(waits)) > 1
    s3.proxy.faults = []


def test_a_store_that_stays_busy_is_asked_only_so_often(s3, waits, monkeypatch):
    monkeypatch.setattr("mlm_data.stores.places.ATTEMPTS", 5)
    folder = Folder(s3.uri("always-busy"))
    s3.proxy.set(always="429")
    with pytest.raises(StorageError, match="asks for fewer requests: try again later") as caught:
        folder.write("x", b"data")
    assert "\n" not in str(caught.value)
    assert len(s3.requests()) == 5
    assert len(waits) == 4
    assert all(0 <= wait <= 2**number for number, wait in enumerate(waits))


@pytest.mark.parametrize("faults", [["slow"], ["", "cut"], ["", "reset"]])
def test_what_goes_wrong_now_and_then_on_google_is_tried_again(google, faults):
    """Reads: the emulator can't go on with an upload that was interrupted."""
    folder = Folder(google.uri("faults"))
    folder.write("x", b"hello" * 100_000)
    google.proxy.faults = list(faults)
    assert folder.read("x") == b"hello" * 100_000
    assert google.proxy.faults == []
    assert len(google.requests()) <= WRITTEN + READ + 1


@pytest.mark.slow
@pytest.mark.parametrize("faults", [["500"], ["429"], ["503"], ["reset"]])
def test_what_google_refuses_now_and_then_is_tried_again(google, faults):
    folder = Folder(google.uri("faults"))
    google.proxy.faults = list(faults)
    folder.write("x", b"hello")
    for action in (lambda: folder.read("x") == b"hello", lambda: folder.names() == ["x"], lambda: folder.exists("x")):
        google.proxy.faults = list(faults)
        assert action()
        assert google.proxy.faults == []


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


TOLD = {
    "500": "the store fails, after several attempts",
    "503": "the store (asks for fewer requests|fails, after several attempts)",  # HEAD: only a status
    "429": "the store asks for fewer requests: try again later",
    "reset": "the store does not answer, after several attempts",
    "403": "access denied: check the credentials and the bucket's policy",
    "401": "the credentials are not valid",
}


@pytest.mark.parametrize("action", ["read", "write", "glob"])
@pytest.mark.parametrize(
    "fault", ["403", "429", *(pytest.param(name, marks=pytest.mark.slow) for name in ("500", "503", "reset"))]
)
def test_what_always_goes_wrong_is_one_line(store, monkeypatch, fault, action):
    impatient(monkeypatch)
    folder = Folder(store.uri("broken"))
    store.proxy.set(always=fault)
    with pytest.raises(PremaskError, match=TOLD[fault]) as caught:
        ACTIONS[action](folder)
    assert "\n" not in str(caught.value)
    assert 1 <= len(store.requests()) <= 30


def test_credentials_that_google_does_not_know(google, monkeypatch):
    impatient(monkeypatch)
    google.proxy.set(always="401")
    with pytest.raises(PremaskError, match=TOLD["401"]):
        Folder(google.uri("broken")).names()


def test_a_refusal_that_arrow_calls_invalid_is_one_line(google):
    """As a store would that lost track of an upload."""
    google.proxy.faults = ["", "500"]
    with pytest.raises(StorageError, match="can't write: ") as caught:
        Folder(google.uri("broken")).write("x", b"hello" * 100_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["expired", "token"])
def test_a_token_that_s3_does_not_take_is_told_whatever_is_asked(s3, monkeypatch, fault):
    impatient(monkeypatch)
    folder = Folder(s3.uri("token"))
    s3.proxy.set(always=fault)
    actions = (
        lambda: folder.exists("a"),
        folder.names,
        lambda: folder.write("a", b"a"),
        lambda: folder.read("a"),
        lambda: folder.delete("a"),
    )
    for action in actions:
        with pytest.raises(StorageError, match="the credentials are not valid: check them, or sign in again"):
            action()


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
