"""The smaller commands: curves, plans, documents of a step, breakdowns, export and import."""

import io
import json
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlm_data.console import Terminal
from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import InputError
from mlm_data.loading.loader import Loader, evaluation
from tests.synthetic import make_dataset
from tests.trainer.precision import both_precisions, tolerance
from trainer.commands import cli, evaluate, export
from trainer.commands.progress import describe
from trainer.studies.breakdown import breakdown, target_losses
from trainer.studies.plot import plot
from trainer.training.loop import Progress, train
from trainer.training.record import read
from trainer.training.runlog import Spikes
from trainer.training.runs import open_run
from trainer.training.score import score
from trainer.training.step import Forward
from trainer.training.stream import Stream


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_curves_are_whole_svg(run, tmp_path):
    out = tmp_path / "curves.html"
    assert call("plot", run.out, run.out, "--out", out) == 0
    text = out.read_text()
    charts = [f"<svg{part.split('</svg>')[0]}</svg>" for part in text.split("<svg")[1:]]
    assert len(charts) == 4
    for chart in charts:
        lines = ET.fromstring(chart).findall("polyline")
        assert len(lines) >= 2
        points = [tuple(map(float, point.split(","))) for point in lines[0].get("points").split()]
        assert all(0 <= x <= 900 and 0 <= y <= 320 for x, y in points)
    assert "http" not in text
    with pytest.raises(InputError, match="its log has no steps"):
        plot([tmp_path], out)


def test_a_plan_says_the_numbers(run, dataset, tmp_path, capsys):
    options = ("--data", dataset, "--out", tmp_path / "planned", "--set", "batch_rows=4", "--set", "budget.steps=20")
    assert call("plan", *options) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "40 rows of 64, 2 planes" in text
    assert "20 steps, 5,120 places, 2.00 epochs" in text
    assert "4 x 64 = 256 places a micro-batch, at most" in text
    assert "before the first step" in text
    assert "memory about" in text
    assert not (tmp_path / "planned").exists()
    assert (
        call(
            "plan",
            "--data",
            dataset,
            "--set",
            "budget.tokens=3584",
            "--set",
            "accumulate={0: 1, 2: 2, 4: 4}",
            "--set",
            "batch_rows=4",
        )
        == 0
    )
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "after 6 steps, 3,584 places" in text
    assert "8 rows from step 2 on" in text
    phases = f"phases=[{{data: {dataset}, tokens: 512}}, {{data: {dataset}, tokens: 1024}}]"
    assert call("plan", *options, "--set", phases) == 0
    assert "phase 1" in capsys.readouterr().out


def test_documents_of_a_step_are_those_of_its_rows(run, capsys):
    assert call("which-docs", run.out, 2, "--json") == 0
    lines = json.loads(capsys.readouterr().out)
    dataset = Dataset.open(run.data)
    loader = Loader(dataset, batch_rows=4)
    next(loader)
    batch = next(loader)
    wanted = set()
    for shard, row in zip(batch.shards.tolist(), batch.rows.tolist(), strict=True):
        first = int(dataset.shard_rows("train")[:shard].sum())
        wanted |= {segment.id for segment in dataset.where("train", first + row)}
    assert {line["id"] for line in lines} == wanted
    assert call("which-docs", run.out, 0) == 2
    assert "counted from 1" in capsys.readouterr().err
    assert call("which-docs", run.out, "9" * 30) == 2
    assert "at most 1,000,000,000 are counted" in capsys.readouterr().err
    assert call("which-docs", run.out, 10**9, "--json") == 0  # rows before it are counted, not one by one
    assert len(json.loads(capsys.readouterr().out)) > 0


