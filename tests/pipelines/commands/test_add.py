"""`premask add`, as it is typed."""

import json

import pytest

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from pipelines.commands import cli
from tests.pipelines.small_corpus import settings, write_jsonl


@pytest.fixture
def dataset(tmp_path) -> str:
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    inputs = [{"path": str(tmp_path / "in/*.jsonl"), "id_field": "url"}]
    return build(parse_settings(BuildConfig, settings(tmp_path, inputs=inputs), where="test")).output


def test_add(dataset, tmp_path, capsys):
    write_jsonl(tmp_path / "more/m.jsonl", range(50, 80))
    assert cli.main(["add", dataset, str(tmp_path / "more/*.jsonl"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["is_new"]
    assert made["added"]["documents"] == {"read": 30, "kept": 20, "dropped": {"exact_duplicate": 10}, "quarantined": {}}
    assert cli.main(["add", dataset, str(tmp_path / "more/*.jsonl"), "--skip-known"]) == 0
    out = capsys.readouterr().out
    assert "read: 0 new files, 1 left out, whose names it has" in out
    assert f"nothing to add: this is version {made['digest'][:16]} still" in " ".join(out.split())
    write_jsonl(tmp_path / "more/n.jsonl", range(100, 110))
    assert cli.main(["add", dataset, str(tmp_path / "more/n.jsonl")]) == 0
    assert "new: 10 documents" in capsys.readouterr().out
    assert cli.main(["verify", dataset]) == 0


def test_one_line_and_2_for_what_can_not_be_right(dataset, tmp_path, capsys):
    assert cli.main(["add", dataset, str(tmp_path / "in/a.jsonl")]) == 2
    err = capsys.readouterr().err
    assert "has documents of a.jsonl already" in " ".join(err.split())
    assert cli.main(["add", dataset, str(tmp_path / "nothing/*.jsonl")]) == 2
