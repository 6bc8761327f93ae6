"""Layer norm without bias, with the sum that stands before it in a residual stream: one interface.

    norm(x) -> n          after(x, delta) -> x + delta, and the norm of that

The stream is float32; `delta`, which a product made, and the norm after it, which a product takes, are in the precision
of the products.

`Plain` is torch's, which Inductor fuses with what stands around it. On a CPU its backward pass reads columns for the
gradient of the weight: 5 to 6 ms for 8,192 places of 256, where `norm.cpp` takes 1.3 (two cores of an EPYC).

Legend: T places; D width.
"""

import ctypes
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.kernels import native
from trainer.kernels.native import numbers, pointer


class Norms(Protocol):
    """See the module's docstring."""

    def norm(self, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        """The norm of x times the weight, float32."""

    def after(self, x_TD: Tensor, delta_TD: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """The sum x + delta, float32, and its norm in the precision of delta."""


class Plain:
    """torch's, on any device."""

    def norm(self, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x_TD.float(), weight_D.shape, weight_D, None, eps)

    def after(self, x_TD: Tensor, delta_TD: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        total_TD = x_TD + delta_TD
        return total_TD, self.norm(total_TD, weight_D, eps).to(delta_TD.dtype)


class Own:
    """`norm.cpp` on the threads of torch, on a CPU."""

    def norm(self, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        return _Norm.apply(x_TD, weight_D, eps)

    def after(self, x_TD: Tensor, delta_TD: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        return _After.apply(x_TD, delta_TD, weight_D, eps)


PLAIN, OWN = Plain(), Own()


def norms_for(device: torch.device, precision: torch.dtype) -> Norms:
    """The faster norms for a device in the precision of the products."""
    known = precision in (torch.float32, torch.bfloat16)
    return OWN if device.type == "cpu" and known and native.problem("norm") is None else PLAIN


@native.operation(
    "norm(Tensor x, Tensor delta, Tensor weight, float eps, "
    "Tensor(a!) total, Tensor(b!) normed, Tensor(c!) mean, Tensor(d!) rstd) -> ()"
)
def norm(
    x: Tensor, delta: Tensor, weight: Tensor, eps: float, total: Tensor, normed: Tensor, mean_T: Tensor, rstd_T: Tensor
) -> None:
    """Write the norm of x, and mean and reciprocal standard deviation of each place; all contiguous.

    With a delta that is not empty, x + delta is normed, and written to `total`. Delta and `normed` are float32 or
    bfloat16, the same; all else is float32.
    """
    assert delta.dtype == normed.dtype
    assert all(tensor.is_contiguous() for tensor in (x, delta, total, normed))
    _function("premask_norm", normed)(
        pointer(x), _maybe(delta), pointer(weight), *numbers(*x.shape), ctypes.c_float(eps),
        _maybe(total), *map(pointer, (normed, mean_T, rstd_T)), *numbers(torch.get_num_threads()),
    )  # fmt: skip


@native.operation(
    "norm_backward(Tensor grad, Tensor plus, Tensor x, Tensor weight, Tensor mean, Tensor rstd, "
    "Tensor(a!) dx, Tensor(b!) ddelta, Tensor(c!) dweight) -> ()"
)
def norm_backward(
    grad: Tensor,
    plus: Tensor,
    x: Tensor,
    weight: Tensor,
    mean_T: Tensor,
    rstd_T: Tensor,
    dx: Tensor,
    ddelta: Tensor,
    dweight: Tensor,
) -> None:
    """Write the gradients of what was normed and of the weight; `plus`, if it is not empty, is added to the first.

    The first is written to `ddelta`, too, if that is not empty. `grad` and it are float32 or bfloat16, the same.
    """
    assert all(tensor.is_contiguous() for tensor in (grad, plus, x, dx, ddelta))
    assert grad.dtype == ddelta.dtype
    _function("premask_norm_backward", grad)(
        pointer(grad), _maybe(plus), *map(pointer, (x, weight, mean_T, rstd_T)), *numbers(*x.shape),
        pointer(dx), _maybe(ddelta), pointer(dweight), *numbers(torch.get_num_threads()),
    )  # fmt: skip


def _function(name: str, like: Tensor) -> Any:
    return getattr(native.library("norm"), name if like.dtype == torch.float32 else f"{name}_bf16")


def _maybe(tensor: Tensor) -> ctypes.c_void_p:
    return pointer(tensor) if tensor.numel() else ctypes.c_void_p(None)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x_TD = x_TD.contiguous()
        nothing, normed_TD = x_TD.new_empty(0), torch.empty_like(x_TD)
        mean_T, rstd_T = x_TD.new_empty(x_TD.shape[0]), x_TD.new_empty(x_TD.shape[0])
        norm(x_TD, nothing, weight_D, eps, torch.empty_like(nothing), normed_TD, mean_T, rstd_T)
        ctx.save_for_backward(x_TD, weight_D, mean_T, rstd_T)
        return normed_TD

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, weight_D, mean_T, rstd_T = ctx.saved_tensors
        dx_TD, dweight_D = torch.empty_like(x_TD), torch.empty_like(weight_D)
        grad_TD = grad_TD.contiguous()
        nothing = grad_TD.new_empty(0)
        norm_backward(grad_TD, nothing, x_TD, weight_D, mean_T, rstd_T, dx_TD, torch.empty_like(nothing), dweight_D)
        return dx_TD, dweight_D, None


class _After(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, delta_TD: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x_TD, delta_TD = x_TD.contiguous(), delta_TD.contiguous()
        total_TD, normed_TD = torch.empty_like(x_TD), torch.empty_like(delta_TD)
        mean_T, rstd_T = x_TD.new_empty(x_TD.shape[0]), x_TD.new_empty(x_TD.shape[0])
        norm(x_TD, delta_TD, weight_D, eps, total_TD, normed_TD, mean_T, rstd_T)
        ctx.save_for_backward(total_TD, weight_D, mean_T, rstd_T)
        return total_TD, normed_TD

    @staticmethod
    def backward(ctx: Any, dtotal_TD: Tensor, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        total_TD, weight_D, mean_T, rstd_T = ctx.saved_tensors
        dx_TD, dweight_D = torch.empty_like(total_TD), torch.empty_like(weight_D)
        grad_TD, dtotal_TD = grad_TD.contiguous(), dtotal_TD.contiguous()
        one = grad_TD.dtype == dx_TD.dtype  # then both summands have the same gradient
        ddelta_TD = grad_TD.new_empty(0) if one else torch.empty_like(grad_TD)
        norm_backward(grad_TD, dtotal_TD, total_TD, weight_D, mean_T, rstd_T, dx_TD, ddelta_TD, dweight_D)
        return dx_TD, dx_TD if one else ddelta_TD, dweight_D, None
