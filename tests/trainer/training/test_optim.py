"""Muon against torch's, groups, clipping, and steps that are skipped."""

import pytest
import torch

from trainer.config import ModelSettings, OptimizerSettings
from trainer.model.attention import make_attention
from trainer.model.encoder import Encoder
from trainer.training.optim import Muon, Optimizer, orthogonalize, split_groups

SHAPE = ModelSettings(layers=2, width=32, heads=2, intermediate=48)


def make_encoder() -> Encoder:
    attention = make_attention("batched", rows=2, length=16, window=4)
    model = Encoder(SHAPE, 100, length=16, attention=attention, compute=torch.float32)
    model.initialize(torch.Generator().manual_seed(0))
    return model


def give_gradients(model: torch.nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 64)])
def test_muon_is_torchs_muon(shape):
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    mine = Muon([("w", ours)], **settings, precision=torch.bfloat16)
    reference = torch.optim.Muon([theirs], **settings)
    for seed in range(4):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step(0.5, torch.zeros(()))
        reference.param_groups[0]["lr"] = 0.01
        reference.step()
    # Both iterate in bfloat16, in another order of operations.
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=2e-3)
    assert (ours - start).norm() > 0.01


def test_orthogonalize_pushes_singular_values_to_one():
    for shape in ((3, 24, 24), (2, 48, 16), (2, 16, 48)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalize(x))
        assert values.max() < 1.3
        assert (values > 0.6).float().mean() > 0.9


def test_fused_qkv_is_split_into_three():
    parameter = torch.nn.Parameter(torch.zeros(48, 16))
    muon = Muon([("blocks.0.qkv.weight", parameter)], lr=1.0, momentum=0.0, weight_decay=0.0)
    gradient = torch.randn(48, 16, generator=torch.Generator().manual_seed(0))
    parameter.grad = gradient
    muon.step(1.0, torch.zeros(()))
    for part in range(3):
        piece = slice(part * 16, (part + 1) * 16)
        wanted = -orthogonalize(gradient[piece][None])[0]
        torch.testing.assert_close(parameter.detach()[piece], wanted, rtol=1e-4, atol=1e-4)


def test_every_parameter_is_in_one_named_group():
    model = make_encoder()
    for kind, matrices in (("muon", "muon"), ("adamw", "decayed")):
        groups = split_groups(model, kind)
        names = [name for members in groups.values() for name, _ in members]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        assert set(groups) == {matrices, "embedding", "vectors"}
        assert all(parameter.ndim == 1 for _, parameter in groups["vectors"])
        assert [name for name, _ in groups["embedding"]] == ["embedding.weight"]
        assert "head.dense.weight" in [name for name, _ in groups[matrices]]


def test_only_matrices_are_decayed():
    model = make_encoder()
    optimizer = Optimizer(model, OptimizerSettings(kind="adamw", decay=0.5))
    decays = {group["name"]: group["weight_decay"] for group in optimizer.adamw.param_groups}
    assert decays == {"decayed": 0.5, "embedding": 0.0, "vectors": 0.0}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing(kind):
    model = make_encoder()
    optimizer = Optimizer(model, OptimizerSettings(kind=kind))
    give_gradients(model)
    optimizer.step(1.0, torch.tensor(3.0))
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    state = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    for bad in (float("nan"), float("inf")):
        give_gradients(model, seed=2)
        model.head.dense.weight.grad[0, 0] = bad
        norm, skip = optimizer.step(1.0, torch.tensor(3.0))
        assert skip.item() == 1
        assert not torch.isfinite(norm)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name]), name
    for name, tensor in optimizer.state().items():
        assert torch.equal(tensor, state[name]), name


def test_the_norm_is_that_of_the_mean_gradient_and_is_clipped():
    model = make_encoder()
    optimizer = Optimizer(model, OptimizerSettings(kind="adamw", clip=0.25))
    give_gradients(model)
    whole = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    norm, skip = optimizer.step(1.0, torch.tensor(8.0))
    assert norm.item() == pytest.approx(whole.norm().item() / 8, rel=1e-5)
    assert skip.item() == 0
    clipped = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert clipped.norm().item() == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_state_goes_round(kind):
    model, twin = make_encoder(), make_encoder()
    optimizer, other = Optimizer(model, OptimizerSettings(kind=kind)), Optimizer(twin, OptimizerSettings(kind=kind))
    give_gradients(model)
    optimizer.step(1.0, torch.tensor(5.0))
    twin.load_state_dict(model.state_dict())
    other.load_state({name: tensor.clone() for name, tensor in optimizer.state().items()})
    for one in (model, twin):
        give_gradients(one, seed=3)
    optimizer.step(0.7, torch.tensor(5.0))
    other.step(0.7, torch.tensor(5.0))
    for (name, one), (_, two) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert torch.equal(one, two), name
