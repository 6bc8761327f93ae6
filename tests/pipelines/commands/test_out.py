"""Where commands put a file or folder that is named by a URI: there, or nowhere."""

import os

import pytest

from mlm_data.config import BuildConfig
from mlm_data.errors import StorageError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder, write_file
from pipelines.build import build
from pipelines.commands import cli
from tests.mlm_data.stores.emulators import s3_server
from tests.pipelines.small_corpus import refused, settings, write_config, write_jsonl


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "in/a.jsonl", range(60))
    build(parse_settings(BuildConfig, settings(folder), where="test"))
    return folder


@pytest.fixture(scope="module")
def store():
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(store, monkeypatch, tmp_path):
    store.enter(monkeypatch)
    monkeypatch.chdir(tmp_path)  # where a folder `s3:` would be made
    return store


def commands(corpus):
    config = write_config(corpus)
    data = str(corpus / "out")
    train = ["--set", 'tokenizer={"train": {"kind": "wordpiece", "vocab_size": 300}}']
    return {
        "report": ["report", data, "--out"],
        "card": ["card", data, "--out"],
        "thresholds": ["thresholds", config, "--html"],
        "tokenizer": ["tokenizer", "train", config, *train, "--out"],
    }


@pytest.mark.parametrize("name", ["report", "card", "thresholds", "tokenizer"])
def test_a_file_appears_in_the_bucket(corpus, bucket, tmp_path, capsys, name):
    uri = bucket.uri(f"made/{name} file")
    assert cli.main([*commands(corpus)[name], uri]) == 0, capsys.readouterr().err
    assert uri in capsys.readouterr().out
    assert len(Folder(bucket.uri("made")).read(f"{name} file")) > 100
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words", [["init"], ["demo", "--out"], ["demo-corpus", "--out"]])
def test_what_is_for_this_machine_is_refused_elsewhere(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert "must be a path on this machine, got 's3://bucket/x'" in refused(capsys, *words, "s3://bucket/x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "s3://bucket/folder/"])
def test_a_bucket_alone_is_no_file(uri):
    with pytest.raises(StorageError, match=f"{uri}: names no file: put its name behind it"):
        write_file(uri, b"")
