"""Local copies of a bucket's files: fetched once, checked, within their budget."""

import errno
import fcntl
import hashlib
import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError, StorageError
from mlm_data.loading.loader import Loader
from mlm_data.stores.copies import BUDGET, CACHE, Cache, CachedFolder, num_bytes, through_cache
from mlm_data.stores.folder import Folder
from tests.synthetic import make_dataset


@pytest.fixture
def store(s3, monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(BUDGET, raising=False)
    return s3


def put(store, *contents):
    """A folder of files that are named by their contents, and the names."""
    folder = Folder(store.uri("copies"))
    names = [
        folder.create(lambda sink, data=data: sink.write(data), lambda sha: f"rows/{sha}.arrow") for data in contents
    ]
    store.requests()
    return folder, [item.name for item in names]


def gets(store):
    return [line for line in store.requests() if line.startswith("GET")]


def read(folder, name):
    with folder.open(name) as stream:
        return stream.read()


def test_a_file_is_fetched_once(store):
    folder, (name,) = put(store, b"one")
    cached = through_cache(folder)
    assert read(cached, name) == read(cached, name) == read(through_cache(folder), name) == b"one"
    assert len(gets(store)) == 1
    assert read(pickle.loads(pickle.dumps(cached)), name) == b"one"
    assert gets(store) == []


def test_files_that_are_asked_for_ahead_are_fetched_once(store):
    folder, names = put(store, *(bytes([i]) * 1000 for i in range(40)))
    store.proxy.set(delay=0.02)
    cached = through_cache(folder)
    for name in names:
        cached.read_ahead(name)
    assert [read(cached, name)[0] for name in names] == list(range(40))
    assert len(gets(store)) == 40


def test_a_damaged_copy_is_fetched_again(store, tmp_path):
    folder, (name,) = put(store, b"hello")
    cached = through_cache(folder)
    read(cached, name)
    (copy,) = (tmp_path / "cache").glob("??/*")
    copy.write_bytes(b"hellO")
    assert read(cached, name) == b"hello"
    assert len(gets(store)) == 2
    copy.write_bytes(b"")
    assert read(cached, name) == b"hello"


def test_damage_on_the_way_is_fetched_again_and_damage_there_is_told(store):
    folder, (name,) = put(store, b"hello world")
    cached = through_cache(folder)
    store.proxy.faults = ["", "flip"]  # HEAD, GET
    assert read(cached, name) == b"hello world"
    other = f"rows/{hashlib.sha256(b'other').hexdigest()}.arrow"
    folder.write(other, b"another")
    with pytest.raises(StorageError, match="a byte was changed, on the way or there: run premask verify"):
        read(cached, other)


def test_the_budget_holds_and_the_least_recently_used_goes(store, tmp_path):
    folder, names = put(store, *(bytes([i]) * 1000 for i in range(6)))
    cached = CachedFolder(folder.location, Cache(tmp_path / "cache", 3000))
    for name in (*names[:3], names[0], names[3]):
        read(cached, name)
    kept = {path.name for path in (tmp_path / "cache").glob("??/*")}
    assert kept == {names[i].split("/")[1].split(".")[0] for i in (0, 2, 3)}
    for name in names:
        read(cached, name)
        assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("??/*")) <= 3000
    with pytest.raises(StorageError, match=f"1000 bytes, more than {BUDGET} = 10"):
        read(CachedFolder(folder.location, Cache(tmp_path / "small", 10)), names[0])


def _read_all(location, names, root):
    cached = CachedFolder(location, Cache(root, 1 << 30))
    for name in names:
        assert hashlib.sha256(read(cached, name)).hexdigest() in name


def test_processes_fetch_a_file_once_together(store, tmp_path):
    folder, names = put(store, *(os.urandom(2000) for _ in range(12)))
    store.proxy.set(delay=0.02)
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=_read_all, args=(folder.location, names, tmp_path / "cache")) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert len(gets(store)) == len(names)


def test_the_loader_fetches_each_file_once_in_all_epochs(store, tmp_path):
    local = make_dataset(tmp_path / "local", num_rows=200, shard_rows=10)
    remote = Folder(store.uri("dataset"))
    for name, _ in Folder(local).walk():
        remote.write(name, Folder(local).read(name))
    dataset = Dataset.open(remote)
    store.requests()
    store.proxy.set(delay=0.01)
    with (
        Loader(dataset, batch_rows=8, window=4, prefetch=2) as there,
        Loader(Dataset.open(Folder(local)), batch_rows=8, window=4) as here,
    ):
        for _ in range(60):  # more than two epochs
            a, b = next(there), next(here)
            for field in ("tokens", "targets"):
                if hasattr(a, field):
                    np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    fetched = [line for line in gets(store) if ".arrow" in line and "list-type" not in line]
    assert len(fetched) == len(set(fetched)) == 2 * 20


