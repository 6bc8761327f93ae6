"""The static step: forward, backward and update of one batch shape, with nothing that waits for the device.

Losses, hits, norms and skips of the last steps are rows of one table on the device. The loop reads it every so many
steps; that is the only synchronisation.

The loss of a step is the sum of its targets' losses over all micro-batches and ranks, divided by their number: ranks
and micro-batches have different numbers of targets, and a mean of means would weigh them wrongly.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data import Tensors
from trainer.encoder import Encoder
from trainer.loss import target_loss
from trainer.optim import Optimizer


class StepStats(NamedTuple):
    """What one step reports, on the host."""

    loss_sum: float
    hits: int
    targets: int
    norm: float  # of the mean gradient, before clipping
    skipped: bool


class Stepper:
    """One model and optimizer; `run` does a step and remembers its figures on the device."""

    def __init__(self, model: Encoder, optimizer: Optimizer, *, table_rows: int) -> None:
        self.model, self.optimizer = model, optimizer
        device = model.decoder_bias.device
        self._table = torch.zeros(table_rows, 5, dtype=torch.float64, device=device)
        self._used = 0

    def run(self, batches: list[Tensors], factor: float) -> None:
        """One step over the micro-batches, with learning rates times `factor`."""
        self.optimizer.zero_grad()
        sums = torch.zeros(3, dtype=torch.float64, device=self._table.device)
        for batch in batches:
            sums += self._accumulate(batch)
        norm, skip = self.optimizer.step(factor, sums[2].float())
        self._table[self._used] = torch.cat([sums, torch.stack([norm, skip]).double()])
        self._used += 1

    def _accumulate(self, batch: Tensors) -> Tensor:
        loss, hits = batch_loss(self.model, batch, batch.target_places, batch.target_ids)
        loss.backward()
        return torch.stack([loss.detach(), hits, (batch.target_ids >= 0).sum()]).double()

    def read(self) -> list[StepStats]:
        """The steps since the last read. Waits for the device."""
        rows = self._table[: self._used].tolist()
        self._used = 0
        return [StepStats(row[0], int(row[1]), int(row[2]), row[3], row[4] > 0) for row in rows]


def batch_loss(model: Encoder, batch: Tensors, places_N: Tensor, ids_N: Tensor) -> tuple[Tensor, Tensor]:
    """Loss sum and hits of a batch, at these target places."""
    x_TD = model(batch.input_ids, batch.position_ids, batch.cu_seqlens)
    return head_loss(model, x_TD, places_N, ids_N)


def head_loss(
    model: Encoder, x_TD: Tensor, places_N: Tensor, ids_N: Tensor, *, gradient: bool = True
) -> tuple[Tensor, Tensor]:
    """Loss sum and hits at target places, from hidden states; without `gradient` it can't be differentiated."""
    features_ND = model.features(x_TD, places_N)
    with torch.set_grad_enabled(gradient):
        return target_loss(
            features_ND,
            model.embedding.weight,
            model.decoder_bias,
            ids_N,
            compute=model.compute,
            kernel=model.loss_kernel,
        )
