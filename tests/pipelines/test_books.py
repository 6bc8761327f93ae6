"""Real books, the whole way: the same digest with any number of workers, after a crash, in any folder."""

import json

import pytest

from pipelines.commands.cli import main
from tests.pipelines.small_corpus import kill_midway, prepared_units

pytestmark = [pytest.mark.corpora, pytest.mark.slow]


def write_config(folder, corpora, **changes):
    values = {
        "inputs": [{"path": str(corpora / "en_classic_books_md/**/*.md"), "documents": "paragraph"}],
        "output": str(folder / "out"),
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 8192}},
        "pack": {"sequence_length": 512},
        "mask": {"planes": 4},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "premask.yaml"
    path.write_text(json.dumps(values | changes))
    return path


def digest_of(folder) -> str:
    return (folder / "out/LATEST").read_text().strip()


@pytest.fixture(scope="module")
def first(corpora, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    assert main(["build", str(write_config(folder, corpora)), "--workers", "1"]) == 0
    return folder


def test_the_books_build_is_sound(first, capsys):
    capsys.readouterr()
    assert main(["verify", str(first / "out")]) == 0
    assert "sound" in capsys.readouterr().out
    assert len(prepared_units(first)) >= 32


def test_two_workers_in_another_folder_give_the_same_digest(first, corpora, tmp_path):
    assert main(["build", str(write_config(tmp_path, corpora)), "--workers", "2"]) == 0
    assert digest_of(tmp_path) == digest_of(first)


def test_the_other_engine_gives_the_same_digest(first, corpora, tmp_path):
    path = write_config(tmp_path, corpora)
    assert main(["build", str(path), "--set", "tokenizer.engine=huggingface"]) == 0
    assert digest_of(tmp_path) == digest_of(first)


def test_killed_in_the_middle_it_goes_on(first, corpora, tmp_path, capsys):
    path = write_config(tmp_path, corpora)
    kill_midway(path, prepared=15, workers=2)
    capsys.readouterr()
    assert main(["build", str(path)]) == 0
    reused = int(capsys.readouterr().out.split("units, ")[1].split(" of them reused")[0])
    assert reused >= 10
    assert digest_of(tmp_path) == digest_of(first)
