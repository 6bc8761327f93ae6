"""Several processes that train one model: DDP, or FSDP2, over gloo (CPUs) or NCCL (GPUs).

Every rank reads its own rows of one stream, so n ranks with one micro-batch each do the same steps as one rank with n
micro-batches. Gradients and counts are *sums*: a rank's mean would be weighed wrongly, for ranks have different numbers
of targets.

    rank 0: targets 3, loss sum 6      rank 1: targets 1, loss sum 4
    sum over ranks: 10 / 4 = 2.5       mean of means: (2 + 4) / 2 = 3, wrong

DDP and FSDP2 average gradients over ranks; `Parallel.scale` undoes it. Muon orthogonalizes whole matrices, which FSDP2
cuts: that pair is refused. torchrun starts the ranks; a rank that dies ends the others, which say so.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlm_data.errors import ConfigError, PremaskError
from trainer.config import RunSettings

TIMEOUT = timedelta(minutes=10)  # of one collective operation: the first waits for the slowest compilation


class RankError(PremaskError):
    """Another rank ended."""


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """This process among all. A lone process has world 1 and no process group."""

    kind: str = "none"  # none | ddp | fsdp
    rank: int = 0
    local_rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this rank writes, logs and prints."""
        return self.rank == 0

    @property
    def scale(self) -> float:
        """What averaged gradients are multiplied with to be sums over ranks."""
        return float(self.world)

    def sum_(self, values: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def largest(self, value: float, device: torch.device) -> float:
        """The largest of the ranks' values. Waits for all."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.item()

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.world > 1:
            dist.barrier()


ALONE = Parallel()


def check(settings: RunSettings) -> None:
    """Refuse what can't work, before anything is started.

    Raises:
        ConfigError: for Muon with FSDP.
    """
    if settings.parallel == "fsdp" and settings.optimizer.kind == "muon":
        raise ConfigError(
            "optimizer.kind: muon needs whole matrices, parallel: fsdp cuts them: use parallel=ddp or "
            "optimizer.kind=adamw"
        )


@contextmanager
def joined(settings: RunSettings) -> Iterator[Parallel]:
    """Join the ranks that torchrun started, and leave them at the end. Alone, nothing happens.

    Raises:
        RankError: if another rank died while this one waited for it.
    """
    check(settings)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() and settings.device != "cpu"
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    kind = "ddp" if settings.parallel == "auto" else settings.parallel
    try:
        yield Parallel(kind=kind, rank=rank, local_rank=local_rank, world=world)
    except RuntimeError as error:  # torch.distributed raises nothing narrower on gloo
        if is_lost_rank(error):
            raise RankError(f"rank {rank}: another rank ended: see its message; start again to go on") from error
        raise
    finally:
        dist.destroy_process_group()


def is_lost_rank(error: RuntimeError) -> bool:
    """Whether an error says that a peer is gone."""
    text = str(error)
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "NCCL")
    return isinstance(error, dist.DistBackendError) or any(sign in text for sign in signs)


def wrap(model: nn.Module, blocks: nn.ModuleList, parallel: Parallel) -> nn.Module:
    """The module to call in training: its gradients are averaged over ranks in the backward pass."""
    if parallel.kind == "ddp":
        on_gpu = next(model.parameters()).is_cuda
        devices = [parallel.local_rank] if on_gpu else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)
    if parallel.kind == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for block in blocks:
            fully_shard(block)
        fully_shard(model)
    return model


def without_sync(wrapped: nn.Module, parallel: Parallel) -> Any:
    """A context in which gradients are only accumulated: for all micro-batches but the last."""
    if parallel.kind == "ddp":
        return cast(nn.parallel.DistributedDataParallel, wrapped).no_sync()
    return nullcontext()


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as one process would have them; every rank must call this, for sharded ones are gathered."""
    return {
        name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor for name, tensor in tensors.items()
    }


def join_shards(local: Tensor, like: Tensor) -> Tensor:
    """The whole of a tensor whose shards lie as those of `like`; every rank must call this."""
    from torch.distributed.tensor import DTensor

    of = cast(DTensor, like)
    whole_tensor = DTensor.from_local(
        local, of.device_mesh, of.placements, run_check=False, shape=of.shape, stride=of.stride()
    )
    return whole_tensor.full_tensor()


def own_shard(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's shard of a whole tensor, cut as `like`. The inverse of `join_shards`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    of = cast(DTensor, like)
    return distribute_tensor(tensor.to(of.device), of.device_mesh, of.placements, src_data_rank=None).to_local().clone()
