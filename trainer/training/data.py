"""From the loader's numpy batches to tensors on the device, and plain arrays of a dataset's rows."""

import dataclasses
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.loading.batches import Batch
from mlm_data.loading.loader import Loader
from mlm_data.shards.format import TRAIN
from mlm_data.types import IGNORED
from trainer.config import RunSettings
from trainer.training.parallel import ALONE, Parallel

MAX_IDS = 2**21 - 1
AHEAD = 8  # batches that a thread makes while the device works: it is woken for half of them at once


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


def check_vocabulary(dataset: Dataset) -> None:
    """Refuse a vocabulary whose neighbours can't be counted as one integer of 63 bits for three ids.

    Raises:
        ConfigError: names both numbers and the remedy.
    """
    size = dataset.manifest.vocab_size
    if size > MAX_IDS:
        raise ConfigError(
            f"data: {dataset.folder.location} has a vocabulary of {size:,} ids, the trainer does {MAX_IDS:,} at most: "
            "build the dataset with a smaller tokenizer"
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


def documents_of_step(settings: RunSettings, facts: Mapping[str, Any], step: int) -> pa.Table:
    """Which documents were in step 1, 2, ... of a run, of all ranks; columns as of `Loader.documents_between`.

    A mixture's `stream_row` counts rows of the dataset that `data` names, a column of its own.
    """
    sizes = dict(zip(facts["ramp"], facts["rows_per_step"], strict=True))
    data, digest, begin = settings.data, facts["dataset"], 0
    for part in reversed(facts.get("former", [])):  # datasets that others have taken the place of, the last one first
        if step > part["until"]:
            begin = max(begin, part["until"])
        else:
            data, digest = part["data"], part["dataset"]

    def rows(number: int) -> int:
        return sizes[max(first for first in sizes if first <= number)]

    first, count = sum(rows(number) for number in range(begin, step - 1)), rows(step - 1)
    options: dict[str, Any] = {"planes": settings.planes, "batch_rows": settings.batch_rows, "seed": settings.seed}
    dataset = open_dataset(pinned(data, digest))
    if not settings.mix:
        return Loader(dataset, **options).documents_between(first, count)
    parts = [(dataset, 1.0)]
    for number, part in enumerate(settings.mix):
        known = facts.get("mix")  # runs from before this was written down: the version that is there now
        parts.append((open_dataset(pinned(part.data, known[number]) if known else part.data), part.weight))
    loaders = [Loader(one, **options) for one, _ in parts]
    units = _units([weight for _, weight in parts], [0] * len(parts), settings.batch_rows)
    tables = []
    for number, row in islice(units, first // settings.batch_rows, (first + count) // settings.batch_rows):
        table = loaders[number].documents_between(row, settings.batch_rows)
        names = pa.array([parts[number][0].folder.location] * table.num_rows, pa.string())
        tables.append(table.append_column("data", names))
    return pa.concat_tables(tables, promote_options="permissive")


def pinned(location: str, digest: str) -> str:
    """The location of one version, whichever version the location itself names."""
    folder, at, named = location.rpartition("@")
    return f"{folder if at and len(named) == 64 and '/' not in named else location}@{digest}"


def _units(weights: Sequence[float], taken: list[int], rows: int) -> Iterator[tuple[int, int]]:
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
            _check_fit(dataset, other)
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
        self._to_come = _units([weight for _, weight in parts], self._taken, settings.batch_rows)
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


def usual_segments(dataset: Dataset, batch_rows: int) -> int:
    """A bound on the segments of a batch, paddings included, that hardly any batch exceeds: a quarter above the mean.

    The loader's own bound is what every row could have at once, several times as much. Flash attention starts
    programs for every segment that there might be: on an H100, a layer of 32 rows of 1,024, one segment each, takes
    1.8 ms with borders for 32 segments and 2.4 ms with borders for 1,024 (docs/gpu.md).
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


def _check_fit(dataset: Dataset, other: Dataset) -> None:
    for name, one, two in (
        ("sequence_length", dataset.manifest.sequence_length, other.manifest.sequence_length),
        ("tokenizer", dataset.manifest.tokenizer["sha256"], other.manifest.tokenizer["sha256"]),
    ):
        if one != two:
            raise ConfigError(
                f"mix: {other.folder.location} has {name} {two}, {dataset.folder.location} has {one}: "
                "mix datasets of one length and one tokenizer"
            )
