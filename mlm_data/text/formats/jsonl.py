"""JSON Lines: an object a line; each is a document. See `mlm_data.text.json_lines`."""

from collections.abc import Iterator

import numpy as np

from mlm_data.config import InputSettings
from mlm_data.hashing import string_buffers
from mlm_data.text.batches import batch, other_fields, quarantined
from mlm_data.text.blocks import read_blocks
from mlm_data.text.borders import Block, Places
from mlm_data.text.encodings import decode
from mlm_data.text.formats.record import Format
from mlm_data.text.json_lines import read_fields
from mlm_data.types import Documents, Quarantined, Slice


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    yield from read_blocks(piece, settings, _json_batch, batch_bytes=batch_bytes, replace=replace)


def _json_batch(
    piece: Slice,
    settings: InputSettings,
    block: Block,
    places: tuple[Places, Places],
    codec: str,
    replace: bool,
    num_bytes: int,
) -> Documents:
    offsets = places[0] + block.offset
    bad: list[Quarantined] = []
    data, (starts, ends) = np.frombuffer(block.data, np.uint8), places
    if codec != "utf-8":
        lines, kept, problems = decode(block.data, starts, ends, codec, replace)
        bad += (quarantined(piece, int(offsets[i]), reason, detail) for i, reason, detail in problems)
        data, borders = string_buffers(lines)
        starts, ends, offsets = borders[:-1], borders[1:], offsets[kept]
    names = other_fields(settings)
    fields = read_fields(data, starts, ends, text_field=settings.text_field, other_fields=names, replace=replace)
    bad += (quarantined(piece, int(offsets[line]), reason, detail) for line, reason, detail in fields.problems)
    bad.sort(key=lambda item: item.offset)
    return batch(piece, settings, tuple(bad), num_bytes, fields.text, offsets[fields.lines], fields.others)


FORMAT = Format(
    name="jsonl",
    extensions=("jsonl", "ndjson", "json"),
    settings=frozenset({"text_field", "id_field", "keep_fields", "encoding"}),
    splits_at_lines=lambda settings: True,
    read=_read,
)
