"""A slice of text, in blocks of whole lines or paragraphs, each made into a batch by the format that reads it."""

from collections.abc import Iterator
from dataclasses import replace as change
from typing import Protocol

import numpy as np

from mlm_data.config import InputSettings
from mlm_data.text.batches import batch, quarantined
from mlm_data.text.borders import Block, Places, find_lines, find_paragraphs, line_blocks, paragraph_blocks
from mlm_data.text.encodings import find_encoding
from mlm_data.text.streams import ByteStream
from mlm_data.types import Documents, Quarantined, Slice

TRUNCATED = "truncated"


class ReadBlock(Protocol):
    """Makes a batch of the lines or paragraphs block.data[start:end]."""

    def __call__(
        self,
        piece: Slice,
        settings: InputSettings,
        block: Block,
        places: tuple[Places, Places],
        codec: str,
        replace: bool,
        num_bytes: int,
    ) -> Documents: ...


def read_blocks(
    piece: Slice,
    settings: InputSettings,
    read: ReadBlock,
    *,
    by_paragraph: bool = False,
    batch_bytes: int,
    replace: bool,
) -> Iterator[Documents]:
    """The batches of a slice, whose bytes add up to the slice's; what damage took is the last one's quarantined."""
    account = _Account(piece)
    end = None if piece.compression else piece.end
    with ByteStream(piece, max(0, piece.start - 1)) as stream:
        head = stream.peek(4) if piece.start == 0 else stream.peek_back(0, 4)
        units, codec = find_encoding(head, settings.encoding)
        if units.width > 1:
            end = None
        cut = paragraph_blocks if by_paragraph else line_blocks
        for block in cut(stream, units, piece.start, end, batch_bytes):
            find = find_paragraphs if by_paragraph else find_lines
            starts, ends = find(units.narrow(block.data), has_returns=b"\r" in block.data)
            starts, ends = starts * units.width, ends * units.width
            if by_paragraph and end is not None:
                # A first line begins with the mark before it.
                mine = starts + np.where(starts + block.offset == len(units.mark), 0, block.offset) < end
                starts, ends = starts[mine], ends[mine]
            yield read(piece, settings, block, (starts, ends), codec, replace, account.up_to(block.end))
        broken = (truncated(piece, stream, stream.broken_at),) if stream.damage else ()
        rest = account.rest(stream.at)
    if broken or rest:
        yield batch(piece, settings, broken, rest)


def truncated(piece: Slice, stream: ByteStream, offset: int) -> Quarantined:
    """All that a compressed stream should have held from `offset` on."""
    lost = stream.lost_bytes
    amount = "how much is lost can't be told" if lost is None else f"about {lost} bytes behind it are lost"
    item = quarantined(piece, offset, TRUNCATED, f"{stream.damage}; {amount}", stream.at - offset)
    return change(item, lost_bytes=lost)


class _Account:
    """Shares a slice's bytes out among its batches."""

    def __init__(self, piece: Slice) -> None:
        self._last = piece.start
        self._end = None if piece.compression else piece.end

    def up_to(self, place: int) -> int:
        place = place if self._end is None else min(place, self._end)
        num_bytes, self._last = max(0, place - self._last), max(self._last, place)
        return num_bytes

    def rest(self, place: int) -> int:
        return self.up_to(place if self._end is None else self._end)
