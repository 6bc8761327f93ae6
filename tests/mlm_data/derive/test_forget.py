"""A version without some documents: what a build would have made that never got them."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mlm_data.config import BuildConfig
from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import load_attachment, load_side
from mlm_data.dataset.names import set_tag
from mlm_data.derive.forget import Chosen, forget, read_ids
from mlm_data.derive.remask import remask
from mlm_data.derive.repack import repack
from mlm_data.errors import ConfigError
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.pipelines.small_corpus import settings, text

GONE = [3, 17, 41]


def write(path: Path, numbers, *, without=()) -> None:
    """A document for each number; in place of some there is an empty one of as many bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in numbers:
        body = text(number)
        item = {"text": "", "pad": "-" * (len(body) - 11)} if number in without else {"text": body}
        lines.append(json.dumps(item | {"url": f"u{number}"}) + "\n")
    path.write_text("".join(lines))


def make(folder: Path, *, without=(), **changes) -> Dataset:
    """Three files, some units; b repeats some texts of a."""
    write(folder / "in/a.jsonl", range(60), without=without)
    write(folder / "in/b.jsonl", [*range(100, 140), *range(15, 20)], without=without)
    write(folder / "in/c.jsonl", range(200, 240), without=without)
    build(configuration(folder, **changes))
    return Dataset.open(folder / "out")


def configuration(folder: Path, **changes) -> BuildConfig:
    values = settings(folder, inputs=[{"path": str(folder / "in/*.jsonl"), "id_field": "url"}])
    return parse_settings(BuildConfig, values | changes, where="test")


def stat_of(dataset: Dataset) -> dict[str, tuple[int, int]]:
    paths = {name: os.stat(f"{dataset.folder.location}/{name}") for name in dataset.files["name"].to_pylist()}
    return {name: (found.st_ino, found.st_mtime_ns) for name, found in paths.items()}


def own_ids(dataset: Dataset) -> Counter:
    shards = [dataset.shard(split, i) for split in ("train", "validation") for i in range(dataset.num_shards(split))]
    return Counter(own for shard in shards for own in shard.documents["id_field"].to_pylist())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> dict[str, str]:
    dataset = make(tmp_path_factory.mktemp("tokenizer"))
    path = tmp_path_factory.mktemp("file") / "tokenizer.json"
    path.write_bytes(dataset.tokenizer())
    return {"path": str(path)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"deduplicate": {"exact": False}},
        {"pack": {"sequence_length": 64, "long_documents": "truncate"}},
        {"compression": "zstd"},
    ],
    ids=["plain", "copies", "truncate", "zstd"],
)
def test_the_tables_are_those_of_a_build_that_dropped_them(tmp_path, tokenizer, changes):
    parent = make(tmp_path / "parent", tokenizer=tokenizer, **changes)
    wanted = make(tmp_path / "wanted", tokenizer=tokenizer, without=GONE, **changes).manifest
    before = stat_of(parent)
    found = forget(parent, Chosen(ids=[f"u{number}" for number in GONE]), workers=2)
    made = found.manifest
    assert made.digest == wanted.digest
    assert (made.splits, made.bounds, made.packing, made.audit) == (
        wanted.splits,
        wanted.bounds,
        wanted.packing,
        wanted.audit,
    )
    assert stat_of(parent) == before
    report = check_dataset(str(tmp_path / "parent/out"))
    assert report.ok, report.problems
    old, new = Ledger.from_dict(parent.manifest.ledger), Ledger.from_dict(made.ledger)
    copies = 1 if changes.get("deduplicate") else 0  # document 17 is in two files
    assert new.documents_dropped["forgotten"] == found.num_documents == len(GONE) + copies
    assert new.documents_kept == old.documents_kept - found.num_documents
    assert new.tokens_dropped["forgotten"] == found.num_tokens > 0
    assert not new.problems()
    side = load_side(parent.folder, made)
    assert (side["parent"], side["made_by"]) == (parent.digest, "forget")


