"""The encoder: ModernBERT (Warner et al. 2024), written for packed rows of static shape.

Pre-norm blocks without biases, a norm after the embedding, rotary positions, GeGLU with the exact erf. Layer i sees
its whole segment iff i % global_every == 0, else |i - j| <= window; layer 0's attention norm is the identity (the
embedding has just been normed). The decoder is tied to the embedding and has a bias. The vocabulary is padded to a
multiple of 64 inside; padding rows never win: their bias is -1e4 and they are trimmed on export.

Parameters are float32. Matrix products run in `compute` precision on copies cast in the graph; norms, the residual
stream, rotary tables and the loss are float32.

Training asks for the hidden states at target places only. After its attention the last block, too, works at those
alone: with 30 % targets that saves seven tenths of its products but the first, and changes nothing but rounding.

Legend: T places; D width; H heads; K head dimension; F intermediate; V padded vocabulary; N targets.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trainer.config import ModelSettings
from trainer.kernels.norm import PLAIN, Norms
from trainer.kernels.products import TORCH, Products
from trainer.model.attention import Attention, Layout
from trainer.model.loss import Kernel, softmax_gradient
from trainer.model.rotary import rotary_tables

PADDED_BIAS = -1e4  # of ids that no tokenizer has


def padded_vocabulary(vocab_size: int) -> int:
    """The next multiple of 64: rows of a matrix that kernels like.

    >>> padded_vocabulary(8190)
    8192
    """
    return -(-vocab_size // 64) * 64


class Encoder(nn.Module):
    """ids and positions [T] -> hidden states [T, D] in the compute precision."""

    cos_global: Tensor
    sin_global: Tensor
    cos_local: Tensor
    sin_local: Tensor

    def __init__(
        self,
        shape: ModelSettings,
        vocab_size: int,
        *,
        length: int,
        attention: Attention,
        compute: torch.dtype,
        products: Products = TORCH,
        norms: Norms = PLAIN,
    ) -> None:
        super().__init__()
        self.shape, self.vocab_size, self.length = shape, vocab_size, length
        self.attention, self.compute, self.products = attention, compute, products
        self.recompute = False
        self.loss_kernel: Kernel = softmax_gradient
        self.embedding = nn.Embedding(padded_vocabulary(vocab_size), shape.width)
        self.embedding_norm = Norm(shape.width, shape.norm_eps, norms)
        self.blocks = nn.ModuleList(
            Block(shape, layer, attention, compute, products, norms) for layer in range(shape.layers)
        )
        self.final_norm = Norm(shape.width, shape.norm_eps, norms)
        self.head = Head(shape, compute, products, norms)
        self.decoder_bias = nn.Parameter(torch.zeros(padded_vocabulary(vocab_size)))
        for name, theta in (("global", shape.rope_theta), ("local", shape.local_rope_theta)):
            cos, sin = rotary_tables(length, shape.head_dim, theta)
            self.register_buffer(f"cos_{name}", cos, persistent=False)
            self.register_buffer(f"sin_{name}", sin, persistent=False)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator, *, std: float = 0.02) -> None:
        """Draw all weights: truncated normal at 3 std; matrices that write to the residual stream are scaled down."""
        shrink = 1 / math.sqrt(2 * self.shape.layers)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = std * (shrink if name.endswith("out.weight") else 1.0)
                nn.init.trunc_normal_(parameter, 0.0, scale, -3 * scale, 3 * scale, generator=generator)
            else:
                nn.init.ones_(parameter)
        self.decoder_bias.zero_()
        self.decoder_bias[self.vocab_size :] = PADDED_BIAS

    def forward(
        self, input_ids_T: Tensor, position_ids_T: Tensor, cu_seqlens: Tensor, places_N: Tensor | None = None
    ) -> Tensor:
        """Hidden states of all places, or of `places_N` only, [N, D]: the last block then mixes all and maps those."""
        layout = self.attention.layout(position_ids_T, cu_seqlens)
        global_tables = self.attention.turns(self.cos_global, self.sin_global, position_ids_T)
        local_tables = self.attention.turns(self.cos_local, self.sin_local, position_ids_T)
        x_TD = self.embed(input_ids_T)
        delta_TD: Tensor | None = None
        for layer, block in enumerate(self.blocks, 1):
            tables = local_tables if block.local else global_tables
            chosen = places_N if layer == len(self.blocks) else None
            if self.recompute:
                x_TD, delta_TD = checkpoint(block, x_TD, delta_TD, *tables, layout, chosen, use_reentrant=False)
            else:
                x_TD, delta_TD = block(x_TD, delta_TD, *tables, layout, chosen)
        assert delta_TD is not None, "a model has at least one layer"
        return x_TD + delta_TD

    def embed(self, input_ids_T: Tensor) -> Tensor:
        """The first hidden states, normed: float32 [T, D]."""
        return self.embedding_norm(self.embedding(input_ids_T))

    def features(self, x_ND: Tensor) -> Tensor:
        """What the decoder multiplies, of hidden states at target places: [N, D] in the compute precision."""
        return self.head(self.final_norm(x_ND))

    def logits(self, features_ND: Tensor) -> Tensor:
        """float32 [N, vocab_size]: for filling blanks and for export; training uses `trainer.model.loss`."""
        weight_VD = self.embedding.weight.to(self.compute)
        logits_NV = F.linear(features_ND.to(self.compute), weight_VD).float() + self.decoder_bias
        return logits_NV[:, : self.vocab_size]

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). With `places_N`, only those places go on after the mixing.

    The stream is passed on as two summands, x and delta, because the sum is taken together with the norm after it.
    """

    def __init__(
        self,
        shape: ModelSettings,
        layer: int,
        attention: Attention,
        compute: torch.dtype,
        products: Products,
        norms: Norms,
    ) -> None:
        super().__init__()
        self.local = layer % shape.global_every != 0
        self.heads, self.attention, self.compute, self.products = shape.heads, attention, compute, products
        self.attention_norm = Norm(shape.width, shape.norm_eps, norms) if layer else None
        self.qkv = Matrix(shape.width, 3 * shape.width, compute, products)
        self.attention_out = Matrix(shape.width, shape.width, compute, products)
        self.mlp_norm = Norm(shape.width, shape.norm_eps, norms)
        self.mlp_in = Matrix(shape.width, 2 * shape.intermediate, compute, products)
        self.mlp_out = Matrix(shape.intermediate, shape.width, compute, products)

    def forward(
        self,
        x_TD: Tensor,
        delta_TD: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        layout: Layout,
        places_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if self.attention_norm is None:  # the first block, whose input has just been normed
            normed_TD = x_TD
        else:
            assert delta_TD is not None, "only the first block is given one summand"
            x_TD, normed_TD = self.attention_norm.after(x_TD, delta_TD)
        qkv_T3HK = self.qkv(normed_TD).unflatten(-1, (3, self.heads, -1))
        mixed_TD = self.attention.mix(qkv_T3HK, cos, sin, layout, local=self.local).flatten(1)
        if places_N is not None:
            x_TD, mixed_TD = x_TD.index_select(0, places_N), mixed_TD.index_select(0, places_N)
        x_TD, normed_TD = self.mlp_norm.after(x_TD, self.attention_out(mixed_TD))
        weights = self.mlp_in.cast_weight(), self.mlp_out.cast_weight()
        return x_TD, self.products.feed_forward(normed_TD.to(self.compute), *weights)


class Head(nn.Module):
    """dense, gelu, norm: the part of the prediction head before the decoder."""

    def __init__(self, shape: ModelSettings, compute: torch.dtype, products: Products, norms: Norms) -> None:
        super().__init__()
        self.dense = Matrix(shape.width, shape.width, compute, products)
        self.norm = Norm(shape.width, shape.norm_eps, norms)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x_ND).float()))


class Norm(nn.Module):
    """Layer norm without bias, in float32."""

    def __init__(self, width: int, eps: float, norms: Norms) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps, self.norms = eps, norms

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.norms.norm(x_TD, self.weight, self.eps)

    def after(self, x_TD: Tensor, delta_TD: Tensor) -> tuple[Tensor, Tensor]:
        """The sum, and its norm."""
        return self.norms.after(x_TD, delta_TD, self.weight, self.eps)


class Matrix(nn.Module):
    """x W^T in the compute precision; the weight stays float32."""

    def __init__(self, inputs: int, outputs: int, compute: torch.dtype, products: Products) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.compute, self.products = compute, products

    def forward(self, x_TI: Tensor) -> Tensor:
        return self.products.linear(x_TI.to(self.compute), self.cast_weight())

    def cast_weight(self) -> Tensor:
        """The weight in the compute precision, [outputs, inputs]."""
        return self.weight.to(self.compute)
