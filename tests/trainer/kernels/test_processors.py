"""The kernels are right whatever vectors a processor has: compiled for older ones, they run on this one, too."""

import platform

import pytest
import torch

from trainer.kernels import native, products, segments, softmax
from trainer.kernels.norm import OWN, PLAIN
from trainer.model import loss as ls
from trainer.model.rotary import rotary_tables

BF16 = torch.bfloat16
pytestmark = [
    pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler on this machine"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of processors are those of x86-64"),
]


@pytest.fixture(scope="module", params=["x86-64", pytest.param("x86-64-v3", marks=pytest.mark.slow)])
def compiled_for(request, tmp_path_factory):
    if request.param.endswith("v3") and b" avx2 " not in native.processor():
        pytest.skip("this processor has no AVX2")
    flags = tuple(f"-march={request.param}" if flag.startswith("-march") else flag for flag in native.FLAGS)
    caches = (native.problem, native.library, native._compile_missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("libraries")))
        patch.setattr(native, "FLAGS", flags)
        for cache in caches:
            cache.cache_clear()
        yield
    for cache in caches:
        cache.cache_clear()


def near(found: torch.Tensor, wanted: torch.Tensor, units: float) -> None:
    """So many rounding units of bfloat16 apart at most, relative to the largest."""
    error = float((found.double() - wanted.double()).detach().abs().max() / wanted.detach().abs().max())
    assert error <= units * 2.0**-8


def test_in_bfloat16_all_kernels_agree_with_their_twins(compiled_for):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    # Attention, against this machine's own way in float32.
    borders, tables = torch.tensor([0, 70, 73, 100], dtype=torch.int32), rotary_tables(100, 24, 1e4)
    qkv, weight = draw(100, 3, 2, 24).to(BF16), draw(100, 2, 24).to(BF16)
    for window in (segments.WHOLE, 9):
        results = []
        for precision in (torch.float32, BF16):
            given = qkv.to(precision, copy=True).requires_grad_()
            out, _ = segments.attend_segments(given, *tables, borders, window)
            out.backward(weight.to(precision))
            results.append((out, given.grad))
        for found, wanted in zip(results[1], results[0], strict=True):
            near(found, wanted, units=3)

    # Norms.
    x, delta, scale = draw(70, 37), draw(70, 37).to(BF16), draw(37)
    for found, wanted in zip(OWN.after(x, delta, scale, 1e-5), PLAIN.after(x, delta, scale, 1e-5), strict=True):
        near(found, wanted, units=1)

    # GeGLU.
    u = draw(30, 74).to(BF16)
    h = torch.empty(30, 37, dtype=BF16)
    products.fused_geglu(u, h)
    near(h, products.geglu(u.double().float()), units=1)

    # The loss's softmax.
    logits, bias, target = draw(20, 101).to(BF16), draw(101), torch.randint(0, 101, (20,), generator=generator)
    plain = logits.clone()
    loss, hits = ls.softmax_gradient(plain, bias, target)
    ours, our_hits = softmax.softmax_gradient(logits, bias, target)
    torch.testing.assert_close(ours, loss, rtol=1e-5, atol=1e-5)
    assert torch.equal(our_hits, hits)
    near(logits, plain, units=1)


def test_rounding_is_to_the_nearest_and_ties_go_to_even(compiled_for):
    """Through the norm's kernel: a row with a mean of zero and a variance of one comes back times the weight."""
    special = torch.tensor([3.0e38, 3.4e38, 1e-30, 0.0, float("inf"), float("-inf"), float("nan")])
    weight = torch.cat([1 + torch.arange(57) * 2.0**-10, special])  # all between neighbours, ties, and what is rare
    row = torch.tensor([[1.0, -1.0] * 32])
    _, found = OWN.after(row, torch.zeros(1, 64, dtype=BF16), weight, 0.0)
    wanted = (row * weight).to(BF16)
    assert torch.equal(found.isnan(), wanted.isnan())
    assert torch.equal(found[~found.isnan()], wanted[~wanted.isnan()])
