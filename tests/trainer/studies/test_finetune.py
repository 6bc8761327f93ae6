"""Fine-tuning: what the frozen encoder can't tell apart, the same figures again, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mlm_data.errors import ConfigError
from trainer.commands import cli
from trainer.studies.finetune import _keys, mean_states
from trainer.studies.probe import Tuning, mean_features, probe, text_segments
from trainer.studies.texts import pack
from trainer.training.runs import open_run


@pytest.fixture
def opened(run):
    """A model whose weights are drawn anew, and its machine."""
    trained, machine = open_run(Path(run.out))
    trained.model.initialize(torch.Generator().manual_seed(0), std=0.05)
    return trained, machine


@pytest.fixture
def labelled(tmp_path) -> Path:
    """Texts of the same words in another order: which of two stands first?"""
    lines = []
    for number in range(120):
        first, second = ("cat", "file") if number % 2 else ("file", "cat")
        fillers = [" the" * (number % 7), " on" * (number // 7 % 5), " sat" * (number // 35)]
        text = f"{first}{fillers[0]}{fillers[1]} {second}{fillers[2]}"
        lines.append(json.dumps({"text": text, "label": first}))
    path = tmp_path / "order.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_it_learns_what_the_frozen_encoder_does_not_tell_and_again_the_same(opened, labelled):
    trained, machine = opened
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    said: list[str] = []
    tuning = Tuning(machine=machine, epochs=12, lr=0.01)
    found = probe(trained, labelled, tuning=tuning, say=said.append)
    assert found.finetuned > max(found.accuracy, found.majority) + 0.1
    assert len(said) == 12
    assert said[0].startswith("epoch 1 of 12: training loss")
    losses = [float(line.rsplit(" ", 1)[1]) for line in said]
    assert losses[-1] < losses[0] / 2
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name  # the run's own weights stay
    again: list[str] = []
    assert probe(trained, labelled, tuning=tuning, say=again.append) == found
    assert again == said


def test_it_begins_at_the_linear_probe(opened, labelled):
    trained, machine = opened
    found = probe(trained, labelled, tuning=Tuning(machine=machine, epochs=1, lr=1e-9))
    assert found.finetuned == found.accuracy


def test_means_are_those_of_the_probe(opened):
    trained, _ = opened
    segments, _ = text_segments(trained, ["the cat sat", "open the file", "np", "the mat " * 40])
    wanted = mean_features(trained, segments)
    (batch,) = pack(segments, rows=4, length=64, pad=0)
    found = mean_states(trained.model, batch)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert trained.model.embedding.weight.grad.abs().sum() > 0


def test_every_epoch_has_an_order_of_its_own():
    hashes = np.arange(50, dtype=np.uint64)
    orders = [np.argsort(_keys(hashes, epoch)).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"lr": -1.0}, "--lr must be between 0 and 1, got -1"),
        ({"lr": float("nan")}, "--lr must be between 0 and 1"),
    ],
)
def test_what_cannot_be_right_is_refused(opened, labelled, options, message):
    with pytest.raises(ConfigError, match=message):
        probe(opened[0], labelled, tuning=Tuning(machine=opened[1], **options))


def test_it_is_an_option_of_the_command(run, labelled, capsys):
    def call(*arguments: object) -> int:
        return cli.main([str(argument) for argument in ("probe", run.out, labelled, *arguments)])

    assert call("--finetune", "--epochs", 1, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["finetuned"] <= 1
    assert {"accuracy", "majority", "num_test"} <= found.keys()
    assert call("--finetune", "--epochs", 1) == 0
    captured = capsys.readouterr()
    assert "fine-tuned" in captured.out
    assert "linear probe" in captured.out
    assert "epoch 1 of 1" in captured.err
    assert call("--epochs", 1) == 2
    assert "add --finetune" in capsys.readouterr().err
