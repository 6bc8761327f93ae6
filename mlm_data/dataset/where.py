"""Where a document is in a version: its rows, and the planes that hide places of it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.documents import OWN_ID, DocumentsFile, documents_files
from mlm_data.errors import ConfigError
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import Shard, fixed_view

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A segment that holds a part of a document."""

    row: int  # counted through the split
    row_in_shard: int
    place: int  # first place in the row
    length: int  # places, special tokens included
    start: int  # first content token's place in the document
    targets: Mapping[str, int]  # plane -> places of the segment that it hides


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """A document in a shard. A document that was repeated occurs several times."""

    split: str
    shard: int
    file: str  # of the shard's rows
    id: str  # hexadecimal
    own_id: str | None
    copy: int
    source: str
    offset: int
    num_tokens: int
    pieces: tuple[Piece, ...]


def find_document(dataset: Dataset, name: str) -> list[Occurrence]:
    """All occurrences of a document.

    Args:
        dataset: a version.
        name: the user's own id, or the document's id as 32 hexadecimal digits; where both fit, both are found.

    Raises:
        ConfigError: if there is no such document.
        FormatError: if a file is damaged.

    Cost: the column of ids of all documents, and the segments of the shards that hold the document.
    """
    places = [(split, index) for split in fmt.SPLITS for index in range(dataset.num_shards(split))]
    found = [
        occurrence
        for (split, index), file in zip(places, documents_files(dataset), strict=True)
        for occurrence in _in_shard(dataset, split, index, file, name)
    ]
    if not found:
        what = "neither an id of its own nor a document id" if _HEXADECIMAL.fullmatch(name) else "no id of its own"
        raise ConfigError(
            f"{dataset.folder.location}: {name!r} is {what} of this version: give the id that the input names, or 32 "
            "hexadecimal digits of a document's id"
        )
    return found


def _in_shard(dataset: Dataset, split: str, index: int, file: DocumentsFile, name: str) -> Iterator[Occurrence]:
    rows = _rows_of(file, name)
    if not rows.size:
        return
    shard = dataset.shard(split, index)
    lines = file.read("id", "copy", "source", "offset", "num_tokens", OWN_ID).take(pa.array(rows)).to_pylist()
    pieces = _pieces(dataset, shard, rows)
    for document, line in zip(rows.tolist(), lines, strict=True):
        yield Occurrence(
            split=split,
            shard=index,
            file=shard.files[fmt.ROWS].name,
            id=line["id"].hex(),
            own_id=line[OWN_ID],
            copy=line["copy"],
            source=line["source"],
            offset=line["offset"],
            num_tokens=line["num_tokens"],
            pieces=tuple(pieces[document]),
        )


def _rows_of(file: DocumentsFile, name: str) -> Int64[np.ndarray, " documents"]:
    """The documents of a file that have this name."""
    table = file.read("id", OWN_ID)
    mine = np.zeros(file.num_rows, bool)
    if table[OWN_ID].null_count < file.num_rows:
        import pyarrow.compute as pc

        mine |= np.asarray(pc.equal(table[OWN_ID], name).fill_null(False), bool)
    if _HEXADECIMAL.fullmatch(name):
        wanted = np.frombuffer(bytes.fromhex(name), "<u8")
        ids = [fixed_view(chunk, 2, "<u8") for chunk in table["id"].chunks]
        mine |= (np.concatenate([*ids, np.zeros((0, 2), "<u8")]) == wanted).all(axis=1)
    return np.flatnonzero(mine)


def _pieces(dataset: Dataset, shard: Shard, documents: Int64[np.ndarray, " documents"]) -> dict[int, list[Piece]]:
    """The segments of some documents of a shard, by document."""
    found: dict[int, list[Piece]] = {document: [] for document in documents.tolist()}
    first = int(dataset.shard_rows(shard.split)[: shard.index].sum())
    bits = shard.targets(dataset.planes(shard.split))
    for number, held in enumerate(shard.segments):
        places = np.cumsum(held.lengths) - held.lengths  # from the first row of the batch
        for segment in np.flatnonzero(np.isin(held.documents, documents)).tolist():
            row = int(np.searchsorted(held.offsets, segment, side="right")) - 1
            place = int(places[segment] - places[held.offsets[row]])
            length = int(held.lengths[segment])
            local = number * fmt.BATCH_ROWS + row
            hidden = {
                plane: int(np.unpackbits(targets[row], bitorder=fmt.BITS)[place : place + length].sum())
                for plane, targets in bits[number].items()
            }
            piece = Piece(
                row=first + local,
                row_in_shard=local,
                place=place,
                length=length,
                start=int(held.starts[segment]),
                targets=hidden,
            )
            found[int(held.documents[segment])].append(piece)
    return found
