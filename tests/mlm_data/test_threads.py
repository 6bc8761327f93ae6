"""Work in threads."""

import contextlib
import gc
import signal
import threading
import weakref

import pytest

from mlm_data.threads import in_threads, interruptible
from tests.pipelines.clusters import wait_for


def test_threads_keep_the_order_and_stop_at_an_error():
    assert list(in_threads(lambda n: n * n, range(20), workers=3)) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda n: 1 // (3 - n), range(20), workers=2))


def test_something_long_gives_its_result_or_raises_as_if_it_were_called():
    assert interruptible(lambda: threading.current_thread() is threading.main_thread()) is False
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)
    other = threading.Thread(target=lambda: names.append(interruptible(lambda: threading.current_thread().name)))
    names: list[str] = []
    other.start()
    other.join()
    assert names == [other.name]


def test_an_error_leaves_nothing_behind_that_waits_for_the_garbage_collector():
    class Held:
        """What a library holds while it works."""

    gone = []

    def fail() -> None:
        held = Held()
        weakref.finalize(held, gone.append, True)
        raise ZeroDivisionError

    gc.disable()
    try:
        with contextlib.suppress(ZeroDivisionError):
            interruptible(fail)
        wait_for(lambda: gone, seconds=5)
    finally:
        gc.enable()


@pytest.mark.parametrize("catcher", [threading.get_ident, threading.main_thread().ident.__int__])
def test_something_long_is_interrupted_at_once(catcher):
    """As a library is that doesn't come back to Python, whichever thread catches the signal."""
    begun, over, ended = threading.Event(), threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        over.wait(60)
        ended.set()

    interrupter = threading.Thread(target=lambda: (begun.wait(), signal.pthread_kill(catcher(), signal.SIGINT)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
    interrupter.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            interruptible(long)
        assert not ended.is_set()
    finally:
        over.set()
        interrupter.join()
        signal.signal(signal.SIGINT, before)
