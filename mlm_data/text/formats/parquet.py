"""Parquet, read by row group; each row is a document."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from mlm_data.config import InputSettings
from mlm_data.text.formats.record import Format
from mlm_data.text.tables import check_columns, present_columns, read_table
from mlm_data.types import Documents, Slice


def _count_row_groups(stream: pa.NativeFile, settings: InputSettings, path: str) -> int:
    file = pq.ParquetFile(stream)
    check_columns(file.schema_arrow, settings, path)
    return file.metadata.num_row_groups


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    return read_table(piece, settings, _row_groups, batch_bytes=batch_bytes, replace=replace)


def _row_groups(
    stream: pa.NativeFile, piece: Slice, settings: InputSettings, batch_bytes: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    file = pq.ParquetFile(stream, pre_buffer=False)
    check_columns(file.schema_arrow, settings, piece.path)
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    first_row = sum(group.num_rows for group in groups[: piece.start])
    columns = present_columns(file.schema_arrow, settings)
    for i in range(piece.start, piece.end):
        group = groups[i]
        row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
        num_rows = max(1, min(1 << 20, batch_bytes // row_bytes))
        for rows in file.iter_batches(num_rows, row_groups=[i], columns=columns, use_threads=False):
            yield first_row, rows
            first_row += rows.num_rows


FORMAT = Format(
    name="parquet",
    extensions=("parquet",),
    magics=(b"PAR1",),
    settings=frozenset({"text_field", "id_field", "keep_fields", "word_field"}),
    takes_compression=False,
    count_parts=_count_row_groups,
    read=_read,
)
