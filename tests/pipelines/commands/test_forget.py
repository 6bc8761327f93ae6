"""`premask forget`, as it is typed."""

import json

import pytest

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from pipelines.commands import cli
from tests.pipelines.small_corpus import settings, write_jsonl


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "in/a.jsonl", range(60))
    write_jsonl(folder / "in/b.jsonl", range(100, 110))
    inputs = [{"path": str(folder / "in/*.jsonl"), "id_field": "url"}]
    return build(parse_settings(BuildConfig, settings(folder, inputs=inputs), where="test")).output


def test_forget(dataset, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("u1\nu2\nnobody\n")
    assert cli.main(["forget", dataset, "--ids", str(tmp_path / "ids.txt"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["is_new"]
    assert made["forgotten"]["documents"] == 2
    assert made["forgotten"]["not_found"] == {"count": 1, "first": ["nobody"]}
    assert cli.main(["forget", dataset, "--source", "b*", "--source", "z*"]) == 0
    out = capsys.readouterr().out
    assert "forgotten: 10 documents" in out
    assert "not found: 1, the first: z*" in out
    assert cli.main(["verify", dataset]) == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "say what to forget: --ids FILE or --source GLOB"),
        (["--source", "z*"], "no document of this version is chosen"),
        (["--ids", "/no/such/file"], "can't be read"),
    ],
)
def test_what_can_not_be_right(dataset, capsys, words, problem):
    assert cli.main(["forget", dataset, *words]) == 2
    assert problem in capsys.readouterr().err
