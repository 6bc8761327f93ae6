"""`softmax_gradient` of trainer/model/loss.py for float32 logits on a CPU, in C++: `softmax.cpp`."""

import torch
from torch import Tensor

from trainer.kernels import native


def problem() -> str | None:
    """Why the kernel can't be had here, in a few words; None if it is ready to be called."""
    return native.problem("softmax")


def softmax_gradient(logits_CV: Tensor, bias_V: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
    """As `trainer.model.loss.softmax_gradient`, in one pass over memory; `logits` are contiguous."""
    assert logits_CV.is_contiguous()
    assert logits_CV.dtype == torch.float32
    loss_C, hit_C = (logits_CV.new_empty(target_C.numel()) for _ in range(2))
    native.library("softmax").premask_softmax_gradient(
        *map(native.pointer, (logits_CV, bias_V.contiguous(), target_C.contiguous())),
        *native.numbers(*logits_CV.shape),
        *map(native.pointer, (loss_C, hit_C)),
        *native.numbers(torch.get_num_threads()),
    )
    return loss_C, hit_C
