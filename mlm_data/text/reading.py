r"""Read a unit's slices as documents, in batches of about 8 MiB of text, whatever the size of a file.

    slice -> bytes (streams) -> blocks of whole lines or paragraphs (borders) -> text, fields and places (json_lines)
          -> row groups, record batches (tables)

`offset` is the byte at which a document begins in the decompressed file, or its row in a Parquet or Arrow file. A
byte order mark wins over the configured encoding. What can't be read becomes a `Quarantined` with its place:

    bad_utf8           bytes that are not of the file's encoding, or a lone surrogate written as \ud800 in JSON
    bad_json           a line that `json.loads` refuses, or that holds no object
    no_text_field      an object without the text field
    text_not_a_string  a text field that holds null, a number, ...
    truncated          all that a compressed stream should have held behind the place where it breaks

Blank lines of text and JSON Lines are no documents. Strings of other fields are kept as they are.
"""

import codecs
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mlm_data.config import BuildConfig, InputSettings
from mlm_data.errors import ConfigError, InputError
from mlm_data.hashing import string_buffers
from mlm_data.stores.folder import file_info, stat_identity
from mlm_data.text import tables
from mlm_data.text.batches import batch, large_strings, other_fields, quarantined, truncated
from mlm_data.text.borders import (
    Block,
    CodeUnits,
    Places,
    find_lines,
    find_paragraphs,
    gather,
    line_blocks,
    paragraph_blocks,
)
from mlm_data.text.json_lines import BAD_UTF8, read_fields
from mlm_data.text.streams import ByteStream
from mlm_data.text.utf8 import are_utf8
from mlm_data.types import Documents, Quarantined, Slice, Unit

ALGORITHM_VERSION = 2  # enters cache keys: count up when other documents come out of the same bytes

BATCH_BYTES = 8 << 20

# Longest first: the mark of UTF-32 LE begins with that of UTF-16 LE.
_MARKS = (
    CodeUnits(4, False, codecs.BOM_UTF32_LE),
    CodeUnits(4, True, codecs.BOM_UTF32_BE),
    CodeUnits(1, False, codecs.BOM_UTF8),
    CodeUnits(2, False, codecs.BOM_UTF16_LE),
    CodeUnits(2, True, codecs.BOM_UTF16_BE),
)
_WIDE = {"utf-16": (2, False), "utf-16-le": (2, False), "utf-16-be": (2, True)}
_WIDE |= {"utf-32": (4, False), "utf-32-le": (4, False), "utf-32-be": (4, True)}
_ASCII = bytes([9, 10, 13, *range(32, 127)])


def read_unit(unit: Unit, config: BuildConfig, *, batch_bytes: int = BATCH_BYTES) -> Iterator[Documents]:
    """The documents of a unit's slices, in order.

    Each batch is of one source and has about `batch_bytes` of text; a longer document is a batch of its own. The
    `num_bytes_read` of a slice's batches add up to its bytes (decompressed), or to what its columns take in memory.

    Raises:
        InputError: a file can't be opened or read, has changed since it was planned, or has no column for the text.
    """
    for piece in unit.slices:
        yield from read_slice(piece, config, batch_bytes=batch_bytes)


def read_slice(piece: Slice, config: BuildConfig, *, batch_bytes: int = BATCH_BYTES) -> Iterator[Documents]:
    """`read_unit` for one slice."""
    settings = config.inputs[piece.input]
    by_stat = config.cache.identity == "stat" and piece.identity
    if by_stat and stat_identity(file_info(piece.path)) != piece.identity:
        raise InputError(f"{piece.path}: changed after the build had begun: start it again")
    replace = config.clean.bad_bytes == "replace"
    if piece.format in ("parquet", "arrow"):
        yield from tables.read_table(piece, settings, batch_bytes=batch_bytes, replace=replace)
    elif piece.format == "text" and settings.documents == "file":
        yield _read_whole(piece, settings, replace)
    else:
        yield from _read_lines(piece, settings, batch_bytes, replace)


def find_encoding(head: bytes, encoding: str) -> tuple[CodeUnits, str]:
    """Code units and codec of a file that begins with `head` (4 bytes); a byte order mark wins over `encoding`.

    Raises:
        ConfigError: for an unknown encoding, or one in which ASCII bytes are not ASCII characters.
    """
    for units in _MARKS:
        if head.startswith(units.mark):
            return units, units.codec
    codec = check_encoding(encoding)
    if codec in _WIDE:
        units = CodeUnits(*_WIDE[codec])
        return units, units.codec
    return CodeUnits(), codec


def check_encoding(encoding: str) -> str:
    """The codec's own name ("utf-8" for utf_8_sig too).

    Raises:
        ConfigError: see `find_encoding`.
    """
    try:
        name = codecs.lookup(encoding).name.replace("utf-8-sig", "utf-8")
        if name in _WIDE or _ASCII.decode(name) == _ASCII.decode("ascii"):
            return name
    except (LookupError, UnicodeError):
        raise ConfigError(f"encoding {encoding!r} is unknown: utf-8, utf-16, latin-1 and cp1252 are usual") from None
    raise ConfigError(f"encoding {encoding!r} can't be cut into lines: convert the files to UTF-8")


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


