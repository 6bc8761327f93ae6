"""`premask import`: what it takes and says."""

import json

import numpy as np
import pytest

from mlm_data.exchange import importing
from mlm_data.stores.folder import Folder
from mlm_data.tokens.bert import bert_settings
from pipelines.commands import cli
from pipelines.commands.import_ import KINDS
from tests.mlm_data.exchange.files import write_megatron
from tests.mlm_data.stores.emulators import s3_server

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def words(tmp_path):
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *(f"w{i}" for i in range(100))])}
    made = bert_settings(vocabulary, SPECIALS, lowercase=True, strip_accents=None, split_chinese=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    rng = np.random.default_rng(0)
    write_megatron(tmp_path / "in", [rng.integers(5, 105, 50).tolist() for _ in range(40)] + [[3]])
    options = ["--from", "megatron", "--tokenizer", str(tmp_path / "tokenizer.json"), "--set", "split.validation=0"]
    return ["import", str(tmp_path / "out"), str(tmp_path / "in"), *options, "--set", "pack.sequence_length=64"]


def test_the_kinds_are_those_that_there_are():
    assert tuple(importing.KINDS) == KINDS


def test_what_it_says(words, tmp_path, capsys):
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "documents: 41 read, 40 kept\n  no_tokens: 1\n" in said
    assert "rows of 64: 40 for training, 0 for validation; 2,000 tokens" in said
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ledger"]["documents"]["kept"] == 40
    out = str(tmp_path / "out")
    commands = (["verify"], ["inspect"], ["inspect", "--row", "3"], ["funnel"], ["log"], ["audit"], ["gc", "--dry-run"])
    for command in (*commands, ["diff", out], ["remask", "--rate", "0.15"], ["repack", "--length", "128"], ["verify"]):
        assert cli.main([command[0], out, *command[1:]]) == 0, command
    assert "sound" in capsys.readouterr().out


def test_the_order_of_the_issue(words):
    """The folder may stand before `--from`, and the path behind it."""
    name, out, place, *options = words
    assert cli.main([name, out, *options[:2], place, *options[2:]]) == 0


def test_a_mistake_is_one_line(words, tmp_path, capsys):
    (tmp_path / "in/data.bin").write_bytes(b"\0\0")
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "cut off, or the index of another file" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_and_the_dataset_may_be_in_a_bucket(words, tmp_path, monkeypatch, capsys):
    assert cli.main([*words, "--json"]) == 0
    here = json.loads(capsys.readouterr().out)["digest"]
    with s3_server() as store:
        store.enter(monkeypatch)
        Folder(store.uri("tokenizers")).write("words.json", (tmp_path / "tokenizer.json").read_bytes())
        place = words.index(str(tmp_path / "tokenizer.json"))
        there = [*words[:1], store.uri("out"), *words[2:place], store.uri("tokenizers/words.json"), *words[place + 1 :]]
        assert cli.main([*there, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == here
