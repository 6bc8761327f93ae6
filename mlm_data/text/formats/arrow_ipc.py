"""Arrow IPC: files by record batch, streams whole (as HF `datasets` writes them); each row is a document."""

from collections.abc import Iterator

import pyarrow as pa

from mlm_data.config import InputSettings
from mlm_data.text.arrow_footer import MAGIC, batch_blocks, batch_rows
from mlm_data.text.formats.record import Format
from mlm_data.text.tables import check_columns, present_columns, read_table
from mlm_data.types import Documents, Slice

STREAM_MAGIC = b"\xff\xff\xff\xff"  # the marker before a stream's first message


def _count_batches(stream: pa.NativeFile, settings: InputSettings, path: str) -> int:
    is_file = stream.read(len(MAGIC)) == MAGIC
    stream.seek(0)
    reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
    check_columns(reader.schema, settings, path)
    return reader.num_record_batches if is_file else 1


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    return read_table(piece, settings, _record_batches, batch_bytes=batch_bytes, replace=replace)


def _record_batches(
    stream: pa.NativeFile, piece: Slice, settings: InputSettings, batch_bytes: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    del batch_bytes
    is_file = stream.read(len(MAGIC)) == MAGIC
    stream.seek(0)
    open_reader = pa.ipc.open_file if is_file else pa.ipc.open_stream
    schema = open_reader(stream).schema
    check_columns(schema, settings, piece.path)
    wanted = sorted({schema.get_field_index(name) for name in present_columns(schema, settings)})
    first_row = 0
    if is_file and piece.start:
        first_row = int(batch_rows(stream, batch_blocks(stream)[: piece.start]).sum())
    stream.seek(0)
    reader = open_reader(stream, options=pa.ipc.IpcReadOptions(included_fields=wanted))
    for rows in (reader.get_batch(i) for i in range(piece.start, piece.end)) if is_file else reader:
        yield first_row, rows
        first_row += rows.num_rows


FORMAT = Format(
    name="arrow",
    extensions=("arrow", "feather", "ipc", "arrows"),
    magics=(MAGIC, STREAM_MAGIC),
    settings=frozenset({"text_field", "id_field", "keep_fields", "word_field"}),
    takes_compression=False,
    count_parts=_count_batches,
    read=_read,
)
