"""The order of rows: one endless stream that any worker can enter at any place.

Epoch e reads every row once. Its shards are put in a keyed order, which is cut into windows of W shards; within a
window all rows are put in a keyed order:

    place i of an epoch -> window w (cumulative counts) -> permute(key(seed, e, w), i - first place of w) -> shard, row

A worked trace, with three shards a, b, c of 2, 1 and 3 rows and W = 2. Say epoch 0 orders the shards c, a, b. Window 0
is (c0 c1 c2 a0 a1), window 1 is (b0). Place 0 of the epoch is permute(key, 0, 5) in window 0: if that is 3, it is a0.
Place 5 is in window 1, and permute(key, 0, 1) = 0: b0. Place 6 of the stream is place 0 of epoch 1.

`permute` is a Feistel network on the next power of two, walked until it falls below n (Black and Rogaway, Ciphers with
arbitrary finite domains, CT-RSA 2002, sec. 3): a bijection that needs no memory, and less than two passes on average.
The halves may differ by a bit. 8 rounds: the usual 4 are too few where a half has 3 bits.

Cost: 12 bytes a shard and epoch; about 0.2 us a row.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from mlm_data import seeds_plain as seeds
from mlm_data.loading import order_plain

WINDOW = 256  # shards that are shuffled together, unless a loader is told otherwise


class RowOrder:
    """The keyed order of a split's rows.

    Args:
        shard_rows: rows of each shard, at least one.
        seed: of the order; below 2**64.
        window: shards that are shuffled together.
        compiled: False where only some rows will be asked for: numpy does that before numba has started.
    """

    def __init__(
        self, shard_rows: Int64[np.ndarray, " shards"], *, seed: int, window: int, compiled: bool = True
    ) -> None:
        loops: Any = order_plain
        if compiled:
            from mlm_data.loading import order_kernels as loops
        self._loops = loops
        self._shard_rows = np.asarray(shard_rows, np.int64)
        self._seed, self._window = np.uint64(seed), window
        self.num_rows = int(self._shard_rows.sum())
        self._epoch = lru_cache(maxsize=2)(self._order_epoch)

    def take(
        self, first: int, count: int
    ) -> tuple[Int64[np.ndarray, " rows"], Int32[np.ndarray, " rows"], Int32[np.ndarray, " rows"]]:
        """Epoch, shard and row in the shard of `count` places of the stream from `first` on."""
        places = np.arange(first, first + count, dtype=np.int64)
        epochs = places // self.num_rows
        shards, rows = np.empty(count, np.int32), np.empty(count, np.int32)
        for epoch in range(first // self.num_rows, (first + count - 1) // self.num_rows + 1):
            begin = max(epoch * self.num_rows, first)
            end = min((epoch + 1) * self.num_rows, first + count)
            part = slice(begin - first, end - first)
            key, order, starts = self._epoch(epoch)
            self._loops.order_rows(
                key, order, starts, self._window, begin - epoch * self.num_rows, shards[part], rows[part]
            )
        return epochs, shards, rows

    def window_at(self, place: int) -> tuple[Int32[np.ndarray, " shards"], int]:
        """The shards of the window that holds a place of the stream, and the first place behind it."""
        epoch, local = divmod(place, self.num_rows)
        _, order, starts = self._epoch(epoch)
        begin = (int(np.searchsorted(starts, local, side="right")) - 1) // self._window * self._window
        end = min(begin + self._window, order.size)
        return order[begin:end], epoch * self.num_rows + int(starts[end])

    def find(self, epoch: int, shard: int, rows: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """The places of the stream at which an epoch reads rows of a shard: the inverse of `take`."""
        key, order, starts = self._epoch(epoch)
        position = int(np.flatnonzero(order == shard)[0])
        begin = position // self._window * self._window
        end = min(begin + self._window, order.size)
        base, size = int(starts[begin]), int(starts[end] - starts[begin])
        inner = seeds.fold(np.array([key]), np.array([position // self._window], np.uint64))
        places = order_plain.unpermute(inner, starts[position] + rows - base, size)
        return epoch * self.num_rows + base + places

    def _order_epoch(
        self, epoch: int
    ) -> tuple[np.uint64, Int32[np.ndarray, " shards"], Int64[np.ndarray, " shards+1"]]:
        order = self._loops.order_shards(_key(self._seed, seeds.SHARD_ORDER, epoch), self._shard_rows.size)
        starts = np.zeros(order.size + 1, np.int64)
        np.cumsum(self._shard_rows[order], out=starts[1:])
        return _key(self._seed, seeds.ROW_ORDER, epoch), order, starts


def _key(seed: np.uint64, purpose: np.uint64, epoch: int) -> np.uint64:
    purposed = seeds.fold(np.array([seed]), np.array([purpose]))
    return seeds.fold(purposed, np.array([epoch], np.uint64))[0]
