"""Optimizers: Muon for the blocks' matrices with AdamW elsewhere, or AdamW alone; clipping and skipping on the device.

Muon (Jordan et al. 2024): momentum, then five steps of a quintic Newton-Schulz iteration that pushes all singular
values of the update towards 1. The result agrees with `torch.optim.Muon` (a test runs it); ours stacks matrices of
one shape into one batched product, splits the fused qkv matrix into its three, and works in the precision whose
products are faster.

    m = momentum * m + (1 - momentum) * g           u = (1 - momentum) * g + momentum * m   (Nesterov)
    X = u / |u|;  five times: A = X X^T;  X = a X + (b A + c A^2) X
    w = w * (1 - lr * decay) - lr * sqrt(max(1, rows / columns)) * X

Every group has a name: it shows in checkpoints and logs. Norms, biases and the embedding are never decayed.

All gradients are multiplied by one device scalar: clipping, and one over the number of targets. Where they are not
finite, another device scalar, `skip`, is 1, and weights and state stay as they were. Nothing here waits for the device.

Under FSDP2 parameters are sharded; the optimizer works on this rank's shards, which are plain tensors, and only the
norm is summed over ranks.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from trainer.config import OptimizerSettings
from trainer.training.parallel import ALONE, Parallel, join_shards, own_shard

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # Jordan et al.: steepest at zero, while staying near 1
ITERATIONS = 5
EPS = 1e-7


class Optimizer:
    """All parameters of a model, in named groups, behind one `step`."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings, parallel: Parallel = ALONE) -> None:
        whole = split_groups(model, settings.kind)
        self.names = {name: [key for key, _ in members] for name, members in whole.items()}
        self._whole = {key: parameter for members in whole.values() for key, parameter in members}
        self._parallel, self._clip = parallel, settings.clip
        self._sharded = parallel.kind == "fsdp"
        self.parameters = {key: self._shard(parameter) for key, parameter in self._whole.items()}
        groups = {name: [(key, self.parameters[key]) for key, _ in members] for name, members in whole.items()}
        self._keys = {id(parameter): key for key, parameter in self.parameters.items()}
        self.muon: Muon | None = None
        if "muon" in groups:
            members = groups.pop("muon")
            self.muon = Muon(
                members, lr=settings.muon_lr, momentum=settings.muon_momentum, weight_decay=settings.muon_decay
            )
        self.adamw = torch.optim.AdamW(
            [
                {
                    "params": [parameter for _, parameter in members],
                    "weight_decay": settings.decay if name == "decayed" else 0.0,
                    "name": name,
                }
                for name, members in groups.items()
            ],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
        self._base_lr = settings.lr
        self._kept = False

    def _shard(self, parameter: nn.Parameter) -> nn.Parameter:
        """This rank's part of a parameter, sharing its memory."""
        return nn.Parameter(cast("DTensor", parameter.detach()).to_local()) if self._sharded else parameter

    def keep_gradients(self) -> None:
        """From now on gradients are cleared in place, so that their addresses stay: what CUDA graphs need."""
        self._kept = True
        for parameter in self._whole.values():
            parameter.grad = torch.zeros_like(parameter)

    def gradients(self) -> list[Tensor]:
        """The gradients' own tensors, in the parameters' order."""
        return [_gradient(parameter) for parameter in self._whole.values()]

    def zero_grad(self) -> None:
        if self._kept:
            torch._foreach_zero_(self.gradients())
            return
        for parameter in self._whole.values():
            parameter.grad = None

    def _gradients(self) -> list[Tensor]:
        """This rank's gradients, summed over all ranks' targets."""
        if self._sharded:
            for key, parameter in self._whole.items():
                self.parameters[key].grad = cast("DTensor", parameter.grad).to_local()
        grads = [_gradient(parameter) for parameter in self.parameters.values()]
        if self._parallel.world > 1:
            torch._foreach_mul_(grads, self._parallel.scale)
        return grads

    def _norm(self, grads: list[Tensor]) -> Tensor:
        square = torch.stack(torch._foreach_norm(grads)).square().sum()
        return (self._parallel.sum_(square) if self._sharded else square).sqrt()

    def step(self, factor: float, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Update all parameters from the *sums* of gradients over `targets` targets.

        Returns two device scalars: the norm of the mean gradient before clipping, and 1 where the step was skipped.
        """
        grads = self._gradients()
        norm = self._norm(grads) / targets
        skip = (~torch.isfinite(norm)).float()
        torch._foreach_mul_(grads, (self._clip / norm).clamp(max=1.0) / targets)
        if self.muon is not None:
            self.muon.step(factor, skip)
        for group in self.adamw.param_groups:
            group["lr"] = self._base_lr * factor
        self.adamw.found_inf, self.adamw.grad_scale = skip, None  # type: ignore[attr-defined]  # as GradScaler does
        self.adamw.step()
        return norm, skip

    def joined(self, key: str, value: Tensor) -> Tensor:
        """The whole of a tensor that lies as this rank's part of a parameter; every rank must call this."""
        return join_shards(value, self._whole[key]) if self._sharded else value

    def cut(self, key: str, value: Tensor) -> Tensor:
        """This rank's part of a whole tensor: the inverse of `joined`."""
        return own_shard(value, self._whole[key]) if self._sharded else value

    def state(self) -> dict[str, Tensor]:
        """All state as named tensors: `<kind>/<parameter>`."""
        tensors = {}
        for parameter, state in self.adamw.state.items():
            key = self._keys[id(parameter)]
            for kind, value in state.items():
                tensors[f"{kind}/{key}"] = value if kind == "step" else self.joined(key, value)
        if self.muon is not None:
            tensors |= {f"momentum/{name}": buffer for name, buffer in self.muon.buffers.items()}
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`; tensors of another device or layout are copied."""
        by_key: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, key = name.split("/", 1)
            by_key.setdefault(key, {})[kind] = value
        for group in self.adamw.param_groups:
            for parameter in group["params"]:
                found = by_key.get(self._keys[id(parameter)])
                if found:
                    key = self._keys[id(parameter)]
                    self.adamw.state[parameter] = {
                        kind: (value if kind == "step" else self.cut(key, value)).to(parameter.device)
                        for kind, value in found.items()
                    }
        if self.muon is not None:
            for key, buffer in self.muon.buffers.items():
                if key in by_key:
                    buffer.copy_(by_key[key]["momentum"])


class Average:
    """An exponential moving average of the weights: a = decay a + (1 - decay) w after every step that is not skipped.

    In the first steps the decay is smaller, (1 + n) / (10 + n) after n steps, so that the first weights are soon
    forgotten.

    Args:
        parameters: this rank's parts.
        layout: whose parts they are, where ranks share the parameters out.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float, layout: Optimizer | None = None) -> None:
        self._parameters, self._decay, self._layout = parameters, decay, layout
        self._values = {key: parameter.detach().clone() for key, parameter in parameters.items()}
        self._steps = torch.zeros((), dtype=torch.float32)

    @torch.no_grad()
    def update(self, skip: Tensor) -> None:
        """After a step; `skip` is the step's device scalar."""
        self._steps += 1
        moved = 1 - min(self._decay, (1 + self._steps.item()) / (10 + self._steps.item()))
        weight = (1 - skip) * moved
        values, parameters = list(self._values.values()), list(self._parameters.values())
        torch._foreach_add_(values, torch._foreach_mul(torch._foreach_sub(parameters, values), weight))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters hold the average."""
        kept = {key: parameter.detach().clone() for key, parameter in self._parameters.items()}
        self._fill(self._values)
        try:
            yield
        finally:
            self._fill(kept)

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for key, parameter in self._parameters.items():
            parameter.copy_(values[key])

    def state(self) -> dict[str, Tensor]:
        """Named tensors for a checkpoint, whole; every rank must call this."""
        layout = self._layout
        whole = {key: layout.joined(key, value) if layout else value for key, value in self._values.items()}
        return {f"ema/{key}": value for key, value in whole.items()} | {"ema_steps/all": self._steps}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; a state without an average leaves it as it is."""
        for key, value in self._values.items():
            if f"ema/{key}" in tensors:
                whole = tensors[f"ema/{key}"]
                value.copy_(self._layout.cut(key, whole) if self._layout else whole)
        if "ema_steps/all" in tensors:
            self._steps.copy_(tensors["ema_steps/all"])


class Muon:
    """Muon over stacks of equal shape. `buffers` holds one momentum per parameter, by name."""

    def __init__(
        self,
        members: list[tuple[str, nn.Parameter]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        precision: torch.dtype | None = None,
    ) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.buffers = {name: torch.zeros_like(parameter) for name, parameter in members}
        device = members[0][1].device
        self.precision = precision or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        self._stacks: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor, int]]] = {}
        for name, parameter in members:
            parts = 3 if name.endswith("qkv.weight") else 1
            rows, columns = parameter.shape
            self._stacks.setdefault((rows // parts, columns), []).append((parameter, self.buffers[name], parts))

    @torch.no_grad()
    def step(self, factor: float, skip: Tensor) -> None:
        """One update of every matrix; `skip` = 1 leaves everything as it is."""
        lr, skipped = self.lr * factor, skip > 0
        for (rows, columns), members in self._stacks.items():
            parameters: list[Tensor] = [parameter for parameter, _, _ in members]
            buffers = [buffer for _, buffer, _ in members]
            grads = [
                torch.where(skipped, buffer, _gradient(parameter))
                for parameter, buffer in zip(parameters, buffers, strict=True)
            ]
            torch._foreach_lerp_(buffers, grads, 1 - self.momentum)  # a skipped step moves towards itself
            nesterov = torch._foreach_lerp(grads, buffers, self.momentum)
            stack = torch.cat([update.view(-1, rows, columns) for update in nesterov])
            stack = orthogonalize(stack.to(self.precision)).to(parameters[0].dtype) * (1 - skip)
            parts = torch.split(stack, [parts for _, _, parts in members])
            shrink = 1 - (1 - skip) * (lr * self.weight_decay)
            torch._foreach_mul_(parameters, shrink)
            updates = [update.reshape(parameter.shape) for update, parameter in zip(parts, parameters, strict=True)]
            torch._foreach_add_(parameters, updates, alpha=-lr * max(1.0, rows / columns) ** 0.5)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "every parameter takes part in the loss"
    return parameter.grad


def orthogonalize(x_GRC: Tensor) -> Tensor:
    """A stack of matrices with all singular values pushed to about 1 (0.7 to 1.2): same shape, same precision."""
    a, b, c = COEFFICIENTS
    tall = x_GRC.shape[1] > x_GRC.shape[2]
    x = x_GRC.mT if tall else x_GRC
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=EPS)
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def split_groups(model: nn.Module, kind: str) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Every parameter once, in named groups.

    `muon` (or `decayed` with AdamW alone): matrices of blocks and head. `embedding`: the tied matrix. `vectors`:
    norms and biases.
    """
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            group = "vectors"
        elif name.startswith("embedding"):
            group = "embedding"
        else:
            group = "muon" if kind == "muon" else "decayed"
        groups.setdefault(group, []).append((name, parameter))
    return groups
