"""Versions in the order in which they were made."""

import pytest

from mlm_data.dataset.history import history
from mlm_data.dataset.manifest import latest, load_manifest, version_names
from mlm_data.dataset.names import set_tag
from mlm_data.dataset.seals import sealed
from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder
from tests.synthetic import make_dataset


def chain(path, number, times):
    """A dataset of so many versions, each the parent of the next."""
    folder, digests = Folder(path), []
    for seed in range(number):
        make_dataset(path, num_rows=4, validation_rows=2, seed=seed)
        manifest = load_manifest(folder)
        side = {"parent": digests[-1] if digests else None, "published": times[seed], "made_by": "remask"}
        folder.write(version_names(manifest)["side"], sealed(side if seed else {"published": times[seed]}))
        digests.append(manifest.digest)
    return folder, digests


@pytest.mark.parametrize("times", [["2026-01-01", "2026-01-02", "2026-01-03"], ["same"] * 3, ["c", "b", "a"]])
def test_the_newest_first_and_no_version_below_its_parent(tmp_path, times):
    folder, digests = chain(tmp_path, 3, times)
    set_tag(folder, "v1", digests[0])
    set_tag(folder, "first", digests[0])
    found = history(folder)
    assert [one.digest for one in found] == digests[::-1]
    assert [one.is_current for one in found] == [True, False, False]
    assert [one.parent for one in found] == [digests[1], digests[0], None]
    assert [one.made_by for one in found] == ["remask", "remask", "build"]
    assert found[-1].tags == ("first", "v1")
    manifest = load_manifest(folder, digests[1])
    assert found[1].num_rows == 6
    assert found[1].num_documents == sum(split["num_documents"] for split in manifest.splits.values())
    assert found[1].num_tokens == sum(split["num_tokens"] for split in manifest.splits.values())


def test_a_damaged_version_is_a_line(tmp_path):
    folder, digests = chain(tmp_path, 2, ["1", "2"])
    folder.write(f"versions/{digests[0]}.json", b"nonsense")
    found = {one.digest: one for one in history(folder)}
    assert "damaged" in found[digests[0]].problem
    assert not found[digests[1]].problem


def test_a_circle_of_parents_ends(tmp_path):
    folder, digests = chain(tmp_path, 2, ["1", "1"])
    manifest = load_manifest(folder, digests[0])
    folder.write(version_names(manifest)["side"], sealed({"parent": digests[1], "published": "1"}))
    assert {one.digest for one in history(folder)} == set(digests)


def test_no_dataset(tmp_path):
    with pytest.raises(FormatError, match="no LATEST"):
        history(Folder(tmp_path))
    path = make_dataset(tmp_path / "data", num_rows=4, validation_rows=0)
    (path / "LATEST").unlink()
    assert latest(Folder(path)) is None
    assert [one.is_current for one in history(Folder(path))] == [False]
