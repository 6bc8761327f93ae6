"""A version is named by its path, a tag, or the beginning of its digest, and by nothing else."""

import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import latest, load_manifest
from mlm_data.dataset.names import (
    check_tag,
    delete_tag,
    digest_of,
    find_version,
    open_version,
    set_tag,
    split_name,
    tags,
    versions,
)
from mlm_data.dataset.publish import check_output
from mlm_data.errors import ConfigError, FormatError
from mlm_data.stores.folder import Folder
from tests.synthetic import make_dataset


@pytest.fixture
def two(tmp_path):
    """A dataset with two versions; the second is the current one."""
    for seed in (1, 2):
        path = make_dataset(tmp_path / "books", num_rows=6, validation_rows=0, seed=seed)
        digest = latest(Folder(path))
        set_tag(Folder(path), f"v{seed}", digest)
    return path


@pytest.mark.parametrize(
    ("location", "parts"),
    [
        ("books", ("books", "")),
        ("books@v1.2", ("books", "v1.2")),
        ("a@b/books", ("a@b/books", "")),
        ("a@b/books@v1", ("a@b/books", "v1")),
        ("books@", ("books", "")),
        ("books@a@b", ("books@a", "b")),
        ("s3://key:secret@bucket", ("s3://key:secret@bucket", "")),
        ("s3://key:secret@bucket/books@3f9a1c", ("s3://key:secret@bucket/books", "3f9a1c")),
        ("gs://bucket/@v1", ("gs://bucket/", "v1")),
    ],
)
def test_what_is_a_name_and_what_a_path(location, parts):
    assert split_name(location) == parts


def test_each_way_to_name_a_version(two):
    folder = Folder(two)
    first, second = digest_of(folder, "v1"), digest_of(folder, "v2")
    assert sorted({first, second}) == versions(folder)
    assert Dataset.open(two).digest == Dataset.open(f"{two}@v2").digest == second
    for name in ("v1", first, first[:6], first[:6].upper(), first[:30]):
        assert Dataset.open(f"{two}@{name}").digest == open_version(f"{two}@{name}")[1].digest == first
    assert Dataset.open(two, first).digest == Dataset.open(Folder(two), first).digest == first


def test_a_path_that_exists_as_it_is_written_wins(two, tmp_path):
    other = make_dataset(tmp_path / "books@v1", num_rows=6, validation_rows=0, seed=3)
    assert Dataset.open(other).digest == load_manifest(Folder(other)).digest
    assert find_version(other)[1] is None
    set_tag(Folder(other), "mine", Dataset.open(other).digest)
    assert Dataset.open(f"{other}@mine").digest == Dataset.open(other).digest


def test_names_that_name_nothing(two):
    folder = Folder(two)
    for name, message in (
        ("v3", "no version has this name: did you mean v2, v1?"),
        ("zzzzzz", "no version has this name: premask log shows all"),
        ("", "no version has this name"),
        ("../LATEST", "no version has this name"),
        ("abc", "no such tag, and a digest needs at least 6 digits"),
        ("abcdef0123", "no version has this name"),
    ):
        with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
            digest_of(folder, name)
    with pytest.raises(ConfigError, match="is no dataset: check the path"):
        Dataset.open(f"{two}-not@v1")
    with pytest.raises(FormatError, match="no such version"):
        Dataset.open(f"{two}@{'0' * 64}")


def test_a_beginning_that_several_versions_share(two):
    folder = Folder(two)
    digest = digest_of(folder, "v1")
    forged = digest[:8] + ("0" if digest[8] != "0" else "1") + digest[9:]
    folder.write(f"versions/{forged}.json", b"{}")
    with pytest.raises(ConfigError, match=r"2 versions begin so \(.*\): write more digits"):
        digest_of(folder, digest[:7])
    assert digest_of(folder, digest[:9]) == digest


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "a b", "é", "a\n", "x" * 101, "@", "a:b"])
def test_names_that_no_tag_may_have(name):
    with pytest.raises(ConfigError, match="must be 1 to 100 letters"):
        check_tag(name)


def test_names_that_mean_something_else():
    for name in ("3f9a1c", "20261126", "DEADBEEF", "a" * 64):
        with pytest.raises(ConfigError, match=f"call it v{name}"):
            check_tag(name)
    with pytest.raises(ConfigError, match="the path alone"):
        check_tag("Latest")
    for name in ("v1.2", "2026-11-26", "abc", "a" * 65, "_x", "clean.v2_final"):
        assert check_tag(name) == name


def test_a_tag_moves_only_by_force(two):
    folder = Folder(two)
    first, second = digest_of(folder, "v1"), digest_of(folder, "v2")
    assert set_tag(folder, "v1", first) == first
    with pytest.raises(ConfigError, match=f"names {first[:16]} already"):
        set_tag(folder, "v1", second)
    assert set_tag(folder, "v1", second, force=True) == first
    assert tags(folder) == {"v1": second, "v2": second}
    assert delete_tag(folder, "v1") == second
    assert tags(folder) == {"v2": second}
    with pytest.raises(ConfigError, match=r"no tag 'v1': did you mean v2\?"):
        delete_tag(folder, "v1")
    with pytest.raises(FormatError, match="no such version"):
        set_tag(folder, "v9", "0" * 64)
    check_output(folder)


def test_tags_that_are_damaged(two):
    folder = Folder(two)
    folder.write("tags/bad", b"nonsense\n")
    assert tags(folder)["bad"] == ""
    with pytest.raises(FormatError, match="tags/bad: not a digest: set it again"):
        digest_of(folder, "bad")
    folder.write("tags/gone", b"0" * 64 + b"\n")
    with pytest.raises(FormatError, match="tags/gone: names version 0000000000000000, which is not there any more"):
        digest_of(folder, "gone")
    assert delete_tag(folder, "bad") == ""
    assert set_tag(folder, "gone", digest_of(folder, "v1"), force=True) == "0" * 64
