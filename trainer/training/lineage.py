"""Which documents a step of a run was made of."""

from itertools import islice
from typing import Any

import pyarrow as pa

from mlm_data.loading.loader import Loader
from mlm_data.loading.run_steps import rows_of_step
from trainer.training.datasets import open_dataset, pinned
from trainer.training.record import RunRecord
from trainer.training.stream import mixture


def documents_of_step(record: RunRecord, step: int) -> pa.Table:
    """Which documents were in step 1, 2, ... of a run, of all ranks; columns as of `Loader.documents_between`.

    A mixture's `stream_row` counts rows of the dataset that `data` names, a column of its own.
    """
    settings = record.settings
    data, begin = settings.data, 0
    digest = record.dataset
    assert digest is not None, "a run that has made steps has a dataset"
    for part in reversed(record.former):  # datasets that others have taken the place of, the last one first
        if part.until is not None and step > part.until:
            begin = max(begin, part.until)
        else:
            data, digest = part.data, part.dataset

    first, count = rows_of_step(record.ramp, record.rows_per_step, step)
    first -= rows_of_step(record.ramp, record.rows_per_step, begin + 1)[0]
    options: dict[str, Any] = {"planes": settings.planes, "batch_rows": settings.batch_rows, "seed": settings.seed}
    dataset = open_dataset(pinned(data, digest))
    if not settings.mix:
        return Loader(dataset, **options).documents_between(first, count)
    parts = [(dataset, 1.0)]
    for number, other in enumerate(settings.mix):
        parts.append((open_dataset(pinned(other.data, record.mix[number])), other.weight))
    loaders = [Loader(one, **options) for one, _ in parts]
    units = mixture([weight for _, weight in parts], [0] * len(parts), settings.batch_rows)
    tables = []
    for number, row in islice(units, first // settings.batch_rows, (first + count) // settings.batch_rows):
        table = loaders[number].documents_between(row, settings.batch_rows)
        names = pa.array([parts[number][0].folder.location] * table.num_rows, pa.string())
        tables.append(table.append_column("data", names))
    return pa.concat_tables(tables, promote_options="permissive")
