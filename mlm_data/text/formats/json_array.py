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

_NEXT_OBJECT = re.compile(rb"\}\s*,\s*(?=\{)")


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    in_array = is_lost = False
    with ByteStream(piece) as stream:
        window = Window(stream, settings.encoding, batch_bytes)
        while True:
            if is_lost:
                window.drop(len(window.data))
            places, bad, end, in_array, is_lost = _find_elements(piece, window, in_array, is_lost)
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
        elif not is_lost and (window.data.strip(b"\0 \t\r\n") or in_array):
            detail = f"the file ends inside of an {'array' if in_array else 'object'}"
            item = quarantined(piece, window.offset, TRUNCATED, detail, len(window.data))
            broken = (change(item, lost_bytes=None),)
        window.drop(len(window.data))
        rest = window.count()
    if broken or rest:
        yield batch(piece, settings, broken, rest)


def _find_elements(
    piece: Slice, window: Window, in_array: bool, is_lost: bool
) -> tuple[tuple[Places, Places], list[Quarantined], int, bool, bool]:
    """(places of elements, what is broken, how much is done with in bytes, in an array behind that, all behind lost)."""
    units = read_only(window.units.narrow(window.data))
    width, text = window.units.width, b""
    found: list[tuple[Places, Places]] = []
    bad: list[Quarantined] = []
    place = behind = 0
    while not is_lost:
        starts, ends = np.empty(ELEMENTS_AT_ONCE, np.int64), np.empty(ELEMENTS_AT_ONCE, np.int64)
        count, place, behind, in_array, state = scan_elements(units, place, in_array, starts, ends)
        found.append((starts[:count], ends[:count]))
        if state == DONE:
            continue
        is_long = (len(units) - place) * width > MAX_RECORD_BYTES
        if state == MORE and not is_long:
            break
        text = text or units.tobytes()
        again = _next_element(text, behind, place) if state == BROKEN else -1
        if again < 0 and not (is_long or window.is_last):
            break
        detail = "a quote or bracket in it is not closed, or it is no JSON"
        if again < 0:
            is_lost, again = True, len(units)
            detail = f"{'longer than 64 MiB' if state == MORE else detail}; nothing behind it can be read"
        offset = window.offset + place * width
        bad.append(quarantined(piece, offset, BAD_JSON, detail, (again - place) * width))
        place = behind = again
    starts, ends = (np.concatenate(parts) * width for parts in zip(*found, strict=True)) if found else _NOTHING
    return (starts, ends), bad, behind * width, in_array, is_lost


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64))


def _next_element(text: bytes, behind: int, place: int) -> int:
    """Where the element behind the broken one at `place` begins, or -1; `behind` is where the one before it ended."""
    space = text[behind:place]
    if b"\n" in space:
        line = b"\n" + space.rpartition(b"\n")[2] + b"{"
        found = text.find(line, place)
        return found + len(line) - 1 if found >= 0 else -1
    match = _NEXT_OBJECT.search(text, place)
    return match.end() if match else -1


FORMAT = Format(
    name="json",
    extensions=("json",),
    settings=jsonl.FORMAT.settings,
    read=_read,
)
