"""Plain text: a file, a line or a paragraph is a document. A blank line is none."""

from collections.abc import Iterator

import numpy as np

from mlm_data.config import InputSettings
from mlm_data.text.batches import batch, quarantined
from mlm_data.text.blocks import read_blocks, truncated
from mlm_data.text.borders import Block, Places
from mlm_data.text.encodings import decode, find_encoding
from mlm_data.text.formats.record import Format
from mlm_data.text.streams import ByteStream
from mlm_data.types import Documents, Slice


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    if settings.documents == "file":
        yield _read_whole(piece, settings, replace)
        return
    by_paragraph = settings.documents == "paragraph"
    yield from read_blocks(
        piece, settings, _text_batch, by_paragraph=by_paragraph, batch_bytes=batch_bytes, replace=replace
    )


def _read_whole(piece: Slice, settings: InputSettings, replace: bool) -> Documents:
    with ByteStream(piece) as stream:
        data = stream.read_all()
    units, codec = find_encoding(data[:4], settings.encoding)
    if stream.damage:
        return batch(piece, settings, (truncated(piece, stream, 0),), len(data))
    ends = np.array([len(data) - len(units.mark)])
    body = data[len(units.mark) :]
    text, kept, problems = decode(body, np.zeros(1, np.int64), ends, codec, replace)
    bad = tuple(quarantined(piece, 0, reason, detail, len(data)) for _, reason, detail in problems)
    return batch(piece, settings, bad, len(data), text, np.full(len(kept), len(units.mark), np.int64))


def _text_batch(
    piece: Slice,
    settings: InputSettings,
    block: Block,
    places: tuple[Places, Places],
    codec: str,
    replace: bool,
    num_bytes: int,
) -> Documents:
    text, kept, problems = decode(block.data, *places, codec, replace)
    offsets = places[0] + block.offset
    sizes = places[1] - places[0]
    bad = tuple(quarantined(piece, int(offsets[i]), reason, detail, int(sizes[i])) for i, reason, detail in problems)
    return batch(piece, settings, bad, num_bytes, text, offsets[kept])


FORMAT = Format(
    name="text",
    extensions=("txt", "text", "md", "markdown", "rst", "adoc", "org", "tex", "log", "wiki"),
    settings=frozenset({"documents", "encoding"}),
    splits_at_lines=lambda settings: settings.documents != "file",
    read=_read,
)
