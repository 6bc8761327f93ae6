"""Builds from a bucket into a bucket, and two builds into one folder."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest

import pipelines.build as building
from mlm_data.config import BuildConfig
from mlm_data.dataset.dataset import Dataset
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from pipelines.build import build
from pipelines.commands.cli import main
from tests.mlm_data.stores.emulators import impatient, s3_server
from tests.pipelines.small_corpus import refused, settings, text, write_config, write_jsonl


def config_of(folder, **changes) -> BuildConfig:
    return parse_settings(BuildConfig, settings(folder, **changes), where="test")


def test_a_build_in_a_bucket_has_the_digest_of_a_local_one(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    here = build(config_of(tmp_path))
    with s3_server() as store:
        store.enter(monkeypatch)
        lines = "".join(json.dumps({"text": text(number), "url": f"u{number}"}) + "\n" for number in range(60))
        Folder(store.uri("in")).write("a.jsonl", lines.encode())
        config = config_of(tmp_path, inputs=[{"path": store.uri("in/*.jsonl")}], output=store.uri("out"))
        there = build(config)
        assert there.manifest.digest == here.manifest.digest
        assert not [name for name, _ in Folder(config.output).walk() if "tmp" in name]
        again = build(config)
        assert again.num_reused == again.num_units


def test_a_build_that_overtakes_another_one_says_so(tmp_path, monkeypatch):
    """The first one is published while the second one runs: after it has looked which version is current."""
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    first = build(config_of(tmp_path))
    assert first.overtaken == ""
    make = building.make_context
    monkeypatch.setattr(building, "make_context", lambda *args, **named: replace(make(*args, **named), current=""))
    second = build(config_of(tmp_path, mask={"planes": 3}))
    assert second.overtaken == first.manifest.digest != second.manifest.digest
    monkeypatch.undo()
    assert build(config_of(tmp_path, mask={"planes": 1})).overtaken == ""  # one after the other is as it should be


READ = 2  # requests for each time that a file is read: how large it is, and its bytes
TIMES = {  # that a command reads a shard's file at most, and one request to ask whether it is there
    "verify": (1, 1),
    "audit": (2, 0),
    "remask": (2, 0),
    "repack": (2, 0),
    "export": (1, 0),
    "where": (2, 0),
    "report": (3, 0),
    "forget": (4, 0),
}


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_commands_ask_of_a_bucket(tmp_path, monkeypatch, compression):
    """No command makes a request for each record batch: files are fetched whole."""
    write_jsonl(tmp_path / "in/a.jsonl", range(300))
    write_jsonl(tmp_path / "in/b.jsonl", range(300, 400))
    words = {
        "remask": ["--rate", "0.15"],
        "repack": ["--length", "128"],
        "export": ["--to", "numpy", "--out", str(tmp_path / "export")],
        "report": ["--out", str(tmp_path / "report.html")],
        "forget": ["--source", "*b.jsonl"],
    }
    with s3_server() as store:
        store.enter(monkeypatch)
        build(config_of(tmp_path, output=store.uri("out"), compression=compression, unit_bytes=1 << 16))
        document = Dataset.open(store.uri("out")).shard("train", 0).documents["id"][0].as_py().hex()
        words["where"] = ["--doc", document]
        for command, (times, more) in TIMES.items():
            store.requests()
            assert main([command, store.uri("out"), *words.get(command, [])]) == 0, command
            asked = Counter(line.split(" ")[1].partition("?")[0] for line in store.requests())
            most = max(count for name, count in asked.items() if re.search("/(rows|masks|documents)/", name))
            assert most <= READ * times + more, (command, asked)


REFUSED = {
    "expired": "the credentials are not valid: check them, or sign in again",
    "key": "the credentials are not valid: check them, or sign in again",
    "secret": "the credentials are not valid: check them, or sign in again",
    "403": "access denied: check the credentials and the bucket's policy",
    "429": "the store asks for fewer requests: try again later, or with fewer workers",
    "cut": "the store does not answer, after several attempts: check the network and the endpoint",
    "reset": "the store does not answer, after several attempts: check the network and the endpoint",
    "301": "the bucket is in another region: set AWS_REGION",
}


@pytest.fixture(scope="module")
def running():
    with s3_server() as store:
        yield store


@pytest.mark.parametrize("place", ["inputs", "output"])
@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_a_store_that_refuses_is_one_line(running, tmp_path, monkeypatch, capsys, fault, place):
    running.enter(monkeypatch)
    impatient(monkeypatch)
    write_jsonl(tmp_path / "in/a.jsonl", range(40))
    running.proxy.set(always=fault)
    where = running.uri("in/*.jsonl") if place == "inputs" else running.uri("out")
    changes = {"inputs": [{"path": where}]} if place == "inputs" else {"output": where}
    line = refused(capsys, "build", write_config(tmp_path, **changes))
    told = REFUSED["403"] if fault in ("key", "secret") and place == "inputs" else REFUSED[fault]  # HEAD: only a status
    assert told in line
    assert where.removesuffix("/*.jsonl") in line
    assert not (tmp_path / "out/LATEST").exists()


def test_a_region_that_nobody_knows_is_one_line(tmp_path, monkeypatch, capsys):
    def unknown(bucket):
        raise OSError(f"When resolving region for bucket '{bucket}': AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr("pyarrow.fs.resolve_s3_region", unknown)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    line = refused(capsys, "build", write_config(tmp_path, inputs=[{"path": "s3://bucket-without-region/a.jsonl"}]))
    assert "set the bucket's region, as AWS_REGION or `storage:`" in line
