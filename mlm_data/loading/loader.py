"""The loader: an endless stream of batches of static shape, the same for any number of ranks.

The stream is a sequence of rows (order.py). Step s of a run with world size N and B rows a rank consumes the N * B rows
from s * N * B on; rank r takes B of them from r * B on. Epoch e reads plane e mod K.

A worked trace: 10 rows, two planes, B = 4, one rank. Step 0 reads rows 0 to 3 of epoch 0, step 1 rows 4 to 7, step 2
rows 8 and 9 of epoch 0 (plane 0) and rows 0 and 1 of epoch 1 (plane 1): a batch may straddle epochs, so no row is lost
and none repeated. After step 2 the state says `rows_consumed: 12`. Two ranks with B = 2 read the same: rank 0 has the
first two rows of each step, rank 1 the others. Ranks, or another B, may change at any checkpoint: the stream stays.

The state is six plain values. Nothing is replayed: entering the stream anywhere costs as much as going on.
"""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.tombstones import check_not_purged
from mlm_data.errors import CheckpointError
from mlm_data.loading.batches import Batch, BatchMaker
from mlm_data.loading.checks import check_planes, check_ranks, check_split, check_whole
from mlm_data.loading.order import WINDOW, RowOrder
from mlm_data.loading.origins import documents_between
from mlm_data.shards import format as fmt
from mlm_data.stores.copies import through_cache

OPEN_ROWS = 4096  # nearly all shards of a window are in so many rows


class Loader:
    """An endless iterator of batches; see the module's docstring for the order.

    Args:
        dataset: an open dataset.
        split: whose rows; a validation split has the one plane `evaluation`.
        planes: which planes the epochs cycle through; all of the split's by default.
        batch_rows: B, rows of one batch of this rank.
        seed: of the order; 0, or the state's, by default.
        window: W, shards that are shuffled together; 256, or the state's, by default.
        rank: this rank, below `world_size`.
        world_size: number of ranks; each has the same `batch_rows`.
        state: what `state()` of an earlier loader returned; goes on after the last batch that it gave out.
        prefetch: batches that a thread makes ahead; 0: none, and no thread.

    Raises:
        ConfigError: for an empty split, an unknown plane, or numbers that can't be right.
        CheckpointError: if the state belongs to another dataset, or contradicts seed, planes or window.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        split: str = fmt.TRAIN,
        planes: Sequence[int | str] | None = None,
        batch_rows: int,
        seed: int | None = None,
        window: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        state: Mapping[str, Any] | None = None,
        prefetch: int = 0,
    ) -> None:
        dataset = dataset.read_by(through_cache(dataset.folder))
        wanted = None if planes is None else [str(plane) for plane in planes]
        given = {"digest": dataset.digest, "split": split, "seed": seed, "planes": wanted, "window": window}
        self._settings = _settings(dataset, given, state)
        self._first = int(state["rows_consumed"]) if state else 0
        check_split(dataset, split)
        check_ranks(batch_rows, rank, world_size)
        self._stream = _Stream(dataset, self._settings, batch_rows=batch_rows, rank=rank, world_size=world_size)
        self._steps = 0  # given out by this loader
        self._ahead = _Ahead(self._stream, self._first, prefetch) if prefetch > 0 else None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        first = self._first + self._steps * self.global_rows
        batch = self._ahead.take() if self._ahead else self._stream.batch(first)
        self._steps += 1
        return batch

    @property
    def global_rows(self) -> int:
        """Rows that one step of all ranks consumes."""
        return self._stream.global_rows

    @property
    def rows_consumed(self) -> int:
        """Rows of the stream that all ranks have consumed, if each has taken as many batches as this one."""
        return self._first + self._steps * self.global_rows

    @property
    def target_sizes(self) -> tuple[int, ...]:
        """Every length that `target_places` may have: one for each distinct bound of the planes, ascending."""
        return tuple(sorted({self._stream.maker.max_targets([plane]) for plane in self._settings["planes"]}))

    def state(self) -> dict[str, Any]:
        """Where the stream is, as plain types; batches made ahead but not given out don't count."""
        return {**self._settings, "rows_consumed": self.rows_consumed}

    def batch_at(self, first_row: int, end: int | None = None) -> Batch:
        """This rank's batch of the step that begins at a row of the stream. Moves nothing.

        Args:
            first_row: of the step of all ranks.
            end: rows of the stream from here on are left out; empty rows take their places.
        """
        return self._stream.batch(first_row, end)

    def documents_between(self, first_row: int, num_rows: int) -> pa.Table:
        """Which documents were in these rows of the stream, and which bytes made them.

        Returns a line for each segment: `stream_row`, `epoch`, `plane`, `shard`, `file` (of the rows) and `row` in it;
        `start` and `num_tokens`, the content tokens of the document that were there; and every column of the documents
        file: `id`, `source`, `offset`, ... A document begins at `offset` of `source`.
        """
        return self._stream.documents(first_row, num_rows)

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._ahead:
            self._ahead.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        ahead = getattr(self, "_ahead", None)  # which a constructor that failed has not made
        if ahead:
            ahead.close(wait=False)


