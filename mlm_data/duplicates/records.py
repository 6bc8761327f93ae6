"""Packed records, which cross from step to step: fixed-width and little-endian, gathered by a partition of a hash."""

import numpy as np

Records = np.ndarray  # of a structured type


def to_bytes(records: Records) -> bytes:
    """The records' own bytes; `from_bytes` is the inverse."""
    return np.ascontiguousarray(records).tobytes()


def from_bytes(data: bytes | memoryview, kind: np.dtype) -> Records:
    """Records around the bytes, zero-copy."""
    return np.frombuffer(data, kind)


def partition(records: Records, field: str, num_partitions: int) -> list[Records]:
    """The records of each partition, in their order. Equal values of `field`, a uint64, fall into the same one.

    >>> records = np.array([(7,), (4,), (7,)], [("hash", "<u8")])
    >>> [part["hash"].tolist() for part in partition(records, "hash", 2)]
    [[4], [7, 7]]
    """
    number = (records[field] % np.uint64(num_partitions)).astype(np.int32)
    order = np.argsort(number, kind="stable")
    borders = np.searchsorted(number[order], np.arange(1, num_partitions))
    return np.split(records[order], borders)
