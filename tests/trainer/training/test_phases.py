"""Phases, mixtures, ramps, averages, and runs that begin with another's weights."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import CheckpointError, ConfigError
from mlm_data.loading.run_steps import newest_phase
from tests.synthetic import make_dataset
from trainer.config import phases_of
from trainer.training import checkpoint as ck
from trainer.training import runs
from trainer.training.loop import train
from trainer.training.optim import Average
from trainer.training.runlog import read_log
from trainer.training.schedule import factor
from trainer.training.stream import Stream


def losses(run: str | Path) -> list[float]:
    return [line["loss"] for line in read_log(Path(run)) if "validation" not in line]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another dataset: fewer segments a row, another rate."""
    folder = tmp_path_factory.mktemp("phases") / "other"
    return make_dataset(folder, num_rows=24, validation_rows=4, vocab_size=100, rate=0.15, max_segments=4, seed=9)


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phases") / "longer"
    return make_dataset(folder, num_rows=24, validation_rows=4, vocab_size=100, sequence_length=128, seed=3)


def test_phases_follow_each_other_with_their_own_data_and_resume(settings, dataset, longer):
    phases = [
        {"data": str(dataset), "tokens": 64 * 4 * 6, "planes": [1]},
        {"data": str(longer), "tokens": 128 * 2 * 5, "batch_rows": 2, "schedule": "decay", "rope_theta": 1000.0},
    ]
    chosen = settings("budget.steps=1", f"phases={phases}", "model.layers=2")
    first, second = phases_of(chosen)
    assert (first.planes, second.batch_rows, second.model.rope_theta) == ((1,), 2, 1000.0)
    assert second.start == first.out
    assert [factor(step, 6, first.schedule) for step in (3, 4, 5)] == [1.0, 1.0, 1.0]
    assert [factor(step, 5, second.schedule) for step in range(5)] == pytest.approx([5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    result = train(chosen)
    assert result["step"] == 5
    assert len(losses(first.out)) == 6
    wanted = losses(second.out)
    one, two = ck.load(Path(first.out), 6), ck.load(Path(second.out), 5)
    assert two.optimizer["step/embedding.weight"] == one.optimizer["step/embedding.weight"] + 5
    # Begun again in the middle of the second phase.
    import shutil

    for phase in (first, second):
        assert ck.steps(Path(phase.out))
    shutil.rmtree(second.out)
    train(chosen)
    assert losses(second.out) == wanted
    assert newest_phase(Path(chosen.out)) == Path(second.out)


def test_a_mixture_keeps_its_proportions_and_resumes(settings, dataset, other):
    chosen = settings("budget.steps=9", f"mix=[{{data: {other}, weight: 0.5}}]")
    opened = Dataset.open(dataset)
    stream = Stream(opened, chosen)
    rows = [stream.next() for _ in range(9)]
    first = [part["rows_consumed"] for part in stream.state()]
    assert first == [6 * 4, 3 * 4]
    shapes = Counter((batch.cu_seqlens.size, batch.target_places.size) for batch in rows)
    assert len(shapes) == 1
    for batch in rows:
        assert batch.cu_seqlens[-1] == 256
        assert (batch.target_ids >= 0).sum() == batch.num_targets
    again = Stream(opened, chosen, state=stream.state())
    for _ in range(5):
        one, two = stream.next(), again.next()
        assert one.input_ids.tolist() == two.input_ids.tolist()
    stream.close()
    again.close()
    train(chosen)
    state = ck.load(Path(chosen.out), 9).state["loader"]
    assert [part["rows_consumed"] for part in state] == first


def test_datasets_that_do_not_fit_are_not_mixed(settings, dataset, longer):
    chosen = settings("budget.steps=1", f"mix=[{{data: {longer}}}]")
    with pytest.raises(ConfigError, match="has sequence_length 128"):
        Stream(Dataset.open(dataset), chosen)


def test_a_ramp_takes_more_micro_batches(settings):
    chosen = settings("budget.tokens=3584", "accumulate={0: 1, 2: 2, 4: 4}")
    assert [chosen.micro_batches(step) for step in range(6)] == [1, 1, 2, 2, 4, 4]
    result = train(chosen)
    # 256 places a micro-batch: 1 + 1 + 2 + 2 + 4 + 4 = 14 of them.
    assert result["total"] == 6
    targets = [line["targets"] for line in read_log(Path(chosen.out)) if "validation" not in line]
    assert targets[5] > 3 * targets[0]
    with pytest.raises(ConfigError, match="a ramp that begins at step 0"):
        settings("budget.steps=1", "accumulate={3: 2}")


def test_the_average_of_weights_is_the_plain_one_and_skips():
    weight = torch.zeros(3)
    average = Average({"w": weight}, 0.9)
    wanted = torch.zeros(3)
    for step in range(1, 30):
        weight += 1
        skip = torch.tensor(float(step % 5 == 0))
        average.update(skip)
        moved = 0.0 if step % 5 == 0 else 1 - min(0.9, (1 + step) / (10 + step))
        wanted = wanted + moved * (weight - wanted)
    with average.applied():
        torch.testing.assert_close(weight, wanted)
    assert torch.equal(weight, torch.full((3,), 29.0))


def test_the_average_is_evaluated_used_and_resumed(settings):
    chosen = settings("budget.steps=10", "ema=0.99", out="averaged")
    train(chosen)
    found = ck.load(Path(chosen.out), 10)
    averaged = runs.best_weights(found)
    for name, tensor in averaged.items():
        assert torch.equal(tensor, found.optimizer[f"ema/{name}"])
    assert averaged.keys() == found.model.keys()
    assert not torch.equal(found.model["embedding.weight"], found.optimizer["ema/embedding.weight"])
    wanted = [line for line in read_log(Path(chosen.out)) if "validation" in line][-1]
    import shutil

    shutil.rmtree(ck.folder_of(Path(chosen.out), 10))
    train(chosen)
    assert [line for line in read_log(Path(chosen.out)) if "validation" in line][-1] == wanted


def test_a_run_begins_with_anothers_weights(settings, other, tmp_path):
    first = settings("budget.steps=5", out="first")
    train(first)
    second = settings("budget.steps=3", f"start={first.out}", out="second", data=other)
    said: list[str] = []
    train(second, say=said.append)
    assert any(f"starting from {first.out}, step 5" in line for line in said)
    step = ck.load(Path(second.out), 3).optimizer["step/embedding.weight"]
    assert step == 5 + 3
    assert len(losses(second.out)) == 3
    with pytest.raises(CheckpointError, match="no training run"):
        train(settings("budget.steps=3", f"start={tmp_path / 'absent'}", out="third"))
    with pytest.raises(CheckpointError, match="the weights do not fit the model"):
        train(settings("budget.steps=3", f"start={first.out}", "model.layers=3", out="fourth"))
