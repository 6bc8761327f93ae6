"""Plain arrays of a dataset's rows, and what is counted in them."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32, Int64

from mlm_data.dataset.dataset import Dataset
from mlm_data.shards.format import TRAIN


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
