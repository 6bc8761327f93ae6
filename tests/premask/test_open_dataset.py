"""The front door: what a version says of itself, its documents and rows, and crossing to another process."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mlm_data.errors import ConfigError, FormatError
from mlm_data.shards.reader import Shard
from premask import open_dataset
from tests.synthetic import make_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=50, validation_rows=10)


def test_what_a_version_says_of_itself(folder):
    ds = open_dataset(folder)
    assert ds.digest == ds.manifest.digest
    assert ds.ledger.documents_kept == len(ds.documents) == ds.documents.to_arrow().num_rows
    assert repr(ds) == f"<premask dataset {folder} {ds.digest[:16]}: 50 train, 10 validation rows>"
    with pytest.raises(FormatError):
        open_dataset(folder / "rows")


def test_documents_know_their_split_and_shard(folder):
    ds = open_dataset(folder)
    table = ds.documents.to_arrow()
    assert table.schema.names[:3] == ["split", "shard", "id"]
    assert ds.documents.to_arrow("validation").num_rows == table["split"].to_pylist().count("validation")
    first = ds.rows("train")[0].segments[0]
    assert (table["id"][0].as_py().hex(), table["source"][0].as_py()) == (first.id, first.source)


def test_rows_are_a_sequence(folder):
    rows = open_dataset(folder).rows("train")
    assert len(rows) == 50
    assert np.array_equal(rows[-1].tokens, rows[49].tokens)
    assert [row.row for row in rows[10:13]] == [10, 11, 12]
    assert sum(1 for _ in rows) == 50
    with pytest.raises(IndexError, match="the train split has 50 rows"):
        rows[50]


def test_a_split_that_is_not_there_is_told(folder, tmp_path):
    ds = open_dataset(folder)
    for ask in (ds.rows, ds.hf, ds.documents.to_arrow):
        with pytest.raises(ConfigError, match="split must be train or validation, got 'test'"):
            ask("test")
    alone = open_dataset(make_dataset(tmp_path / "alone", num_rows=10, validation_rows=0))
    assert len(alone.rows("validation")) == 0
    with pytest.raises(ConfigError, match="has no validation rows: build it with"):
        alone.hf("validation")


def test_a_dataset_crosses_to_another_process_without_its_shards(folder, monkeypatch):
    ds = open_dataset(folder)

    def refuse(*_args, **_options):
        raise AssertionError("a shard was read")

    monkeypatch.setattr(Shard, "batches", refuse)
    data, stream = pickle.dumps(ds), pickle.dumps(ds.torch(batch_rows=4))
    assert len(data) < 1000
    assert len(stream) < 3000
    assert pickle.loads(data).digest == ds.digest
    pickle.loads(stream)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_four_workers_read_for_themselves(folder, monkeypatch):
    """Workers that share no memory with this process get a path and a digest; this process reads no shard."""
    ds = open_dataset(folder)
    expected = [batch["labels"].numpy() for batch in ds.torch(batch_rows=4, epochs=1)]
    workers = DataLoader(
        ds.torch(batch_rows=4, epochs=1), batch_size=None, num_workers=4, multiprocessing_context="spawn"
    )

    def refuse(*_args, **_options):
        raise AssertionError("a shard was read in this process")

    monkeypatch.setattr(Shard, "batches", refuse)
    found = [batch["labels"].numpy() for batch in workers]
    assert len(found) == len(expected) == 13
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_importing_the_door_imports_neither_torch_nor_the_library():
    code = "import sys, premask; print(sorted({'torch', 'pyarrow', 'numba'} & set(sys.modules)), premask.__version__)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert said.stdout == "[] 0.1.0\n"


def test_what_is_not_installed_is_said(folder, monkeypatch):
    for name, module, ask in (
        ("torch", "premask.batches", lambda ds: ds.torch()),
        ("datasets", "premask.hf", lambda ds: ds.hf()),
    ):
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match="pip install"):
            ask(open_dataset(folder))
        monkeypatch.undo()


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