def _read_whole(piece: Slice, settings: InputSettings, replace: bool) -> Documents:
    with ByteStream(piece) as stream:
        data = stream.read_all()
    units, codec = find_encoding(data[:4], settings.encoding)
    if stream.damage:
        return batch(piece, settings, (truncated(piece, stream, 0),), len(data))
    ends = np.array([len(data) - len(units.mark)])
    body = data[len(units.mark) :]
    text, kept, problems = _decode(body, np.zeros(1, np.int64), ends, codec, replace)
    bad = tuple(quarantined(piece, 0, BAD_UTF8, detail, len(data)) for _, detail in problems)
    return batch(piece, settings, bad, len(data), text, np.full(len(kept), len(units.mark), np.int64))


def _read_lines(piece: Slice, settings: InputSettings, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    account = _Account(piece)
    by_paragraph = piece.format == "text" and settings.documents == "paragraph"
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
            read = _json_batch if piece.format == "jsonl" else _text_batch
            yield read(piece, settings, block, (starts, ends), codec, replace, account.up_to(block.end))
        broken = (truncated(piece, stream, stream.broken_at),) if stream.damage else ()
        rest = account.rest(stream.at)
    if broken or rest:
        yield batch(piece, settings, broken, rest)


def _text_batch(
    piece: Slice,
    settings: InputSettings,
    block: Block,
    places: tuple[Places, Places],
    codec: str,
    replace: bool,
    num_bytes: int,
) -> Documents:
    text, kept, problems = _decode(block.data, *places, codec, replace)
    offsets = places[0] + block.offset
    sizes = places[1] - places[0]
    bad = tuple(quarantined(piece, int(offsets[i]), BAD_UTF8, detail, int(sizes[i])) for i, detail in problems)
    return batch(piece, settings, bad, num_bytes, text, offsets[kept])


def _json_batch(
    piece: Slice,
    settings: InputSettings,
    block: Block,
    places: tuple[Places, Places],
    codec: str,
    replace: bool,
    num_bytes: int,
) -> Documents:
    offsets, sizes = places[0] + block.offset, places[1] - places[0]
    bad: list[Quarantined] = []
    data, (starts, ends) = np.frombuffer(block.data, np.uint8), places
    if codec != "utf-8":
        lines, kept, problems = _decode(block.data, starts, ends, codec, replace)
        bad += (quarantined(piece, int(offsets[i]), BAD_UTF8, detail, int(sizes[i])) for i, detail in problems)
        data, borders = string_buffers(lines)
        starts, ends, offsets, sizes = borders[:-1], borders[1:], offsets[kept], sizes[kept]
    names = other_fields(settings)
    fields = read_fields(data, starts, ends, text_field=settings.text_field, other_fields=names, replace=replace)
    bad += (
        quarantined(piece, int(offsets[line]), reason, detail, int(sizes[line]))
        for line, reason, detail in fields.problems
    )
    bad.sort(key=lambda item: item.offset)
    return batch(piece, settings, tuple(bad), num_bytes, fields.text, offsets[fields.lines], fields.others)


def _decode(
    data: bytes, starts: Places, ends: Places, codec: str, replace: bool
) -> tuple[pa.LargeStringArray, Places, list[tuple[int, str]]]:
    """(texts, which pieces they are, (piece, detail) of those that can't be decoded)."""
    if codec == "utf-8":
        view = np.frombuffer(data, np.uint8)
        is_good = are_utf8(view, starts, ends)
        fast = np.flatnonzero(is_good)
        if len(starts) == 1 and len(fast) == 1:
            values, offsets = pa.py_buffer(data), np.array([starts[0], ends[0]])
        else:
            values, offsets = gather(view, starts[fast], ends[fast])
        texts = large_strings(values, offsets)
    else:
        fast, texts = np.empty(0, np.int64), large_strings(b"", np.zeros(1, np.int64))
    if len(fast) == len(starts):
        return texts, fast, []
    # Rare on UTF-8, and the plain way for all other encodings.
    slow, slow_texts, problems = [], [], []
    for i in np.setdiff1d(np.arange(len(starts)), fast).tolist():
        piece = data[starts[i] : ends[i]]
        try:
            slow_texts.append(piece.decode(codec, "replace" if replace else "strict"))
            slow.append(i)
        except UnicodeDecodeError as error:
            problems.append((i, f"{error.reason} at byte {error.start} of the document"))
    places = np.concatenate([fast, np.array(slow, np.int64)])
    order = np.argsort(places)
    texts = pa.concat_arrays([texts, pa.array(slow_texts, pa.large_string())])
    return texts.take(order) if len(fast) else texts, places[order], problems
