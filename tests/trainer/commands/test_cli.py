"""The command: what it prints, and one line with exit code 2 for every mistake."""

import json

import pytest
import torch

from mlm_data.errors import ConfigError
from trainer.commands import cli


def call(*arguments: str) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_fill_prints_the_best_tokens(run, capsys):
    assert call("fill", run.out, "the [MASK] sat on the [MASK]", "--top", 3, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["blanks"]) == 2
    for blank in found["blanks"]:
        probabilities = [one["probability"] for one in blank]
        assert len(blank) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1
    assert call("fill", run.out, "the [MASK] sat") == 0
    assert "%" in capsys.readouterr().out
    assert call("fill", run.out, "the [MASK] sat", "a [MASK] on [MASK]", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["blanks"]) for line in lines] == [1, 2]


def test_fill_is_a_distribution_over_the_whole_vocabulary(run, capsys):
    assert call("fill", run.out, "[MASK]", "--top", 10_000, "--json") == 0
    (blank,) = json.loads(capsys.readouterr().out)["blanks"]
    assert sum(one["probability"] for one in blank) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [("no blank here", "the text has no [MASK]"), ("word " * 200 + "[MASK]", "the model reads 64: shorten it")],
)
def test_fill_refuses(run, capsys, text, message):
    assert call("fill", run.out, text) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_eval_prints_figures(run, capsys):
    assert call("eval", run.out, "--json", "--baselines") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step"] == 3
    assert found["model"]["perplexity"] > 1
    assert call("eval", run.out) == 0
    assert "perplexity" in capsys.readouterr().out


def test_mistakes_are_one_line_and_exit_code_2(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1")  # no second process
    (tmp_path / "empty").mkdir()
    cases = [
        (("run", "--recipe", "tiny", "--data", tmp_path / "absent", "--out", tmp_path / "x"), "no such folder"),
        (("run", "--recipe", "tinny", "--data", "d", "--out", "o"), "did you mean 'tiny'"),
        (("run", "--data", "d", "--out", "o", "--set", "modell.layers=2"), "did you mean 'model'"),
        (("run", tmp_path / "absent.yaml"), "can't read the configuration"),
        (("eval", tmp_path / "empty"), "no training run"),
        (("fill", tmp_path / "empty", "[MASK]"), "no training run"),
        (("fill", run.out, "[MASK]", "--top", "0"), "--top must be at least 1"),
    ]
    for arguments, message in cases:
        assert call(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_another_tokenizer_is_refused(run, dataset, tmp_path, capsys):
    assert call("eval", run.out, "--data", dataset) == 2
    assert "has another tokenizer than the model" in capsys.readouterr().err
    path = tmp_path / "run" / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"lowercase", b"lowercasE", 1))
    assert call("fill", run.out, "[MASK]") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="no training run"):
        cli.main(["eval", str(tmp_path), "--debug"])


def test_without_a_compiler_it_says_which_package(settings, monkeypatch):
    from trainer.training import machine

    monkeypatch.setenv("PATH", "")
    chosen = machine.choose(settings("budget.steps=1", "compile=auto"))
    assert not chosen.compile
    assert any("install the package g++" in note for note in chosen.notes)
    with pytest.raises(Exception, match="needs a C\\+\\+ compiler: install the package g\\+\\+"):
        machine.choose(settings("budget.steps=1", "compile=on"))


@pytest.mark.parametrize(
    ("ordered", "measured"), [("float32", "bfloat16"), ("bfloat16", "float32"), (None, "bfloat16")]
)
def test_the_environment_says_what_auto_takes(settings, monkeypatch, ordered, measured):
    from trainer.training import machine

    monkeypatch.setattr(machine, "faster_precision", lambda: measured)
    monkeypatch.setenv("PREMASK_PRECISION", ordered or "")
    chosen = machine.choose(settings("budget.steps=1", "precision=auto", "device=cpu"))
    assert str(chosen.precision) == f"torch.{ordered or measured}"
    reason = "PREMASK_PRECISION says so" if ordered else "the faster here"
    assert chosen.notes[0] == f"matrix products in {ordered or measured}: {reason}"
    named = machine.choose(settings("budget.steps=1", "precision=float32", "device=cpu"))
    assert named.precision == torch.float32
    kept = machine.choose(settings("budget.steps=1", "precision=auto", "device=cpu"), precision="bfloat16")
    assert kept.precision == torch.bfloat16


def test_a_precision_that_there_is_not_is_refused(settings, monkeypatch):
    from trainer.training import machine

    monkeypatch.setenv("PREMASK_PRECISION", "bf16")
    with pytest.raises(ConfigError, match="PREMASK_PRECISION must be float32 or bfloat16, got 'bf16'"):
        machine.choose(settings("budget.steps=1", "precision=auto"))
