"""Attention inside segments: one interface, chosen once at construction.

An attention object has three methods. `layout` turns a batch's borders into tensors once per step, and `turns` the
rotary tables into what its layers want of them, both outside the compiled blocks; `mix(qkv, cos, sin, layout, local)`
is called by every layer with the packed product, not turned yet. Place i sees place j iff both lie in the same segment
of the same row and, in local layers, |i - j| <= window.

    row of 8 places, segments of 3, 4 and 1 (padding), window 1      numbers: what place i sees
    segment   0 0 0 1 1 1 1 2
    i = 1     x x x . . . . .      local and global agree
    i = 4     . . . x x x x .      global        . . . x x x . .      local

- `Varlen` (CUDA): `torch.nn.attention.varlen.varlen_attn` over cu_seqlens: flash attention, nothing [L, L] in memory.
- `SegmentAttention` (CPU): our own kernel over the segments as they lie in the batch, rotation included.
- `Batched` (CPU without a C++ compiler): two batched products and a softmax per layer, with a backward
  pass of four products; the probabilities are saved. Cost per head: 12 L^2 K flops. Local layers from L = 512 on work
  on blocks of `window` queries x 3 `window` keys instead: 36 L window K flops.
- `ReferenceAttention`: `scaled_dot_product_attention` with a dense mask; the oracle of the tests.

Legend: T places = B rows x L; H heads; K head dimension.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trainer.kernels.segments import WHOLE, attend_segments, problem
from trainer.model.rotary import rotate

HIDDEN = -1e30  # a finite minus infinity: exp gives 0, and no row can turn into NaN
BLOCKS_FROM = 512  # row length from which blocks of the window are faster than whole rows (measured on 2 cores)


class Layout(NamedTuple):
    """What the layers need to know about a batch. One of the two serves global layers, one local ones."""

    for_global: Tensor
    for_local: Tensor


class Attention(Protocol):
    """See the module's docstring."""

    def layout(self, position_ids_T: Tensor, cu_seqlens: Tensor) -> Layout: ...

    def turns(self, cos_LK: Tensor, sin_LK: Tensor, position_ids_T: Tensor) -> tuple[Tensor, Tensor]: ...

    def mix(self, qkv_T3HK: Tensor, cos: Tensor, sin: Tensor, layout: Layout, *, local: bool) -> Tensor: ...


def attention_kind(device: torch.device, precision: torch.dtype) -> str:
    """The fastest attention that can be had on a device, in the precision of the products."""
    if device.type == "cuda":
        return "varlen"
    return "segments" if problem(precision) is None else "batched"


def make_attention(kind: str, *, rows: int, length: int, window: int) -> Attention:
    """The attention for a device: `varlen` on CUDA, `segments` or `batched` on a CPU, `reference` in tests."""
    if kind == "varlen":
        return Varlen(length=length, window=window)
    if kind == "segments":
        return SegmentAttention(window=window)
    if kind == "batched":
        return Batched(rows=rows, length=length, window=window)
    return ReferenceAttention(rows=rows, length=length, window=window)


def segment_numbers(position_ids_T: Tensor) -> Tensor:
    """Number of each place's segment in the batch, from 1: int32 [T]. A segment begins where a position is 0."""
    return torch.cumsum(position_ids_T == 0, 0, dtype=torch.int32)


class SegmentAttention:
    """Our CPU kernel. See kernels/segments.py."""

    def __init__(self, *, window: int) -> None:
        self.window = window

    def layout(self, position_ids_T: Tensor, cu_seqlens: Tensor) -> Layout:
        return Layout(cu_seqlens, cu_seqlens)

    def turns(self, cos_LK: Tensor, sin_LK: Tensor, position_ids_T: Tensor) -> tuple[Tensor, Tensor]:
        return cos_LK, sin_LK  # a place's position is its distance from its segment's start

    def mix(self, qkv_T3HK: Tensor, cos: Tensor, sin: Tensor, layout: Layout, *, local: bool) -> Tensor:
        return attend_segments(qkv_T3HK, cos, sin, layout.for_global, self.window if local else WHOLE)[0]


class _Turned:
    """What attentions share that want their queries and keys turned, each an array of its own."""

    def turns(self, cos_LK: Tensor, sin_LK: Tensor, position_ids_T: Tensor) -> tuple[Tensor, Tensor]:
        return cos_LK[position_ids_T], sin_LK[position_ids_T]

    def mix(self, qkv_T3HK: Tensor, cos: Tensor, sin: Tensor, layout: Layout, *, local: bool) -> Tensor:
        q_THK, k_THK, v_THK = qkv_T3HK.unbind(1)
        return self(rotate(q_THK, cos, sin), rotate(k_THK, cos, sin), v_THK, layout, local=local)

    def __call__(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, layout: Layout, *, local: bool) -> Tensor:
        raise NotImplementedError


class Varlen(_Turned):
    """Flash attention over segments of any length; bf16 or fp16."""

    def __init__(self, *, length: int, window: int) -> None:
        from torch.nn.attention.varlen import varlen_attn

        self._attend: Any = varlen_attn  # of its results a tensor alone, as nothing else is asked for
        self._length, self._window = length, window

    def layout(self, position_ids_T: Tensor, cu_seqlens: Tensor) -> Layout:
        return Layout(cu_seqlens, cu_seqlens)

    def __call__(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, layout: Layout, *, local: bool) -> Tensor:
        window = (self._window, self._window) if local else (-1, -1)
        longest = self._length  # a constant: another value would compile again
        return self._attend(
            q_THK, k_THK, v_THK, layout.for_global, layout.for_global, longest, longest, window_size=window
        )


