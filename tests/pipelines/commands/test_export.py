"""`premask export`: what it takes and says."""

import json

import pytest

from mlm_data.exchange.targets import TARGETS
from pipelines.commands import cli
from pipelines.commands.export import KINDS
from tests.synthetic import make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=30))


def test_the_kinds_are_those_that_there_are():
    assert tuple(TARGETS) == KINDS


def test_what_it_says(dataset, tmp_path, capsys):
    assert cli.main(["export", dataset, "--to", "numpy", "--plane", "1", "--out", str(tmp_path / "made")]) == 0
    said = capsys.readouterr().out
    assert "30 train rows of 64, plane 1, of version " in said
    assert "4 files, 25.5 kB" in said
    assert cli.main(["export", dataset, "--to", "jsonl", "--json", "--out", str(tmp_path / "lines")]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["folder"], manifest["num_rows"]) == (str(tmp_path / "lines"), 30)


def test_a_mistake_is_one_line(dataset, tmp_path, capsys):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/mine").write_text("")
    assert cli.main(["export", dataset, "--to", "numpy", "--out", str(tmp_path / "made")]) == 2
    assert "holds something already" in capsys.readouterr().err
    assert cli.main(["export", dataset, "--to", "numpy", "--plane", "9", "--out", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert "plane 9: the train split has 0, 1" in said
    assert said.count("\n") == 1