def test_numbers_of_bytes(monkeypatch):
    assert [num_bytes(text) for text in ("0", "10", "2kB", "1.5 MB", "200GB")] == [0, 10, 2000, 1500000, 200 * 10**9]
    monkeypatch.setenv(BUDGET, "many")
    with pytest.raises(ConfigError, match="PREMASK_CACHE_BYTES = 'many': write a number of bytes"):
        Cache.from_environment()
    monkeypatch.setenv(BUDGET, "0")
    assert Cache.from_environment() is None


def _fetch_half(location, name, root):
    """A process that is killed while it fetches a file."""
    cached = CachedFolder(location, Cache(root, 3000))
    os.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    read(cached, name)


def test_what_a_killed_process_was_fetching_makes_room(store, tmp_path):
    folder, names = put(store, *(bytes([i]) * 1000 for i in range(4)))
    root = tmp_path / "cache"
    job = multiprocessing.get_context("spawn").Process(target=_fetch_half, args=(folder.location, names[0], root))
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    assert [path.stat().st_size for path in root.glob("??/*.part")] == [1000]
    cached = CachedFolder(folder.location, Cache(root, 3000))
    for name in names[1:]:
        read(cached, name)
    assert [path.suffix for path in root.glob("??/*")] == ["", "", ""]
    store.requests()
    assert read(cached, names[1])[0] == 1
    assert gets(store) == []


def test_what_a_living_process_fetches_stays(store, tmp_path):
    folder, names = put(store, *(bytes([i]) * 1000 for i in range(2)))
    root = tmp_path / "cache"
    part = root / "ab" / f"{'ab' * 32}.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        read(CachedFolder(folder.location, Cache(root, 3000)), names[0])
        assert part.exists()
    read(CachedFolder(folder.location, Cache(root, 3000)), names[1])
    assert not part.exists()


def test_a_file_that_can_not_be_fetched_leaves_nothing(store, tmp_path):
    folder, names = put(store, b"x" * 1000)
    with pytest.raises(StorageError, match="1000 bytes, more than"):
        read(CachedFolder(folder.location, Cache(tmp_path / "cache", 10)), names[0])
    assert not list((tmp_path / "cache").glob("??/*"))


def refuse(monkeypatch, where, name):
    """Let a function say what the system says where a file is another user's."""

    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(where, name, refused)


def test_a_copy_of_another_user_is_read(store, monkeypatch):
    folder, (name,) = put(store, b"one")
    cached = through_cache(folder)
    read(cached, name)
    store.requests()
    refuse(monkeypatch, os, "utime")
    assert read(cached, name) == b"one"
    assert gets(store) == []
    refuse(monkeypatch, pa, "memory_map")  # not even that
    assert read(cached, name) == b"one"
    assert gets(store)


def test_a_damaged_copy_of_another_user_is_passed_by(store, tmp_path, monkeypatch):
    folder, (name,) = put(store, b"hello")
    cached = through_cache(folder)
    read(cached, name)
    (copy,) = (tmp_path / "cache").glob("??/*")
    copy.write_bytes(b"hellO")
    refuse(monkeypatch, Path, "unlink")
    assert read(cached, name) == b"hello"


def test_a_cache_that_is_a_file_is_one_line(store, tmp_path, monkeypatch):
    folder, _ = put(store, b"one")
    (tmp_path / "cache").write_bytes(b"")
    for place in ("cache", "cache/below"):
        for budget in ("", "1GB"):
            monkeypatch.setenv(CACHE, str(tmp_path / place))
            monkeypatch.setenv(BUDGET, budget)
            with pytest.raises(ConfigError, match="cache is a file: name a folder in PREMASK_CACHE") as caught:
                through_cache(folder)
            assert "\n" not in str(caught.value)


def test_a_machine_without_a_home_folder_has_no_copies(store, monkeypatch):
    folder, (name,) = put(store, b"one")
    monkeypatch.delenv(CACHE)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home")))
    assert through_cache(folder) is folder
    assert read(folder, name) == b"one"


def test_local_folders_need_no_copies(tmp_path):
    folder = Folder(tmp_path)
    assert through_cache(folder) is folder
