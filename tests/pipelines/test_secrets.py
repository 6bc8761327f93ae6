"""A secret in a URI is nowhere but where the user has written it: in no file of a dataset, in no line of a command."""

import json

import pytest

from mlm_data.build import account
from mlm_data.dataset.history import history
from mlm_data.dataset.manifest import load_manifest, load_side
from mlm_data.stores.folder import Folder
from pipelines.commands.cli import main
from tests.mlm_data.stores.emulators import BUCKET, s3_server
from tests.pipelines.small_corpus import text, write_config

SECRET = "sEcReT0/of+mine"


def secret_uri(name: str) -> str:
    return f"s3://AKIAKEY:{SECRET.replace('/', '%2F')}@{BUCKET}/{name}"


def has_secret(said: bytes) -> bool:
    return any(part.encode() in said for part in SECRET.split("/"))


@pytest.fixture
def bucket(monkeypatch):
    """With texts, at its top and in folders, and no key in the environment."""
    with s3_server() as store:
        store.enter(monkeypatch)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        texts = {"top": [500], "in/a": range(30), "in/b": range(30, 50), "more/c": range(50, 60)}
        for name, numbers in texts.items():
            lines = [json.dumps({"text": text(number), "url": f"u{number}"}) + "\n" for number in numbers]
            Folder(secret_uri("")).write(f"{name}.jsonl", "".join(lines).encode())
        yield store


def test_a_secret_is_in_no_file_and_no_line(bucket, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(account, "LIST_BYTES", 500)  # then files list the units of the plan
    out, page = secret_uri("out"), tmp_path / "report.html"
    # Inputs without a name are called by the end of their path, which in a short one is the bucket.
    inputs = [{"path": secret_uri("*.jsonl")}, {"path": secret_uri("in/*.jsonl")}]
    config = write_config(tmp_path, inputs=inputs, output=out, mixing={"by": "source"})
    commands = [
        (0, "plan", config),
        (0, "plan", config, "--json"),
        (0, "build", config),
        (0, "status", out),
        (0, "build", config, "--json"),
        (0, "thresholds", config),
        (0, "try", config, secret_uri("top.jsonl")),
        (0, "log", out),
        (0, "inspect", out),
        (0, "report", out, "--out", str(page)),
        (0, "card", out),
        (0, "add", out, secret_uri("more/*.jsonl"), "--input", "0"),
        (0, "tag", out, "v1"),
        (0, "remask", out, "--planes", "3"),
        (0, "clean", config, "--out", secret_uri("texts")),
        (0, "doctor", "--output", out),
        (2, "verify", secret_uri("nothing")),
        (2, "status", secret_uri("nothing")),
        (2, "build", config, "--set", f"inputs.0.path={secret_uri('none/*.jsonl')}"),
        (2, "build", config, "--set", f"inputs.0.path={secret_uri('in')}"),
        (2, "build", config, "--set", f"inputs.0.path=s3://AKIAKEY:{SECRET}@{BUCKET}/in/*.jsonl"),
        (2, "build", config, "--set", f"mask.rate={out}"),
        (2, "build", config, "--set", "max_quarantined=0", "--set", "inputs.0.text_field=none"),
        (1, "status", out, "--json"),
        (2, out),
    ]
    for code, *words in commands:
        found = main(words)
        said = "".join(capfd.readouterr())
        assert found == code, (words, said)
        assert not has_secret(said.encode()), (words, said)
    listed = []
    for place in (secret_uri("out"), secret_uri("texts")):
        for name, _ in Folder(place).walk():
            data = Folder(place).read(name)
            assert not has_secret(data), name
            listed += [name] if b'"slices"' in data else []
    assert listed
    assert not has_secret(page.read_bytes())
    folder = Folder(out)
    sides = [load_side(folder, load_manifest(folder, entry.digest)) for entry in history(folder)]
    assert [f"s3://{BUCKET}/*.jsonl", f"s3://{BUCKET}/in/*.jsonl"] in [side.get("inputs") for side in sides]
