"""`premask remask` and `premask repack`, as they are typed."""

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
    return build(parse_settings(BuildConfig, settings(folder), where="test")).output


def test_remask(dataset, capsys):
    assert cli.main(["remask", dataset, "--rate", "0.3,0.15,0.05", "--kind", "whole_word", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["is_new"]
    assert made["mask"]["rate"] == [0.3, 0.15, 0.05]
    assert cli.main(["remask", dataset, "--rate", "0.15", "--planes", "2"]) == 0
    assert "2 planes: whole_word, rates 0.15" in capsys.readouterr().out
    assert cli.main(["remask", dataset, "--rate", "0.15"]) == 0
    assert "nothing would change" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--rate", "much"], "must be a number, or numbers as 0.3,0.15, got 'much'"),
        (["--rate", "1.5"], "must be above 0 and at most 0.95"),
        (["--kind", "letter"], "kind"),
    ],
)
def test_what_can_not_be_right(dataset, capsys, words, problem):
    assert cli.main(["remask", dataset, *words]) == 2
    assert problem in capsys.readouterr().err


def test_repack(dataset, capsys):
    assert cli.main(["repack", dataset, "--length", "128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sequence_length"] == 128
    assert cli.main(["repack", dataset, "--length", "100"]) == 2
    assert "must be a multiple of 8" in capsys.readouterr().err
