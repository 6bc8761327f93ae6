"""Who multiplies matrices: torch's library, or our own kernel where that one is faster.

torch calls MKL for float32 products on x86 CPUs. On Intel's it is at the peak. On two cores of an EPYC (Zen 3) it does
110 to 135 GFLOP/s at the shapes of a step, where `products.cpp` does 150 to 168 (docs/benchmarks.md): activations of
thousands of rows times weights that fit a cache. Sums over places, the gradients of weights, stay with MKL. The choice
follows from the processor's maker, never from a measurement: a run that goes on computes as it began.

    x_TI W_OI^T           forward            gradients    g_TO W_OI    and    g_TO^T x_TI
"""

import ctypes
import sys
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer import native
from trainer.native import numbers, pointer


class Packed(NamedTuple):
    """A right factor as the one who multiplies wants it; `tensor` is its business."""

    tensor: Tensor
    rows: int  # K
    columns: int  # N


class Products(Protocol):
    """See the module's docstring."""

    def linear(self, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        """The product x W^T, differentiable."""

    def pack(self, b_KN: Tensor) -> Packed:
        """Prepare a right factor, maybe a transposed view, for several products. It must not change between them."""

    def multiply(self, a_MK: Tensor, packed: Packed) -> Tensor:
        """The product a b, not differentiable."""


class Torch:
    """Whatever torch calls, in any precision and on any device."""

    def linear(self, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        return F.linear(x_TI, weight_OI)

    def pack(self, b_KN: Tensor) -> Packed:
        return Packed(b_KN, *b_KN.shape)

    def multiply(self, a_MK: Tensor, packed: Packed) -> Tensor:
        return torch.mm(a_MK, packed.tensor)


class Own:
    """`products.cpp` on the threads of torch: float32 on a CPU."""

    def linear(self, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        return _Linear.apply(x_TI, weight_OI)

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


TORCH, OWN = Torch(), Own()


def products_for(device: torch.device, precision: torch.dtype) -> Products:
    """The faster products for a device in the precision of the products."""
    return OWN if device.type == "cpu" and precision == torch.float32 and problem() is None else TORCH


@cache
def problem() -> str | None:
    """Why our kernel is not used here, in a few words; None if it is."""
    if sys.platform != "linux" or b"AuthenticAMD" not in native.processor():
        return "torch's own library is the faster on this processor, or not known to be the slower"
    return native.problem("products")


@torch.library.custom_op("premask::product", mutates_args=("out_MN",), device_types="cpu")
def product(a_MK: Tensor, b: Tensor, turned: bool, out_MN: Tensor) -> None:
    """Write a b, or with `turned` a b^T, to `out`; all contiguous float32."""
    OWN.into(a_MK, OWN.pack(b.t() if turned else b), out_MN)


@product.register_fake
def _(a_MK: Tensor, b: Tensor, turned: bool, out_MN: Tensor) -> None:
    return None


class _Linear(torch.autograd.Function):
    """Outputs are given to the kernel, so that Inductor plans their memory as it does for torch's own products."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_TI, weight_OI)
        out_TO = x_TI.new_empty(x_TI.shape[0], weight_OI.shape[0])
        product(x_TI, weight_OI, True, out_TO)
        return out_TO

    @staticmethod
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor, Tensor]:
        x_TI, weight_OI = ctx.saved_tensors
        dx_TI = torch.empty_like(x_TI)
        product(grad_TO, weight_OI, False, dx_TI)
        return dx_TI, torch.mm(grad_TO.t(), x_TI)  # a sum over places
