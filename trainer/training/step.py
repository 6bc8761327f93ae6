"""The static step: forward, backward and update of one batch shape, with nothing that waits for the device.

Losses, hits, norms and skips of the last steps are rows of one table on the device. The loop reads it every so many
steps; that is the only synchronisation.

The loss of a step is the sum of its targets' losses over all micro-batches and ranks, divided by their number: ranks
and micro-batches have different numbers of targets, and a mean of means would weigh them wrongly.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.model.encoder import Encoder
from trainer.model.loss import target_loss
from trainer.training.data import Tensors
from trainer.training.optim import Optimizer
from trainer.training.parallel import ALONE, Parallel, without_sync


class StepStats(NamedTuple):
    """What one step reports, on the host."""

    loss_sum: float
    hits: int
    targets: int
    norm: float  # of the mean gradient, before clipping
    skipped: bool


class Forward(nn.Module):
    """An encoder and its loss as one module: what DDP and FSDP2 wrap, so that all their hooks see all parameters."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, batch: Tensors, places_N: Tensor, ids_N: Tensor, *, gradient: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Loss sum and hits of a batch at these target places; without `gradient` it can't be differentiated."""
        encoder = self.encoder
        x_ND = encoder(batch.input_ids, batch.position_ids, batch.cu_seqlens, places_N)
        features_ND = encoder.features(x_ND)
        with torch.set_grad_enabled(gradient):
            return target_loss(
                features_ND,
                encoder.embedding.weight,
                encoder.decoder_bias,
                ids_N,
                compute=encoder.compute,
                kernel=encoder.loss_kernel,
                products=encoder.products,
            )


class Stepper:
    """One model and optimizer; `run` does a step and remembers its figures on the device.

    Args:
        forward: a `Forward`, as `parallel.wrap` returned it.
    """

    def __init__(
        self, forward: nn.Module, optimizer: Optimizer, *, table_rows: int, parallel: Parallel = ALONE
    ) -> None:
        self.forward, self.optimizer, self._parallel = forward, optimizer, parallel
        device = next(forward.parameters()).device
        self._table = torch.zeros(table_rows, 5, dtype=torch.float64, device=device)
        self._used = 0

    def run(self, batches: list[Tensors], factor: float) -> None:
        """One step over the micro-batches, with learning rates times `factor`."""
        self.optimizer.zero_grad()
        sums = torch.zeros(3, dtype=torch.float64, device=self._table.device)
        with without_sync(self.forward, self._parallel):
            for batch in batches[:-1]:
                sums += self._accumulate(batch)
        sums += self._accumulate(batches[-1])
        self._parallel.sum_(sums)
        norm, skip = self.optimizer.step(factor, sums[2].float())
        self._table[self._used] = torch.cat([sums, torch.stack([norm, skip]).double()])
        self._used += 1
        self.last_skip = skip

    def _accumulate(self, batch: Tensors) -> Tensor:
        loss, hits = self.forward(batch, batch.target_places, batch.target_ids)
        loss.backward()
        return torch.stack([loss.detach(), hits, (batch.target_ids >= 0).sum()]).double()

    def read(self) -> list[StepStats]:
        """The steps since the last read. Waits for the device."""
        rows = self._table[: self._used].tolist()
        self._used = 0
        return [StepStats(row[0], int(row[1]), int(row[2]), row[3], row[4] > 0) for row in rows]
