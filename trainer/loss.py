"""Cross-entropy at target places, without ever holding [T, V] logits.

The decoder and the loss are one operation. Targets come in chunks; of each chunk's logits the operation takes loss,
hits and gradient, and adds up the gradients of features, decoder and bias at once, so that the backward pass only
multiplies by a scalar. Memory: one chunk of logits, chunk x V x 4 bytes.

    logits_CV = x_CD W_VD^T + b_V           p = softmax(logits)          loss = sum(-log p[target])
    dlogits = p - onehot(target)            dx = dlogits W               dW += dlogits^T x          db += sum(dlogits)

Rows with target -100 have zero loss and zero gradient: they fill the fixed number of targets. Loss, softmax and sums
are float32; products run in the features' precision. Cost: 6 N D V flops. The idea of making the gradient in the
forward pass is Liger's (Hsu et al. 2024, sec. 3.2).

`F.linear_cross_entropy` of torch 2.13 returns a bf16 loss for bf16 input, so we have our own.
"""

import torch
from torch import Tensor

IGNORE = -100
CHUNK = 512  # targets at a time: 16 MiB of logits at a vocabulary of 8,192


@torch.library.custom_op("premask::target_loss", mutates_args=())
def target_loss_op(
    x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, target_N: Tensor, chunk: int, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See the module's docstring: (loss sum, hits) float32 scalars, and gradients for x, weight and bias."""
    loss = torch.zeros((), dtype=torch.float32, device=x_ND.device)
    hits = torch.zeros((), dtype=torch.float32, device=x_ND.device)
    dx_ND = torch.empty_like(x_ND if gradient else x_ND[:0])
    dweight_VD = torch.zeros_like(weight_VD if gradient else weight_VD[:0], dtype=torch.float32)
    dbias_V = torch.zeros_like(bias_V if gradient else bias_V[:0], dtype=torch.float32)
    for start in range(0, x_ND.shape[0], chunk):
        x_CD, target_C = x_ND[start : start + chunk], target_N[start : start + chunk]
        valid_C = target_C != IGNORE
        index_C1 = target_C.clamp(min=0)[:, None]
        if x_CD.dtype == torch.float32:
            logits_CV = torch.addmm(bias_V, x_CD, weight_VD.t())
        else:
            logits_CV = torch.mm(x_CD, weight_VD.t()).float().add_(bias_V)
        top_C, best_C = logits_CV.max(-1)
        hits += ((best_C == target_C) & valid_C).sum()
        wanted_C = logits_CV.gather(1, index_C1)[:, 0]
        p_CV = logits_CV.sub_(top_C[:, None]).exp_()
        total_C = p_CV.sum(-1)
        loss += torch.where(valid_C, total_C.log() + top_C - wanted_C, 0.0).sum()
        if gradient:
            p_CV *= (valid_C / total_C)[:, None]
            p_CV.scatter_add_(1, index_C1, -valid_C[:, None].float())
            dbias_V += p_CV.sum(0)
            d_CV = p_CV.to(x_CD.dtype)
            dx_ND[start : start + chunk] = d_CV @ weight_VD
            dweight_VD += d_CV.t() @ x_CD
    return loss, hits, dx_ND, dweight_VD, dbias_V


@target_loss_op.register_fake
def _(x_ND, weight_VD, bias_V, target_N, chunk, gradient):
    scalar = x_ND.new_empty((), dtype=torch.float32)
    dx, dw, db = (x if gradient else x[:0] for x in (x_ND, weight_VD, bias_V))
    return (
        scalar,
        scalar.clone(),
        torch.empty_like(dx),
        torch.empty_like(dw, dtype=torch.float32),
        torch.empty_like(db, dtype=torch.float32),
    )


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*output[2:])
    ctx.gradient, ctx.precision = inputs[5], inputs[1].dtype


def _differentiate(ctx, grad_loss, *_):
    if not ctx.gradient:
        raise RuntimeError("target_loss was called with gradient=False")
    dx_ND, dweight_VD, dbias_V = ctx.saved_tensors
    return (
        dx_ND * grad_loss.to(dx_ND.dtype),
        (dweight_VD * grad_loss).to(ctx.precision),
        dbias_V * grad_loss,
        *[None] * 3,
    )


target_loss_op.register_autograd(_differentiate, setup_context=_save)


def target_loss(
    features_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, target_N: Tensor, *, compute: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies (nats, float32, differentiable) and number of hits, over targets that are not -100."""
    x_ND, weight = features_ND.to(compute), weight_VD.to(compute)
    loss, hits, *_ = target_loss_op(x_ND, weight, bias_V, target_N, CHUNK, torch.is_grad_enabled())
    return loss, hits


def plain_target_loss(
    features_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, target_N: Tensor
) -> tuple[Tensor, Tensor]:
    """The oracle: `cross_entropy` over whole logits in float32."""
    logits_NV = torch.nn.functional.linear(features_ND.float(), weight_VD.float(), bias_V)
    loss = torch.nn.functional.cross_entropy(logits_NV, target_N, ignore_index=IGNORE, reduction="sum")
    return loss, (logits_NV.argmax(-1) == target_N).sum().float()
