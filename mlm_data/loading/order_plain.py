"""The order of rows in numpy, for a question about some rows: `order` says what it is, `order_kernels` has loops."""

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from mlm_data import seeds_plain as seeds

ROUNDS = 8
MIN_BITS = 6  # smaller networks reach too few of the n! orders

Key = UInt64[np.ndarray, " 1"]
Places = Int64[np.ndarray, " places"]


def permute(key: Key, places: Places, n: int) -> Places:
    """The images of places under the permutation of range(n) that a key names."""
    return _walk(key, places, n, range(ROUNDS))


def unpermute(key: Key, images: Places, n: int) -> Places:
    """The places that `permute` maps to these images."""
    return _walk(key, images, n, range(ROUNDS - 1, -1, -1))


def _walk(key: Key, places: Places, n: int, rounds: range) -> Places:
    """Go through the network until each place is below n."""
    bits = max(MIN_BITS, (n - 1).bit_length())
    low_bits = np.uint64(bits - bits // 2)
    masks = ((np.uint64(1) << np.uint64(bits // 2)) - np.uint64(1), (np.uint64(1) << low_bits) - np.uint64(1))
    found = places.astype(np.uint64)
    walking = np.arange(len(found))
    while walking.size:
        x = found[walking]
        halves = [x >> low_bits, x & masks[1]]
        for k in rounds:  # even rounds change the high half by the low one, odd rounds the low half by the high one
            side = k % 2
            counter = (np.uint64(k) << np.uint64(40)) | halves[1 - side]
            halves[side] = halves[side] ^ (seeds.draw(key, counter) & masks[side])
        x = (halves[0] << low_bits) | halves[1]
        found[walking] = x
        walking = walking[x >= np.uint64(n)]
    return found.astype(np.int64)


def order_shards(key: np.uint64, num_shards: int) -> Int32[np.ndarray, " shards"]:
    """The shards in the order of an epoch."""
    return permute(np.array([key]), np.arange(num_shards), num_shards).astype(np.int32)


def order_rows(
    key: np.uint64,
    order: Int32[np.ndarray, " shards"],
    starts: Int64[np.ndarray, " shards+1"],
    window: int,
    first: int,
    shards: Int32[np.ndarray, " rows"],
    rows: Int32[np.ndarray, " rows"],
) -> None:
    """Shard and row in the shard of the places of an epoch from `first` on, written into `shards` and `rows`."""
    places = np.arange(first, first + len(shards))
    windows = (np.searchsorted(starts, places, side="right") - 1) // window
    for number in np.unique(windows).tolist():
        mine = np.flatnonzero(windows == number)
        begin, end = number * window, min((number + 1) * window, len(order))
        base, size = int(starts[begin]), int(starts[end] - starts[begin])
        inner = seeds.fold(np.array([key]), np.array([number], np.uint64))
        row = base + permute(inner, places[mine] - base, size)
        position = begin + np.searchsorted(starts[begin : end + 1], row, side="right") - 1
        shards[mine] = order[position]
        rows[mine] = row - starts[position]
