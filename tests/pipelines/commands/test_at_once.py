"""Commands that make a version while another one does: none undoes what it hasn't seen."""

import json
import os

import pytest

import pipelines.build as building
from mlm_data.config import BuildConfig
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import latest
from mlm_data.derive.forget import Chosen, forget
from mlm_data.derive.remask import remask
from mlm_data.errors import PremaskError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from pipelines.build import build
from pipelines.commands import cli, derived
from tests.pipelines.small_corpus import settings, text, write_config, write_jsonl


@pytest.fixture
def dataset(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    write_jsonl(tmp_path / "in/b.jsonl", range(60, 90))
    return build(parse_settings(BuildConfig, settings(tmp_path), where="test")).output


WORDS = {
    "remask": ["--rate", "0.15"],
    "repack": ["--length", "128"],
    "forget": ["--source", "*b.jsonl"],
    "add": ["{folder}/more.jsonl"],
}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("version", ["", "@first"])
def test_what_is_forgotten_meanwhile_stays_so(dataset, tmp_path, monkeypatch, capsys, name, version):
    """Another command publishes when this one has chosen what to work from, and has not begun."""
    (tmp_path / "more.jsonl").write_text(json.dumps({"text": text(900), "url": "u900"}) + "\n")
    assert cli.main(["tag", dataset, "first"]) == 0
    choose = derived.open_parent

    def choose_and_be_slow(location):
        chosen = choose(location)
        forget(Dataset.open(dataset), Chosen(sources=["*a.jsonl"]))
        return chosen

    monkeypatch.setattr(derived, "open_parent", choose_and_be_slow)
    words = [word.format(folder=tmp_path) for word in WORDS[name]]
    capsys.readouterr()
    assert cli.main([name, dataset + version, *words]) == 2
    said = capsys.readouterr().err
    assert "was published in the meantime, and nothing is changed: start the command again" in said
    assert said.count("\n") == 1
    assert Dataset.open(dataset).manifest.ledger["documents"]["kept"] == 30
    monkeypatch.undo()
    if name != "forget" or version:  # of what is left, it would forget all
        assert cli.main([name, dataset + version, *words]) == 0


def test_an_older_version_that_becomes_the_current_one_is_told(dataset, capsys):
    assert cli.main(["tag", dataset, "first"]) == 0
    first = Dataset.open(dataset)
    newer = remask(first, {"rate": 0.15})
    capsys.readouterr()
    assert (
        cli.main(["remask", f"{dataset}@first", "--rate", ",".join(map(str, first.manifest.config["mask"]["rate"]))])
        == 0
    )
    said = capsys.readouterr().out
    assert f"nothing would change: this is version {first.digest[:16]} already" in said
    assert f"it is the current version now, instead of {newer.digest[:16]}" in said
    assert latest(Folder(dataset)) == first.digest


def test_a_build_brings_nothing_back_that_is_forgotten_meanwhile(dataset, tmp_path, monkeypatch, capsys):
    make = building.make_context

    def forget_meanwhile(*args, **named):
        made = make(*args, **named)
        forget(Dataset.open(dataset), Chosen(sources=["*b.jsonl"]))
        return made

    monkeypatch.setattr(building, "make_context", forget_meanwhile)
    config = parse_settings(BuildConfig, settings(tmp_path, mask={"planes": 3}), where="test")
    with pytest.raises(PremaskError, match="documents were forgotten there in the meantime, and nothing is changed"):
        build(config)
    assert Dataset.open(dataset).manifest.ledger["documents"]["kept"] == 60
    monkeypatch.undo()
    assert build(config).manifest.ledger["documents"]["kept"] == 60


@pytest.mark.parametrize("name", ["first", "{digest:.8}", "nosuch"])
def test_a_place_called_as_a_version_is_no_place_to_build(dataset, tmp_path, name, capsys):
    """Its folder would hide the version."""
    assert cli.main(["tag", dataset, "first"]) == 0
    before = Dataset.open(dataset).digest
    where = f"{dataset}@{name.format(digest=before)}"
    config = write_config(tmp_path, output=where)
    capsys.readouterr()
    assert cli.main(["build", config]) == 2
    said = capsys.readouterr().err
    assert f"would name a version of {dataset}: a new version goes into {dataset}" in said
    assert said.count("\n") == 1
    assert not os.path.exists(where)
    assert build(parse_settings(BuildConfig, settings(tmp_path, output=str(tmp_path / "odd@name")), where="test"))