def test_other_shards_are_shared(tmp_path):
    parent = make(tmp_path)
    before, owned = stat_of(parent), own_ids(parent)
    documents = parent.shard("train", 1).documents
    assert parent.num_shards("train") > 2
    found = forget(parent, Chosen(ids=[documents["id"][0].as_py().hex()]))
    child = Dataset.open(tmp_path / "out")
    after = stat_of(child)
    assert owned - own_ids(child) == Counter([documents["id_field"][0].as_py()])
    assert found.num_shards == 1
    assert stat_of(parent) == before
    assert {name: after[name] for name in set(before) & set(after)} == {
        name: before[name] for name in set(before) & set(after)
    }
    assert len(set(after) - set(before)) == 4  # rows, masks and documents of one shard, and signatures


def test_by_source_and_then_by_id(tmp_path):
    parent = make(tmp_path, deduplicate={"exact": False})
    first = forget(parent, Chosen(sources=["b*"]))
    child = Dataset.open(tmp_path / "out")
    assert own_ids(child) == Counter(f"u{number}" for number in [*range(60), *range(200, 240)])
    assert check_dataset(str(tmp_path / "out")).ok
    listed = load_attachment(child.folder, first.manifest, "forgotten.jsonl").splitlines()
    assert len(listed) == 40  # five of b's texts are still there, in a
    second = forget(child, Chosen(ids=["u15"]))
    assert len(load_attachment(child.folder, second.manifest, "forgotten.jsonl").splitlines()) == 41
    assert Ledger.from_dict(second.manifest.ledger).documents_dropped["forgotten"] == 46
    longer = repack(Dataset.open(tmp_path / "out"), 128)
    assert len(load_attachment(child.folder, longer, "forgotten.jsonl").splitlines()) == 41
    signed = [line for line in Dataset.open(tmp_path / "out").files.to_pylist() if line["kind"] == "signatures"]
    assert sum(line["num_rows"] for line in signed) == 99


