"""A file in a bucket that is replaced only as it was seen: on S3 against moto's server, on Google's storage against
gcp-storage-emulator behind a proxy that does what Google says of `ifGenerationMatch` (see `emulators`)."""

import importlib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest

from mlm_data.dataset.manifest import latest, load_files, load_manifest
from mlm_data.dataset.publish import publish
from mlm_data.errors import StorageError
from mlm_data.stores.conditional import Conditional, Seen
from mlm_data.stores.folder import Folder
from mlm_data.stores.google import SCOPE, Object
from mlm_data.stores.places import parse
from tests.mlm_data.stores.emulators import BUCKET
from tests.synthetic import TOKENIZER, make_dataset


@pytest.fixture
def no_waits(monkeypatch) -> list[float]:
    """How long would have been waited between attempts."""
    found: list[float] = []
    monkeypatch.setattr("mlm_data.stores.patience.time.sleep", found.append)
    return found


def test_a_file_is_replaced_as_it_was_seen(store):
    folder = Folder(store.uri("a b"))
    file = Conditional(folder, "LATEST")
    absent = file.look()
    assert absent.data is None
    assert file.replace(absent, b"one")
    assert not file.replace(absent, b"two")
    assert folder.read("LATEST") == b"one"
    seen = file.look()
    assert seen.data == b"one"
    folder.write("LATEST", b"of another")
    assert not file.replace(seen, b"two")
    assert folder.read("LATEST") == b"of another"
    assert file.replace(file.look(), b"two")
    assert folder.read("LATEST") == b"two"


def test_one_whose_answer_was_lost_is_a_success(store):
    file = Conditional(Folder(store.uri("lost")), "LATEST")
    absent = file.look()
    assert file.replace(absent, b"one")
    assert file.replace(absent, b"one")  # as the client does it where it heard nothing


def test_of_many_who_replace_it_at_once_one_does(store):
    """Whether there was none yet, or one that all have seen."""
    folder = Folder(store.uri("race"))
    files = [Conditional(folder, "LATEST") for _ in range(8)]
    for turn in range(3):
        seen = files[0].look()
        assert (seen.data is None) == (turn == 0)
        begin = Barrier(8)

        def replace(number: int, seen: Seen = seen, turn: int = turn, begin: Barrier = begin) -> bool:
            begin.wait()
            return files[number].replace(seen, b"%d %d" % (turn, number))

        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(replace, range(8)))
        assert sum(done) == 1
        assert folder.read("LATEST") == b"%d %d" % (turn, done.index(True))


def test_an_answer_that_google_sent_in_vain(google, no_waits):
    """The upload is done, nobody hears of it, and the next attempt finds another generation: its own."""
    file = Conditional(Folder(google.uri("vain")), "LATEST")
    absent = file.look()
    google.proxy.faults = ["lost"]
    assert file.replace(absent, b"one")
    assert file.look().data == b"one"
    assert no_waits


@pytest.mark.parametrize("faults", [["429"], ["503", "500"], ["reset"], ["cut"]])
def test_what_goes_wrong_at_google_now_and_then_is_tried_again(google, no_waits, faults):
    file = Conditional(Folder(google.uri(f"again-{faults[0]}")), "LATEST")
    google.proxy.faults = list(faults)
    absent = file.look()
    google.proxy.faults = list(faults)
    assert file.replace(absent, b"one")
    google.proxy.faults = list(faults)
    assert file.look().data == b"one"
    assert google.proxy.faults == []
    assert len(no_waits) >= 2 * len(faults)


def test_what_google_refuses_is_one_line(google, no_waits, monkeypatch):
    monkeypatch.setattr("mlm_data.stores.places.ATTEMPTS", 2)
    file = Conditional(Folder(google.uri("refused")), "LATEST")
    absent = file.look()
    told = {
        "403": "access denied",
        "401": "credentials are not valid",
        "429": "fewer requests",
        "503": "fewer requests",
        "500": "the store fails",
        "reset": "does not answer",
    }
    for fault, words in told.items():
        google.proxy.set(always=fault)
        for action in (file.look, lambda: file.replace(absent, b"x")):
            with pytest.raises(StorageError, match=words) as caught:
                action()
            assert "\n" not in str(caught.value)


