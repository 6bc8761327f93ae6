"""JSON Lines: an object a line; each is a document. See `mlm_data.text.json_lines`."""

from collections.abc import Iterator
from dataclasses import replace as replace_fields

import numpy as np

from mlm_data.config import InputSettings
from mlm_data.hashing import string_buffers
from mlm_data.text.batches import batch, other_fields, quarantined
from mlm_data.text.blocks import read_blocks
from mlm_data.text.borders import Block, Places
from mlm_data.text.encodings import decode
from mlm_data.text.field_names import names_in_json
from mlm_data.text.formats.record import Format
from mlm_data.text.json_lines import read_fields
from mlm_data.types import Documents, FieldCounts, Quarantined, Slice

NUM_EXAMPLES, MAX_EXAMPLE_BYTES = 20, 1 << 20  # lines to look at for other names, where a field is nowhere


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    yield from read_blocks(piece, settings, json_batch, batch_bytes=batch_bytes, replace=replace)


def json_batch(
    piece: Slice,
    settings: InputSettings,
    block: Block,
    places: tuple[Places, Places],
    codec: str,
    replace: bool,
    num_bytes: int,
) -> Documents:
    """A batch of the objects block.data[start:end], as `mlm_data.text.blocks.ReadBlock`."""
    offsets, sizes = places[0] + block.offset, places[1] - places[0]
    bad: list[Quarantined] = []
    data, (starts, ends) = np.frombuffer(block.data, np.uint8), places
    if codec != "utf-8":
        lines, kept, problems = decode(block.data, starts, ends, codec, replace)
        bad += (quarantined(piece, int(offsets[i]), reason, detail, int(sizes[i])) for i, reason, detail in problems)
        data, borders = string_buffers(lines)
        starts, ends, offsets, sizes = borders[:-1], borders[1:], offsets[kept], sizes[kept]
    names = other_fields(settings)
    fields = read_fields(data, starts, ends, text_field=settings.text_fields, other_fields=names, replace=replace)
    bad += (
        quarantined(piece, int(offsets[line]), reason, detail, int(sizes[line]))
        for line, reason, detail in fields.problems
    )
    bad.sort(key=lambda item: item.offset)
    counts = FieldCounts(num_objects=fields.num_objects, present=fields.present)
    if fields.num_objects and not all(fields.present.values()):
        examples = np.flatnonzero(ends - starts < MAX_EXAMPLE_BYTES)[:NUM_EXAMPLES].tolist()
        lines = (data[starts[i] : ends[i]].tobytes() for i in examples)
        counts = replace_fields(counts, seen=tuple(names_in_json(lines)))
    return batch(piece, settings, tuple(bad), num_bytes, fields.text, offsets[fields.lines], fields.others, counts)


FORMAT = Format(
    name="jsonl",
    extensions=("jsonl", "ndjson", "jl", "jsonlines"),
    settings=frozenset({"text_field", "id_field", "keep_fields", "word_field", "encoding"}),
    splits_at_lines=lambda settings: True,
    read=_read,
)
