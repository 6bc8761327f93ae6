"""FASTA: sequences of proteins, DNA, RNA. A record is a document: its lines, joined.

    >sp|P69905|HBA_HUMAN Hemoglobin subunit alpha          id: sp|P69905|HBA_HUMAN
    MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHF        description: Hemoglobin subunit alpha
    DLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSALSDLHAHKLRV        text: MVLSPADKT...HVDDM...KLRV

`id` (the first word behind ">") and `description` (the rest) can be `id_field` and `keep_fields`. Upper and lower case
stay. Lines that begin with ";" are comments. Blank lines and white space inside of sequences are left out. What comes
before the first ">" is quarantined, `bad_fasta`. A file is one slice; a record may have any length.
"""

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlm_data.config import InputSettings
from mlm_data.errors import ConfigError
from mlm_data.hashing import large_strings, string_buffers
from mlm_data.text.batches import batch, other_fields, quarantined
from mlm_data.text.blocks import truncated
from mlm_data.text.borders import find_lines
from mlm_data.text.encodings import decode
from mlm_data.text.field_names import hint
from mlm_data.text.formats.record import Format
from mlm_data.text.streams import ByteStream
from mlm_data.text.window import Window
from mlm_data.types import Documents, Quarantined, Slice

BAD_FASTA = "bad_fasta"

_HEADER = r"^\s*(?P<id>\S*)\s*(?P<description>.*?)\s*$"
FIELDS = tuple(re.compile(_HEADER).groupindex)  # id, description


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    with ByteStream(piece) as stream:
        window = Window(stream, settings.encoding, batch_bytes)
        while True:
            end = _end_of_records(window)
            if end:
                yield _documents(piece, settings, window, end, replace)
            if window.is_last:
                break
            window.grow()
        broken = (truncated(piece, stream, window.offset),) if stream.damage else ()
        window.drop(len(window.data))
        rest = window.count()
    if broken or rest:
        yield batch(piece, settings, broken, rest)


def _end_of_records(window: Window) -> int:
    """Where the last record begins, which may go on behind the window; at the end of the file, its end."""
    if window.is_last and not window.damage:
        return len(window.data)
    width = window.units.width
    text = window.data if width == 1 else window.units.narrow(window.data).tobytes()
    return (max(text.rfind(b"\n>"), text.rfind(b"\r>")) + 1) * width


def _documents(piece: Slice, settings: InputSettings, window: Window, end: int, replace: bool) -> Documents:
    data, width = window.data[:end], window.units.width
    units = window.units.narrow(data)
    starts, ends = find_lines(units, has_returns=b"\r" in data)
    begins = units[starts]
    is_header = begins == ord(">")
    record_of = np.cumsum(is_header) - 1
    is_sequence = ~is_header & (begins != ord(";"))
    starts, ends = starts * width, ends * width
    headers = np.flatnonzero(is_header)
    offsets = starts[headers] + window.offset
    sizes = np.diff(offsets, append=window.offset + end)
    bad: dict[int, Quarantined] = {}
    orphans = np.flatnonzero(is_sequence & (record_of < 0))
    if len(orphans):
        place = int(starts[orphans[0]]) + window.offset
        num_bytes = int(offsets[0] if len(offsets) else window.offset + end) - place
        bad[-1] = quarantined(piece, place, BAD_FASTA, "text before the first >", num_bytes)

    def keep(problems: list[tuple[int, str, str]], records: np.ndarray) -> None:
        for i, reason, detail in problems:
            record = int(records[i])
            bad.setdefault(record, quarantined(piece, int(offsets[record]), reason, detail, int(sizes[record])))

    lines = np.flatnonzero(is_sequence & (record_of >= 0))
    parts, kept, problems = decode(data, starts[lines], ends[lines], window.codec, replace)
    keep(problems, record_of[lines])
    values, borders = string_buffers(parts)
    of_record = np.searchsorted(record_of[lines][kept], np.arange(len(headers) + 1))
    text = large_strings(values, borders[of_record])
    if (values == 32).any() or (values == 9).any():
        text = pc.replace_substring_regex(text, r"[ \t\v\f\r]+", "")
    names = other_fields(settings)
    columns: dict[str, pa.Array] = {}
    if names:
        titles, kept, problems = decode(data, starts[headers] + width, ends[headers], window.codec, replace)
        keep(problems, np.arange(len(headers)))
        whole = pa.nulls(len(headers), pa.large_string())
        if len(kept) == len(headers):
            whole = titles
        elif len(kept):
            at = np.full(len(headers), -1)
            at[kept] = np.arange(len(kept))
            whole = titles.take(pa.array(at, mask=at < 0))
        found = pc.extract_regex(whole, _HEADER)
        columns = {name: pc.struct_field(found, [index]) for index, name in enumerate(FIELDS)}
    is_good = np.ones(len(headers), np.bool_)
    is_good[[record for record in bad if record >= 0]] = False
    window.drop(end)
    mask = pa.array(is_good)
    return batch(
        piece,
        settings,
        tuple(bad[record] for record in sorted(bad)),
        window.count(),
        text.filter(mask),
        offsets[is_good],
        [columns[name].filter(mask) for name in names],
    )


def _check_fields(head: bytes, settings: InputSettings, path: str) -> None:
    del head
    for name in other_fields(settings):
        if name not in FIELDS:
            raise ConfigError(f"{path}: a record of FASTA has no field {name!r}: {hint(name, FIELDS)}")


FORMAT = Format(
    name="fasta",
    extensions=("fasta", "fa", "faa", "fna", "ffn", "fas", "frn"),
    settings=frozenset({"id_field", "keep_fields", "encoding"}),
    check_head=_check_fields,
    read=_read,
)