def test_examples_that_show_it_go_too(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/d.jsonl").write_text(json.dumps({"text": text(1) + " Again.", "url": "near"}) + "\n")
    parent = make(tmp_path, deduplicate={"near": {}})
    lines = load_attachment(parent.folder, parent.manifest, "dropped.jsonl").splitlines()
    examples = {example["reason"]: example for example in map(json.loads, lines)}
    assert set(examples) == {"exact_duplicate", "near_duplicate"}
    made = forget(parent, Chosen(ids=[examples["exact_duplicate"]["id"], "near"])).manifest
    left = load_attachment(parent.folder, made, "dropped.jsonl").splitlines()
    assert len(left) == len(lines) - 2
    gone = {json.loads(line)["id"] for line in lines} - {json.loads(line)["id"] for line in left}
    assert gone == {example["id"] for example in examples.values()}


def test_what_is_not_there_is_told(tmp_path):
    parent = make(tmp_path)
    found = forget(parent, Chosen(ids=["u1", *(f"x{i}" for i in range(5))], sources=["nowhere*"]))
    assert (found.num_documents, found.num_missing, found.missing) == (1, 6, ("x0", "x1", "x2"))
    before = sorted(os.listdir(tmp_path / "out/versions"))
    with pytest.raises(ConfigError, match="no document of this version is chosen \\('u1', 'x1'\\)"):
        forget(Dataset.open(tmp_path / "out"), Chosen(ids=["u1", "x1"]))
    with pytest.raises(ConfigError, match=r"all .* documents of the train split would be forgotten"):
        forget(Dataset.open(tmp_path / "out"), Chosen(sources=["*"]))
    assert sorted(os.listdir(tmp_path / "out/versions")) == before


def test_ids_of_a_file(tmp_path):
    (tmp_path / "ids").write_bytes("u1\r\n\nzwei Wörter \nu3".encode())
    assert read_ids(str(tmp_path / "ids")) == ["u1", "zwei Wörter ", "u3"]
    (tmp_path / "ids").write_text("\ufeffu1\nu2\n")  # as editors of another system write it
    assert read_ids(str(tmp_path / "ids")) == ["u1", "u2"]
    (tmp_path / "ids").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_ids(str(tmp_path / "ids"))
    with pytest.raises(ConfigError, match="can't be read"):
        read_ids(str(tmp_path / "none"))


def test_documents_longer_than_a_row(tmp_path):
    parent = make(tmp_path, pack={"sequence_length": 32})
    found = forget(parent, Chosen(ids=["u0", "u59", "u200"]))
    child = Dataset.open(tmp_path / "out")
    assert check_dataset(str(tmp_path / "out")).ok
    rows = [
        r
        for split in ("train", "validation")
        for i in range(child.num_shards(split))
        for r in child.shard(split, i).rows
    ]
    assert found.manifest.ledger["tokens"]["in_rows"] == sum(
        int(np.sum(part.segment_lengths)) - 2 * part.segment_lengths.size for part in rows
    )


def test_a_build_into_the_same_folder_does_not_bring_it_back(tmp_path):
    changes = {"deduplicate": {"exact": True, "near": {}}}
    parent = make(tmp_path, **changes)
    made = forget(parent, Chosen(ids=["u17", "u3"], sources=["c*"])).manifest
    again = make(tmp_path, **changes)
    assert again.digest == made.digest
    (tmp_path / "out/LATEST").write_text(made.digest + "\n")
    (tmp_path / "in/d.jsonl").write_text(json.dumps({"text": text(300), "url": "new"}) + "\n")
    more = make(tmp_path, **changes)
    assert own_ids(more) == own_ids(again) + Counter(["new"])
    assert more.manifest.ledger["documents"]["dropped"] == {"exact_duplicate": 4, "forgotten": 43}
    assert more.manifest.funnel.by("reason")["forgotten",][0] == 43
    assert "forgotten" not in load_attachment(more.folder, more.manifest, "dropped.jsonl").decode()
    listed = load_attachment(more.folder, more.manifest, "forgotten.jsonl")
    assert listed == load_attachment(more.folder, made, "forgotten.jsonl")
    assert check_dataset(str(tmp_path / "out")).ok


def marks(dataset: Dataset) -> int:
    return len(load_attachment(dataset.folder, dataset.manifest, "forgotten.jsonl").splitlines())


def test_a_version_made_from_one_that_is_older_than_the_list_has_it(tmp_path):
    parent = make(tmp_path)
    set_tag(parent.folder, "old", parent.digest)
    forget(parent, Chosen(ids=["u3"]))
    remask(Dataset.open(f"{tmp_path}/out@old"), {"planes": 1})
    assert marks(Dataset.open(tmp_path / "out")) == 1
    repack(Dataset.open(f"{tmp_path}/out@old"), 128)
    assert marks(Dataset.open(tmp_path / "out")) == 1
    second = forget(Dataset.open(f"{tmp_path}/out@old"), Chosen(ids=["u41"]))
    assert marks(Dataset.open(tmp_path / "out", second.manifest.digest)) == 2
    assert check_dataset(str(tmp_path / "out")).ok


def test_a_version_that_is_there_already_gets_the_list_when_it_is_the_current_one_again(tmp_path):
    """The file that held a text is taken away, and the build is that of long ago; then the file comes back."""
    parent = make(tmp_path)
    late = tmp_path / "in/d.jsonl"
    write(late, [300])
    build(configuration(tmp_path))
    forget(Dataset.open(tmp_path / "out"), Chosen(ids=["u300"]))
    late.unlink()
    build(configuration(tmp_path))
    again = Dataset.open(tmp_path / "out")
    assert again.digest == parent.digest
    assert marks(again) == 1
    assert check_dataset(str(tmp_path / "out")).ok
    write(late, [300, 301])
    build(configuration(tmp_path))
    assert own_ids(Dataset.open(tmp_path / "out")) == own_ids(parent) + Counter(["u301"])
