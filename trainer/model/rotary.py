"""Rotary positions (Su et al. 2021, sec. 3.4): pairs (i, i + K / 2) of a head turn by position * theta^(-2i / K).

Legend: T places; L positions; H heads; K head dimension.
"""

import torch
from torch import Tensor


def rotary_tables(length: int, dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position * theta^(-2i / dim): float32 [length, dim / 2] each (Su et al. 2021, eq. 15)."""
    frequency = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x_THK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turn pairs (i, i + K / 2) by their angle, in float32; the precision of x comes back."""
    low, high = x_THK.float().chunk(2, -1)
    cos, sin = cos_TK[:, None], sin_TK[:, None]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1).to(x_THK.dtype)