class Evaluation:
    """The validation split once, in the order on disk, as batches of static shape; may be iterated again.

    The last batch is filled with empty rows: all padding, without targets. With several ranks each takes as many
    batches, so that collective operations agree, and some may be empty.
    """

    def __init__(self, dataset: Dataset, batch_rows: int, *, rank: int = 0, world_size: int = 1) -> None:
        check_split(dataset, fmt.VALIDATION)
        check_ranks(batch_rows, rank, world_size)
        dataset = dataset.read_by(through_cache(dataset.folder))
        self._maker = BatchMaker(dataset, split=fmt.VALIDATION, batch_rows=batch_rows, window=2)
        self._rank, self._world_size = rank, world_size
        self._counts = dataset.shard_rows(fmt.VALIDATION)
        self.num_rows = int(self._counts.sum())

    def __len__(self) -> int:
        return -(-self.num_rows // (self._maker.batch_rows * self._world_size))

    @property
    def target_size(self) -> int:
        """Length of `target_places` in every batch."""
        return self._maker.max_targets(["evaluation"])

    def __iter__(self) -> Iterator[Batch]:
        size = self._maker.batch_rows
        ends = np.cumsum(self._counts)
        for step in range(len(self)):
            first = min((step * self._world_size + self._rank) * size, self.num_rows)
            places = np.arange(first, min(first + size, self.num_rows))
            shards = np.searchsorted(ends, places, side="right").astype(np.int32)
            rows = (places - (ends - self._counts)[shards]).astype(np.int32)
            yield self._maker.make(shards, rows, [("evaluation", slice(0, places.size))])


def evaluation(dataset: Dataset, batch_rows: int, *, rank: int = 0, world_size: int = 1) -> Evaluation:
    """The validation split as a finite iterator of batches.

    Raises:
        ConfigError: if the dataset has no validation split.
    """
    return Evaluation(dataset, batch_rows, rank=rank, world_size=world_size)


class _Stream:
    """Any batch of the stream by its first row. Two threads may use it."""

    def __init__(
        self, dataset: Dataset, settings: Mapping[str, Any], *, batch_rows: int, rank: int, world_size: int
    ) -> None:
        self.dataset, self.split, self.planes = dataset, settings["split"], settings["planes"]
        self.order = RowOrder(dataset.shard_rows(self.split), seed=settings["seed"], window=settings["window"])
        self.maker = BatchMaker(
            dataset,
            split=self.split,
            planes=sorted(set(self.planes), key=dataset.planes(self.split).index),
            batch_rows=batch_rows,
            window=settings["window"],
        )
        self.global_rows = batch_rows * world_size
        self._rank, self._batch_rows = rank, batch_rows
        self._lock = threading.Lock()
        self._next_window = -1  # of the stream's places: from there on another window's files are to be asked for

    def fetch_ahead(self, first: int) -> None:
        """Where files come from a bucket: ask for those of the window that holds a place, and of the next one."""
        if self.dataset.folder.is_local or not self.dataset.folder.is_mapped or first < self._next_window:
            return
        shards, end = self.order.window_at(first)
        following, _ = self.order.window_at(end)
        for index in [*shards.tolist(), *following.tolist()]:
            files = self.dataset.shard(self.split, index).files
            for kind in (fmt.ROWS, fmt.MASKS):
                self.dataset.folder.read_ahead(files[kind].name)
        self._next_window = end

    def batch(self, first: int, end: int | None = None) -> Batch:
        first += self._rank * self._batch_rows
        count = self._batch_rows if end is None else min(self._batch_rows, max(0, end - first))
        with self._lock:
            if not count:
                return self.maker.make(np.zeros(0, np.int32), np.zeros(0, np.int32), [])
            epochs, shards, rows = self.order.take(first, count)
            return self.maker.make(shards, rows, self._parts(epochs))

    def open_ahead(self, first: int) -> None:
        """Open the shards of the rows to come, where that costs no memory, so that no batch waits for it."""
        with self._lock:
            epochs, shards, _ = self.order.take(first, min(OPEN_ROWS, self.order.num_rows))
            self.maker.shards.open_ahead(self.planes[int(epochs[0]) % len(self.planes)], np.unique(shards))

    def documents(self, first: int, count: int) -> pa.Table:
        with self._lock:
            return documents_between(self.dataset, self.split, self.planes, self.order, first, count)

    def _parts(self, epochs: Int64[np.ndarray, " rows"]) -> list[tuple[str, slice]]:
        parts = []
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            begin, end = np.searchsorted(epochs, [epoch, epoch + 1])
            parts.append((self.planes[epoch % len(self.planes)], slice(int(begin), int(end))))
        return parts


class _Ahead:
    """A thread that makes batches ahead. It knows the stream, not the loader, so that a dropped loader ends it.

    Two queues in C hand over batches and permits to make more; `queue.Queue` takes ten times as long. Permits come for
    half of the batches at once: to wake a thread costs the one that wakes it up to 50 microseconds.
    """

    def __init__(self, stream: _Stream, first: int, depth: int) -> None:
        self._ready: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self._permits: queue.SimpleQueue[int] = queue.SimpleQueue()  # to make so many more batches; 0: to end
        self._permits.put(depth)
        self._at_once, self._taken = max(1, depth // 2), 0
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(
            target=_make_ahead,
            args=(stream, first, self._ready, self._permits, self._stop),
            name="premask-loader",
            daemon=True,
        )
        self._thread.start()

    def take(self) -> Batch:
        if self._failed is None and self._stop.is_set():
            raise ValueError("the loader is closed")
        item = self._failed or self._ready.get()
        if isinstance(item, BaseException):
            self._failed = item
            raise item
        self._taken += 1
        if self._taken == self._at_once:
            self._permits.put(self._taken)
            self._taken = 0
        return item

    def close(self, *, wait: bool = True) -> None:
        self._stop.set()
        self._permits.put(0)
        if wait and self._thread is not threading.current_thread():
            self._thread.join()


def _make_ahead(
    stream: _Stream, first: int, ready: queue.SimpleQueue, permits: queue.SimpleQueue, stop: threading.Event
) -> None:
    try:
        stream.fetch_ahead(first)
        stream.open_ahead(first)
        while count := permits.get():
            for _ in range(count):
                if stop.is_set():
                    return
                stream.fetch_ahead(first)
                ready.put(stream.batch(first))
                first += stream.global_rows
    except BaseException as error:  # told by `take`, in the thread that can act on it
        ready.put(error)


def _settings(dataset: Dataset, given: Mapping[str, Any], state: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the stream depends on: from the state where there is one, which may not be contradicted."""
    defaults: dict[str, Any] = {"seed": 0, "planes": dataset.planes(given["split"]), "window": WINDOW}
    if state is None:
        settings = {name: defaults[name] if value is None else value for name, value in given.items()}
    else:
        missing = [name for name in (*given, "rows_consumed") if name not in state]
        if missing:
            raise CheckpointError(f"the loader's state has no {missing[0]!r}: it is damaged")
        if state["digest"] != given["digest"]:
            check_not_purged(dataset.folder, state["digest"])
            raise CheckpointError(
                f"the state belongs to dataset {state['digest'][:16]}, this is {given['digest'][:16]}: "
                "open that version, or begin a new phase with this one"
            )
        for name, value in given.items():
            if value is not None and value != state[name]:
                raise CheckpointError(f"{name} is {value!r}, the state has {state[name]!r}: leave it out to go on")
        settings = {name: state[name] for name in given}
    check_planes(dataset, settings["split"], settings["planes"])
    check_whole("window", settings["window"], least=1)
    check_whole("seed", settings["seed"], least=0)
    return settings


__all__ = ["Batch", "Evaluation", "Loader", "evaluation"]
