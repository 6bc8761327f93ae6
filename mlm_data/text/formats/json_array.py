r"""JSON that is no JSON Lines: an array of objects, or objects over several lines. Each object is a document.

    [{"text": "a"}, {"text": "b"}]          {\n  "text": "a"\n}\n{\n  "text": "b"\n}          two documents each

The file streams by: only the elements that are not yet whole stay in memory. What an element holds is read as a line of
JSON Lines is. An element that is broken (a quote or bracket that is not closed) costs that one element: the next one
begins where a line begins as the broken one's did, or, in an array without line ends, behind `}, `. What can't be found
again is one quarantined document, `bad_json`, to the end of the file; an array that is not closed is `truncated`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace as change

import numpy as np

from mlm_data.config import InputSettings
from mlm_data.kernels import read_only
from mlm_data.text.batches import batch, quarantined
from mlm_data.text.blocks import TRUNCATED, truncated
from mlm_data.text.borders import Block, Places
from mlm_data.text.formats import jsonl
from mlm_data.text.formats.record import Format
from mlm_data.text.json_elements import BROKEN, DONE, MORE, scan_elements
from mlm_data.text.json_lines import BAD_JSON
from mlm_data.text.streams import ByteStream
from mlm_data.text.window import MAX_RECORD_BYTES, Window
from mlm_data.types import Documents, Quarantined, Slice

ELEMENTS_AT_ONCE = 1 << 14

_SPACES = b"\0 \t\r\n"
_NEXT_OBJECT = re.compile(rb"\}\s*,\s*(?=\{)")


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    with ByteStream(piece) as stream:
        window = Window(stream, settings.encoding, batch_bytes)
        elements = _Elements(piece)
        while True:
            places, bad, end = elements.find(window)
            block = Block(window.offset, window.data)
            window.drop(end)
            if len(places[0]) or bad:
                made = jsonl.json_batch(piece, settings, block, places, window.codec, replace, window.count())
                both = sorted((*made.quarantined, *bad), key=lambda item: item.offset)
                yield change(made, quarantined=tuple(both))
            if window.is_last:
                break
            window.grow()
        broken: tuple[Quarantined, ...] = ()
        if stream.damage:
            broken = (truncated(piece, stream, window.offset),)
        elif elements.in_array or window.data.strip(_SPACES):
            left = window.data.lstrip(_SPACES)
            offset = window.offset + (len(window.data) - len(left) if left else 0)
            detail = f"the file ends inside of an {'array' if elements.in_array else 'object'}"
            item = quarantined(piece, offset, TRUNCATED, detail, len(left))
            broken = (change(item, lost_bytes=None),)
        window.drop(len(window.data))
        rest = window.count()
    if broken or rest:
        yield batch(piece, settings, broken, rest)


class _Elements:
    """Finds the elements of one file, window by window."""

    def __init__(self, piece: Slice) -> None:
        self.in_array = False
        self._piece = piece
        self._is_lost = False  # nothing behind what was seen can be read
        self._line = b""  # how the line of the last broken element begins, with the line end before it

    def find(self, window: Window) -> tuple[tuple[Places, Places], list[Quarantined], int]:
        """(places of the elements, what is broken, bytes that are done with) at the beginning of a window."""
        units, width = read_only(window.units.narrow(window.data)), window.units.width
        found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        bad: list[Quarantined] = []
        place = behind = 0
        text = b""
        while not self._is_lost:
            starts, ends = np.empty(ELEMENTS_AT_ONCE, np.int64), np.empty(ELEMENTS_AT_ONCE, np.int64)
            count, place, behind, self.in_array, state = scan_elements(units, place, self.in_array, starts, ends)
            found.append((starts[:count], ends[:count]))
            if state == DONE:
                continue
            is_last = window.is_last or (len(units) - place) * width > MAX_RECORD_BYTES
            if state == MORE and (window.is_last or not is_last):
                break
            text = text or units.tobytes()
            again = self._next_element(text, behind, place) if state == BROKEN else -1
            if again < 0 and not is_last:
                break
            detail = "it is no JSON, or a quote or bracket in it is not closed"
            if state == MORE:
                detail = f"longer than {MAX_RECORD_BYTES >> 20} MiB"
            if again < 0:
                again, self._is_lost, self.in_array = len(units), True, False
                detail += "; where the next one begins can't be told: nothing behind it is read"
            offset = window.offset + place * width
            bad.append(quarantined(self._piece, offset, BAD_JSON, detail, (again - place) * width))
            place = behind = again
        starts, ends = (np.concatenate(parts) * width for parts in zip(*found, strict=True))
        return (starts, ends), bad, len(window.data) if self._is_lost else behind * width

    def _next_element(self, text: bytes, behind: int, place: int) -> int:
        """Where the element behind the broken one at `place` begins, or -1; the one before it ended at `behind`."""
        if behind < place:
            _, line_end, space = text[behind:place].rpartition(b"\n")
            self._line = line_end + space + b"{" if line_end else b""
        # Else it follows upon another broken one, and begins as that did.
        if self._line:
            found = text.find(self._line, place)
            return found + len(self._line) - 1 if found >= 0 else -1
        match = _NEXT_OBJECT.search(text, place)
        return match.end() if match else -1


FORMAT = Format(
    name="json",
    extensions=("json",),
    settings=jsonl.FORMAT.settings,
    read=_read,
)
