"""Builds from a bucket into a bucket, and two builds into one folder."""

import json
from dataclasses import replace

import pipelines.build as building
from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from pipelines.build import build
from tests.mlm_data.stores.emulators import s3_server
from tests.pipelines.small_corpus import settings, text, write_jsonl


def config_of(folder, **changes) -> BuildConfig:
    return parse_settings(BuildConfig, settings(folder, **changes), where="test")


def test_a_build_in_a_bucket_has_the_digest_of_a_local_one(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    here = build(config_of(tmp_path))
    with s3_server() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
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
    monkeypatch.setattr(building, "make_context", lambda *args: replace(make(*args), current=""))
    second = build(config_of(tmp_path, mask={"planes": 3}))
    assert second.overtaken == first.manifest.digest != second.manifest.digest
    monkeypatch.undo()
    assert build(config_of(tmp_path, mask={"planes": 1})).overtaken == ""  # one after the other is as it should be
