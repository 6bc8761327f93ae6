"""Recorded steps: the bookkeeping around a CUDA graph, without a GPU. tests/trainer/test_cuda.py records on one."""

import pytest
import torch

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.loading.loader import Loader
from tests.synthetic import make_dataset
from tests.trainer.precision import both_precisions
from trainer.config import OptimizerSettings
from trainer.training import graphs, runs
from trainer.training import machine as mc
from trainer.training.data import Tensors
from trainer.training.loop import train
from trainer.training.optim import Optimizer
from trainer.training.step import Forward, Stepper

CPU = torch.device("cpu")


def pretend(act):
    """Warms up as `record` does; what it returns does it again, on the same tensors and with nothing else."""
    for _ in range(graphs.WARM_UP):
        act()
    return act


@both_precisions
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_replayed_step_is_the_step(settings, tmp_path, kind):
    data = make_dataset(tmp_path / "data", num_rows=24, vocab_size=100, rate=(0.15, 0.4))  # two shapes of batches
    opened, chosen = Dataset.open(data), settings("budget.steps=1", data=data)
    made = []
    for recorder in (None, pretend):
        model = runs.make_model(chosen.model, 100, 64, mc.choose(chosen), rows=4)
        model.initialize(torch.Generator().manual_seed(0))
        optimizer = Optimizer(model, OptimizerSettings(kind=kind))
        if recorder:
            stepper = graphs.GraphStepper(Forward(model), optimizer, table_rows=64, recorder=recorder)
        else:
            stepper = Stepper(Forward(model), optimizer, table_rows=64)
        loader = Loader(opened, batch_rows=4)
        for number in range(8):  # 24 rows an epoch: steps 4 and 8 straddle planes
            stepper.run([Tensors.of(next(loader), CPU) for _ in range(1 + number % 2)], 0.5)
        made.append((model, stepper, stepper.read()))
    (plain, _, figures), (replayed, stepper, others) = made
    assert figures == others
    assert len(stepper._graphs) == 2
    for (name, one), (_, two) in zip(plain.named_parameters(), replayed.named_parameters(), strict=True):
        assert torch.equal(one, two), name


def test_gradients_stay_where_they_are(settings, dataset):
    chosen = settings("budget.steps=1")
    model = runs.make_model(chosen.model, 100, 64, mc.choose(chosen), rows=4)
    model.initialize(torch.Generator().manual_seed(0))
    stepper = graphs.GraphStepper(Forward(model), Optimizer(model, chosen.optimizer), table_rows=8, recorder=pretend)
    loader = Loader(Dataset.open(dataset), batch_rows=4)
    places = []
    for _ in range(3):
        stepper.run([Tensors.of(next(loader), CPU)], 0.5)
        places.append([parameter.grad.data_ptr() for parameter in model.parameters()])
    assert places[0] == places[1] == places[2]


def test_what_cannot_be_recorded_is_refused(settings):
    chosen = settings("budget.steps=1", "cuda_graphs=true")
    with pytest.raises(ConfigError, match="cuda_graphs: needs an NVIDIA GPU, this run is on cpu"):
        train(chosen)
    with pytest.raises(ConfigError, match="only with one rank, there are 2"):
        graphs.check(chosen, torch.device("cuda"), 2)
    with pytest.raises(ConfigError, match="can't be recorded with recompute"):
        graphs.check(settings("budget.steps=1", "cuda_graphs=true", "recompute=true"), torch.device("cuda"), 1)
    graphs.check(chosen, torch.device("cuda"), 1)
