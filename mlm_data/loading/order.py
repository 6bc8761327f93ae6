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

import numpy as np
from jaxtyping import Int32, Int64

from mlm_data import seeds
from mlm_data.kernels import kernel

ROUNDS = 8
MIN_BITS = 6  # smaller networks reach too few of the n! orders


@kernel
def permute(key, i, n):
    """The image of i under the permutation of range(n) that a key names: uint64, int64, int64 -> int64."""
    bits = MIN_BITS
    while (np.int64(1) << bits) < n:
        bits += 1
    low_bits = np.uint64(bits - bits // 2)
    low_mask = (np.uint64(1) << low_bits) - np.uint64(1)
    high_mask = (np.uint64(1) << np.uint64(bits // 2)) - np.uint64(1)
    x = np.uint64(i)
    while True:
        high, low = x >> low_bits, x & low_mask
        for k in range(0, ROUNDS, 2):
            high ^= seeds.draw(key, (np.uint64(k) << np.uint64(40)) | low) & high_mask
            low ^= seeds.draw(key, (np.uint64(k + 1) << np.uint64(40)) | high) & low_mask
        x = (high << low_bits) | low
        if x < np.uint64(n):
            return np.int64(x)


@kernel
def unpermute(key, image, n):
    """The i that `permute` maps to `image`: uint64, int64, int64 -> int64."""
    bits = MIN_BITS
    while (np.int64(1) << bits) < n:
        bits += 1
    low_bits = np.uint64(bits - bits // 2)
    low_mask = (np.uint64(1) << low_bits) - np.uint64(1)
    high_mask = (np.uint64(1) << np.uint64(bits // 2)) - np.uint64(1)
    x = np.uint64(image)
    while True:
        high, low = x >> low_bits, x & low_mask
        for k in range(ROUNDS - 2, -1, -2):
            low ^= seeds.draw(key, (np.uint64(k + 1) << np.uint64(40)) | high) & low_mask
            high ^= seeds.draw(key, (np.uint64(k) << np.uint64(40)) | low) & high_mask
        x = (high << low_bits) | low
        if x < np.uint64(n):
            return np.int64(x)


@kernel
def _order_shards(key, num_shards):
    order = np.empty(num_shards, np.int32)
    for i in range(num_shards):
        order[i] = permute(key, i, num_shards)
    return order


@kernel
def _order_rows(key, order, starts, window, first, shards, rows):
    for j in range(shards.size):
        position = np.searchsorted(starts, first + j, side="right") - 1
        begin = position // window * window
        end = min(begin + window, order.size)
        base = starts[begin]
        row = base + permute(seeds.fold(key, position // window), first + j - base, starts[end] - base)
        position = begin + np.searchsorted(starts[begin : end + 1], row, side="right") - 1
        shards[j] = order[position]
        rows[j] = row - starts[position]


class RowOrder:
    """The keyed order of a split's rows.

    Args:
        shard_rows: rows of each shard, at least one.
        seed: of the order; below 2**64.
        window: shards that are shuffled together.
    """

    def __init__(self, shard_rows: Int64[np.ndarray, " shards"], *, seed: int, window: int) -> None:
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
            _order_rows(key, order, starts, self._window, begin - epoch * self.num_rows, shards[part], rows[part])
        return epochs, shards, rows

    def window_at(self, place: int) -> tuple[Int32[np.ndarray, " shards"], int]:
        """The shards of the window that holds a place of the stream, and the first place behind it."""
        epoch, local = divmod(place, self.num_rows)
        _, order, starts = self._epoch(epoch)
        begin = (int(np.searchsorted(starts, local, side="right")) - 1) // self._window * self._window
        end = min(begin + self._window, order.size)
        return order[begin:end], epoch * self.num_rows + int(starts[end])

    def find(self, epoch: int, shard: int, row: int) -> int:
        """The place of the stream at which an epoch reads a row of a shard: the inverse of `take`.

        Cost: the order of the epoch's shards, and then as much as one row of `take`.
        """
        key, order, starts = self._epoch(epoch)
        position = int(np.flatnonzero(order == shard)[0])
        begin = position // self._window * self._window
        end = min(begin + self._window, order.size)
        base, size = int(starts[begin]), int(starts[end] - starts[begin])
        inner = np.uint64(seeds.fold(key, np.uint64(position // self._window)))
        place = unpermute(inner, int(starts[position]) + row - base, size)
        return epoch * self.num_rows + base + int(place)

    def _order_epoch(
        self, epoch: int
    ) -> tuple[np.uint64, Int32[np.ndarray, " shards"], Int64[np.ndarray, " shards+1"]]:
        order = _order_shards(_key(self._seed, seeds.SHARD_ORDER, epoch), self._shard_rows.size)
        starts = np.zeros(order.size + 1, np.int64)
        np.cumsum(self._shard_rows[order], out=starts[1:])
        return _key(self._seed, seeds.ROW_ORDER, epoch), order, starts


def _key(seed: np.uint64, purpose: np.uint64, epoch: int) -> np.uint64:
    return np.uint64(seeds.fold(np.uint64(seeds.fold(seed, purpose)), epoch))
