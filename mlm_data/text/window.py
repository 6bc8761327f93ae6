r"""The part of a stream that is not yet cut into records.

For formats whose records do not end where a line ends. A reader asks for more bytes, cuts what is whole off the front,
and asks again:

    window.data  "a,b\n1,2\n3,"   ->  drop(8)  ->  "3,"   ->  grow  ->  "3,4\n5,6"

A window that holds no whole record doubles, so that a record of n bytes costs about 2n bytes to look through.
"""

from mlm_data.text.encodings import find_encoding
from mlm_data.text.streams import ByteStream

MAX_RECORD_BYTES = 64 << 20  # a record that has not ended by then never will: a quote or bracket is not closed


class Window:
    """`data` begins at byte `offset` of the decompressed file, behind its byte order mark if at all."""

    def __init__(self, stream: ByteStream, encoding: str, size: int) -> None:
        self.units, self.codec = find_encoding(stream.peek(4), encoding)
        self.offset = 0
        self.data = b""
        self.is_last = False  # nothing comes behind `data`
        self._stream = stream
        self._size = size
        self._counted = 0
        self.grow()
        self.drop(len(self.units.mark))

    @property
    def damage(self) -> str:
        """Why the stream broke off behind `data`; empty while all is well."""
        return self._stream.damage

    def grow(self) -> None:
        """Add what comes next: as much again as there is, but at least a batch."""
        more = b"" if self.is_last else self._stream.read(max(self._size, len(self.data)))
        self.is_last = not more
        self.data = self.data + more if self.data else more

    def drop(self, num_bytes: int) -> None:
        """Take bytes off the front."""
        self.data = self.data[num_bytes:]
        self.offset += num_bytes

    def count(self) -> int:
        """The bytes that were dropped since the last call."""
        num_bytes, self._counted = self.offset - self._counted, self.offset
        return num_bytes
