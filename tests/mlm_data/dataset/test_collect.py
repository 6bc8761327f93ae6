"""What no version needs goes, and nothing else."""

import os
import time

import pytest

from mlm_data import ending
from mlm_data.dataset.collect import check_quiet, collect, find_garbage, needed_files
from mlm_data.dataset.manifest import load_files, load_manifest
from mlm_data.dataset.names import set_tag, versions
from mlm_data.dataset.publish import publish
from mlm_data.dataset.verify import verify
from mlm_data.errors import FormatError, StorageError
from mlm_data.stores.folder import Folder
from tests.synthetic import TOKENIZER, make_dataset

GARBAGE = {
    "work/prepared/1.arrow": "work",
    "work/runs/1.json": "work",
    "work/.tmp-1": "temporary files",
    ".tmp-2": "temporary files",
    "exports/.tmp-3/train/1.mds": "temporary files",
    f"rows/{'1' * 64}.arrow": "shards",
    f"masks/{'1' * 64}.arrow": "shards",
    f"documents/{'1' * 64}.arrow": "shards",
    f"signatures/{'1' * 64}.arrow": "shards",
    f"tokenizer/{'1' * 64}.json": "tokenizers",
    f"versions/{'1' * 64}.side.json": "versions",
    f"versions/{'1' * 64}.files.arrow": "versions",
}


@pytest.fixture
def folder(tmp_path):
    """Two versions, one of them with an attachment, a tag, and what no version needs."""
    for seed in (1, 2):
        path = make_dataset(tmp_path / "data", num_rows=6, validation_rows=2, seed=seed, tokenizer=TOKENIZER)
    folder = Folder(path)
    manifest = load_manifest(folder)
    files = load_files(folder, manifest)
    folder.delete(f"versions/{manifest.digest}.json")
    publish(folder, manifest, files, tokenizer=TOKENIZER, side={}, attachments={"quarantine.jsonl": b"{}"})
    set_tag(folder, "v1", manifest.digest)
    for name in GARBAGE:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"12345")
    return folder


def test_what_no_version_needs_goes_and_nothing_else(folder):
    before = {name for name, _ in folder.walk()}
    garbage = find_garbage(folder)
    assert {one.name: one.kind for one in garbage} == GARBAGE
    assert {one.num_bytes for one in garbage} == {5}
    collect(folder, garbage)
    after = {name for name, _ in folder.walk()}
    assert after == before - set(GARBAGE)
    assert after == needed_files(folder) | {"LATEST", "tags/v1"}
    for digest in versions(folder):
        assert verify(folder, digest).ok
    assert find_garbage(folder) == []


def test_a_version_that_cannot_be_read_stops_it(folder):
    digest = versions(folder)[0]
    for name in (f"versions/{digest}.files.arrow", f"versions/{digest}.side.json", f"versions/{digest}.json"):
        before = folder.read(name)
        folder.write(name, b"nonsense")
        with pytest.raises(FormatError, match=digest):
            find_garbage(folder)
        folder.write(name, before)


def test_no_dataset(tmp_path):
    with pytest.raises(FormatError, match="no LATEST"):
        find_garbage(Folder(tmp_path))
    (tmp_path / "LATEST").write_text("0" * 64 + "\n")
    with pytest.raises(FormatError, match="no such version"):
        find_garbage(Folder(tmp_path))


def test_something_that_was_just_written_may_be_needed_soon(folder):
    garbage, now = find_garbage(folder), time.time()
    with pytest.raises(StorageError, match="a build may be running"):
        check_quiet(folder, garbage)
    check_quiet(folder, garbage, now=now + 3700)
    for name, kind in GARBAGE.items():
        age = 7200 if kind != "work" else 0
        os.utime(folder.path(name), (now - age, now - age))
    os.utime(folder.path("LATEST"), (now + 1, now + 1))  # published after its cache was written
    check_quiet(folder, find_garbage(folder))
    os.utime(folder.path("LATEST"), (now - 60, now - 60))
    with pytest.raises(StorageError, match=r"work/prepared/1\.arrow: was written 0 minutes ago"):
        check_quiet(folder, find_garbage(folder))


def test_what_builds_write_behind_latest_is_no_sign_of_work(folder):
    """Notes of builds whose starter was killed before it read them; the sign of one that runs is such a sign."""
    for one in find_garbage(folder):
        folder.delete(one.name)
    os.utime(folder.path("LATEST"), (1e9, 1e9))
    for name in ("work/runs/1.json", "work/status/build.json", "work/status/host-17.json"):
        folder.write(name, b"{}")
    check_quiet(folder, find_garbage(folder))
    folder.write("work/runs/2", b"may publish")
    with pytest.raises(StorageError, match="work/runs/2: was written 0 minutes ago"):
        check_quiet(folder, find_garbage(folder))


def _age(folder, seconds):
    """Everything was written so long ago."""
    then = time.time() - seconds
    for name, _ in folder.walk():
        os.utime(folder.path(name), (then, then))


def test_half_an_export_goes_with_its_folder(folder):
    collect(folder, find_garbage(folder))
    assert os.listdir(folder.path("exports")) == []


@pytest.mark.parametrize("name", ["exports/{}/train.bin", "{}", "work/runs/" + "a" * 32])
def test_what_a_process_has_written_says_whether_it_runs(folder, name):
    """An old file of one that runs is a sign of life; a new one of one that is gone is not."""
    collect(folder, find_garbage(folder))
    _age(folder, 86_400)
    mine, gone = ending.owner(), ending.owner().rpartition("-")[0] + "-1"
    for owner in (mine, gone):
        path = folder.path(name.format(f".tmp-{'0' * 32}-{owner}"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"may publish\n{owner}\n")
        if owner == mine:
            os.utime(path, (1e9, 1e9))
            with pytest.raises(StorageError, match="a command that runs now has written it"):
                check_quiet(folder, find_garbage(folder))
            os.unlink(path)
    check_quiet(folder, find_garbage(folder))
    assert len(find_garbage(folder)) == 1
