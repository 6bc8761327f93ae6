"""`premask funnel`: every step, every reason, and examples that can't move a cursor."""

import io
import json
from itertools import pairwise

import pytest

from mlm_data.console import Terminal
from mlm_data.dataset.examples import load_examples
from mlm_data.dataset.funnel import Example
from mlm_data.dataset.manifest import load_manifest
from mlm_data.stores.folder import Folder
from pipelines.commands.cli import main
from pipelines.commands.funnel import show_details
from tests.pipelines.small_corpus import settings, text, write_jsonl

HOSTILE = "\x1b[31m\u202e<script>alert(1)</script>\x9b2J "


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("funnel")
    write_jsonl(folder / "in/books.jsonl", range(60))
    write_jsonl(folder / "in/copies.jsonl", [*range(5), *range(300, 304)])
    near = text(7, 40)
    with (folder / "in/web.jsonl").open("w") as file:
        for number in range(20):
            file.write(json.dumps({"text": HOSTILE + text(1000 + number, 8)}) + "\n")
        for line in (near, near.replace("stone", "boulder", 1), "short\x1b[2J\u2066"):
            file.write(json.dumps({"text": line}) + "\n")
    inputs = [
        {"path": "in/books.jsonl", "name": "books"},
        {"path": "in/copies.jsonl", "name": "copies"},
        {"path": "in/web.jsonl", "name": "web\x1b[5m", "quality": {"gopher_quality": {"min_words": 150}}},
    ]
    values = settings(folder, inputs=inputs, output="out", clean={"privacy": []})
    values["deduplicate"] = {"near": True}
    (folder / "premask.yaml").write_text(json.dumps(values))
    assert main(["build", str(folder / "premask.yaml")]) == 0
    return folder / "out"


def test_every_step_says_what_it_was_given_and_what_it_let_through(dataset, capsys):
    assert main(["funnel", str(dataset), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    steps = said["steps"]
    assert [step["step"] for step in steps] == ["length", "gopher_quality", "deduplicate.exact", "deduplicate.near"]
    assert steps[0]["in"]["documents"] == said["documents"]["read"] == 92
    for before, after in pairwise(steps):
        assert before["out"] == after["in"]
    for step in steps:
        assert all(step["in"][name] == step["dropped"][name] + step["out"][name] for name in step["in"])
    assert steps[-1]["out"]["documents"] == said["documents"]["kept"]
    assert {line["reason"]: line["documents"] for line in said["by"] if line["input"] == "copies"} == {
        "kept": 4,
        "exact_duplicate": 5,
    }
    assert any("gopher_quality dropped 20 of the 23 documents" in line for line in said["warnings"])


def test_a_near_duplicate_is_shown_with_the_one_that_stayed(dataset, capsys):
    examples = load_examples(Folder(str(dataset)), load_manifest(Folder(str(dataset))))
    (near,) = [one for one in examples if one.reason == "near_duplicate"]
    assert near.kept.endswith("web.jsonl at 0") is False
    assert near.kept.startswith("web")
    assert near.kept_head[:30] == near.head[:30]
    assert main(["funnel", str(dataset)]) == 0
    assert "kept instead: web" in capsys.readouterr().out


def test_nothing_of_a_corpus_reaches_the_terminal_as_it_is(dataset, capsys):
    for words in ([], ["--by", "language"], ["--by", "reason", "input", "language", "--examples", "5"]):
        assert main(["funnel", str(dataset), *words]) == 0
        out = capsys.readouterr().out
        assert not [char for char in out if not char.isprintable() and char != "\n"]
    assert "web\\x1b[5m" in out
    assert "[31m\\u202e<script>" in out  # cleaning had taken the escape character away
    assert "short[2J\\u2066" in out


def test_not_even_a_forged_example_does(dataset):
    one = Example(
        input=HOSTILE, reason=HOSTILE, source=HOSTILE, offset=0, id="", head=HOSTILE, kept="a", kept_head="\r"
    )
    manifest = load_manifest(Folder(str(dataset)))
    show_details(manifest, ("reason",), [one], Terminal(file := io.StringIO()))
    assert not [char for char in file.getvalue() if not char.isprintable() and char != "\n"]
    assert file.getvalue().count("\\x1b[31m\\u202e<script>alert(1)</script>\\x9b2J") == 4


def test_examples_can_be_left_out(dataset, capsys):
    assert main(["funnel", str(dataset), "--examples", "0"]) == 0
    assert "for example" not in capsys.readouterr().out
    assert main(["funnel", str(dataset), "--examples", "6"]) == 2
    assert "must be a number from 0 to 5" in capsys.readouterr().err


def test_a_changed_file_of_examples_is_refused(dataset, capsys):
    (path,) = dataset.glob("versions/*.dropped.jsonl")
    before = path.read_bytes()
    try:
        path.write_bytes(before.replace(b"short", b"shirt"))
        assert main(["funnel", str(dataset)]) == 2
        error = capsys.readouterr().err
        assert "a byte was changed" in error
        assert error.count("\n") == 1
        path.unlink()
        assert main(["funnel", str(dataset)]) == 2
        assert "missing" in capsys.readouterr().err
    finally:
        path.write_bytes(before)


def test_a_folder_that_is_no_dataset_is_a_line(tmp_path, capsys):
    assert main(["funnel", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_build_and_inspect_warn_of_the_same_steps(dataset, capsys):
    assert main(["inspect", str(dataset)]) == 0
    assert "warning: gopher_quality dropped 20 of the 23 documents" in capsys.readouterr().out
