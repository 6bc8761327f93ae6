"""datatrove's token files: `NAME.ds` holds ids and nothing else, `NAME.ds.index` where documents end.

    NAME.ds         uint16 for each token, or uint32 where the vocabulary has more than 65,536 ids
    NAME.ds.index   uint64 for each document: its end, counted in tokens from the file's begin

All little-endian. An end-of-text id mostly stands behind each document. Source: datatrove 0.10,
pipeline/tokens/tokenizer.py, `TokenizedFile`.
"""

from pathlib import Path

import numpy as np

from mlm_data.errors import InputError
from mlm_data.exchange.tokens import TokenFile, batches, check_ends, find_files, map_ids, width_of

ENDING = ".ds"


def read_datatrove(place: Path) -> list[TokenFile]:
    """The token files of a folder, or one.

    Raises:
        InputError: if an index is missing, or doesn't fit its file.
    """
    return [_open(source, path) for source, path in find_files(place, ENDING, "token files of datatrove")]


def _open(source: str, path: Path) -> TokenFile:
    index = path.with_name(path.name + ".index")
    if not index.is_file():
        raise InputError(f"{path}: no {index.name} beside it, which says where documents end")
    if index.stat().st_size % 8:
        raise InputError(f"{index}: has {index.stat().st_size:,} bytes, no multiple of 8: cut off")
    offsets = check_ends(np.fromfile(index, "<u8"), str(index))
    dtype = width_of(path, int(offsets[-1]), index=index)
    return TokenFile(source=source, num_bytes=path.stat().st_size, read=lambda: batches(map_ids(path, dtype), offsets))