def test_documents_of_a_step_of_a_mixture(settings, tmp_path, capsys):
    other = make_dataset(tmp_path / "other", num_rows=24, validation_rows=4, vocab_size=100, seed=9)
    chosen = settings("budget.steps=3", "accumulate=2", f"mix=[{{data: {other}, weight: 0.5}}]")
    seen, take = [], Stream.next

    def watched(self):
        batch = take(self)
        seen.append(batch)
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "next", watched)
        train(chosen)
    for step in (1, 2, 3):  # micro-batches of A and B: A B, A A, B A
        assert call("which-docs", chosen.out, step, "--json") == 0
        lines = json.loads(capsys.readouterr().out)
        wanted = Counter()
        for number in (2 * step - 2, 2 * step - 1):
            opened = Dataset.open((chosen.data, other, chosen.data, chosen.data, other, chosen.data)[number])
            batch = seen[number]
            for shard, row in zip(batch.shards.tolist(), batch.rows.tolist(), strict=True):
                first = int(opened.shard_rows("train")[:shard].sum())
                wanted.update(segment.id for segment in opened.where("train", first + row))
        assert Counter(line["id"] for line in lines) == wanted
    assert call("which-docs", chosen.out, 1) == 0


def test_a_breakdown_adds_up(run):
    trained, machine = open_run(Path(run.out))
    dataset = Dataset.open(run.data)
    device = torch.device("cpu")
    whole = score(Forward(trained.model), evaluation(dataset, 4), target_size=64, device=machine.device)
    found = breakdown(trained.model, dataset, batch_rows=4, device=device)
    assert set(found) == {"source", "word_start", "frequency", "length"}
    for lines in found.values():
        assert sum(line["targets"] for line in lines) == whole.targets
        assert sum(line["targets"] * line["loss"] for line in lines) == pytest.approx(whole.loss_sum, rel=1e-5)
        assert sum(line["targets"] * line["accuracy"] for line in lines) == pytest.approx(whole.hits)
    # Word starts and lengths, plainly.
    starts = inside = 0
    for row in range(dataset.num_rows("validation")):
        view = dataset.row("validation", row)
        for place in view.planes["evaluation"].targets.tolist():
            starts += bool(view.word_starts[place])
            inside += not view.word_starts[place]
    counted = {line["name"]: line["targets"] for line in found["word_start"]}
    assert counted == {"begins a word": starts, "inside a word": inside}


def test_target_losses_are_one_for_each_target(run):
    trained, _ = open_run(Path(run.out))
    batch = next(iter(evaluation(Dataset.open(run.data), 4)))
    losses, hits = target_losses(trained.model, batch, torch.device("cpu"))
    assert losses.shape == hits.shape == (batch.num_targets,)
    assert np.isfinite(losses).all()


def test_to_chooses_who_exports_and_what_is_said(monkeypatch, tmp_path, capsys):
    asked = []
    other = export.Target(lambda *given: asked.append(given) or ["a remark"], "wrote {out} for another")
    monkeypatch.setitem(export.TARGETS, "other", other)
    assert call("export", "run", tmp_path / "out", "--to", "other", "--checkpoint", "best") == 0
    assert asked == [(Path("run"), tmp_path / "out", "best")]
    said = capsys.readouterr()
    assert f"wrote {tmp_path / 'out'} for another" in said.out.replace("\n", " ")
    assert "a remark" in said.err
    assert call("export", "run", "out", "--to", "nobody") == 2


@both_precisions
def test_export_and_import_are_commands(run, tmp_path, capsys, monkeypatch, precision):
    monkeypatch.setenv("PREMASK_PRECISION", precision)  # what was imported has none of its own
    assert call("export", run.out, tmp_path / "hf") == 0
    assert call("import", tmp_path / "hf", "--out", tmp_path / "again") == 0
    capsys.readouterr()
    for folder in (run.out, tmp_path / "again"):
        assert call("fill", folder, "the [MASK] sat", "--json") == 0
    one, two = (json.loads(line)["blanks"] for line in capsys.readouterr().out.splitlines())
    for a, b in zip(one[0], two[0], strict=True):
        assert a["token"] == b["token"]
        assert a["probability"] == pytest.approx(b["probability"], rel=tolerance(precision, units=1))
    assert call("export", run.out, tmp_path / "hf") == 2
    assert "choose an empty folder" in capsys.readouterr().err


