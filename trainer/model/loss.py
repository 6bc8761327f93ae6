"""Cross-entropy at target places, without ever holding [T, V] logits.

Decoder and loss are one function. Targets come in chunks; of each chunk's logits one kernel takes loss and hits and
puts the gradient in their place, and the gradients of features, decoder and bias are added up at once, so that the
backward pass only multiplies by a scalar. Memory: one chunk of logits, in the precision of the products.

    logits_CV = x_CD W_VD^T                 p = softmax(logits + b)      loss = sum(-log p[target])
    dlogits = p - onehot(target)            dx = dlogits W               dW += dlogits^T x          db += sum(dlogits)

Rows with target -100 have zero loss and zero gradient: they fill the fixed number of targets. Loss, softmax and sums
are float32; products run in the features' precision. Cost: 6 N D V flops, and three passes over the logits. The idea of
making the gradient in the forward pass is Liger's (Hsu et al. 2024, sec. 3.2).

`F.linear_cross_entropy` of torch 2.13 returns a bf16 loss for bf16 input, so we have our own.

The kernel is plain torch (`softmax_gradient`), Triton on GPUs, C++ on CPUs (kernels/softmax.py), or the
plain one compiled by Inductor.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mlm_data.types import IGNORED
from trainer.kernels.products import TORCH, Products

CHUNK = 2048  # targets at a time: 64 MiB of logits at a vocabulary of 8,192
CPU_CHUNK = 256  # on a CPU: what fits into its caches is passed over three times without touching memory
CPU_CHUNK_LOW = 512  # in bfloat16: each chunk's gradient of the decoder is rounded, and added in a pass of its own

# (logits_CV, bias_V, target_C) -> (loss_C, hit_C); logits are replaced by their gradient in their own precision
Kernel = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def softmax_gradient(logits_CV: Tensor, bias_V: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and hits [C]; the logits, without bias, are replaced by softmax(logits + bias) - onehot(target).

    Both are zero, and so is the gradient, where the target is -100.
    """
    valid_C = target_C != IGNORED
    shifted_CV = logits_CV.float() + bias_V
    top_C = shifted_CV.amax(-1)
    number_V = torch.arange(logits_CV.shape[1], device=logits_CV.device)
    best_C = torch.where(shifted_CV == top_C[:, None], number_V, logits_CV.shape[1]).amin(-1)  # as argmax, in vectors
    p_CV = (shifted_CV - top_C[:, None]).exp()
    total_C = p_CV.sum(-1)
    index_C = target_C.clamp(min=0)
    wanted_C = shifted_CV.gather(1, index_C[:, None])[:, 0]
    loss_C = torch.where(valid_C, total_C.log() + top_C - wanted_C, 0.0)
    onehot_CV = number_V == index_C[:, None]
    logits_CV.copy_((p_CV / total_C[:, None] - onehot_CV.float()) * valid_C[:, None])
    return loss_C, ((best_C == target_C) & valid_C).float()


@cache
def compiled_kernel() -> Kernel:
    """`softmax_gradient` compiled by Inductor: one pass for the maximum, one for the sum, one for the gradient."""
    return torch.compile(softmax_gradient, fullgraph=True, dynamic=False)


def target_loss(
    features_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor,
    target_N: Tensor,
    *,
    compute: torch.dtype,
    kernel: Kernel = softmax_gradient,
    products: Products = TORCH,
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies (nats, float32, differentiable) and number of hits, over targets that are not -100."""
    return _TargetLoss.apply(features_ND.to(compute), weight_VD, bias_V, target_N, compute, kernel, products)


class _TargetLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor,
        target_N: Tensor,
        compute: torch.dtype,
        kernel: Kernel,
        products: Products,
    ) -> tuple[Tensor, Tensor]:
        gradient = any(ctx.needs_input_grad)
        weight = weight_VD.to(compute)
        decoder, back = products.pack(weight.t()), products.pack(weight) if gradient else None
        losses, hits, dx = [], [], []
        dweight_VD = dbias_V = None
        chunk = CHUNK if x_ND.is_cuda else CPU_CHUNK if compute == torch.float32 else CPU_CHUNK_LOW
        for x_CD, target_C in zip(x_ND.split(chunk), target_N.split(chunk), strict=True):
            d_CV = products.multiply(x_CD, decoder)
            loss_C, hit_C = kernel(d_CV, bias_V, target_C)
            losses.append(loss_C.sum())
            hits.append(hit_C.sum())
            if back is not None:
                dx.append(products.multiply(d_CV, back))
                if dweight_VD is None or dbias_V is None:
                    dweight_VD, dbias_V = torch.mm(d_CV.t(), x_CD).float(), d_CV.sum(0, dtype=torch.float32)
                    continue
                if compute == torch.float32:
                    dweight_VD.addmm_(d_CV.t(), x_CD)  # the product adds where it writes
                else:
                    dweight_VD += torch.mm(d_CV.t(), x_CD)
                dbias_V += d_CV.sum(0, dtype=torch.float32)
        if gradient:
            ctx.save_for_backward(torch.cat(dx), dweight_VD, dbias_V)
        loss, hit = torch.stack(losses).sum(), torch.stack(hits).sum()
        ctx.mark_non_differentiable(hit)
        return loss, hit

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple:
        dx_ND, dweight_VD, dbias_V = ctx.saved_tensors
        return dx_ND * grad_loss.to(dx_ND.dtype), dweight_VD * grad_loss, dbias_V * grad_loss, None, None, None, None