def test_google_needs_its_library_only_where_credentials_are_needed(monkeypatch):
    for name in ("STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_EMULATOR_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with_google, without = (lambda name: object()), (lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", without)
    assert Conditional.is_possible(Folder("gs://anonymous@bucket/x"))
    assert not Conditional.is_possible(Folder("gs://bucket/x"))
    monkeypatch.setattr("importlib.util.find_spec", with_google)
    assert Conditional.is_possible(Folder("gs://bucket/x"))


def test_a_token_of_google_auth_is_sent(google, monkeypatch):
    """A stand-in for google-auth: what is asked of it, and where its token goes."""
    asked = []

    class Credentials:
        valid, token = False, ""

        def refresh(self, request):
            self.valid, self.token = True, "secret-token"

    auth = SimpleNamespace(
        default=lambda scopes: asked.append(scopes) or (Credentials(), "project"),
        exceptions=SimpleNamespace(GoogleAuthError=ValueError, TransportError=KeyError),
    )
    real = importlib.import_module
    stand_in = {"google.auth": auth, "google.auth.transport.requests": SimpleNamespace(Request=object)}
    monkeypatch.setattr("importlib.import_module", lambda name: stand_in.get(name) or real(name))
    monkeypatch.setattr("mlm_data.stores.google.ENDPOINT", google.environment["STORAGE_EMULATOR_HOST"])
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    sent, opened = [], urllib.request.urlopen
    monkeypatch.setattr("urllib.request.urlopen", lambda one, **named: sent.append(one) or opened(one, **named))
    file = Object(parse(google.uri("token")), f"{BUCKET}/token/LATEST")
    assert file.read() == (None, "0")
    assert file.replace(b"one", "0")
    assert [one.get_header("Authorization") for one in sent] == ["Bearer secret-token"] * 2
    assert asked == [[SCOPE]]

    def refused(scopes):
        raise ValueError("no default credentials")

    auth.default = refused
    with pytest.raises(StorageError, match="credentials are not valid"):
        Conditional(Folder(google.uri("token")), "LATEST").look()


def test_what_s3_refuses_is_one_line(s3, monkeypatch):
    monkeypatch.setattr("mlm_data.stores.places.ATTEMPTS", 2)
    file = Conditional(Folder(s3.uri("refused")), "LATEST")
    absent = file.look()
    for fault, told in (("403", "access denied"), ("key", "credentials are not valid"), ("503", "fewer requests")):
        s3.proxy.set(always=fault)
        for action in (file.look, lambda: file.replace(absent, b"x")):
            with pytest.raises(StorageError, match=told) as caught:
                action()
            assert "\n" not in str(caught.value)


def test_a_store_that_does_not_know_conditions_gets_the_file_all_the_same(s3):
    folder = Folder(s3.uri("old"))
    file = Conditional(folder, "LATEST")
    absent = file.look()
    s3.proxy.faults = ["501"]
    assert file.replace(absent, b"x")
    assert folder.read("LATEST") == b"x"


def test_only_where_it_is_possible(s3, tmp_path, monkeypatch):
    assert Conditional.is_possible(Folder(s3.uri("x")))
    assert not Conditional.is_possible(Folder(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not Conditional.is_possible(Folder(s3.uri("x")))


def test_of_two_versions_made_from_one_the_second_is_told(store, tmp_path, monkeypatch):
    """Both have looked at LATEST before either has moved it."""
    versions = []
    for seed in (1, 2, 3):
        local = Folder(
            make_dataset(tmp_path / str(seed), num_rows=6, validation_rows=2, seed=seed, tokenizer=TOKENIZER)
        )
        manifest = load_manifest(local)
        versions.append((manifest, load_files(local, manifest)))
    folder = Folder(store.uri("dataset"))
    first, second, third = (manifest.digest for manifest, _ in versions)

    def move(number, expected):
        manifest, files = versions[number]
        publish(folder, manifest, files, tokenizer=TOKENIZER, side={}, expected=expected)

    move(0, None)
    look, looked = Conditional.look, []

    def look_then_be_overtaken(self):
        seen = look(self)
        if not looked:
            looked.append(True)
            move(1, first)
        return seen

    monkeypatch.setattr(Conditional, "look", look_then_be_overtaken)
    monkeypatch.setattr("mlm_data.dataset.publish.latest", lambda _: first)
    with pytest.raises(StorageError, match="was published in the meantime"):
        move(2, first)
    monkeypatch.undo()
    store.enter(monkeypatch)
    assert latest(folder) == second
    move(2, second)
    assert latest(folder) == third
