"""Rotary attention inside segments on CPUs: `segments.cpp` for float32 and `segments_bf16.cpp` for bfloat16, built when
they are first wanted, as two torch operations.

The kernel works on the segments as they lie in the batch: it reads the packed qkv that a matrix product wrote, turns
queries and keys on the way in and gradients on the way out, makes scores only where a query sees a key, and keeps
nothing but one number a query and head for the backward pass. Beside products over whole rows (`Batched`) that saves
the masks, the pairs in other segments, the [L, L] probabilities, and the copies to and from a layout by heads.

    a row of 256 places, segments of 100, 120 and 36: 25,696 of 65,536 pairs are made, fewer still in local layers

In bfloat16, scores and all sums are float32, and what products take is rounded. `native` compiles the kernels for this
processor.

Legend: T places; L positions; H heads; K head dimension.
"""

import torch
from torch import Tensor

from trainer.kernels import native

WHOLE = -1  # a window that hides nothing


LIBRARIES = {torch.float32: "segments", torch.bfloat16: "segments_bf16"}


def problem(precision: torch.dtype = torch.float32) -> str | None:
    """Why the kernel can't be had here in a precision, in a few words; None if it is ready to be called."""
    return native.problem(LIBRARIES[precision])


def _call(name: str, qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int, *others: Tensor) -> None:
    heads, dim = qkv.shape[2:]
    getattr(native.library(LIBRARIES[qkv.dtype]), name)(
        *map(native.pointer, (qkv, cos, sin, borders)),
        *native.numbers(borders.numel() - 1, heads, dim, window, torch.get_num_threads()),
        *map(native.pointer, others),
    )


@torch.library.custom_op("premask::attend_segments", mutates_args=(), device_types="cpu")
def attend_segments(qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Attention of every place over its segment, and the logarithm of each sum of exponentials.

    Args:
        qkv: float32 or bfloat16 [T, 3, H, K], not turned yet.
        cos, sin: float32 [L, K / 2], by position in the segment.
        borders: int32, ascending, from 0 to T: where segments begin and the last one ends; empty ones are allowed.
        window: place i sees j in its segment iff |i - j| <= window; WHOLE: all.

    Returns:
        [T, H, K] in the precision of qkv, and float32 [T, H].
    """
    qkv, borders = qkv.contiguous(), borders.contiguous()
    places, _, heads, dim = qkv.shape
    out, lse = qkv.new_empty(places, heads, dim), cos.new_empty(places, heads)
    _call("premask_forward", qkv, cos, sin, borders, window, out, lse)
    return out, lse


@attend_segments.register_fake
def _(qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int) -> tuple[Tensor, Tensor]:
    places, _, heads, dim = qkv.shape
    return qkv.new_empty(places, heads, dim), cos.new_empty(places, heads)


@torch.library.custom_op("premask::attend_segments_backward", mutates_args=(), device_types="cpu")
def attend_segments_backward(
    grad: Tensor, qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int, out: Tensor, lse: Tensor
) -> Tensor:
    """The gradient for qkv, [T, 3, H, K]; `grad` and `out` are [T, H, K]."""
    qkv, grad, borders = qkv.contiguous(), grad.contiguous(), borders.contiguous()
    grad_qkv = torch.empty_like(qkv)
    _call("premask_backward", qkv, cos, sin, borders, window, grad, out, lse, grad_qkv)
    return grad_qkv


@attend_segments_backward.register_fake
def _(
    grad: Tensor, qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int, out: Tensor, lse: Tensor
) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, _: Tensor | None) -> tuple:
    qkv, cos, sin, borders, out, lse = ctx.saved_tensors
    grad_qkv = attend_segments_backward(grad, qkv, cos, sin, borders, ctx.window, out, lse)
    return grad_qkv, None, None, None, None


attend_segments.register_autograd(_differentiate, setup_context=_save)
