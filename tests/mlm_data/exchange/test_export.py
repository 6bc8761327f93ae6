"""Exports: what other tools read in them is what the loader reads, place by place."""

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError, FormatError, StorageError
from mlm_data.exchange import fields as fields_module
from mlm_data.exchange import targets
from mlm_data.exchange.export import MANIFEST, export
from mlm_data.exchange.fields import TYPES, read_fields
from mlm_data.exchange.mds import MdsWriter
from mlm_data.loading.layouts import padded
from mlm_data.loading.loader import Loader
from tests.mlm_data.exchange.files import IMPORT_STREAMING
from tests.synthetic import make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return Dataset.open(make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=50, validation_rows=10))


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    """Files of 13 rows and steps of 5, so that borders fall everywhere."""
    monkeypatch.setattr(targets, "FILE_PLACES", 13 * 64)
    monkeypatch.setattr(fields_module, "MOST_PLACES", 5 * 64)


def wanted(dataset, split="train", plane=None):
    """What a trainer sees, as sorted lines: the loader has an order of its own."""
    rows = dataset.num_rows(split)
    with Loader(dataset, split=split, planes=None if plane is None else [plane], batch_rows=rows) as loader:
        batch = padded(next(loader), length=dataset.manifest.sequence_length, pad=dataset.manifest.roles.pad)
    return lines(batch)


def lines(columns):
    return sorted(zip(*(np.asarray(columns[name]).tolist() for name in TYPES), strict=True))


def from_numpy(folder):
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in TYPES}


def from_parquet(folder):
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    made = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder.parent / "cache"))
    assert lines(pq.read_table(folder).to_pydict()) == lines(made[:])
    return made[:]


def from_hf(folder):
    made = datasets.load_from_disk(str(folder))
    assert made.split == "train"
    arrow = [str(path) for path in sorted(folder.glob("*.arrow"))]
    again = datasets.load_dataset("arrow", data_files=arrow, split="train", cache_dir=str(folder.parent / "cache"))
    assert lines(again[:]) == lines(made[:])
    return made.with_format("numpy")[:]


def from_jsonl(folder):
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return {name: [row[name] for row in rows] for name in TYPES}


READERS = {"numpy": from_numpy, "parquet": from_parquet, "hf": from_hf, "jsonl": from_jsonl}


@pytest.mark.parametrize("to", READERS)
def test_rows_are_those_of_the_loader(dataset, tmp_path, to):
    folder, manifest = export(dataset, tmp_path / "made", to=to, plane=1)
    assert lines(READERS[to](folder)) == wanted(dataset, plane=1)
    if to in ("hf", "parquet"):
        assert len(manifest["files"]) == 4 + 2 * (to == "hf")


def test_the_manifest_names_the_version_and_every_file(dataset, tmp_path):
    folder, manifest = export(dataset, tmp_path / "made", to="numpy", split="validation")
    assert json.loads((folder / MANIFEST).read_text()) == manifest
    assert manifest["digest"] == dataset.digest
    assert manifest["tokenizer_sha256"] == dataset.manifest.tokenizer["sha256"]
    assert (manifest["split"], manifest["plane"], manifest["num_rows"]) == ("validation", "evaluation", 10)
    assert {file["name"] for file in manifest["files"]} | {MANIFEST} == set(os.listdir(folder))
    for file in manifest["files"]:
        data = (folder / file["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    assert lines(from_numpy(folder)) == wanted(dataset, "validation")


@pytest.mark.parametrize("to", targets.TARGETS)
def test_equal_exports_have_equal_bytes(dataset, tmp_path, to):
    one, other = (export(dataset, tmp_path / name, to=to) for name in ("a", "b"))
    assert one[1] == other[1]


def test_an_export_has_a_place_in_the_dataset(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path / "d"))
    folder, _ = export(dataset, to="jsonl")
    assert folder == tmp_path / "d/exports" / f"{dataset.digest[:16]}-train-0-jsonl"
    with pytest.raises(ConfigError, match="holds something already"):
        export(dataset, to="jsonl")


def test_what_can_not_be_right(dataset, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    (tmp_path / "file").write_text("mine")
    bad = [
        ({"to": "csv"}, "must be one of hf, parquet"),
        ({"to": "numpy", "plane": 9}, "plane 9: the train split has 0, 1"),
        ({"to": "numpy", "detokenize": True}, "numpy files hold no texts"),
        ({"to": "numpy", "out": tmp_path / "full"}, "holds something already"),
        ({"to": "numpy", "out": tmp_path / "file"}, "holds something already"),
        ({"to": "numpy", "out": "gs://bucket/here"}, "must be a folder on a local disk"),
    ]
    for options, message in bad:
        with pytest.raises(ConfigError, match=message):
            export(dataset, **{"out": tmp_path / "new", **options})
    with pytest.raises(StorageError, match="file"):
        export(dataset, tmp_path / "file/new", to="numpy")
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]


def test_an_empty_folder_may_be_there(dataset, tmp_path):
    (tmp_path / "made").mkdir()
    folder, _ = export(dataset, tmp_path / "made", to="numpy")
    assert (folder / MANIFEST).exists()


@pytest.mark.parametrize("to", targets.TARGETS)
def test_nothing_half_written_is_seen(tmp_path, to):
    """A shard in the middle is damaged: the export stops, and leaves nothing."""
    dataset = Dataset.open(make_dataset(tmp_path / "d", num_rows=50))
    path = tmp_path / "d" / dataset.lines("train", 2)[0]["name"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError):
        export(dataset, tmp_path / "made", to=to)
    assert os.listdir(tmp_path) == ["d"]


def test_originals_are_the_tokens(dataset):
    shard = dataset.shard("train", 0)
    first = next(read_fields(dataset, "train", "0"))
    assert np.array_equal(first.originals(), shard.rows[0].tokens[:5])


@pytest.fixture(scope="module")
def readable(tmp_path_factory):
    """A dataset of real text, and its tokenizer's own decoding."""
    from mlm_data.config import BuildConfig
    from mlm_data.settings import parse_settings
    from pipelines.build import build
    from tests.pipelines.small_corpus import settings, write_jsonl

    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "in/a.jsonl", range(40))
    return Dataset.open(build(parse_settings(BuildConfig, settings(folder), where="test")).output)


