"""`softmax_gradient` of trainer/model/loss.py on a CPU in C++, float32 and bfloat16: `softmax.cpp`."""

import torch
from torch import Tensor

from trainer.kernels import native


def problem() -> str | None:
    """Why the kernel can't be had here, in a few words; None if it is ready to be called."""
    return native.problem("softmax")


def softmax_gradient(logits_CV: Tensor, bias_V: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
    """As `trainer.model.loss.softmax_gradient`, in one pass over memory; `logits` are contiguous."""
    assert logits_CV.is_contiguous()
    library = native.library("softmax")
    kernels = {
        torch.float32: library.premask_softmax_gradient,
        torch.bfloat16: library.premask_softmax_gradient_bf16,
    }
    loss_C, hit_C = (bias_V.new_empty(target_C.numel()) for _ in range(2))
    kernels[logits_CV.dtype](
        *map(native.pointer, (logits_CV, bias_V.contiguous(), target_C.contiguous())),
        *native.numbers(*logits_CV.shape),
        *map(native.pointer, (loss_C, hit_C)),
        *native.numbers(torch.get_num_threads()),
    )
    return loss_C, hit_C
