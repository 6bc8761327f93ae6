"""What the commands print, and that the ones that only look write nothing."""

import json
import re

import pytest

from mlm_data.config import load_config
from pipelines.commands.cli import main
from tests.pipelines.small_corpus import settings, text, write_jsonl


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_jsonl(folder / "in/a.jsonl", range(80), lang="en")
    write_jsonl(folder / "in/b.jsonl", range(200, 280), lang="de")
    inputs = [{"path": "in/*.jsonl", "id_field": "url", "keep_fields": ["lang"]}]
    (folder / "premask.yaml").write_text(json.dumps(settings(folder, inputs=inputs, output="out")))
    return folder


@pytest.fixture(scope="module")
def dataset(folder):
    assert main(["build", str(folder / "premask.yaml")]) == 0
    return folder / "out"


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_init_writes_a_configuration_that_is_valid(tmp_path, capsys):
    path = tmp_path / "premask.yaml"
    assert main(["init", str(path)]) == 0
    config = load_config(path)
    assert config.name == "books"
    assert main(["init", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_plan_says_what_would_be_read_and_writes_nothing(folder, capsys):
    before = tree(folder)
    assert main(["plan", str(folder / "premask.yaml"), "--set", "output=elsewhere"]) == 0
    out = capsys.readouterr().out
    for word in ("jsonl", "units", "engine", "expected tokens", "disk"):
        assert word in out
    assert tree(folder) == before


def test_plan_explains_what_would_be_redone(folder, dataset, capsys):
    path = folder / "tokenizer.json"
    assert main(["tokenizer", "train", str(folder / "premask.yaml"), "--out", str(path)]) == 0
    config = folder / "own.yaml"
    values = json.loads((folder / "premask.yaml").read_text())
    config.write_text(json.dumps(values | {"tokenizer": {"path": str(path)}}))
    capsys.readouterr()
    assert main(["plan", str(config), "--explain"]) == 0
    assert "will be reused" in capsys.readouterr().out
    assert main(["plan", str(config), "--explain", "--set", "clean.unicode=none"]) == 0
    assert "changed: clean" in capsys.readouterr().out


def test_training_a_tokenizer_twice_gives_the_same_file(folder, tmp_path):
    files = [tmp_path / "1.json", tmp_path / "2.json"]
    for path in files:
        assert main(["tokenizer", "train", str(folder / "premask.yaml"), "--out", str(path)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_said_of_a_tokenizer(folder, tmp_path, capsys):
    """Its alphabet, how a vocab.txt is read, and what its normalization takes away."""
    hindi = [{"text": "\u0939\u0941\u0906 \u0915\u0941\u091b \u0928\u0939\u0940\u0902 " * 9 + str(i)} for i in range(9)]
    (tmp_path / "hi.jsonl").write_text("\n".join(map(json.dumps, hindi)))
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u0939", "\u0906"]))
    config = tmp_path / "premask.yaml"
    values = settings(tmp_path, inputs=[{"path": "hi.jsonl"}], output="out")
    values["split"], train = {"validation": 0}, {"train": {"vocab_size": 100}}
    config.write_text(json.dumps(values | {"tokenizer": train}))
    assert main(["plan", str(config)]) == 0
    out = capsys.readouterr().out
    assert "100.00 % of the text" in out.replace("\n", " ")
    assert "warning" not in out
    stripped = ["--set", "tokenizer.train.strip_accents=true"]
    assert main(["build", str(config), *stripped]) == 0
    out = capsys.readouterr().out
    assert "alphabet: " in out
    assert "warning: normalization changes letters of Devanagari, \u0915\u0941 -> \u0915, in 243 of 243" in out.replace(
        "\n", " "
    )
    config.write_text(json.dumps(values | {"tokenizer": {"path": "vocab.txt", "max_unknown": 1}}))
    assert main(["plan", str(config)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "lowercase (no token has a capital letter), accents stripped (no token has an accent)" in out
    assert "normalization changes letters of Devanagari" in out
    assert main(["plan", str(config), "--json", "--set", "tokenizer.strip_accents=false"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tokenizer_notes"] == {
        "normalization": "lowercase (no token has a capital letter), accents kept (configured)"
    }
    assert not [warning for warning in said["warnings"] if "normalization" in warning]


def test_verify_says_that_all_is_well(dataset, capsys):
    capsys.readouterr()
    assert main(["verify", str(dataset)]) == 0
    said = capsys.readouterr().out
    assert "sound: " in said
    assert "checks of the masks" not in said


def test_the_masks_are_judged_again_by_any_number_of_threads(dataset, capsys):
    capsys.readouterr()
    tables = []
    for workers in ("1", "3"):
        assert main(["audit", str(dataset), "--json", "--workers", workers]) == 0
        tables.append(json.loads(capsys.readouterr().out))
        assert main(["verify", str(dataset), "--audit", "--workers", workers]) == 0
        assert re.search(r"sound: .*, [1-9][0-9]* checks of the masks; digest", capsys.readouterr().out)
    assert tables[0] == tables[1]
    assert tables[0]["splits"]["train"]["table"]


def test_inspect_shows_the_funnel_and_a_row(dataset, capsys):
    capsys.readouterr()
    assert main(["inspect", str(dataset)]) == 0
    assert "kept" in capsys.readouterr().out
    assert main(["inspect", str(dataset), "--row", "0"]) == 0
    out = capsys.readouterr().out
    assert "jsonl @" in out
    assert "plane 0" in out
    assert "plane 1" in out
    assert main(["inspect", str(dataset), "--row", "999999"]) == 2
    assert main(["inspect", str(dataset), "--split", "validation", "--row", "0"]) == 0
    assert "plane evaluation" in capsys.readouterr().out


def test_a_sample_is_built_beside_and_tells_what_the_whole_would_cost(folder, capsys):
    capsys.readouterr()
    command = ["build", str(folder / "premask.yaml"), "--sample", "20%", "--set", "split.validation=0"]
    assert main([*command, "--set", "output=sampled"]) == 0
    out = capsys.readouterr().out
    assert "the whole" in out
    assert (folder / "sampled-sample/LATEST").exists()
    assert not (folder / "sampled").exists()


def test_the_kept_fields_stand_beside_the_documents(dataset):
    from mlm_data.dataset.dataset import Dataset

    documents = Dataset.open(dataset).shard("train", 0).documents
    assert set(documents.column("keep.lang").to_pylist()) <= {"en", "de"}
    assert all(url.startswith("u") for url in documents.column("id_field").to_pylist())


def test_split_by_a_field_keeps_its_groups_together(folder, tmp_path):
    from mlm_data.dataset.dataset import Dataset

    for language in range(30):
        write_jsonl(tmp_path / f"in/{language}.jsonl", range(language * 50, language * 50 + 4), lang=f"l{language}")
    inputs = [{"path": "in/*.jsonl", "keep_fields": ["lang"]}]
    values = settings(tmp_path, inputs=inputs, output="out", split={"validation": 0.2, "by": "lang"})
    (tmp_path / "premask.yaml").write_text(json.dumps(values))
    assert main(["build", str(tmp_path / "premask.yaml")]) == 0
    dataset = Dataset.open(tmp_path / "out")
    sides = {
        split: {
            value
            for index in range(dataset.num_shards(split))
            for value in dataset.shard(split, index).documents.column("keep.lang").to_pylist()
        }
        for split in ("train", "validation")
    }
    assert sides["train"]
    assert sides["validation"]
    assert not sides["train"] & sides["validation"]


def test_options_that_are_out_of_range(folder, capsys):
    for argv, message in (
        (["build", "x.yaml", "--workers", "0"], "must be a number from 1 to 1024, got '0'"),
        (["build", "x.yaml", "--sample", "200%"], "must be a share such as 1% or 0.01, got '200%'"),
        (["plan"], "the following arguments are required: config"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["plan", "x.yaml", "--explian"], "did you mean --explain?"),
        (["demo-corpus", "--megabytes", "-1"], "--megabytes must be above 0"),
        (["demo", "--minutes", "0"], "--minutes must be above 0"),
    ):
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("premask: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["--debug", "plan"], ["plan", "--debug"]])
def test_the_debug_switch_shows_the_traceback(tmp_path, words):
    from mlm_data.errors import ConfigError

    with pytest.raises(ConfigError):
        main([*words, str(tmp_path / "none.yaml")])


def test_programs_get_json(folder, dataset, tmp_path, capsys):
    def answer(*argv: str) -> dict:
        capsys.readouterr()
        assert main([*argv, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    config = str(folder / "premask.yaml")
    plan = answer("plan", config, "--explain")
    assert plan["files"] == 2
    assert plan["units"] == len(plan["prepared_units"])
    whole = answer("inspect", str(dataset))
    built = answer("build", config)
    assert built["digest"] == whole["digest"] == answer("verify", str(dataset))["digest"]
    assert built["ledger"]["documents"]["read"] == 160
    assert built["reused"] == built["units"]
    row = answer("inspect", str(dataset), "--row", "0")
    assert len(row["tokens"]) == 64
    assert set(row["planes"]) == {"0", "1"}
    assert sum(segment["length"] for segment in row["segments"]) <= 64
    trained = answer("tokenizer", "train", config, "--out", str(tmp_path / "t.json"))
    assert len(trained["sha256"]) == 64
    sample = answer("build", config, "--sample", "30%", "--set", "output=part", "--set", "split.validation=0")
    assert sample["whole"]["bytes"] > sample["bytes"]


def test_a_row_is_shown_where_roles_were_configured(tmp_path, capsys):
    from mlm_data.tokens.bert import bert_settings

    words = sorted({word for number in range(40) for word in text(number).lower().replace(".", " .").split()})
    names = ["[UNK]", "<start>", "<end>", "<hide>", "</s>"]
    vocabulary = {token: number for number, token in enumerate([*names, *words])}
    tokenizer = bert_settings(vocabulary, names, lowercase=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_jsonl(tmp_path / "in/a.jsonl", range(40))
    special = {"cls": "<start>", "sep": "<end>", "mask": "<hide>", "pad": "</s>"}
    values = settings(tmp_path, tokenizer={"path": str(tmp_path / "tokenizer.json"), "special": special})
    (tmp_path / "premask.yaml").write_text(json.dumps(values))
    assert main(["build", str(tmp_path / "premask.yaml")]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "out"), "--row", "0"]) == 0
    assert "<start>" in capsys.readouterr().out
