"""Asking again where a store asks for fewer requests.

Arrow's client for S3 asks again after 500, 503 and lost connections by itself, and after 429 only where an answer has
no body (HEAD). Stores that only look like S3 answer 429 where S3 answers 503 SlowDown. `patiently` does for them what
the client does for S3: at most `places.ATTEMPTS` attempts, with random waits whose bound doubles ("full jitter":
Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015), so that workers which were refused together don't
come back together.
"""

import re
import time
from collections.abc import Callable
from secrets import SystemRandom
from typing import TypeVar

import pyarrow as pa

from mlm_data.stores import places

Answer = TypeVar("Answer")

LONGEST_SECONDS = 20.0
# The last: a refusal longer than the few bytes that were to be read, so that the client can't tell what it says.
_BUSY = re.compile(r"TOO_?MANY_?REQUESTS|HTTP.*\b429\b|Failed to flush response stream", re.IGNORECASE)
_ASKED_AGAIN = re.compile(r"No response body|Retry policy exhausted")  # by the client itself, in vain
_random = SystemRandom()


def is_busy(error: Exception) -> bool:
    """Whether a store has refused a request only for now, in words that its client does not act upon."""
    said = str(error)
    return _BUSY.search(said) is not None and _ASKED_AGAIN.search(said) is None


def patiently(ask: Callable[[], Answer], *, passes: Callable[[Exception], bool] = is_busy) -> Answer:
    """What `ask()` returns; asked again where it raises an error that `passes`, which the last attempt raises.

    To ask twice must do no harm.
    """
    for attempt in range(1, places.ATTEMPTS):
        try:
            return ask()
        except Exception as error:
            if not passes(error):
                raise
        time.sleep(_random.uniform(0, min(LONGEST_SECONDS, 2.0 ** (attempt - 1))))
    return ask()


def patient(stream: pa.NativeFile) -> pa.NativeFile:
    """A reader of the same object, whose reads are asked again."""
    return pa.PythonFile(_Reader(stream), mode="r")


class _Reader:
    """What `pa.PythonFile` asks of a file. A read that failed has not moved it."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def read(self, size: int = -1) -> bytes:
        return patiently(lambda: self._stream.read(None if size < 0 else size))

    def read_buffer(self, size: int = -1) -> pa.Buffer:
        return patiently(lambda: self._stream.read_buffer(None if size < 0 else size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False