def test_texts_for_readers(readable, tmp_path):
    """A row's texts are its segments', in order, with neither [CLS] nor [SEP]; what is hidden reads [MASK]."""
    folder, _ = export(readable, tmp_path / "made", to="jsonl", detokenize=True)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    tokenizer = readable.reference().raw_tokenizer
    for number, row in enumerate(rows):
        view = readable.row("train", number, planes=["0"])
        pieces = [view.tokens[s.place + 1 : s.place + s.length - 1].tolist() for s in view.segments]
        assert row["text"] == [tokenizer.decode(ids) for ids in pieces]
        hidden = len(view.planes["0"].targets) - len(view.planes["0"].swaps)
        assert sum(text.count("[MASK]") for text in row["masked_text"]) == hidden
        assert len(row["masked_text"]) == len(row["text"])


@pytest.mark.parametrize("to", ["parquet", "hf", "mds"])
def test_texts_in_other_files(readable, tmp_path, to):
    lines_of, _ = export(readable, tmp_path / "lines", to="jsonl", detokenize=True)
    wanted_texts = [json.loads(line)["text"] for line in (lines_of / "train.jsonl").read_text().splitlines()]
    folder, manifest = export(readable, tmp_path / "made", to=to, detokenize=True)
    assert manifest["fields"]["masked_text"] == "list of strings"
    if to == "mds":
        sizes = [np.frombuffer(sample, "<u4", 2).tolist() for _, sample in mds_samples(folder)]
        found = [json.loads(sample[-size:]) for (_, sample), (_, size) in zip(mds_samples(folder), sizes, strict=True)]
    else:
        found = (pq.read_table(folder) if to == "parquet" else datasets.load_from_disk(str(folder))[:])["text"]
        found = found.to_pylist() if to == "parquet" else list(found)
    assert found == wanted_texts


def mds_samples(folder):
    """The samples of an MDS folder by the layout in the module's head alone."""
    index = json.loads((folder / "index.json").read_text())
    for facts in index["shards"]:
        data = (folder / facts["raw_data"]["basename"]).read_bytes()
        assert len(data) == facts["raw_data"]["bytes"]
        count = int(np.frombuffer(data, "<u4", 1)[0])
        offsets = np.frombuffer(data, "<u4", count + 1, 4)
        assert count == facts["samples"]
        for at, end in pairwise(offsets.tolist()):
            yield facts, data[at:end]


def test_mds_has_the_layout_of_its_head(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "MdsWriter", lambda *args: MdsWriter(*args, shard_bytes=9000))
    folder, manifest = export(dataset, tmp_path / "made", to="mds")
    assert len(manifest["files"]) == 1 + 5  # ten rows of 13 * 64 bytes in each shard, behind its head
    columns = {name: [] for name in TYPES}
    for facts, sample in mds_samples(folder):
        at = 0
        kinds = facts["column_encodings"], facts["column_sizes"]
        for name, encoding, size in zip(facts["column_names"], *kinds, strict=True):
            dtype = np.dtype(encoding.split(":")[1])
            columns[name].append(np.frombuffer(sample, dtype, size // dtype.itemsize, at))
            at += size
        assert at == len(sample)
    assert lines(columns) == wanted(dataset, plane=0)


READ = f"""{IMPORT_STREAMING}
import json
from streaming import StreamingDataset
rows = StreamingDataset(local=sys.argv[1], batch_size=1)
plain = [{{name: value.tolist() for name, value in rows[i].items()}} for i in range(len(rows))]
print(json.dumps(plain))
"""


def test_mosaicml_streaming_reads_it(dataset, tmp_path):
    """With the library itself, in a process of its own: it wants older libraries than we have."""
    place = os.environ.get("PREMASK_STREAMING", "")
    if not place:
        pytest.skip("set PREMASK_STREAMING to a folder with mosaicml-streaming: see docs/contributing.md")
    folder, _ = export(dataset, tmp_path / "made", to="mds")
    environment = {**os.environ, "PYTHONPATH": place}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert lines({name: [row[name] for row in rows] for name in TYPES}) == wanted(dataset, plane=0)
