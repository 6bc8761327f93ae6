"""What the trainer computes in parts, written whole: slow, and plain enough to be trusted."""

import torch
from torch import Tensor

from mlm_data.types import IGNORED


def plain_target_loss(
    features_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, target_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of losses, and hits, over whole logits in float32: what `target_loss` must give."""
    logits_NV = torch.nn.functional.linear(features_ND.float(), weight_VD.float(), bias_V)
    loss = torch.nn.functional.cross_entropy(logits_NV, target_N, ignore_index=IGNORED, reduction="sum")
    return loss, (logits_NV.argmax(-1) == target_N).sum().float()
