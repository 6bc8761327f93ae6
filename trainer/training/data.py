"""From the loader's numpy batches to tensors on the device, in few shapes."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.batches import Batch
from mlm_data.shards.format import TRAIN
from mlm_data.types import IGNORED


class Tensors(NamedTuple):
    """A batch on the device; shapes as in `mlm_data.loading.batches.Batch`."""

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    target_places: Tensor
    target_ids: Tensor

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> "Tensors":
        """Wrap a batch for a CPU without a copy, or send it to a GPU without waiting for it."""
        tensors = (torch.from_numpy(getattr(batch, name)) for name in cls._fields)
        if device.type == "cuda":
            tensors = (tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)
        return cls(*tensors)


def target_chunks(batch: Tensors, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Target places and ids in chunks of exactly `size`, filled up with place 0 and id -100."""
    places, ids = batch.target_places, batch.target_ids
    for start in range(0, max(1, places.shape[0]), size):
        missing = max(0, start + size - places.shape[0])
        chunk = places[start : start + size], ids[start : start + size]
        if missing:
            chunk = (
                torch.nn.functional.pad(chunk[0], (0, missing)),
                torch.nn.functional.pad(chunk[1], (0, missing), value=IGNORED),
            )
        yield chunk


def usual_segments(dataset: Dataset, batch_rows: int) -> int:
    """A bound on the segments of a batch, paddings included, that hardly any batch exceeds: a quarter above the mean.

    The loader's own bound is what every row could have at once, several times as much. Flash attention starts
    programs for every segment that there might be: on an H100, a layer of 32 rows of 1,024, one segment each, takes
    1.8 ms with borders for 32 segments and 2.4 ms with borders for 1,024 (docs/lab-notes.md).
    """
    facts, most = dataset.manifest.splits[TRAIN], batch_rows * dataset.manifest.max_segments
    mean = batch_rows * (facts["num_segments"] / facts["num_rows"] + 1)  # and a padding at each row's end
    return min(most, -(-round(1.25 * mean) // 32) * 32)


def shorten(batch: Batch, segments: int) -> Batch:
    """A batch with borders for so many segments, if it has no more; else as it is, which is another shape."""
    borders = batch.cu_seqlens
    if segments + 1 >= borders.size or borders[segments] != borders[-1]:
        return batch
    return dataclasses.replace(batch, cu_seqlens=borders[: segments + 1])
