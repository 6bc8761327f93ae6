"""Our products are torch's, whoever computes them."""

import pytest
import torch

from trainer.config import ModelSettings
from trainer.kernels import native, products
from trainer.kernels.products import GATED, OWN, TORCH, products_for
from trainer.model.loss import target_loss
from trainer.training.machine import Machine
from trainer.training.runs import make_model

CPU = torch.device("cpu")
here = pytest.mark.skipif(
    native.problem("products") is not None, reason=f"no kernel on this machine: {native.problem('products')}"
)
SHAPES = [
    (64, 48, 32),
    (33, 7, 5),
    (1, 1, 1),
    (7, 100, 3),
    (1, 40, 9),
    (40, 1, 2),
    (5, 5, 0),
    (0, 5, 4),
    (2000, 20, 1030),  # many blocks, a depth of more than one piece
    (50, 500, 700),  # columns cut too
]


def matrices(*shapes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_it_is_used_where_torch_is_known_to_be_slower():
    assert products_for(torch.device("meta"), torch.float32) is products_for(CPU, torch.float16) is TORCH
    assert (products_for(CPU, torch.bfloat16) is GATED) == (native.problem("geglu_bf16") is None)
    assert (products_for(CPU, torch.float32) is OWN) == (products.problem() is None)


@pytest.mark.parametrize(
    ("processor", "compiler", "said"),
    [
        (b"vendor_id : GenuineIntel", None, "torch's own library"),
        (b"", None, "torch's own library"),
        (b"vendor_id : AuthenticAMD", "no C++ compiler", "no C++ compiler"),
        (b"vendor_id : AuthenticAMD", None, None),
    ],
)
def test_what_speaks_against_it_is_said(monkeypatch, processor, compiler, said):
    monkeypatch.setattr(products.native, "processor", lambda: processor)
    monkeypatch.setattr(products.native, "problem", lambda name: compiler)
    monkeypatch.setattr(products.sys, "platform", "linux")
    assert said is None or said in products.problem()
    assert products_for(CPU, torch.float32) is (OWN if said is None else TORCH)


@here
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_products_agree_and_do_not_depend_on_threads(on_threads, m, n, k, turned):
    a, b = matrices((m, k), (n, k) if turned else (k, n))
    b = b.t() if turned else b
    found = on_threads(lambda: OWN.into(a, OWN.pack(b), torch.full((m, n), torch.nan)))
    torch.testing.assert_close(found[0], a @ b, rtol=1e-5, atol=1e-4)
    assert all(torch.equal(one, found[0]) for one in found)


@here
def test_a_packed_matrix_serves_several_products_and_views_are_copied():
    a, b = matrices((20, 30), (40, 12))
    packed = OWN.pack(b[::2][:15])
    torch.testing.assert_close(OWN.multiply(a[:, ::2], packed), a[:, ::2] @ b[::2][:15])
    torch.testing.assert_close(OWN.multiply(a[:7, :15], packed), a[:7, :15] @ b[::2][:15])


@here
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_linear_agrees_in_value_and_gradients_compiled_too():
    x, weight, other = matrices((70, 40), (24, 40), (70, 24))
    results = []
    for linear in (TORCH.linear, OWN.linear, torch.compile(OWN.linear, fullgraph=True)):
        one, two = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = linear(one, two)
        (out * other).sum().backward()
        results.append((out, one.grad, two.grad))
    for found in results[1:]:
        for tensor, wanted in zip(found, results[0], strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-5)
    torch.library.opcheck(products.product, (x, weight, True, x.new_empty(70, 24)))


@here
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("width", [64, 40])  # 40: not in whole panels, by two products and torch's GeGLU
def test_feed_forward_agrees_in_value_and_gradients_compiled_too(width):
    x, w_in, w_out, other = matrices((150, 40), (2 * width, 40), (24, width), (150, 24))
    results = []

    def exact(x, w_in, w_out):
        value, gate = (x @ w_in.t()).chunk(2, -1)
        return (torch.nn.functional.gelu(value) * gate) @ w_out.t()

    for feed_forward in (exact, TORCH.feed_forward, OWN.feed_forward, torch.compile(OWN.feed_forward, fullgraph=True)):
        kind = torch.float32 if results else torch.float64
        inputs = [tensor.to(kind, copy=True).requires_grad_() for tensor in (x, w_in, w_out)]
        out = feed_forward(*inputs)
        (out * other).sum().backward()
        results.append([out.detach().float(), *(tensor.grad.float() for tensor in inputs)])
    for found in results[1:]:
        for tensor, wanted in zip(found, results[0], strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=5e-4)


geglu_here = pytest.mark.skipif(
    native.problem("geglu_bf16") is not None, reason=f"no kernel on this machine: {native.problem('geglu_bf16')}"
)


@geglu_here
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("width", [64, 37, 8])  # 8: below a vector, by torch's GeGLU
def test_feed_forward_in_bfloat16_is_as_near_to_the_exact_one_as_torchs(width):
    x, w_in, w_out, other = (m.bfloat16() for m in matrices((150, 40), (2 * width, 40), (24, width), (150, 24)))
    results = []

    def exact(x, w_in, w_out):
        value, gate = (x @ w_in.t()).chunk(2, -1)
        return (torch.nn.functional.gelu(value) * gate) @ w_out.t()

    compiled = torch.compile(GATED.feed_forward, fullgraph=True)
    for feed_forward in (exact, TORCH.feed_forward, GATED.feed_forward, *([compiled] if width == 64 else [])):
        kind = torch.bfloat16 if results else torch.float64
        inputs = [tensor.to(kind, copy=True).requires_grad_() for tensor in (x, w_in, w_out)]
        out = feed_forward(*inputs)
        out.backward(other.to(kind))
        results.append([out.detach().double(), *(tensor.grad.double() for tensor in inputs)])
    wanted, torchs, *ours = results
    for tensors in ours:
        for tensor, theirs, right in zip(tensors, torchs, wanted, strict=True):
            error, usual = (float((one - right).abs().max() / right.abs().max()) for one in (tensor, theirs))
            assert error <= max(1.5 * usual, 2.0**-8)


@geglu_here
def test_geglu_in_bfloat16_is_exact_but_for_one_rounding_and_does_not_depend_on_threads(on_threads):
    values = torch.linspace(-13, 13, 150 * 37, dtype=torch.float64).view(150, 37).bfloat16()
    u, dh = torch.cat([values, torch.ones_like(values)], -1), torch.ones_like(values)
    plain = u.double().requires_grad_()
    (torch.nn.functional.gelu(plain[:, :37]) * plain[:, 37:]).sum().backward()
    exact = plain.detach()[:, :37] * torch.erfc(-plain.detach()[:, :37] / 2**0.5) / 2  # torch's gelu is 0 below -8.3

    def both_ways():
        h, du, again = (torch.full((150, n), torch.nan, dtype=torch.bfloat16) for n in (37, 74, 37))
        products.fused_geglu(u, h)
        products.fused_geglu_backward(dh, u, du, again)
        return torch.cat([h, du, again], -1)

    found = on_threads(both_ways)
    assert all(torch.equal(one, found[0]) for one in found)
    h, du, again = found[0].double().split([37, 74, 37], -1)
    assert torch.equal(h, again)
    torch.testing.assert_close(h, exact, rtol=2.0**-8, atol=0)
    torch.testing.assert_close(du[:, :37], plain.grad[:, :37], rtol=2.0**-8, atol=1e-6)
    assert torch.equal(du[:, 37:], h)
    h = torch.empty(1, 32, dtype=torch.bfloat16)
    u = torch.ones(1, 64, dtype=torch.bfloat16)
    u[0, 3] = torch.nan
    products.fused_geglu(u, h)
    assert h.isnan().nonzero().tolist() == [[0, 3]]


@here
def test_views_of_any_stride_are_taken():
    x, weight, w_in, w_out = matrices((12, 9), (12, 10), (12, 64), (32, 5))
    out = OWN.linear(x.t(), weight.t())
    torch.testing.assert_close(out, x.t() @ weight, rtol=1e-5, atol=1e-5)
    y = x.t().clone().requires_grad_()
    both = OWN.linear(y, weight.t()).sum() + OWN.feed_forward(y, w_in.t(), w_out.t()).sum()  # expanded gradients
    wanted = TORCH.linear(y, weight.t()).sum() + TORCH.feed_forward(y, w_in.t(), w_out.t()).sum()
    for one, other in zip(torch.autograd.grad(both, y), torch.autograd.grad(wanted, y), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


@here
def test_geglu_is_exact_on_the_whole_line_and_its_bits_do_not_depend_on_threads(on_threads):
    values = torch.linspace(-13, 13, 150 * 32, dtype=torch.float64).view(150, 32)
    gates, grad = torch.full_like(values, 1.0), torch.full_like(values, 1.0)
    x = torch.cat([values, gates], -1).float()
    wanted = values.float().double().requires_grad_()
    torch.nn.functional.gelu(wanted).sum().backward()

    def both_ways():
        u, h, du, again = (torch.full((150, n), torch.nan) for n in (64, 32, 64, 32))
        products.gated(x, torch.eye(64), u, h)
        products.gated_backward(grad.float(), torch.eye(32), u, du, again)
        return torch.cat([u, h, du, again], -1)

    found = on_threads(both_ways)
    assert all(torch.equal(one, found[0]) for one in found)
    u, h, du, again = found[0].double().split([64, 32, 64, 32], -1)
    assert torch.equal(u.float(), x)
    assert torch.equal(h, again)
    exact = wanted.detach() * torch.erfc(-wanted.detach() / 2**0.5) / 2  # torch's gelu is 0 below -8.3
    torch.testing.assert_close(du[:, :32], wanted.grad, rtol=2e-6, atol=2e-7)
    torch.testing.assert_close(du[:, 32:], h, rtol=0, atol=0)
    near = wanted.detach().abs() < 5  # beyond, the rounding of v^2 / 2 before its exponential is all there is
    torch.testing.assert_close(h[near], exact[near], rtol=3e-6, atol=0)
    torch.testing.assert_close(h, exact, rtol=2e-5, atol=0)


@here
def test_numbers_that_are_none_stay_so():
    u, h = torch.empty(6, 64), torch.empty(6, 32)
    x = torch.zeros(6, 64)
    x[0, 0], x[1, 1], x[2, 2] = torch.nan, torch.inf, -200.0
    x[:, 32:] = 1.0
    products.gated(x, torch.eye(64), u, h)
    assert h[0].isnan().all()  # a product with identity spreads it
    assert h[2, 2] == 0


@here
def test_the_loss_is_the_same():
    features, weight = matrices((600, 16), (64, 16))
    bias, ids = torch.zeros(64), torch.arange(600) % 64
    losses = []
    for one in (TORCH, OWN):
        loss, hits = target_loss(features, weight.requires_grad_(), bias, ids, compute=torch.float32, products=one)
        (gradient,) = torch.autograd.grad(loss, weight)
        losses.append((loss.detach(), hits, gradient))
    for found, wanted in zip(losses[1], losses[0], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_model_has_one_kind_of_products():
    machine = Machine(device=CPU, precision=torch.float32, compile=False, deterministic=True)
    model = make_model(ModelSettings(layers=1, width=16, heads=2, intermediate=16), 64, 16, machine, rows=2)
    assert model.products is products_for(CPU, torch.float32)
    assert model.blocks[0].mlp_in.products is model.head.dense.products is model.products
