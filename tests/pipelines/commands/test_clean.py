"""`premask clean`: the cleaned documents as files, and those that go with their reasons."""

import json

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import zstandard

from mlm_data.dataset.dataset import Dataset
from pipelines.commands.cli import main
from tests.pipelines.curated_corpus import QUALITY, WEB, everything, write_corpus
from tests.pipelines.small_corpus import write_jsonl


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The corpus with a reason for everything, and a configuration that names neither a tokenizer nor an output."""
    folder = write_corpus(tmp_path_factory.mktemp("clean"))
    values = everything(folder)
    (folder / "build.yaml").write_text(json.dumps(values))
    del values["tokenizer"], values["output"]
    (folder / "clean.yaml").write_text(json.dumps(values))
    return folder


def clean(capsys, config, out, *more):
    """What `--json` says."""
    capsys.readouterr()
    code = main(["clean", str(config), "--out", str(out), "--json", "--workers", "1", *map(str, more)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


def refused(capsys, *argv):
    capsys.readouterr()
    code = main(["clean", *map(str, argv)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert (code, len(lines)) == (2, 1), lines
    return lines[0]


def documents(out):
    found = []
    for path in sorted((out / "documents").iterdir()):
        if path.name.endswith(".jsonl.zst"):
            data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
            found += [json.loads(line) for line in data.decode().split("\n") if line]
        else:
            found += pq.read_table(path).to_pylist()
    return found


@pytest.fixture(scope="module")
def cleaned(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    argv = ["clean", str(folder / "clean.yaml"), "--out", str(out / "kept"), "--dropped", str(out / "dropped")]
    assert main([*argv, "--workers", "1"]) == 0
    return out


def test_every_document_is_in_one_of_the_two(cleaned, folder):
    kept, dropped = documents(cleaned / "kept"), documents(cleaned / "dropped")
    facts = json.loads((cleaned / "kept/cleaned.json").read_text())
    counts = facts["ledger"]["documents"]
    assert len(kept) == counts["kept"] == sum(file["documents"] for file in facts["files"])
    assert len(dropped) == sum(counts["dropped"].values())
    reasons = {document["reason"] for document in dropped}
    assert reasons == {*WEB, *QUALITY, "thinned"} - {"no_tokens"}  # of which only a tokenizer knows
    for reason in reasons - {"thinned"}:
        urls = [document["url"].split("/", 3)[3] for document in dropped if document["reason"] == reason]
        assert set(urls) - {"no_tokens/goes"} == {f"{reason}/goes"}


def test_the_documents_are_those_that_a_build_keeps(cleaned, folder):
    assert main(["build", str(folder / "build.yaml"), "--workers", "1"]) == 0
    dataset = Dataset.open(folder / "out")
    built = [
        (document["id"].hex(), document["copy"], document["source"], document["offset"])
        for split in ("train", "validation")
        for shard in range(dataset.num_shards(split))
        for document in dataset.shard(split, shard).documents.to_pylist()
    ]
    kept = documents(cleaned / "kept")
    found = {(one["id"], one["copy"], one["source"], one["offset"]) for one in kept}
    assert found == set(built)


def test_a_document_has_its_text_language_scores_and_fields(cleaned):
    (mailed,) = {one["text"] for one in documents(cleaned / "kept") if "Write to" in one["text"]}
    assert mailed.startswith("Write to <EMAIL> or call <PHONE>. ")
    one = next(one for one in documents(cleaned / "kept") if one["source"] == "quality/quality.jsonl")
    assert one["language"] == "en"
    assert 0.35 <= one["language_score"] <= 1
    assert one["scores"]["gopher_quality.num_words"] > 0
    assert 0.02 <= one["scores"]["classifier"] <= 1
    assert one["scores"]["custom.1"] > 0
    assert one["url"].startswith("https://notspam.example/")
    assert not {"head", "sketch", "num_chars", "matched_grams", "keep.url"} & {*one, *one["scores"]}


def test_parquet_files_have_one_schema_and_take_the_place_of_others(cleaned, folder, tmp_path, capsys):
    clean(capsys, folder / "clean.yaml", tmp_path / "kept", "--dropped", tmp_path / "dropped")
    assert len(list((tmp_path / "kept/documents").glob("*.jsonl.zst"))) > 1
    told = clean(
        capsys, folder / "clean.yaml", tmp_path / "kept", "--dropped", tmp_path / "dropped", "--format", "parquet"
    )
    assert (told["reused"], told["remade"]) == (told["units"], 0)
    for name in ("kept", "dropped"):
        assert {path.suffix for path in (tmp_path / name / "documents").iterdir()} == {".parquet"}
        schemas = {str(pq.read_schema(path)) for path in (tmp_path / name / "documents").iterdir()}
        assert len(schemas) == 1
        table = ds.dataset(tmp_path / name / "documents").to_table()
        key = "id" if name == "dropped" else "copy"
        lines = documents(cleaned / name)
        assert sorted(zip(table["id"].to_pylist(), table[key].to_pylist(), strict=True)) == sorted(
            (line["id"], line[key]) for line in lines
        )


def test_a_sample_is_a_part(tmp_path, capsys):
    path = write_jsonl(tmp_path / "a.jsonl", range(1500))
    (tmp_path / "clean.yaml").write_text(json.dumps({"inputs": [{"path": "a.jsonl"}]}))
    told = clean(capsys, tmp_path / "clean.yaml", tmp_path / "kept", "--sample", "20%")
    assert 0.1 < told["ledger"]["bytes"]["read"] / path.stat().st_size < 0.3


def test_files_of_an_input_that_is_gone_go(tmp_path, capsys):
    for name in "ab":
        write_jsonl(tmp_path / f"in/{name}.jsonl", range(30), source="theirs")
    values = {"inputs": [{"path": "in/*.jsonl", "keep_fields": ["source"]}], "unit_bytes": 10_000}
    (tmp_path / "clean.yaml").write_text(json.dumps(values | {"deduplicate": {"exact": False}}))
    first = clean(capsys, tmp_path / "clean.yaml", tmp_path / "out")
    assert {one["copy"] for one in documents(tmp_path / "out")} == {0, 1}
    assert {one["keep.source"] for one in documents(tmp_path / "out")} == {"theirs"}
    (tmp_path / "in/b.jsonl").unlink()
    second = clean(capsys, tmp_path / "clean.yaml", tmp_path / "out")
    assert len(second["files"]) < len(first["files"])
    assert len(documents(tmp_path / "out")) == 30


def test_places_that_it_must_not_write_to(folder, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    config, mine, out = folder / "clean.yaml", tmp_path / "mine", tmp_path / "out"
    assert "thesis.txt" in refused(capsys, config, "--out", mine)
    assert "thesis.txt" in refused(capsys, config, "--out", out, "--dropped", mine)
    for dropped in (out, out / "dropped", tmp_path):
        assert "lie in each other" in refused(capsys, config, "--out", out, "--dropped", dropped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_an_input_of_nothing_but_dropped_documents_leaves_empty_files(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n' * 3)
    (tmp_path / "clean.yaml").write_text(json.dumps({"inputs": [{"path": "a.jsonl"}]}))
    told = clean(capsys, tmp_path / "clean.yaml", tmp_path / "out", "--format", "parquet")
    assert told["ledger"]["documents"]["dropped"] == {"empty": 3}
    assert ds.dataset(tmp_path / "out/documents").to_table().num_rows == 0
