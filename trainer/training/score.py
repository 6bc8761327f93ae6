"""Loss and hits over batches: what a run is validated by, and what every evaluation begins with."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from mlm_data.loading.batches import Batch
from trainer.training.data import Tensors, target_chunks
from trainer.training.parallel import ALONE, Parallel


@dataclass(frozen=True, kw_only=True)
class Score:
    """Sums over targets and what follows from them."""

    loss_sum: float
    hits: int
    targets: int

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss_sum / max(1, self.targets)

    @property
    def accuracy(self) -> float:
        return self.hits / max(1, self.targets)

    @property
    def perplexity(self) -> float:
        return math.exp(min(700.0, self.loss))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"loss": self.loss, "accuracy": self.accuracy, "perplexity": self.perplexity}


def score(
    forward: nn.Module,
    batches: Iterable[Batch],
    *,
    target_size: int,
    device: torch.device,
    max_rows: int | None = None,
    parallel: Parallel = ALONE,
) -> Score:
    """Loss and hits over batches.

    Targets are cut and filled to `target_size`, the shape the model was compiled for; gradients stay enabled for the
    same reason (their absence would compile everything again), but nothing is differentiated.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    rows = 0
    for batch in batches:
        if max_rows is not None and rows >= max_rows:
            break
        rows += batch.rows.size * parallel.world
        tensors = Tensors.of(batch, device)
        for places, ids in target_chunks(tensors, target_size):
            loss, hits = forward(tensors, places, ids, gradient=False)
            sums += torch.stack([loss, hits, (ids >= 0).sum()]).double()
    loss_sum, hits, targets = parallel.sum_(sums).tolist()
    return Score(loss_sum=loss_sum, hits=int(hits), targets=int(targets))
