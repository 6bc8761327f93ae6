"""How long a trainer of a million tokens a second waits for a bucket that takes 50 ms a request."""

import time

import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader
from mlm_data.stores.copies import CACHE
from mlm_data.stores.folder import Folder
from tests.bench.test_loader import NUM_SHARDS, write_large
from tests.mlm_data.stores.emulators import s3_server

LENGTH, BATCH_ROWS, SPEED, DELAY = 512, 64, 1e6, 0.05
MOST_WAITED = 0.01  # of the time: the target


@pytest.mark.bench
def test_waiting_for_a_bucket(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    local = Folder(tmp_path / "data")
    write_large(local, LENGTH, 1024)
    with s3_server() as store:
        store.enter(monkeypatch)
        remote = Folder(store.uri("data"))
        for name, _ in local.walk():
            remote.write(name, local.read(name))
        dataset = Dataset.open(remote)
        store.requests()
        store.proxy.set(delay=DELAY)
        step = BATCH_ROWS * LENGTH / SPEED
        count = dataset.num_rows("train") // BATCH_ROWS - 1
        begin = time.perf_counter()
        with Loader(dataset, batch_rows=BATCH_ROWS, window=4, prefetch=4) as loader:
            next(loader)
            first = time.perf_counter() - begin
            waited, due = 0.0, time.perf_counter()
            for _ in range(count):
                due += step
                time.sleep(max(0.0, due - time.perf_counter()))
                asked = time.perf_counter()
                next(loader)
                waited += time.perf_counter() - asked
                due += time.perf_counter() - asked
        fetched = [line for line in store.requests() if line.startswith("GET")]
    share = waited / (count * step + waited)
    with capsys.disabled():
        waits = f"{share:.2%} of {count * step:.1f} s waited"
        print(f"\nfirst batch after {first:.2f} s, then {waits}; {len(fetched)} GETs")
    assert len(fetched) == len(set(fetched)) == 2 * NUM_SHARDS  # rows and masks of each, in all windows once
    assert share < MOST_WAITED
