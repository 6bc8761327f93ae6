"""A forecast says of a sample what the build then does with it."""

import json

from mlm_data.build.estimate import estimate
from mlm_data.build.forecast import forecast, judge_documents, read_runs, sample_context
from mlm_data.build.plan import make_plan
from mlm_data.build.weights import input_names
from mlm_data.config import load_config
from mlm_data.dataset.manifest import load_manifest
from mlm_data.stores.folder import Folder
from pipelines.commands.cli import main
from tests.pipelines.small_corpus import sentence, settings, text, write_jsonl


def write(folder, inputs, **changes):
    values = settings(folder, inputs=inputs, output=str(folder / "out"), **changes)
    path = folder / "premask.yaml"
    path.write_text(json.dumps(values))
    return path


def wrapped(number):
    """A text whose lines end where a column does."""
    words = " ".join(sentence(number * 100 + i) for i in range(12)).replace(".", "").split()
    lines = [" ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
    return "\n".join(lines) + "."


def test_rules_drop_in_the_build_what_was_forecast(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", range(40))
    write_jsonl(tmp_path / "b.jsonl", range(100, 130))
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"text": "short"}\n')
    quality = {"gopher_quality": {"min_words": 105}}
    path = write(tmp_path, [{"path": "a.jsonl", "name": "a"}, {"path": "b.jsonl", "name": "b", "quality": quality}])
    found = estimate(load_config(path))
    assert main(["build", str(path)]) == 0
    built = load_manifest(Folder(str(tmp_path / "out"))).funnel
    assert {key: counts[:2] for key, counts in found.probe_funnel.fates.items()} == {
        key: counts[:2] for key, counts in built.fates.items()
    }
    assert found.probe_funnel.by("reason")["gopher_quality:too_few_words",][0] > 0
    kept = sum(counts[2] for key, counts in built.fates.items() if key[2] == "kept")
    assert found.probe_tokens == found.num_tokens == kept


def test_what_needs_all_documents_is_not_looked_for(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [*range(20), *range(20)])
    path = write(tmp_path, [{"path": "a.jsonl"}], deduplicate={"near": True})
    assert set(estimate(load_config(path)).probe_funnel.by("reason")) == {("kept",)}


def test_every_input_is_looked_at(tmp_path):
    inputs = []
    for number in range(12):
        write_jsonl(tmp_path / f"{number}/a.jsonl", range(number * 10, number * 10 + 5))
        inputs.append({"path": f"{number}/a.jsonl", "name": f"n{number}"})
    config = load_config(write(tmp_path, inputs))
    assert {name for (name,) in estimate(config).probe_funnel.by("input")} == set(input_names(config))


def test_a_run_stops_at_its_budget(tmp_path):
    for number in range(20):
        write_jsonl(tmp_path / f"in/{number:02}.jsonl", range(number * 10, number * 10 + 10))
    config = load_config(write(tmp_path, [{"path": "in/*.jsonl"}]))
    pieces = sorted((piece for unit in make_plan(config).units for piece in unit.slices), key=lambda one: one.source)
    whole = sum(piece.num_bytes for piece in pieces)
    found = list(read_runs(pieces, config, runs=4, num_bytes=whole // 6))
    assert {documents.source for documents in found} == {"00.jsonl", "05.jsonl", "10.jsonl", "15.jsonl"}
    assert sum(documents.num_bytes_read for documents in found) < whole / 3
    assert sum(documents.num_bytes_read for documents in read_runs(pieces, config, runs=4, num_bytes=10**9)) == whole


def test_a_small_input_is_read_whole_however_uneven_its_files(tmp_path):
    for number in range(20):
        documents = 40 if number < 3 else 2
        write_jsonl(tmp_path / f"in/{number:02}.jsonl", range(number * 50, number * 50 + documents))
    config = load_config(write(tmp_path, [{"path": "in/*.jsonl"}]))
    pieces = sorted((piece for unit in make_plan(config).units for piece in unit.slices), key=lambda one: one.source)
    whole = sum(piece.num_bytes for piece in pieces)
    assert sum(documents.num_bytes_read for documents in read_runs(pieces, config, runs=4, num_bytes=whole)) == whole


def test_a_rule_that_eats_an_input_and_hard_wrapped_text_under_c4_are_warned_of(tmp_path):
    with (tmp_path / "law.jsonl").open("w") as file:
        for number in range(30):
            file.write(json.dumps({"text": wrapped(number)}) + "\n")
    write_jsonl(tmp_path / "web.jsonl", range(30))
    inputs = [
        {"path": "law.jsonl", "name": "law", "quality": ["c4", "fineweb"]},
        {"path": "web.jsonl", "name": "web", "quality": ["c4"]},
    ]
    warnings = estimate(load_config(write(tmp_path, inputs))).warnings
    assert [line for line in warnings if line.startswith("c4 would drop 30 of the 30 documents of law (100%)")]
    (line,) = [line for line in warnings if "hard-wrapped" in line]
    assert "of law are hard-wrapped, and c4 and fineweb read it line by line" in line
    assert not [line for line in warnings if "of web" in line]
    edits = estimate(load_config(write(tmp_path, inputs, clean={"lines": ["c4"]}))).warnings
    assert [line for line in edits if "clean.lines: [c4] would cut 9" in line and "of law are hard-wrapped" in line]


def test_edits_and_changes_are_forecast(tmp_path):
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(12):
            file.write(json.dumps({"text": f"MENU\n{text(number)}"}) + "\n")
    config = load_config(write(tmp_path, [{"path": "a.jsonl"}], clean={"lines": ["c4"]}))
    found = estimate(config)
    assert found.probe_funnel.changes == {"characters cut by the lines of c4": 12 * len("MENU\n")}
    context = sample_context(config)
    (piece,) = make_plan(config).units[0].slices
    judged = [
        judge_documents(documents, 0, context) for documents in read_runs([piece], config, runs=1, num_bytes=10**6)
    ]
    assert forecast(judged, config) == found.probe_funnel
    assert judged[0].texts.to_pylist()[0] == text(0)


def test_plan_shows_it(tmp_path, capsys):
    write_jsonl(tmp_path / "a.jsonl", range(30))
    quality = {"gopher_quality": {"min_words": 500}}
    path = write(tmp_path, [{"path": "a.jsonl", "name": "a\u202e\x1b[31m", "quality": quality}])
    assert main(["plan", str(path)]) == 0
    out = capsys.readouterr().out
    assert "what would be dropped of the 30 documents" in out
    assert "gopher_quality:too_few_words" in out
    assert "warning: gopher_quality would drop 30 of the 30 documents of a\\u202e\\x1b[31m (100%)" in out
    assert main(["plan", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["forecast"]["documents"] == 30
    assert said["expected_tokens"] == 0
