"""The micro-batches of a run, of one dataset or a mixture, made ahead by a thread."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.batches import Batch
from mlm_data.loading.loader import Loader
from mlm_data.types import IGNORED
from trainer.config import RunSettings
from trainer.training.data import shorten, usual_segments
from trainer.training.datasets import check_mix, open_dataset
from trainer.training.parallel import ALONE, Parallel

AHEAD = 8  # batches that a thread makes while the device works: it is woken for half of them at once


def mixture(weights: Sequence[float], taken: list[int], rows: int) -> Iterator[tuple[int, int]]:
    """Dataset and first row of micro-batch 0, 1, ... of a mixture; `taken` rows of each dataset are gone.

    The dataset that is furthest behind its share of all rows comes next; ties go to the first.
    """
    taken, total = list(taken), sum(weights)
    while True:
        every = sum(taken) + rows
        behind = [weight / total * every - count for weight, count in zip(weights, taken, strict=True)]
        number = int(np.argmax(behind))
        yield number, taken[number]
        taken[number] += rows


class Stream:
    """Batches for a run: of one dataset, or of several in fixed proportions.

    Micro-batch n comes from the dataset that is furthest behind its share of n + 1; ties go to the first. With weights
    2 and 1 that is A B A, A B A, ...: no randomness, exact at every prefix, and the state is the loaders' states.
    Micro-batches are dealt out to ranks in turn, so that two ranks read what one does with twice as many.

    Args:
        state: what `state()` of an earlier stream returned.
        short: give batches borders for `usual_segments` only; GPUs want it. A batch that has more keeps the loader's
            shape, and compiles once more.

    Raises:
        ConfigError: if the datasets do not fit together.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: RunSettings,
        *,
        state: list[dict[str, Any]] | None = None,
        parallel: Parallel = ALONE,
        short: bool = False,
    ) -> None:
        parts = [(dataset, 1.0)] + [(open_dataset(part.data), part.weight) for part in settings.mix]
        for other, _ in parts[1:]:
            check_mix(dataset, other)
        alone = len(parts) == 1
        self.digests = [part.digest for part, _ in parts]
        self._loaders = [
            Loader(
                part,
                planes=settings.planes,
                batch_rows=settings.batch_rows,
                seed=None if state else settings.seed,
                state=state[number] if state else None,
                rank=parallel.rank if alone else 0,
                world_size=parallel.world if alone else 1,
                prefetch=AHEAD if alone else 0,
            )
            for number, (part, _) in enumerate(parts)
        ]
        self.target_size = max(size for loader in self._loaders for size in loader.target_sizes)
        self._borders = max(settings.batch_rows * part.manifest.max_segments for part, _ in parts) + 1
        usual = max(usual_segments(part, settings.batch_rows) for part, _ in parts)
        self._segments = usual if short else self._borders - 1
        self._taken = [loader.rows_consumed for loader in self._loaders]  # of a mixture, by all ranks
        self._rows, self._parallel = settings.batch_rows, parallel
        self._to_come = mixture([weight for _, weight in parts], self._taken, settings.batch_rows)
        self._worker = None if alone else ThreadPoolExecutor(1, thread_name_prefix="premask-mixture")
        self._ahead: deque[tuple[Future[Batch], list[int]]] = deque()

    def next(self) -> Batch:
        """The next micro-batch of this rank."""
        if self._worker is None:
            return shorten(next(self._loaders[0]), self._segments)
        while len(self._ahead) <= AHEAD:
            units = list(islice(self._to_come, self._parallel.world))  # one for each rank
            number, row = units[self._parallel.rank]
            future = self._worker.submit(self._loaders[number].batch_at, row)
            self._ahead.append((future, [number for number, _ in units]))
        future, numbers = self._ahead.popleft()
        batch = self._filled(future.result())
        for number in numbers:
            self._taken[number] += self._rows
        return shorten(batch, self._segments)

    def _filled(self, batch: Batch) -> Batch:
        """A batch with the array lengths that all datasets of the mixture share."""
        more = self.target_size - batch.target_places.size
        borders = np.pad(
            batch.cu_seqlens, (0, self._borders - batch.cu_seqlens.size), constant_values=batch.input_ids.size
        )
        places = np.pad(batch.target_places, (0, more))
        ids = np.pad(batch.target_ids, (0, more), constant_values=IGNORED)
        return dataclasses.replace(batch, cu_seqlens=borders, target_places=places, target_ids=ids)

    def state(self) -> list[dict[str, Any]]:
        """Where each loader is, as plain types."""
        if self._worker is None:
            return [self._loaders[0].state()]
        pairs = zip(self._loaders, self._taken, strict=True)
        return [loader.state() | {"rows_consumed": count} for loader, count in pairs]

    def close(self) -> None:
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)
        for loader in self._loaders:
            loader.close()
