"""From the loader's numpy batches to tensors on the device, and plain arrays of a dataset's rows."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from mlm_data.batches import IGNORED, Batch
from mlm_data.errors import ConfigError
from mlm_data.shards.format import TRAIN
from mlm_data.shards.reader import Dataset


class Tensors(NamedTuple):
    """A batch on the device; shapes as in `mlm_data.batches.Batch`."""

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


def open_dataset(location: str) -> Dataset:
    """Open `folder` or `folder@digest`.

    Raises:
        FormatError: as `Dataset.open`.
        ConfigError: if there is no such folder.
    """
    folder, at, digest = location.rpartition("@")
    if not at or "/" in digest or len(digest) != 64:
        folder, digest = location, ""
    if "://" not in folder and not os.path.isdir(folder):
        raise ConfigError(f"data: {folder}: no such folder: build a dataset with `premask build`, or name another")
    return Dataset.open(folder, digest or None)


def check_rows(dataset: Dataset, batch_rows: int) -> None:
    """Refuse a dataset that does not fill one batch.

    Raises:
        ConfigError: names both numbers and the remedy.
    """
    num_rows = dataset.num_rows(TRAIN)
    if num_rows < batch_rows:
        raise ConfigError(
            f"data: {dataset.folder.location} has {num_rows} training rows, fewer than one batch of {batch_rows}: "
            f"use batch_rows={max(1, num_rows)} or more text"
        )


def pieces(batch: Tensors, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Target places and ids in pieces of exactly `size`, filled up with place 0 and id -100."""
    places, ids = batch.target_places, batch.target_ids
    for start in range(0, max(1, places.shape[0]), size):
        missing = max(0, start + size - places.shape[0])
        piece = places[start : start + size], ids[start : start + size]
        if missing:
            piece = (
                torch.nn.functional.pad(piece[0], (0, missing)),
                torch.nn.functional.pad(piece[1], (0, missing), value=IGNORED),
            )
        yield piece


def token_rows(
    dataset: Dataset, split: str = TRAIN, *, max_tokens: int | None = None
) -> Iterator[tuple[Int32[np.ndarray, "rows length"], Int32[np.ndarray, "rows length"]]]:
    """A split's unmasked tokens and the segment number of each place, record batch by record batch.

    Segments count from 1 within their row; padding is 0. Shards are taken evenly where `max_tokens` limits them.
    """
    length = dataset.manifest.sequence_length
    num_shards = dataset.num_shards(split)
    if max_tokens is not None:
        share = min(1.0, max_tokens / max(1, dataset.num_rows(split) * length))
        num_shards = max(1, round(num_shards * share))
    step = dataset.num_shards(split) / max(1, num_shards)
    for index in range(num_shards):
        for rows in dataset.shard(split, int(index * step)).rows:
            count = rows.tokens.shape[0]
            borders = np.zeros((count, length + 1), np.int32)
            row_of = np.repeat(np.arange(count), np.diff(rows.segment_offsets))
            lengths = rows.segment_lengths.astype(np.int64)
            ends = np.cumsum(lengths)
            starts = ends - lengths
            before = np.concatenate([[0], ends])[rows.segment_offsets[:-1]]  # of each row's first segment
            np.add.at(borders, (row_of, starts - before[row_of]), 1)
            segments = np.cumsum(borders, 1)[:, :length].astype(np.int32)
            used = np.bincount(row_of, lengths, minlength=count)
            segments[np.arange(length) >= used[:, None]] = 0
            yield rows.tokens.astype(np.int32), segments


def unigram_counts(dataset: Dataset, *, max_tokens: int = 20_000_000) -> Int64[np.ndarray, " vocab"]:
    """How often each id stands in the training rows (in a sample of shards, for a large dataset)."""
    counts = np.zeros(dataset.manifest.vocab_size, np.int64)
    for tokens, segments in token_rows(dataset, max_tokens=max_tokens):
        counts += np.bincount(tokens[segments > 0], minlength=counts.size)
    return counts


def never_targets(dataset: Dataset) -> Int64[np.ndarray, " ids"]:
    """Ids that play a part: [CLS], [SEP], [PAD], [MASK], [UNK], as far as there are such."""
    roles = dataset.manifest.roles
    return np.array(sorted({i for i in (roles.cls, roles.sep, roles.pad, roles.mask, roles.unk) if i >= 0}), np.int64)
