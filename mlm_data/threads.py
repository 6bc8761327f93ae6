"""Work in threads: many pieces in order, or a long one for which Ctrl-C need not wait."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

LOOK_UP_SECONDS = 0.2
"""How long a signal may go unnoticed at most, while something long is done."""


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


def interruptible(work: Callable[[], B]) -> B:
    """The result of something long that may not come back to Python for seconds, as a library's native loop.

    Python handles signals in the main thread, between two of its own steps. So the work is done in another thread
    while the main one waits, which is interrupted at once. What is left behind then goes on until its end; a command
    doesn't wait for it (`ending.leave`).

    The main thread looks up from time to time: a signal that another thread has caught, or that came when the main
    one was about to wait, doesn't wake it.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    future: Future[B] = Future()
    threading.Thread(target=_settle, args=(future, work), name="premask").start()
    try:
        while not wait([future], timeout=LOOK_UP_SECONDS).done:
            pass
        return future.result()
    finally:
        del future  # an error's traceback holds this frame: what it names would live until garbage is collected


def _settle(future: Future[B], work: Callable[[], B]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future, work  # as above
