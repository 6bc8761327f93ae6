"""The softmax kernel on CPUs is the plain one."""

import pytest
import torch

from mlm_data.types import IGNORED
from tests.trainer.precision import both_precisions
from trainer.kernels import softmax
from trainer.model import loss as ls

here = pytest.mark.skipif(softmax.problem() is not None, reason=f"no kernel on this machine: {softmax.problem()}")


@here
@both_precisions
@pytest.mark.parametrize("vocab", [64, 101, 3, 8192])
def test_the_compiled_kernel_is_the_plain_one(on_threads, vocab, precision):
    generator = torch.Generator().manual_seed(vocab)
    logits = (4 * torch.randn(40, vocab, generator=generator)).to(getattr(torch, precision))
    bias = torch.randn(vocab, generator=generator)
    target = torch.randint(0, vocab, (40,), generator=generator)
    target[:5] = (logits + bias)[:5].argmax(-1)
    target[::4] = IGNORED
    wanted = logits.clone()
    loss, hits = ls.softmax_gradient(wanted, bias, target)

    def kernel():
        found = logits.clone()
        return *softmax.softmax_gradient(found, bias, target), found

    several = on_threads(kernel)
    for results in several:
        for one, other in zip(results, several[0], strict=True):
            assert torch.equal(one, other)
    torch.testing.assert_close(several[0][0], loss, rtol=1e-5, atol=1e-5)
    assert torch.equal(several[0][1], hits)
    assert hits.sum() >= 3
    unit = 1e-5 if precision == "float32" else 2.0**-7  # the same number, or its neighbour: 7 bits behind the first
    torch.testing.assert_close(several[0][2], wanted, rtol=unit, atol=1e-7)
    assert torch.count_nonzero(several[0][2][::4]) == 0


@here
@both_precisions
def test_of_equal_logits_the_first_is_the_best_and_what_is_no_number_stays_none(precision):
    logits = torch.zeros(4, 20, dtype=getattr(torch, precision))
    logits[:3, [3, 17]] = 1.0
    logits[3, 5] = torch.nan
    loss, hits = softmax.softmax_gradient(logits, torch.zeros(20), torch.tensor([3, 17, 4, 1]))
    assert hits.tolist() == [1, 0, 0, 0]
    assert loss.isnan().tolist() == [False, False, False, True]
