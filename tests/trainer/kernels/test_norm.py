"""Our norms are torch's, whoever computes them."""

import pytest
import torch

from tests.trainer.precision import both_precisions, tolerance
from trainer.kernels import native
from trainer.kernels.norm import OWN, PLAIN, norm, norms_for

CPU = torch.device("cpu")
here = pytest.mark.skipif(
    native.problem("norm") is not None, reason=f"no kernel on this machine: {native.problem('norm')}"
)


def numbers(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@both_precisions
def test_it_is_used_on_a_cpu(precision):
    low = getattr(torch, precision)
    assert norms_for(torch.device("meta"), low) is PLAIN
    assert (norms_for(CPU, low) is OWN) == (native.problem("norm") is None)


def test_without_a_compiler_it_is_torchs(monkeypatch):
    monkeypatch.setattr(native, "problem", lambda name: "no C++ compiler")
    assert norms_for(CPU, torch.float32) is norms_for(CPU, torch.bfloat16) is PLAIN


def exact(x, delta, weight):
    total = x + delta
    return total, torch.nn.functional.layer_norm(total, weight.shape, weight, None, 1e-5)


def after(norms):
    return lambda x, delta, weight: norms.after(x, delta, weight, 1e-5)


def alone(norms):
    return lambda x, delta, weight: (x + delta, norms.norm(x + delta, weight, 1e-5))


@here
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("way", [after, alone])
@pytest.mark.parametrize(("places", "width"), [(200, 64), (1, 8), (70, 37), (65, 5)])
def test_values_and_gradients_agree_compiled_too(way, places, width):
    x, delta, one, two, weight = numbers(*[(places, width)] * 4, (width,))
    results = []
    for function in (exact, way(PLAIN), way(OWN), torch.compile(way(OWN), fullgraph=True, dynamic=False)):
        kind = torch.float32 if results else torch.float64
        inputs = [tensor.to(kind, copy=True).requires_grad_() for tensor in (x + 3, delta, weight)]
        total, normed = function(*inputs)
        (total * one + normed * two).sum().backward()
        found = (total, normed, *(tensor.grad for tensor in inputs))
        results.append([tensor.detach().float() for tensor in found])
    for found in results[1:]:
        for tensor, wanted in zip(found, results[0], strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=2e-5)


@here
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize(("places", "width"), [(200, 64), (1, 8), (70, 37)])
def test_the_sum_of_a_bfloat16_product_is_float32_and_its_norm_bfloat16(places, width):
    x, delta, one, two, weight = numbers(*[(places, width)] * 4, (width,))
    delta, two = delta.bfloat16(), two.bfloat16()
    results = []
    functions = [after(norms) for norms in (PLAIN, OWN)]
    if width == 64:
        functions.append(torch.compile(after(OWN), fullgraph=True, dynamic=False))
    for function in (exact, *functions):
        inputs = [tensor.clone().requires_grad_() for tensor in (x + 3, delta, weight)]
        if not results:
            inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
        total, normed = function(*inputs)
        if results:
            assert (total.dtype, normed.dtype) == (torch.float32, torch.bfloat16)
        torch.autograd.backward((total, normed), (one.to(total.dtype), two.to(normed.dtype)))
        assert [tensor.grad.dtype for tensor in inputs] == [tensor.dtype for tensor in inputs]
        results.append((total, normed, *(tensor.grad for tensor in inputs)))
    for found in results[1:]:
        for tensor, wanted in zip(found, results[0], strict=True):
            error = tolerance("bfloat16", units=0.6) if tensor.dtype == torch.bfloat16 else 1e-5  # one rounding
            torch.testing.assert_close(tensor.double(), wanted, rtol=error, atol=2e-5)


@here
@both_precisions
def test_gradients_do_not_depend_on_threads(on_threads, precision):
    x, delta, grad, weight = numbers(*[(300, 48)] * 3, (48,))
    delta, grad = delta.to(getattr(torch, precision)), grad.to(getattr(torch, precision))

    def gradients_of_all():
        inputs = [tensor.clone().requires_grad_() for tensor in (x, delta, weight)]
        OWN.after(*inputs, 1e-5)[1].backward(grad)
        return [tensor.grad for tensor in inputs]

    found = on_threads(gradients_of_all)
    for gradients in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(gradients, found[0], strict=True))


@here
def test_a_large_mean_does_not_hurt_and_its_schema_is_true():
    (x, weight) = numbers((20, 64), (64,))
    found = OWN.norm(x + 100, weight, 1e-5)
    wanted = exact(x.double(), 100.0, weight.double())[1]
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-4)
    outputs = [torch.empty(20, 64) for _ in range(2)] + [torch.empty(20) for _ in range(2)]
    torch.library.opcheck(norm, (x, torch.randn(20, 64), weight, 1e-5, *outputs))
    outputs[1] = outputs[1].bfloat16()
    torch.library.opcheck(norm, (x, torch.randn(20, 64).bfloat16(), weight, 1e-5, *outputs))