def test_eval_breaks_down_and_judges_pairs(run, tmp_path, capsys):
    folder = tmp_path / "blimp"
    folder.mkdir()
    (folder / "word_order.jsonl").write_text('{"sentence_good": "the cat sat", "sentence_bad": "cat the sat"}\n')
    assert call("eval", run.out, "--by", "--blimp", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["blimp"]) == {"word_order", "mean"}
    assert found["by"]["word_start"]
    assert call("eval", run.out, "--by", "--blimp", folder) == 0
    assert "judged rightly" in capsys.readouterr().out


def test_a_probe_is_a_command(run, tmp_path, capsys):
    path = Path(tmp_path / "labelled.jsonl")
    lines = [{"t": f"{word} {'the ' * n}", "l": word} for word in ("cat", "file") for n in range(30)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert call("probe", run.out, path, "--text-field", "t", "--label-field", "l") == 0
    assert "accuracy" in capsys.readouterr().out


def test_spikes_are_noticed_once_there_is_something_to_compare_with():
    spikes = Spikes(window=10)
    assert not any(spikes.sees(3.0 + 0.01 * (n % 3)) for n in range(10))
    assert not spikes.sees(3.1)
    assert spikes.sees(4.5)
    assert spikes.sees(4.5)
    assert not spikes.sees(3.0)


def test_an_imported_model_is_trained_gently_unless_another_recipe_is_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1")  # no second process
    assert call("export", run.out, tmp_path / "hf") == 0
    for name in ("gentle", "rough"):
        capsys.readouterr()
        assert call("import", tmp_path / "hf", "--out", tmp_path / name) == 0
        assert "recipe adapt" in capsys.readouterr().err
    few = [part for one in ("compile=off", "budget.steps=2", "batch_rows=4") for part in ("--set", one)]
    assert call("run", "--data", run.data, "--out", tmp_path / "gentle", *few, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["step"] == 2
    assert "forget" not in captured.err
    assert read(tmp_path / "gentle").settings.optimizer.kind == "adamw"
    assert call("run", "--data", run.data, "--out", tmp_path / "rough", *few, "--recipe", "tiny") == 0
    assert "will forget much of what it knows; --recipe adapt has gentle ones" in capsys.readouterr().out
    assert read(tmp_path / "rough").settings.model.width == run.model.width  # not the recipe's


def test_programs_get_the_plan_in_figures(run, capsys):
    assert call("plan", "--data", run.data, "--set", "budget.steps=20", "--set", "batch_rows=4", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["steps"], plan["places"], plan["rows_per_step"]) == (20, 20 * 256, {"0": 4})
    assert plan["micro_batch"]["places"] == 256
    phases = f"phases=[{{data: {run.data}, tokens: 512}}, {{data: {run.data}, tokens: 1024}}]"
    assert call("plan", "--data", run.data, "--set", phases, "--set", "batch_rows=4", "--json") == 0
    assert [phase["places"] for phase in json.loads(capsys.readouterr().out)["phases"]] == [512, 1024]


def test_a_line_of_progress_is_readable_from_the_first_step_on():
    first = Progress(
        step=1,
        total=None,
        loss=5.7,
        accuracy=0.1,
        validation=None,
        rate=5e-4,
        tokens_per_second=None,
        seconds_left=None,
    )
    assert describe(first) == (
        "step 1  loss 5.700  accuracy 0.100  lr 0.0005  how many steps follows from the speed of the first ones"
    )
    later = replace(first, step=80, total=601, tokens_per_second=8390.4, seconds_left=261.0, mfu=0.5)
    assert describe(later) == ("step 80/601  loss 5.700  accuracy 0.100  lr 0.0005  8,390 tokens/s  MFU 50%  4:21 left")


@pytest.mark.parametrize(("below", "said"), [(2.5, "2.50 nats below"), (-0.06, "0.06 nats above")])
def test_a_model_that_has_learnt_nothing_is_above_the_unigram_frequencies(below, said):
    sink = io.StringIO()
    result = {"run": "runs/a", "step": 1, "nats_below_unigram": below, "nats_lost_by_shuffling": 0.0}
    evaluate._show(result, Terminal(sink))
    assert f"{said} the unigram frequencies" in sink.getvalue()
