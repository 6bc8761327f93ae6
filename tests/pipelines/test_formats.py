"""Formats, and files that are not what they seem, through the commands."""

import csv
import json

from mlm_data.dataset.manifest import load_manifest
from mlm_data.stores.folder import Folder
from pipelines.commands.cli import main
from tests.pipelines.small_corpus import settings, text


def write_config(folder, *inputs, **changes):
    path = folder / "premask.yaml"
    path.write_text(json.dumps(settings(folder, inputs=list(inputs), **changes)))
    return str(path)


def test_csv_fasta_and_an_array_in_one_build(tmp_path):
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [[f"row{i}", f'{text(i)}\nIt said "yes", twice.'] for i in range(20)]
        csv.writer(file).writerows([["id", "body"], *rows])
        file.write("only one field\n")
    array = [{"id": f"element{i}", "body": text(100 + i)} for i in range(20)]
    (tmp_path / "b.json").write_text(json.dumps(array, indent=1), encoding="utf-8")
    records = [f">seq{i} a protein\n" + "MVLSPADKTNVKAAWGKVGA\n" * (3 + i) for i in range(20)]
    (tmp_path / "c.faa").write_text("".join(records), encoding="utf-8")
    config = write_config(
        tmp_path,
        {"path": f"{tmp_path}/[ab].*", "text_field": "body", "id_field": "id"},
        {"path": f"{tmp_path}/c.faa", "id_field": "id"},
        max_quarantined=0.1,
        tokenizer={"train": {"kind": "bpe", "vocab_size": 400}},
    )
    assert main(["build", config]) == 0
    documents = load_manifest(Folder(str(tmp_path / "out"))).ledger["documents"]
    assert documents["read"] == 61
    assert documents["quarantined"] == {"bad_csv": 1}


def test_the_plan_says_what_files_are_and_why(tmp_path, capsys):
    (tmp_path / "part-0").write_text("".join(json.dumps({"text": text(i)}) + "\n" for i in range(20)))
    assert main(["plan", write_config(tmp_path, {"path": f"{tmp_path}/part-*"})]) == 0
    assert "20 of 20 lines are JSON objects" in " ".join(capsys.readouterr().out.split())


def test_utf16_without_a_mark_is_refused_and_named(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(text(1).encode("utf-16-le"))
    config = write_config(tmp_path, {"path": f"{tmp_path}/a.txt"})
    for command in ("plan", "build"):
        capsys.readouterr()
        assert main([command, config]) == 2
        told = capsys.readouterr()
        assert "looks like utf-16-le without a byte order mark: set encoding: utf-16-le" in " ".join(
            (told.out + told.err).split()
        )
    assert not (tmp_path / "out/LATEST").exists()
