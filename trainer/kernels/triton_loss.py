"""Our one Triton kernel: cross-entropy over a chunk of target logits, in place, on a GPU.

The rule is that of `softmax_gradient` in trainer/model/loss.py, its twin and oracle. One program takes one target's row
of logits and walks it twice, block by block:

1. Online softmax (Milakov & Gimelshein 2018, alg. 3): keep the largest value m so far and s = sum(exp(x - m)); when a
   block brings a larger one, s shrinks by exp(m - new). The same walk finds the target's logit and the best id.
2. The gradient (softmax(x) - onehot(target)) replaces the logits.

    x = 1 3 | 2 5, target 1         after block 1: m = 3, s = e^-2 + 1 = 1.14, best 1
    blocks of 2                     after block 2: m = 5, s = 1.14 e^-2 + e^-3 + 1 = 1.20, best 3: no hit
    loss = log(s) + m - x[1] = 2.19                gradient = .015 -.887 | .041 .830

Logits may be float32, bf16 or fp16; the gradient keeps their precision, everything between is float32. A row whose
target is -100 is filled with zeros, unread. Every row belongs to one program: no atomics, the same bits every time.
NaN in a row makes its loss NaN. Cost: two reads and one write of the logits, the second read mostly from the L2 cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mlm_data.types import IGNORED

BLOCK = 4096  # logits of a row at a time: 32 registers for each of 128 threads
WARPS = 4


@triton.jit
def softmax_gradient_kernel(
    logits_ptr,
    bias_ptr,
    target_ptr,
    loss_ptr,
    hit_ptr,
    stride,
    vocab_size,
    ignore: tl.constexpr,
    block: tl.constexpr,
):
    """One program for each row; see the module's docstring."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(target_ptr + row)
    logits_ptr += row * stride
    columns = tl.arange(0, block)
    if target == ignore:
        zeros = tl.zeros([block], logits_ptr.dtype.element_ty)
        for start in range(0, vocab_size, block):
            tl.store(logits_ptr + start + columns, zeros, mask=start + columns < vocab_size)
        tl.store(loss_ptr + row, 0.0)
        tl.store(hit_ptr + row, 0.0)
        return
    top = -float("inf")
    total = 0.0
    wanted = 0.0
    best = 0
    for start in range(0, vocab_size, block):
        inside = start + columns < vocab_size
        x = tl.load(logits_ptr + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
        x += tl.load(bias_ptr + start + columns, mask=inside, other=0.0)
        highest, where = tl.max(x, axis=0, return_indices=True)
        best = tl.where(highest > top, start + where, best)
        new = tl.maximum(top, highest)
        total = total * tl.exp(top - new) + tl.sum(tl.exp(x - new), axis=0)
        wanted += tl.sum(tl.where(start + columns == target, x, 0.0), axis=0)
        top = new
    tl.store(loss_ptr + row, tl.log(total) + top - wanted)
    tl.store(hit_ptr + row, (best == target).to(tl.float32))
    for start in range(0, vocab_size, block):
        inside = start + columns < vocab_size
        x = tl.load(logits_ptr + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
        x += tl.load(bias_ptr + start + columns, mask=inside, other=0.0)
        gradient = tl.exp(x - top) / total - (start + columns == target).to(tl.float32)
        tl.store(logits_ptr + start + columns, gradient.to(logits_ptr.dtype.element_ty), mask=inside)


def softmax_gradient(logits_CV: Tensor, bias_V: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
    """As `trainer.model.loss.softmax_gradient`, in one launch.

    Args:
        logits_CV: float32, bf16 or fp16, contiguous in V; replaced by their gradient.
        bias_V: float32.
        target_C: int64; -100 is ignored.

    Returns:
        Loss (nats) and hit (0 or 1) of each row: float32 [C].
    """
    rows, vocab_size = logits_CV.shape
    assert logits_CV.stride(1) == 1
    assert bias_V.is_contiguous()
    assert target_C.is_contiguous()
    loss_C = torch.empty(rows, dtype=torch.float32, device=logits_CV.device)
    hit_C = torch.empty_like(loss_C)
    softmax_gradient_kernel[(rows,)](
        logits_CV,
        bias_V,
        target_C,
        loss_C,
        hit_C,
        logits_CV.stride(0),
        vocab_size,
        ignore=IGNORED,
        block=min(BLOCK, triton.next_power_of_2(vocab_size)),
        num_warps=WARPS,
        enable_fp_fusion=True,  # fused multiply-add: fewer roundings; a default that Triton is about to change
    )
    return loss_C, hit_C
