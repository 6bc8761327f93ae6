"""A file on S3 that is replaced only as it was seen, against moto's server."""

import pytest

from mlm_data.dataset.manifest import latest, load_files, load_manifest
from mlm_data.dataset.publish import publish
from mlm_data.errors import StorageError
from mlm_data.stores.conditional import Conditional
from mlm_data.stores.folder import Folder
from tests.synthetic import TOKENIZER, make_dataset


def test_a_file_is_replaced_as_it_was_seen(s3):
    folder = Folder(s3.uri("a b"))
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


def test_one_whose_answer_was_lost_is_a_success(s3):
    file = Conditional(Folder(s3.uri("lost")), "LATEST")
    absent = file.look()
    assert file.replace(absent, b"one")
    assert file.replace(absent, b"one")  # as the client does it where it heard nothing


def test_what_s3_refuses_is_one_line(s3, monkeypatch):
    monkeypatch.setattr("mlm_data.stores.conditional.ATTEMPTS", 2)
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


def test_of_two_versions_made_from_one_the_second_is_told(s3, tmp_path, monkeypatch):
    """Both have looked at LATEST before either has moved it."""
    versions = []
    for seed in (1, 2, 3):
        local = Folder(
            make_dataset(tmp_path / str(seed), num_rows=6, validation_rows=2, seed=seed, tokenizer=TOKENIZER)
        )
        manifest = load_manifest(local)
        versions.append((manifest, load_files(local, manifest)))
    folder = Folder(s3.uri("dataset"))
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
    s3.enter(monkeypatch)
    assert latest(folder) == second
    move(2, second)
    assert latest(folder) == third
