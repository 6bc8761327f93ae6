"""Commands that name and compare versions."""

import json

import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.names import versions
from mlm_data.stores.folder import Folder
from pipelines.commands.cli import main
from tests.pipelines.runs import write_run
from tests.pipelines.small_corpus import settings, text, write_jsonl


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two versions: the second has ten other documents, one text that was changed, and another rate."""
    folder = tmp_path_factory.mktemp("versions")
    write_jsonl(folder / "in/a.jsonl", range(40))
    write_jsonl(folder / "in/b\x1b[31m.jsonl", range(100, 110))
    values = settings(folder, inputs=[{"path": str(folder / "in/*.jsonl"), "id_field": "url"}])
    (folder / "premask.yaml").write_text(json.dumps(values))
    assert main(["build", str(folder / "premask.yaml")]) == 0
    assert main(["tag", str(folder / "out"), "v1"]) == 0
    lines = (folder / "in/a.jsonl").read_text().splitlines()
    other = json.loads(lines[7]) | {"text": text(900)}
    (folder / "in/a.jsonl").write_text("\n".join([*lines[:7], json.dumps(other), *lines[8:]]) + "\n")
    write_jsonl(folder / "in/b\x1b[31m.jsonl", range(105, 115))
    assert main(["build", str(folder / "premask.yaml"), "--set", "mask.rate=0.2"]) == 0
    assert main(["tag", str(folder / "out"), "v2"]) == 0
    return folder / "out"


def answer(capsys, *argv, code=0):
    capsys.readouterr()
    assert main([str(word) for word in argv]) == code
    return capsys.readouterr()


def test_the_log_has_a_line_for_each_version(dataset, capsys):
    out = answer(capsys, "log", dataset).out
    assert [name in out for name in ("v1", "v2", "build", "*")] == [True] * 4
    found = json.loads(answer(capsys, "log", f"{dataset}@v1", "--json").out)
    assert "no version has this name" in answer(capsys, "log", f"{dataset}@nosuch", code=2).err
    assert [one["tags"] for one in found] == [["v2"], ["v1"]]
    assert [one["made_by"] for one in found] == ["build", "build"]
    assert found[0]["parent"] == found[1]["digest"]
    assert [one["is_current"] for one in found] == [True, False]
    assert found[0]["num_documents"] == found[1]["num_documents"] == 50


def test_a_version_has_a_name_in_every_command(dataset, capsys):
    first = Dataset.open(f"{dataset}@v1").digest
    for name in ("v1", first[:8]):
        for command in ("verify", "inspect", "funnel"):
            said = json.loads(answer(capsys, command, f"{dataset}@{name}", "--json").out)
            assert said["digest"] == first, command
    error = answer(capsys, "verify", f"{dataset}@v3", code=2).err
    assert "did you mean v2, v1?" in error
    assert error.strip().count("\n") == 0


def test_tags_are_set_moved_and_deleted(dataset, capsys):
    assert answer(capsys, "tag", dataset, "old", "--version", "v1").out.count("\n") == 1
    assert "old already" not in answer(capsys, "tag", f"{dataset}@v1", "old").out
    assert "names" in answer(capsys, "tag", dataset, "old", code=2).err
    assert "no longer" in answer(capsys, "tag", dataset, "old", "--force").out
    assert Dataset.open(f"{dataset}@old").digest == Dataset.open(dataset).digest
    assert "is gone" in answer(capsys, "tag", dataset, "old", "--delete").out
    assert "no tag 'old'" in answer(capsys, "tag", dataset, "old", "--delete", code=2).err
    for words in (["x", "--delete", "--force"], ["20261126"], ["x", "--version", "nothing"]):
        assert answer(capsys, "tag", dataset, *words, code=2).err.count("\n") == 1
    assert "give one of them" in answer(capsys, "tag", f"{dataset}@v1", "x", "--version", "v2", code=2).err


def test_a_diff_tells_what_has_changed(dataset, capsys):
    said = json.loads(answer(capsys, "diff", f"{dataset}@v1", f"{dataset}@v2", "--json").out)
    assert {fate: counts["documents"] for fate, counts in said["documents"].items()} == {
        "added": 5,
        "removed": 5,
        "changed": 1,
        "moved": 0,
    }
    assert said["sources"]["a.jsonl"].keys() == {"changed"}
    assert said["settings"]["mask.rate"] == {"before": [0.3, 0.3], "after": [0.2, 0.2]}
    assert "tokenizer.sha256" in said["settings"]
    out = answer(capsys, "diff", f"{dataset}@v1", dataset).out
    assert "mask.rate" in out
    assert "b\\x1b[31m.jsonl" in out
    assert not [char for char in out if not char.isprintable() and char != "\n"]
    lines = answer(capsys, "diff", f"{dataset}@v1", dataset, "--list").out.splitlines()
    assert sorted(line[0] for line in lines) == ["+"] * 5 + ["-"] * 5 + ["~"]
    (changed,) = [line for line in lines if line[0] == "~"]
    assert " u7 a.jsonl at " in changed
    found = [
        json.loads(line)
        for line in answer(capsys, "diff", f"{dataset}@v1", dataset, "--list", "--json").out.splitlines()
    ]
    assert {one["own_id"] for one in found if one["fate"] == "added"} == {f"u{number}" for number in range(110, 115)}
    assert "nothing differs" in answer(capsys, "diff", dataset, f"{dataset}@v2").out
    assert len(versions(Folder(dataset))) == 2


def test_the_audit_shows_its_table(dataset, capsys):
    out = answer(capsys, "audit", f"{dataset}@v1").out
    assert "the masks are as they should be" in out
    said = json.loads(answer(capsys, "audit", f"{dataset}@v1", "--json").out)
    assert said["ok"]
    assert {line["plane"] for line in said["splits"]["train"]["table"]} >= {"0", "1"}


def test_a_document_says_where_it_is_and_who_has_seen_it(dataset, tmp_path, capsys):
    opened = Dataset.open(f"{dataset}@v1")
    said = json.loads(answer(capsys, "where", f"{dataset}@v1", "--doc", "u3", "--json").out)
    (one,) = said["occurrences"]
    assert one["source"] == "a.jsonl"
    for piece in one["pieces"]:
        row = opened.row(one["split"], piece["row"])
        (segment,) = [found for found in row.segments if found.id == one["id"]]
        assert (segment.place, segment.length, segment.start) == (piece["place"], piece["length"], piece["start"])
        places = range(segment.place, segment.place + segment.length)
        hidden = {plane: sum(target in places for target in found.targets) for plane, found in row.planes.items()}
        assert hidden == piece["targets"]
    assert json.loads(answer(capsys, "where", f"{dataset}@v1", "--doc", one["id"], "--json").out) == said
    assert one["id"] in answer(capsys, "where", f"{dataset}@v1", "--doc", "u3").out
    assert "no id of its own" in answer(capsys, "where", dataset, "--doc", "nobody", code=2).err

    run = write_run(tmp_path / "run", opened.digest)
    seen = {}
    for step in range(1, 7):
        lines = json.loads(answer(capsys, "which-docs", dataset, "--run", run, "--step", step, "--json").out)
        ranks = [
            json.loads(
                answer(capsys, "which-docs", dataset, "--run", run, "--step", step, "--rank", rank, "--json").out
            )
            for rank in (0, 1)
        ]
        assert sorted(line["stream_row"] for rank in ranks for line in rank) == sorted(
            line["stream_row"] for line in lines
        )
        assert {line["stream_row"] % 4 for line in ranks[1]} == {2, 3}
        for line in lines:
            seen.setdefault(line["id"], set()).add((step, line["plane"]))
    for number in (3, 8, 20):
        words = ("where", f"{dataset}@v1", "--doc", f"u{number}", "--run", run)
        (one,) = json.loads(answer(capsys, *words, "--json").out)["occurrences"]
        found = {(step["step"], step["plane"]) for piece in one["pieces"] for step in piece["steps"]}
        assert found == seen.get(one["id"], set())
    assert "steps" in answer(capsys, *words).out
    assert "own id" in answer(capsys, "which-docs", dataset, "--run", run, "--step", 2).out
    assert "newest checkpoint is of step 6" in answer(capsys, "which-docs", dataset, "--run", run, "--step", 7).err


def test_runs_whose_steps_cannot_be_told(dataset, tmp_path, capsys):
    digest = Dataset.open(f"{dataset}@v1").digest
    run = write_run(tmp_path / "run", digest)
    for words, message in (
        (["--step", "0"], "counted from 1"),
        (["--step", "9" * 30], "at most 1,000,000,000 are counted"),
        (["--step", "1", "--rank", "2"], "rank must be 0 to 1"),
    ):
        assert message in answer(capsys, "which-docs", dataset, "--run", run, *words, code=2).err
    assert "has read version" in answer(capsys, "which-docs", f"{dataset}@v2", "--run", run, "--step", 1, code=2).err
    assert "can't be read" in answer(capsys, "which-docs", dataset, "--run", tmp_path, "--step", 1, code=2).err
    for changes, message in (
        ({"dataset": None}, "no steps yet"),
        ({"former": [{}]}, "went on with another dataset: ask premask-train which-docs"),
        ({"format": 2}, "newer"),
        ({"ramp": []}, "damaged"),
        ({"ramp": [0, "many"], "rows_per_step": [8, 8]}, "damaged"),
        ({"ramp": [3, 0], "rows_per_step": [8, 8]}, "damaged"),
        ({"rows_per_step": [0]}, "damaged"),
        ({"rows_per_step": ["8"]}, "damaged"),
        ({"rows_per_step": [2**70]}, "damaged"),
        ({"settings": {"batch_rows": 2.5, "accumulate": 1, "seed": 0, "planes": None}}, "damaged"),
        ({"settings": {"batch_rows": 2, "accumulate": 1, "seed": -1, "planes": None}}, "damaged"),
        ({"settings": {"batch_rows": 2, "accumulate": 1, "seed": 0, "planes": ["a"]}}, "damaged"),
    ):
        write_run(run, **({"dataset": digest} | changes))
        assert message in answer(capsys, "which-docs", dataset, "--run", run, "--step", 1, code=2).err
    (run / "phase-old/checkpoints/step-1").mkdir(parents=True)  # somebody's copy
    assert message in answer(capsys, "which-docs", dataset, "--run", run, "--step", 1, code=2).err


def test_garbage_is_collected_and_no_version_misses_it(dataset, capsys):
    (dataset / "rows/.tmp-dead").write_text("half")
    (dataset / "rows" / f"{'0' * 64}.arrow").write_bytes(b"of a build that never ended")
    said = json.loads(answer(capsys, "gc", dataset, "--dry-run", "--json").out)
    assert said["kinds"].keys() == {"work", "temporary files", "shards"}
    assert (dataset / "work").exists()
    error = answer(capsys, "gc", dataset, code=2).err
    assert "was written 0 minutes ago" in error
    assert "give the folder alone" in answer(capsys, "gc", f"{dataset}@v1", code=2).err
    out = answer(capsys, "gc", dataset, "--force").out
    assert f"deleted: {len(said['files'])} files" in out
    assert "nothing to delete" in answer(capsys, "gc", dataset).out
    for name in ("v1", "v2"):
        answer(capsys, "verify", f"{dataset}@{name}")
    assert Dataset.open(dataset).digest == Dataset.open(f"{dataset}@v2").digest
