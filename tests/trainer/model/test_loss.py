"""The chunked loss against `cross_entropy` over whole logits."""

import pytest
import torch

from mlm_data.types import IGNORED
from tests.trainer.oracle import plain_target_loss
from tests.trainer.precision import both_precisions, tolerance
from trainer.model import loss as ls
from trainer.model.loss import target_loss


def problem(targets: int = 37, width: int = 16, vocab: int = 64, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(targets, width, generator=generator, requires_grad=True)
    weight = torch.randn(vocab, width, generator=generator, requires_grad=True)
    bias = torch.randn(vocab, generator=generator, requires_grad=True)
    ids = torch.randint(0, vocab, (targets,), generator=generator)
    ids[::5] = IGNORED
    return x, weight, bias, ids


@both_precisions
@pytest.mark.parametrize("chunk", [8, 37, 512])
def test_values_and_gradients_agree(monkeypatch, chunk, precision):
    for name in ("CPU_CHUNK", "CPU_CHUNK_LOW"):
        monkeypatch.setattr(ls, name, chunk)
    results = []
    for how in ("plain", "ours"):
        x, weight, bias, ids = problem()
        if how == "plain":
            loss, hits = plain_target_loss(x, weight, bias, ids)
        else:
            loss, hits = target_loss(x, weight, bias, ids, compute=getattr(torch, precision))
        (loss * 0.5).backward()
        results.append((loss.detach(), hits, x.grad, weight.grad, bias.grad))
    (loss, hits, *gradients), (found, others, *ours) = results
    torch.testing.assert_close(found, loss, rtol=max(1e-5, tolerance(precision, units=2)), atol=0)
    assert abs(others - hits) <= (0 if precision == "float32" else 2)
    for gradient, other in zip(gradients, ours, strict=True):
        error = max(1e-5, tolerance(precision, units=3)) * float(gradient.abs().max())
        torch.testing.assert_close(other, gradient, rtol=0, atol=error)


@both_precisions
def test_large_logits_do_not_overflow(precision):
    x, weight, bias, ids = problem()
    loss, _ = target_loss(x.detach() * 1e4, weight, bias, ids, compute=getattr(torch, precision))
    assert torch.isfinite(loss)


@both_precisions
def test_nothing_to_predict_is_zero_loss_and_zero_gradient(precision):
    x, weight, bias, ids = problem()
    loss, hits = target_loss(x, weight, bias, torch.full_like(ids, IGNORED), compute=getattr(torch, precision))
    loss.backward()
    assert loss.item() == 0
    assert hits.item() == 0
    for tensor in (x, weight, bias):
        assert torch.count_nonzero(tensor.grad) == 0


def test_the_loss_is_float32_for_bfloat16_products():
    x, weight, bias, ids = problem(targets=64, width=64, vocab=256)
    wanted, _ = plain_target_loss(x, weight, bias, ids)
    loss, _ = target_loss(x, weight, bias, ids, compute=torch.bfloat16)
    loss.backward()
    assert loss.dtype == torch.float32
    assert abs(loss - wanted) < 0.02 * wanted
    assert x.grad.dtype == torch.float32


@both_precisions
def test_without_gradients_the_value_is_the_same(precision):
    x, weight, bias, ids = problem()
    with_gradient, _ = target_loss(x, weight, bias, ids, compute=getattr(torch, precision))
    with torch.no_grad():
        without, _ = target_loss(x, weight, bias, ids, compute=getattr(torch, precision))
    assert with_gradient.item() == without.item()
