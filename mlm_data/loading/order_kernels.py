"""The order of rows as compiled loops, for loaders; `order_plain` has the same in numpy."""

import numpy as np

from mlm_data import seeds
from mlm_data.kernels import kernel
from mlm_data.loading.order_plain import MIN_BITS, ROUNDS


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
def order_shards(key, num_shards):
    """The shards in the order of an epoch: uint64, int64 -> int32 [shards]."""
    order = np.empty(num_shards, np.int32)
    for i in range(num_shards):
        order[i] = permute(key, i, num_shards)
    return order


@kernel
def order_rows(key, order, starts, window, first, shards, rows):
    """Shard and row in the shard of the places of an epoch from `first` on, into int32 arrays of as many."""
    for j in range(shards.size):
        position = np.searchsorted(starts, first + j, side="right") - 1
        begin = position // window * window
        end = min(begin + window, order.size)
        base = starts[begin]
        row = base + permute(seeds.fold(key, position // window), first + j - base, starts[end] - base)
        position = begin + np.searchsorted(starts[begin : end + 1], row, side="right") - 1
        shards[j] = order[position]
        rows[j] = row - starts[position]