class _Dense(_Turned):
    """What the two attentions over rows share: masks over [B, L, L]."""

    def __init__(self, *, rows: int, length: int, window: int) -> None:
        self.rows, self.length, self.window = rows, length, window

    def _allowed(self, position_ids_T: Tensor) -> tuple[Tensor, Tensor]:
        seen_BL = segment_numbers(position_ids_T).view(self.rows, self.length)
        same_BLL = seen_BL[:, :, None] == seen_BL[:, None, :]
        place_L = torch.arange(self.length, device=position_ids_T.device)
        inside_LL = (place_L[:, None] - place_L[None, :]).abs() <= self.window
        return same_BLL, same_BLL & inside_LL

    def _rows(self, x_THK: Tensor) -> Tensor:
        heads, dim = x_THK.shape[1:]
        return x_THK.view(self.rows, self.length, heads, dim).transpose(1, 2)


class ReferenceAttention(_Dense):
    """`scaled_dot_product_attention` with a dense mask: slow, plain, any precision."""

    def layout(self, position_ids_T: Tensor, cu_seqlens: Tensor) -> Layout:
        same_BLL, local_BLL = self._allowed(position_ids_T)
        return Layout(same_BLL[:, None], local_BLL[:, None])

    def __call__(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, layout: Layout, *, local: bool) -> Tensor:
        q, k, v = self._rows(q_THK), self._rows(k_THK), self._rows(v_THK)
        mask = layout.for_local if local else layout.for_global
        out_BHLK = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out_BHLK.transpose(1, 2).reshape(q_THK.shape)


class Batched(_Dense):
    """Batched products and a softmax in one opaque operation, for CPUs."""

    def __init__(self, *, rows: int, length: int, window: int) -> None:
        super().__init__(rows=rows, length=length, window=window)
        self._blocks = length >= BLOCKS_FROM and length % window == 0

    def layout(self, position_ids_T: Tensor, cu_seqlens: Tensor) -> Layout:
        same_BLL, local_BLL = self._allowed(position_ids_T)
        return Layout(_bias(same_BLL), self._local_blocks(local_BLL) if self._blocks else _bias(local_BLL))

    def _local_blocks(self, local_BLL: Tensor) -> Tensor:
        """[B, blocks, window, 3 window]: the mask of each block of queries over its three blocks of keys."""
        w, blocks = self.window, self.length // self.window
        padded = torch.nn.functional.pad(local_BLL, (w, w))
        cut = [padded[:, n * w : (n + 1) * w, n * w : (n + 3) * w] for n in range(blocks)]
        return _bias(torch.stack(cut, 1))

    def __call__(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, layout: Layout, *, local: bool) -> Tensor:
        scale = q_THK.shape[-1] ** -0.5
        q, k, v = (self._rows(x) for x in (q_THK * scale, k_THK, v_THK))
        if local and self._blocks:
            return self._windows(q, k, v, layout.for_local).transpose(1, 2).reshape(q_THK.shape)
        q, k, v = (x.reshape(-1, self.length, x.shape[-1]) for x in (q, k, v))
        out, _ = attend(q, k, v, layout.for_local if local else layout.for_global)
        return out.view(self.rows, -1, self.length, out.shape[-1]).transpose(1, 2).reshape(q_THK.shape)

    def _windows(self, q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, bias: Tensor) -> Tensor:
        w, blocks = self.window, self.length // self.window
        rows, heads, length, dim = q_BHLK.shape

        def neighbours(x: Tensor) -> Tensor:
            around = torch.nn.functional.pad(x, (0, 0, w, w)).view(rows, heads, blocks + 2, w, dim)
            triples = torch.stack([around[:, :, n : n + blocks] for n in range(3)], 3)
            return triples.transpose(1, 2).reshape(rows * blocks * heads, 3 * w, dim)

        q = q_BHLK.view(rows, heads, blocks, w, dim).transpose(1, 2).reshape(rows * blocks * heads, w, dim)
        out, _ = attend(q, neighbours(k_BHLK), neighbours(v_BHLK), bias.flatten(0, 1))
        return out.view(rows, blocks, heads, w, dim).transpose(1, 2).reshape(rows, heads, length, dim)


def _bias(allowed: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, dtype=torch.float32, device=allowed.device).masked_fill_(~allowed, HIDDEN)


@torch.library.custom_op("premask::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(q k^T + bias) v, and the probabilities.

    Args:
        q: [G * H, Lq, K], already scaled; k, v: [G * H, Lk, K].
        bias: float32 [G, Lq, Lk], shared by the H heads of a group.
    """
    groups, lq, lk = bias.shape
    scores = torch.bmm(q, k.transpose(1, 2))
    if scores.dtype == torch.float32:
        scores.view(groups, -1, lq, lk).add_(bias[:, None])
        torch.softmax(scores, -1, out=scores)
    else:
        scores = torch.softmax(scores.view(groups, -1, lq, lk) + bias[:, None].to(scores.dtype), -1).view_as(scores)
    return torch.bmm(scores, v), scores


@attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), q.new_empty(q.shape[0], q.shape[1], k.shape[1])


@torch.library.custom_op("premask::attend_backward", mutates_args=())
def attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `attend` for q, k and v. With dP = dO v^T: dS = P * (dP - sum(dP * P))."""
    grad = grad.contiguous()
    dv = torch.bmm(p.transpose(1, 2), grad)
    dp = torch.bmm(grad, v.transpose(1, 2))
    ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
    return torch.bmm(ds, k), torch.bmm(ds.transpose(1, 2), q), dv


@attend_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    q, k, v, _ = inputs
    ctx.save_for_backward(q, k, v, output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple:
    return (*attend_backward(grad, *ctx.saved_tensors), None)


attend.register_autograd(_differentiate, setup_context=_save)
