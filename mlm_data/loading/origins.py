"""Which documents were in some rows of the stream, and which bytes made them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.order import RowOrder
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import Shard


def documents_between(
    dataset: Dataset, split: str, planes: Sequence[str], order: RowOrder, first: int, count: int
) -> pa.Table:
    """Lines as of `Loader.documents_between`.

    Args:
        dataset: an open dataset.
        split: whose rows.
        planes: that the epochs cycle through.
        order: of the split's rows.
        first: row of the stream.
        count: of rows.

    Cost: the segments of the shards that hold the rows, and the documents files of these shards.
    """
    epochs, shards, rows = order.take(first, count)
    planes_of = np.array(planes, object)[epochs % len(planes)]
    tables = []
    for index in np.unique(shards).tolist():
        places = np.flatnonzero(shards == index)
        shard = dataset.shard(split, index)
        facts = {
            "stream_row": pa.array(first + places, pa.int64()),
            "epoch": pa.array(epochs[places], pa.int64()),
            "plane": pa.array(planes_of[places], pa.string()),
            "shard": pa.array(np.full(len(places), index), pa.int32()),
            "file": pa.array([shard.files[fmt.ROWS].name] * len(places), pa.string()),
            "row": pa.array(rows[places], pa.int32()),
        }
        tables.append(_lines(shard, rows[places].astype(np.int64), facts, dataset.manifest.roles.num_specials))
    table = pa.concat_tables(tables, promote_options="default")
    return table.take(pa.array(np.argsort(table["stream_row"].to_numpy(), kind="stable")))


def _lines(shard: Shard, rows: Int64[np.ndarray, " rows"], facts: dict[str, pa.Array], num_specials: int) -> pa.Table:
    """A line for each segment of some rows of a shard: what is known of its row, and of its document."""
    line, starts, documents, lengths = [], [], [], []
    batches = shard.segments
    for place, row in enumerate(rows.tolist()):
        piece, local = divmod(row, fmt.BATCH_ROWS)
        held = batches[piece]
        part = slice(int(held.offsets[local]), int(held.offsets[local + 1]))
        line.append(np.full(part.stop - part.start, place))
        documents.append(held.documents[part])
        starts.append(held.starts[part])
        lengths.append(held.lengths[part])
    of_row = pa.array(np.concatenate(line))
    theirs = shard.documents.take(pa.array(np.concatenate(documents)))
    columns = {name: values.take(of_row) for name, values in facts.items()}
    columns |= {
        "start": pa.array(np.concatenate(starts)),
        "num_tokens": pa.array(np.concatenate(lengths) - num_specials),
    }
    for name in theirs.schema.names:
        column = theirs[name].cast(pa.string()) if name == "source" else theirs[name]
        columns["document_tokens" if name == "num_tokens" else name] = column
    return pa.table(columns)
