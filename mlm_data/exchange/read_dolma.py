"""dolma's token files: `NAME.npy` holds ids and nothing else (no header of numpy), `NAME.csv.gz` where documents lie.

    NAME.csv.gz   a line for each document: start and end in tokens, its id, its source file, its place there

Ids are uint16 unless the tool was told otherwise. Source: dolma 1.x, python/dolma/tokenizer/memmap_writer.py.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from mlm_data.errors import InputError
from mlm_data.exchange.tokens import TokenFile, batches, check_ends, find_files, map_ids, width_of

ENDING = ".npy"
COLUMNS = {"start": pa.int64(), "end": pa.int64(), "id": pa.string(), "src": pa.string(), "loc": pa.string()}


def read_dolma(place: Path) -> list[TokenFile]:
    """The token files of a folder, or one.

    Raises:
        InputError: if a table of documents is missing, damaged, or doesn't fit its file.
    """
    return [_open(source, path) for source, path in find_files(place, ENDING, "token files of dolma")]


def _open(source: str, path: Path) -> TokenFile:
    index = path.with_suffix(".csv.gz")
    if not index.is_file():
        raise InputError(f"{path}: no {index.name} beside it, which says where documents lie")
    with path.open("rb") as stream:
        if stream.read(6) == b"\x93NUMPY":
            raise InputError(f"{path}: an array of numpy, while dolma's files hold ids and nothing else")
    try:
        table = pyarrow.csv.read_csv(
            index,
            read_options=pyarrow.csv.ReadOptions(column_names=list(COLUMNS)),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(column_types=COLUMNS, strings_can_be_null=False),
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{index}: no table of start, end, id, src, loc: {str(error).splitlines()[0]}") from error
    if table["start"].null_count or table["end"].null_count:
        raise InputError(f"{index}: a document has no start or end")
    offsets = check_ends(table["end"].to_numpy(), str(index))
    if (wrong := np.flatnonzero(table["start"].to_numpy() != offsets[:-1])).size:
        raise InputError(f"{index}: document {int(wrong[0])} doesn't begin where the one before it ends")
    dtype = width_of(path, int(offsets[-1]), index=index)
    own_ids = table["id"].to_pylist()
    return TokenFile(
        source=source, num_bytes=path.stat().st_size, read=lambda: batches(map_ids(path, dtype), offsets, own_ids)
    )
