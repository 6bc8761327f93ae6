"""`premask plan --cost`."""

import json
from pathlib import Path

import pytest

from pipelines.commands.cli import main
from tests.pipelines.small_corpus import write_config, write_jsonl


@pytest.fixture
def config(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    return Path(write_config(tmp_path))


def test_quantities_money_and_what_breaks_first(config, capsys):
    assert main(["plan", str(config), "--cost", "--runner", "dataflow", "--json", "--price", "cores=4"]) == 0
    value = json.loads(capsys.readouterr().out)["cost"]
    assert value["load"]["num_units"] == 2
    assert value["load"]["num_documents"] == pytest.approx(60, rel=0.1)
    assert value["machine"]["cores"] == 4
    assert {"cores", "shuffle", "requests"} < set(value["needed"]["money"])
    assert value["limits"][0]["share"] < 1
    prices = config.parent / "prices.yaml"
    prices.write_text("vcpu_hour: 1000000\n")
    assert main(["plan", str(config), "--cost", "--runner", "dataflow", "--price", str(prices)]) == 0
    said = capsys.readouterr().out
    assert "assumptions" in said
    assert "would break first: " in said


def test_a_price_that_is_none_is_one_line(config, capsys):
    assert main(["plan", str(config), "--cost", "--price", "vcpu=1"]) == 2
    assert "vcpu: no such value: there are vcpu_hour" in capsys.readouterr().err
