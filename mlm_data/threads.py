"""Work in threads, in order."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_threads(work: Callable[[A], B], items: Iterable[A], *, workers: int) -> Iterator[B]:
    """`map`, by some threads, in order; at most `workers` items are begun and not yet taken.

    Kernels and Arrow release the interpreter, so threads use all cores, and memory is that of `workers` shards.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="premask") as pool:
        running: list[Future[B]] = [pool.submit(work, item) for item in islice(remaining, workers)]
        try:
            while running:
                done = running.pop(0).result()
                running += [pool.submit(work, item) for item in islice(remaining, 1)]
                yield done
        finally:
            for future in running:
                future.cancel()
