"""Imports: what another tool tokenized is in the version, id for id; and each way in which its files may be bad."""

import bz2
import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mlm_data.build.add import add
from mlm_data.build.add_settings import Request
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.names import versions
from mlm_data.dataset.verify import verify
from mlm_data.derive.forget import Chosen, forget
from mlm_data.derive.purge import purge
from mlm_data.derive.remask import remask
from mlm_data.derive.repack import documents_tokens, repack
from mlm_data.ending import TEMPORARY, owner
from mlm_data.errors import BuildError, ConfigError, InputError, StorageError
from mlm_data.exchange import importing, tokens
from mlm_data.exchange.export import export
from mlm_data.exchange.importing import Source, import_tokens, make_config
from mlm_data.stores.folder import Folder
from mlm_data.tokens.bert import bert_settings
from tests.mlm_data.exchange import files

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[END]"]
WORDS = [f"w{i}" for i in range(150)] + [f"##p{i}" for i in range(150)]
SIZE = len(SPECIALS) + len(WORDS)
SMALL = ["pack.sequence_length=64", "mask.planes=2", "split.validation=0.1"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    vocabulary = {token: number for number, token in enumerate(SPECIALS + WORDS)}
    path.write_text(
        json.dumps(bert_settings(vocabulary, SPECIALS, lowercase=True, strip_accents=None, split_chinese=True))
    )
    return str(path)


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    return [rng.integers(len(SPECIALS), SIZE, size).tolist() for size in rng.integers(1, 300, 120)]


@pytest.fixture(autouse=True)
def _small_units(monkeypatch):
    """Several units, and batches that end in the middle of files."""
    monkeypatch.setattr(importing, "UNIT_TOKENS", 4000)
    monkeypatch.setattr(tokens, "MOST_TOKENS", 1000)


def run(place, tokenizer, out, *, kind, overrides=(), workers=1, **options):
    source = Source(kind=kind, place=place, **options)
    return import_tokens(source, make_config(out, source, tokenizer, [*SMALL, *overrides]), workers=workers).manifest


def found(out):
    """Documents in the version, sorted: (source, number, ids)."""
    dataset, lines = Dataset.open(out), []
    for split in ("train", "validation"):
        for index in range(dataset.num_shards(split)):
            shard = dataset.shard(split, index)
            ids, offsets, _ = documents_tokens(shard, dataset.reference())
            rows = shard.documents.to_pylist()
            lines += [
                (row["source"], row["offset"], ids[offsets[i] : offsets[i + 1]].tolist()) for i, row in enumerate(rows)
            ]
    return sorted(lines)


WRITERS = {
    "datatrove": lambda folder, documents: files.write_datatrove(folder, documents),
    "dolma": lambda folder, documents: files.write_dolma(folder, documents),
    "megatron": lambda folder, documents: files.write_megatron(folder, documents),
    "hf": lambda folder, documents: files.write_hf(folder, documents),
}


def test_files_of_datatrove_are_as_it_writes_them(documents, tmp_path):
    pytest.importorskip("datatrove", reason="the writer of its files: pip install 'premask[bench]'")
    ours = files.write_datatrove(tmp_path / "ours", documents).parent
    theirs = files.write_datatrove_itself(tmp_path / "theirs", documents).parent
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == {
        path.name: path.read_bytes() for path in theirs.iterdir()
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_documents_are_there_id_for_id(documents, tokenizer, tmp_path, kind):
    WRITERS[kind](tmp_path / "in", documents)
    manifest = run(tmp_path / "in", tokenizer, tmp_path / "out", kind=kind)
    lines = found(tmp_path / "out")
    assert [ids for _, _, ids in sorted(lines, key=lambda line: line[1])] == documents
    report = verify(Folder(tmp_path / "out"))
    assert report.ok, report.problems
    ledger = Ledger.from_dict(manifest.ledger)
    assert (ledger.documents_read, ledger.documents_kept) == (120, 120)
    assert ledger.tokens_in_rows == sum(map(len, documents))
    assert manifest.splits["train"]["num_shards"] > 2
    assert 0 < manifest.splits["validation"]["num_documents"] < 30


@pytest.mark.parametrize(
    ("encoding", "dtype", "said"),
    [("bytes", "uint16", "uint16"), ("ndarray:int32", "int32", None), ("ndarray", "int64", None)],
)
def test_mds_with_tokens(documents, tokenizer, tmp_path, encoding, dtype, said):
    files.write_mds(tmp_path / "in", documents, encoding=encoding, dtype=dtype)
    run(tmp_path / "in", tokenizer, tmp_path / "out", kind="mds", dtype=said)
    assert sorted(ids for _, _, ids in found(tmp_path / "out")) == sorted(documents)


WRITE = f"""{files.IMPORT_STREAMING}
import json
import numpy as np
from streaming import MDSWriter
out, encoding, dtype, compression = sys.argv[2:]
columns = {{"tokens": encoding, "number": "int", "note": "str"}}
with MDSWriter(out=out, columns=columns, compression=compression or None, size_limit=8000) as writer:
    for number, ids in enumerate(json.load(open(sys.argv[1]))):
        array = np.array(ids, dtype)
        tokens = array.tobytes() if encoding == "bytes" else array
        writer.write({{"tokens": tokens, "number": number, "note": "x" * number}})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "dtype", "compression"),
    [("bytes", "int64", ""), ("ndarray:int32", "int32", "zstd:3"), ("ndarray", "uint16", "gz")],
)
def test_mds_that_mosaicml_streaming_wrote(documents, tokenizer, tmp_path, encoding, dtype, compression):
    """With the library itself, in a process of its own: it wants older libraries than we have."""
    place = os.environ.get("PREMASK_STREAMING", "")
    if not place:
        pytest.skip("set PREMASK_STREAMING to a folder with mosaicml-streaming: see docs/contributing.md")
    (tmp_path / "documents.json").write_text(json.dumps(documents))
    words = [str(tmp_path / "documents.json"), str(tmp_path / "in"), encoding, dtype, compression]
    environment = {**os.environ, "PYTHONPATH": place}
    subprocess.run([sys.executable, "-c", WRITE, *words], env=environment, check=True, timeout=120)
    said = dtype if encoding == "bytes" else None
    run(tmp_path / "in", tokenizer, tmp_path / "out", kind="mds", dtype=said)
    assert sorted(ids for _, _, ids in found(tmp_path / "out")) == sorted(documents)


def test_width_is_that_of_the_file(documents, tokenizer, tmp_path):
    for kind, dtypes in (("dolma", ("uint16", "uint32", "uint64")), ("megatron", ("uint16", "int32", "int64"))):
        write = getattr(files, f"write_{kind}")
        digests = set()
        for dtype in dtypes:
            write(tmp_path / kind / dtype / "in", documents, dtype=dtype)
            manifest = run(tmp_path / kind / dtype / "in", tokenizer, tmp_path / kind / dtype / "out", kind=kind)
            digests.add(manifest.digest)
        assert len(digests) == 1


def test_a_document_of_megatron_may_have_many_sequences(documents, tokenizer, tmp_path):
    long = [ids for ids in documents if len(ids) > 8]
    path = files.write_megatron(tmp_path / "in", long, sequences=3)
    for place in (path, path.with_suffix(".bin"), path.with_suffix("")):
        run(place, tokenizer, tmp_path / "out", kind="megatron")
        assert sorted(ids for _, _, ids in found(tmp_path / "out")) == sorted(long)


def test_parquet_and_arrow_of_any_list(documents, tokenizer, tmp_path):
    few = [ids[:4] for ids in documents if len(ids) >= 4]
    for name, kind in (
        ("list", pa.list_(pa.int64())),
        ("large", pa.large_list(pa.uint16())),
        ("fixed", pa.list_(pa.int32(), 4)),
    ):
        table = pa.table({"text": ["x"] * len(few), "ids": pa.array(few, kind)})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=7)
        with pa.ipc.new_file(tmp_path / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=9)
        for ending in ("parquet", "arrow"):
            run(tmp_path / f"{name}.{ending}", tokenizer, tmp_path / f"{name}-{ending}", kind="hf", column="ids")
            assert [ids for _, _, ids in found(tmp_path / f"{name}-{ending}")] == few


def test_what_stands_around_texts_is_taken_off(tokenizer, tmp_path):
    rows = [[2, 10, 11, 3], [2, 20, 3, 2, 30, 1, 31, 3, 0, 0], [40, 41], [2, 3, 0], []]
    files.write_hf(tmp_path / "in", rows)
    manifest = run(tmp_path / "in", tokenizer, tmp_path / "out", kind="hf", overrides=["split.validation=0"])
    assert [(number, ids) for _, number, ids in found(tmp_path / "out")] == [
        (0, [10, 11]), (1, [20]), (1, [30, 1, 31]), (2, [40, 41]),
    ]  # fmt: skip
    ledger = Ledger.from_dict(manifest.ledger)
    assert (ledger.documents_read, ledger.documents_dropped) == (6, {"no_tokens": 2})


def test_separators(documents, tokenizer, tmp_path):
    files.write_datatrove(tmp_path / "in", [[*ids, 5] for ids in documents])
    with pytest.raises(
        InputError, match=r"document 0 holds id 5, the special token \[END\]: add --separator '\[END\]'"
    ):
        run(tmp_path / "in", tokenizer, tmp_path / "out", kind="datatrove")
    assert not (tmp_path / "out/LATEST").exists()
    run(tmp_path / "in", tokenizer, tmp_path / "out", kind="datatrove", separators=("[END]",))
    assert [ids for _, _, ids in sorted(found(tmp_path / "out"), key=lambda line: line[1])] == documents


def test_copies(documents, tokenizer, tmp_path):
    twice = documents + documents[:30]
    files.write_hf(tmp_path / "in", twice)
    manifest = run(tmp_path / "in", tokenizer, tmp_path / "once", kind="hf")
    assert Ledger.from_dict(manifest.ledger).documents_dropped == {"exact_duplicate": 30}
    assert [ids for _, _, ids in found(tmp_path / "once")] == documents
    run(tmp_path / "in", tokenizer, tmp_path / "twice", kind="hf", overrides=["deduplicate.exact=false"])
    assert [ids for _, _, ids in found(tmp_path / "twice")] == twice
    copies = np.concatenate([
        Dataset.open(tmp_path / "twice").shard(split, index).documents["copy"].to_numpy()
        for split in ("train", "validation")
        for index in range(Dataset.open(tmp_path / "twice").num_shards(split))
    ])  # fmt: skip
    assert sorted(copies.tolist()) == [0] * 120 + [1] * 30


def test_equal_imports_have_equal_digests(documents, tokenizer, tmp_path):
    digests = set()
    for name, workers in (("a", 1), ("b", 4)):
        files.write_datatrove(tmp_path / name / "in", documents)
        digests.add(
            run(tmp_path / name / "in", tokenizer, tmp_path / name / "out", kind="datatrove", workers=workers).digest
        )
    assert len(digests) == 1


def test_a_version_like_any_other(documents, tokenizer, tmp_path):
    """It can be packed anew, and its parent stays."""
    files.write_hf(tmp_path / "in", documents)
    first = run(tmp_path / "in", tokenizer, tmp_path / "out", kind="hf")
    again = repack(Dataset.open(tmp_path / "out"), 128)
    other = run(tmp_path / "in", tokenizer, tmp_path / "other", kind="hf", overrides=["pack.sequence_length=128"])
    assert again.digest == other.digest != first.digest
    assert verify(Folder(tmp_path / "out")).ok
    assert verify(Folder(tmp_path / "out"), first.digest).ok


def test_nothing_can_be_added(documents, tokenizer, tmp_path):
    files.write_hf(tmp_path / "in", documents)
    run(tmp_path / "in", tokenizer, tmp_path / "out", kind="hf")
    with pytest.raises(ConfigError, match=r"was imported \(hf\): its documents have no text") as caught:
        add(Dataset.open(tmp_path / "out"), Request(paths=("new.jsonl",)))
    assert "\n" not in str(caught.value)


def test_what_killed_commands_have_left_is_cleared(documents, tokenizer, tmp_path):
    """As a build does it; what another one is writing stays."""
    out = tmp_path / "out"
    mine = owner()
    dead = mine.rpartition("-")[0] + "-1"  # another process had this number

    def clears(action, folder=out):
        folder.mkdir(parents=True, exist_ok=True)
        for number, whose in enumerate((mine, dead)):
            (folder / f"{TEMPORARY}{number:032}-{whose}").write_bytes(b"half")
            (folder / f"{TEMPORARY}{number + 2:032}-{whose}").mkdir(exist_ok=True)
            (folder / f"{TEMPORARY}{number + 2:032}-{whose}" / "part").write_bytes(b"half")
        action()
        left = [path.name for path in folder.iterdir() if path.name.startswith(TEMPORARY)]
        assert sorted(left) == [f"{TEMPORARY}{number:032}-{mine}" for number in (0, 2)]

    files.write_hf(tmp_path / "in", documents)
    clears(lambda: run(tmp_path / "in", tokenizer, out, kind="hf"))
    ids = [row["id"].hex() for row in Dataset.open(out).shard("train", 0).documents.to_pylist()]
    clears(lambda: repack(Dataset.open(out), 128))
    clears(lambda: remask(Dataset.open(out), {"rate": 0.2}))
    clears(lambda: forget(Dataset.open(out), Chosen(ids=ids[:1])))
    with pytest.raises(StorageError, match="a command that runs now has written it"):
        purge(Folder(out), Chosen(ids=ids[1:2]))
    clears(lambda: export(Dataset.open(out), to="numpy"), out / "exports")


def segments(dataset):
    """The content of all segments, sorted."""
    made = []
    for row in range(dataset.num_rows("train")):
        view = dataset.row("train", row, planes=())
        made += [view.tokens[s.place + 1 : s.place + s.length - 1].tolist() for s in view.segments]
    return sorted(made)


@pytest.mark.parametrize("to", ["hf", "mds", "parquet"])
def test_what_was_exported_comes_back(documents, tokenizer, tmp_path, to):
    """Rows come back as the pieces that they were packed of; what their plane hid is shown again."""
    files.write_hf(tmp_path / "in", documents)
    run(tmp_path / "in", tokenizer, tmp_path / "out", kind="hf")
    dataset = Dataset.open(tmp_path / "out")
    export(dataset, tmp_path / "made", to=to, plane=1)
    overrides = ["split.validation=0", "deduplicate.exact=false"]
    kind = "mds" if to == "mds" else "hf"
    run(tmp_path / "made", tokenizer, tmp_path / "again", kind=kind, overrides=overrides)
    assert segments(Dataset.open(tmp_path / "again")) == segments(dataset)


def damage(path, change):
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(change(data)))


def cut_off(name, count):
    return lambda folder: damage(folder / name, lambda data: data[:-count])


def write_at(name, at, value, dtype):
    piece = np.array([value], dtype).tobytes()
    return lambda folder: damage(folder / name, lambda data: data[:at] + piece + data[at:][len(piece) :])


def remove(name):
    return lambda folder: (folder / name).unlink()


def as_it_is(_folder):
    pass


LONG = list(range(10, 40))
GOOD = [[10, 11, 12], [20, 21], [30]]
BAD = {
    "no folder": ("datatrove", None, as_it_is, "no such file or folder"),
    "no files": ("datatrove", None, lambda f: f.mkdir(), "no token files of datatrove"),
    "no index": ("datatrove", GOOD, remove("data.ds.index"), "no data.ds.index beside it"),
    "index cut": ("datatrove", GOOD, cut_off("data.ds.index", 3), "no multiple of 8"),
    "tokens cut": ("datatrove", GOOD, cut_off("data.ds", 2), "10 bytes, and data.ds.index counts 6"),
    "ends fall": ("datatrove", GOOD, write_at("data.ds.index", 8, 1, "<u8"), "document 1 ends before"),
    "ends are huge": ("datatrove", GOOD, write_at("data.ds.index", 8, 2**63, "<u8"), "damaged"),
    "a foreign id": ("datatrove", [[10], [11, 9999]], as_it_is, "document 1 holds id 9999, and the vocabulary"),
    "a mask": ("datatrove", [[10, 4]], as_it_is, r"document 0 holds id 4, \[MASK\], and no column"),
    "nothing": ("datatrove", [[3, 3]], as_it_is, "no training rows are left"),
    "no table": ("dolma", GOOD, remove("data.csv.gz"), "no data.csv.gz beside it"),
    "table cut": ("dolma", GOOD, cut_off("data.csv.gz", 20), "no table of start"),
    "no gzip": ("dolma", GOOD, lambda f: (f / "data.csv.gz").write_bytes(b"0,3,a,b,c"), "no table of start"),
    "an array": ("dolma", GOOD, lambda f: np.save(f / "data.npy", np.zeros(6, "u2")), "an array of numpy"),
    "memmap cut": ("dolma", GOOD, cut_off("data.npy", 1), "cut off"),
    "no idx": ("megatron", None, as_it_is, "no index of Megatron there"),
    "no bin": ("megatron", GOOD, remove("data.bin"), "no data.bin beside it"),
    "bin cut": ("megatron", GOOD, cut_off("data.bin", 2), "10 bytes, data.idx counts 6"),
    "idx cut": ("megatron", GOOD, cut_off("data.idx", 8), "its head says"),
    "idx empty": ("megatron", GOOD, lambda f: (f / "data.idx").write_bytes(b""), "no index of Megatron"),
    "other magic": ("megatron", GOOD, lambda f: damage(f / "data.idx", lambda d: b"X" + d[1:]), "no index of Megatron"),
    "version 7": ("megatron", GOOD, write_at("data.idx", 9, 7, "<u8"), "version 7"),
    "floats": ("megatron", GOOD, write_at("data.idx", 17, 7, "u1"), "float32, which is no"),
    "huge counts": ("megatron", GOOD, write_at("data.idx", 18, 2**60, "<u8"), "its head says"),
    "a gap": ("megatron", GOOD, write_at("data.idx", 46, 2, "<i8"), "without gaps"),
    "borders": ("megatron", GOOD, write_at("data.idx", 70, 1, "<i8"), "borders of documents"),
    "negative": ("hf", [[10, -5]], as_it_is, "document 0 holds id -5"),
    "no column": ("hf", GOOD, as_it_is, "no column ids: it has input_ids"),
    "text": ("hf", [["a"], ["b"]], as_it_is, "not lists of integers"),
    "numbers": ("hf", [[1.5], [2.5]], as_it_is, "not lists of integers"),
    "null": ("hf", [[10, None]], as_it_is, "holds nulls"),
    "no state": ("hf", GOOD, lambda f: (f / "state.json").write_text("[]"), "not what `save_to_disk` writes"),
    "a shard gone": ("hf", GOOD, lambda f: next(f.glob("*.arrow")).unlink(), "missing, though state.json names it"),
    "arrow cut": ("hf", GOOD, lambda f: damage(next(f.glob("*.arrow")), lambda d: d[: len(d) // 2]), "damaged"),
    "no index.json": ("mds", GOOD, remove("index.json"), "missing: name the folder"),
    "no json": ("mds", GOOD, lambda f: (f / "index.json").write_text("{"), "no index of MDS"),
    "no shards": ("mds", GOOD, lambda f: (f / "index.json").write_text("{}"), "no index of MDS"),
    "shard gone": ("mds", GOOD, remove("shard.00000.mds"), "missing, though the index names it"),
    "shard cut": ("mds", GOOD, cut_off("shard.00000.mds", 1), "cut off"),
    "other count": ("mds", GOOD, write_at("shard.00000.mds", 0, 9, "<u4"), "its samples don't lie"),
    "places": ("mds", GOOD, write_at("shard.00000.mds", 8, 2**31, "<u4"), "its samples don't lie"),
    "sizes": ("mds", GOOD, write_at("shard.00000.mds", -8 - 8, 2**31, "<u4"), "shorter than its columns|damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_way_to_be_bad(tokenizer, tmp_path, name):
    kind, good, spoil, message = BAD[name]
    folder = tmp_path / "in"
    if good is not None:
        {**WRITERS, "mds": lambda f, d: files.write_mds(f, d, encoding="ndarray")}[kind](folder, good)
    spoil(folder)
    options = {"column": "ids"} if name == "no column" else {}
    with pytest.raises((InputError, BuildError), match=message) as caught:
        run(folder, tokenizer, tmp_path / "out", kind=kind, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/LATEST").exists()


def test_options_that_can_not_be(documents, tokenizer, tmp_path):
    files.write_datatrove(tmp_path / "in", documents)
    bad = [
        ({"column": "ids"}, (), "--column is for hf and mds"),
        ({"dtype": "uint16"}, (), "--dtype is for mds"),
        ({"separators": ("nothing",)}, (), "no token of"),
        ({"separators": ("[MASK]",)}, (), "it hides a token"),
        ({}, ("clean.min_chars=3",), "an import reads no text"),
        ({}, ("split.by=url",), "neither document"),
        ({}, ("pack.sequence_length=100",), "multiple of 8"),
        ({}, ("deduplicate.near={}",), "near and lines need the text"),
    ]
    for options, overrides, message in bad:
        with pytest.raises(ConfigError, match=message):
            run(tmp_path / "in", tokenizer, tmp_path / "out", kind="datatrove", overrides=overrides, **options)
    files.write_mds(tmp_path / "mds", documents)
    for dtype, message in ((None, "say of which type with --dtype"), ("float32", "must be one of int16")):
        with pytest.raises(InputError, match=message):
            run(tmp_path / "mds", tokenizer, tmp_path / "out", kind="mds", dtype=dtype)
    (tmp_path / "several").mkdir()
    (tmp_path / "several/dataset_dict.json").write_text("{}")
    files.write_hf(tmp_path / "several/train", documents)
    with pytest.raises(InputError, match="holds several splits: name the folder of one: train"):
        run(tmp_path / "several", tokenizer, tmp_path / "out", kind="hf")
    assert not os.path.exists(tmp_path / "out/LATEST")


def spoil_index(folder, name, value):
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0][name] = value
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("samples", "3", "no whole number"),
        ("column_sizes", [None, -8], "no whole number"),
        ("column_sizes", [None], "2 columns, 2 encodings and 1 sizes"),
        ("format", "json", "of format json, while mds is read"),
        ("raw_data", {"basename": "../shard.00000.mds", "bytes": 10}, "may hold no folder"),
        ("column_encodings", ["str", "str"], "column tokens is str, while ndarray"),
    ],
)
def test_an_index_of_mds_that_lies(tokenizer, tmp_path, name, value, message):
    files.write_mds(tmp_path / "in", GOOD, encoding="ndarray")
    spoil_index(tmp_path / "in", name, value)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "in", tokenizer, tmp_path / "out", kind="mds")


@pytest.mark.parametrize("codec", ["zstd", "gz", "bz2", "snappy"])
def test_compressed_shards(documents, tokenizer, tmp_path, codec):
    """One that is larger than the index says is not unpacked beyond that."""
    pack = {"zstd": zstandard.ZstdCompressor().compress, "gz": gzip.compress, "bz2": bz2.compress}.get(codec, bytes)
    files.write_mds(tmp_path / "in", [LONG], encoding="ndarray")
    path = tmp_path / "in/shard.00000.mds"
    data = path.read_bytes()
    path.unlink()
    spoil_index(tmp_path / "in", "compression", f"{codec}:3")
    spoil_index(tmp_path / "in", "zip_data", {"basename": f"shard.{codec}"})
    for more, message in ((b"", None), (b"\0" * 10**7, f"has {len(data) + 1:,} bytes"), (None, "cut off|read")):
        packed = pack(data + (more or b""))
        (tmp_path / f"in/shard.{codec}").write_bytes(packed if more is not None else packed[:-20])
        if codec == "snappy" or message:
            with pytest.raises(InputError, match="compressed with snappy" if codec == "snappy" else message):
                run(tmp_path / "in", tokenizer, tmp_path / "bad", kind="mds")
        else:
            run(tmp_path / "in", tokenizer, tmp_path / "out", kind="mds", overrides=["split.validation=0"])
            assert [ids for _, _, ids in found(tmp_path / "out")] == [LONG]


def test_labels_of_a_class_are_no_labels_of_tokens(tokenizer, tmp_path):
    table = pa.table({"input_ids": [LONG, [12]], "labels": [0, 1]})
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tokenizer, tmp_path / "out", kind="hf", overrides=["split.validation=0"])
    assert [ids for _, _, ids in found(tmp_path / "out")] == [LONG, [12]]


def test_no_pickle_is_read(tokenizer, tmp_path):
    files.write_mds(tmp_path / "in", GOOD, encoding="pkl")
    with pytest.raises(InputError, match="column tokens is pkl, while ndarray"):
        run(tmp_path / "in", tokenizer, tmp_path / "out", kind="mds")


def test_what_is_published_meanwhile_is_told(documents, tokenizer, tmp_path):
    files.write_megatron(tmp_path / "in", documents)
    first = run(tmp_path / "in", tokenizer, tmp_path / "out", kind="megatron")
    source = Source(kind="megatron", place=tmp_path / "in")

    def publish_another(done, total):
        if done == total:
            remask(Dataset.open(tmp_path / "out", first.digest), {"rate": 0.1})

    imported = import_tokens(
        source, make_config(tmp_path / "out", source, tokenizer, [*SMALL, "seed=5"]), progress=publish_another
    )
    (other,) = {*versions(Folder(tmp_path / "out"))} - {first.digest, imported.manifest.digest}
    assert imported.overtaken == other
    again = import_tokens(source, make_config(tmp_path / "out", source, tokenizer, [*SMALL, "seed=6"]))
    assert again.overtaken == ""


def test_what_is_forgotten_meanwhile_is_not_brought_back(documents, tokenizer, tmp_path):
    files.write_megatron(tmp_path / "in", documents)
    run(tmp_path / "in", tokenizer, tmp_path / "out", kind="megatron")
    gone = Dataset.open(tmp_path / "out").shard("train", 0).documents["id"][0].as_py().hex()
    source = Source(kind="megatron", place=tmp_path / "in")
    config = make_config(tmp_path / "out", source, tokenizer, [*SMALL, "seed=5"])

    def forget_one(done, total):
        if done == total:
            forget(Dataset.open(tmp_path / "out"), Chosen(ids=[gone]))

    with pytest.raises(StorageError, match="documents were forgotten there in the meantime, and nothing is changed"):
        import_tokens(source, config, progress=forget_one)
    assert import_tokens(source, config).manifest.ledger["documents"]["dropped"] == {"forgotten": 1}
