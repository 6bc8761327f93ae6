"""Matrix products: by torch's library, or by our own kernel where that one is faster.

torch calls MKL for float32 products on x86 CPUs. On Intel's it is at the peak. On two cores of an EPYC (Zen 3) it does
110 to 150 GFLOP/s at the shapes of a step, where `products.cpp` does 150 to 178 (docs/lab-notes.md): activations of
thousands of rows times weights that fit a cache. Sums over places, the gradients of weights, stay with MKL. The choice
follows from the processor's maker, never from a measurement: a run that goes on computes as it began. In bfloat16 all
products are the library's, and only what lies between them in a feed-forward layer is ours (`geglu_bf16.cpp`).

    x_TI W_OI^T           forward            gradients    g_TO W_OI    and    g_TO^T x_TI
"""

import ctypes
import sys
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.kernels import native
from trainer.kernels.native import numbers, pointer

GATED_UNIT = 32  # columns that `gated.cpp` takes at once, on processors with the widest vectors
GEGLU_LEAST = 16  # columns of one vector there, which `geglu_bf16.cpp` needs


class Packed(NamedTuple):
    """A right factor prepared by `Products.pack`; only the same `Products` can read its `tensor`."""

    tensor: Tensor
    rows: int  # K
    columns: int  # N


class Products(Protocol):
    """See the module's docstring."""

    def linear(self, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        """The product x W^T, differentiable."""

    def feed_forward(self, x_TD: Tensor, in_ED: Tensor, out_DF: Tensor) -> Tensor:
        """GeGLU between two products, differentiable: value, gate = halves of x W_in^T; (gelu(value) gate) W_out^T."""

    def pack(self, b_KN: Tensor) -> Packed:
        """Prepare a right factor, maybe a transposed view, for several products. It must not change between them."""

    def multiply(self, a_MK: Tensor, packed: Packed) -> Tensor:
        """The product a b, not differentiable."""


def geglu(u_TE: Tensor) -> Tensor:
    """The product gelu(value) gate of the halves of u, [T, E / 2] (Shazeer 2020, with the exact erf)."""
    value_TF, gate_TF = u_TE.chunk(2, -1)
    return F.gelu(value_TF.float()).to(gate_TF.dtype) * gate_TF


class Torch:
    """Whatever torch calls, in any precision and on any device."""

    def linear(self, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        return F.linear(x_TI, weight_OI)

    def feed_forward(self, x_TD: Tensor, in_ED: Tensor, out_DF: Tensor) -> Tensor:
        return self.linear(geglu(self.linear(x_TD, in_ED)), out_DF)

    def pack(self, b_KN: Tensor) -> Packed:
        return Packed(b_KN, *b_KN.shape)

    def multiply(self, a_MK: Tensor, packed: Packed) -> Tensor:
        return torch.mm(a_MK, packed.tensor)


class Own:
    """`products.cpp` and `gated.cpp` on the threads of torch: float32 on a CPU."""

    def linear(self, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        return _Linear.apply(x_TI, weight_OI)

    def feed_forward(self, x_TD: Tensor, in_ED: Tensor, out_DF: Tensor) -> Tensor:
        if out_DF.shape[1] % GATED_UNIT:
            return self.linear(geglu(self.linear(x_TD, in_ED)), out_DF)
        return _FeedForward.apply(x_TD, in_ED, out_DF)

    def pack(self, b_KN: Tensor) -> Packed:
        turned = not b_KN.is_contiguous()
        stored = (b_KN.t() if turned else b_KN).contiguous()
        library, (rows, columns) = native.library("products"), b_KN.shape
        library.premask_packed.restype = ctypes.c_int64
        packed = b_KN.new_empty(library.premask_packed(*numbers(rows, columns)))
        library.premask_pack(
            pointer(stored), *numbers(turned, rows, columns), pointer(packed), *numbers(torch.get_num_threads())
        )
        return Packed(packed, rows, columns)

    def multiply(self, a_MK: Tensor, packed: Packed) -> Tensor:
        return self.into(a_MK, packed, a_MK.new_empty(a_MK.shape[0], packed.columns))

    def into(self, a_MK: Tensor, packed: Packed, out_MN: Tensor) -> Tensor:
        """Write the product to `out`, which is contiguous, and return it."""
        with torch.profiler.record_function("premask::multiply"):
            a_MK = a_MK.contiguous()
            assert out_MN.is_contiguous()
            shape = (a_MK.shape[0], packed.columns, packed.rows)
            native.library("products").premask_product(
                pointer(a_MK), pointer(packed.tensor), *numbers(*shape), pointer(out_MN),
                *numbers(torch.get_num_threads()),
            )  # fmt: skip
            return out_MN


class Gated(Torch):
    """Torch's products around `geglu_bf16.cpp`: bfloat16 on a CPU."""

    def feed_forward(self, x_TD: Tensor, in_ED: Tensor, out_DF: Tensor) -> Tensor:
        if out_DF.shape[1] < GEGLU_LEAST:
            return super().feed_forward(x_TD, in_ED, out_DF)
        return _GatedFeedForward.apply(x_TD, in_ED, out_DF)


TORCH, OWN, GATED = Torch(), Own(), Gated()


def products_for(device: torch.device, precision: torch.dtype) -> Products:
    """The faster products for a device in the precision of the products."""
    if device.type == "cpu" and precision == torch.bfloat16 and native.problem("geglu_bf16") is None:
        return GATED
    return OWN if device.type == "cpu" and precision == torch.float32 and problem() is None else TORCH


def problem() -> str | None:
    """Why our kernel is not used here, in a few words; None if it is."""
    if sys.platform != "linux" or b"AuthenticAMD" not in native.processor():
        return "torch's own library is the faster on this processor, or not known to be the slower"
    return native.problem("products") or native.problem("gated")


@native.operation("product(Tensor a, Tensor b, bool turned, Tensor(a!) out) -> ()")
def product(a_MK: Tensor, b: Tensor, turned: bool, out_MN: Tensor) -> None:
    """Write a b, or with `turned` a b^T, to `out`; all contiguous float32."""
    _call("products", "premask_multiply", (a_MK, b), (turned, a_MK.shape[0], out_MN.shape[1], a_MK.shape[1]), (out_MN,))


@native.operation("gated(Tensor x, Tensor w_in, Tensor(a!) u, Tensor(b!) h) -> ()")
def gated(x_TD: Tensor, in_ED: Tensor, u_TE: Tensor, h_TF: Tensor) -> None:
    """Write u = x W_in^T and h = gelu(value) gate of its halves; all contiguous float32."""
    _call("gated", "premask_gated", (x_TD, in_ED), (*x_TD.shape, h_TF.shape[1]), (u_TE, h_TF))


@native.operation("gated_backward(Tensor grad, Tensor w_out, Tensor u, Tensor(a!) du, Tensor(b!) h) -> ()")
def gated_backward(grad_TD: Tensor, out_DF: Tensor, u_TE: Tensor, du_TE: Tensor, h_TF: Tensor) -> None:
    """Write the gradient of u where that of h W_out^T is `grad`, and h again; all contiguous float32."""
    _call("gated", "premask_gated_backward", (grad_TD, out_DF, u_TE), (*grad_TD.shape, h_TF.shape[1]), (du_TE, h_TF))


@native.operation("geglu(Tensor u, Tensor(a!) h) -> ()")
def fused_geglu(u_TE: Tensor, h_TF: Tensor) -> None:
    """Write h = gelu(value) gate of the halves of u; both contiguous bfloat16."""
    _call("geglu_bf16", "premask_geglu", (u_TE,), h_TF.shape, (h_TF,))


@native.operation("geglu_backward(Tensor dh, Tensor u, Tensor(a!) du, Tensor(b!) h) -> ()")
def fused_geglu_backward(dh_TF: Tensor, u_TE: Tensor, du_TE: Tensor, h_TF: Tensor) -> None:
    """Write the gradient of u where that of h is `dh`, and h again; all contiguous bfloat16."""
    _call("geglu_bf16", "premask_geglu_backward", (dh_TF, u_TE), h_TF.shape, (du_TE, h_TF))


def _call(
    library: str, name: str, inputs: tuple[Tensor, ...], shape: tuple[int, ...], outputs: tuple[Tensor, ...]
) -> None:
    for tensor in (*inputs, *outputs):
        assert tensor.is_contiguous()
    getattr(native.library(library), name)(
        *map(pointer, inputs), *numbers(*shape), *map(pointer, outputs), *numbers(torch.get_num_threads())
    )


class _Linear(torch.autograd.Function):
    """Outputs are given to the kernel, so that Inductor plans their memory as it does for torch's own products."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        x_TI, weight_OI = x_TI.contiguous(), weight_OI.contiguous()
        ctx.save_for_backward(x_TI, weight_OI)
        out_TO = x_TI.new_empty(x_TI.shape[0], weight_OI.shape[0])
        product(x_TI, weight_OI, True, out_TO)
        return out_TO

    @staticmethod
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor, Tensor]:
        x_TI, weight_OI = ctx.saved_tensors
        grad_TO, dx_TI = grad_TO.contiguous(), torch.empty_like(x_TI)
        product(grad_TO, weight_OI, False, dx_TI)
        return dx_TI, torch.mm(grad_TO.t(), x_TI)  # a sum over places


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, in_ED: Tensor, out_DF: Tensor) -> Tensor:
        x_TD, in_ED, out_DF, places = x_TD.contiguous(), in_ED.contiguous(), out_DF.contiguous(), x_TD.shape[0]
        u_TE, h_TF = x_TD.new_empty(places, in_ED.shape[0]), x_TD.new_empty(places, out_DF.shape[1])
        gated(x_TD, in_ED, u_TE, h_TF)
        y_TD = x_TD.new_empty(places, out_DF.shape[0])
        product(h_TF, out_DF, True, y_TD)
        ctx.save_for_backward(x_TD, in_ED, out_DF, u_TE)
        return y_TD

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_TD, in_ED, out_DF, u_TE = ctx.saved_tensors
        grad_TD = grad_TD.contiguous()
        du_TE, h_TF = torch.empty_like(u_TE), u_TE.new_empty(u_TE.shape[0], out_DF.shape[1])
        gated_backward(grad_TD, out_DF, u_TE, du_TE, h_TF)
        dx_TD = torch.empty_like(x_TD)
        product(du_TE, in_ED, False, dx_TD)
        return dx_TD, torch.mm(du_TE.t(), x_TD), torch.mm(grad_TD.t(), h_TF)


class _GatedFeedForward(torch.autograd.Function):
    """As torch differentiates the three operations, but of what lies between the products only u is kept."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, in_ED: Tensor, out_DF: Tensor) -> Tensor:
        u_TE = torch.mm(x_TD, in_ED.t())
        h_TF = u_TE.new_empty(u_TE.shape[0], out_DF.shape[1])
        fused_geglu(u_TE, h_TF)
        ctx.save_for_backward(x_TD, in_ED, out_DF, u_TE)
        return torch.mm(h_TF, out_DF.t())

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_TD, in_ED, out_DF, u_TE = ctx.saved_tensors
        dh_TF = torch.mm(grad_TD, out_DF)
        du_TE, h_TF = torch.empty_like(u_TE), torch.empty_like(dh_TF)
        fused_geglu_backward(dh_TF, u_TE, du_TE, h_TF)
        return torch.mm(du_TE, in_ED), torch.mm(du_TE.t(), x_TD), torch.mm(grad_TD.t(), h_TF)
