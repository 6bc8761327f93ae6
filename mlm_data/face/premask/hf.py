"""The rows as a `datasets.Dataset` over the files of the dataset: nothing is copied, nothing is written.

A row of it has the columns of rows and masks, as docs/reference/format.md describes them, without the plane's name:
`tokens`, `segment_lengths`, ..., `targets`, `swap_places`, `swap_tokens`. A transform makes of them what models want
when a row is asked for; `reset_format()` takes it away, and `with_transform(...)` puts another in its place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.table import InMemoryTable, Table, table_cast

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.loading.checks import check_split
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import Folder
from mlm_data.types import IGNORED


class MappedRows(InMemoryTable):
    """A table over the files of a dataset: pickled as its place and version, mapped again where it arrives."""

    def __init__(self, table: pa.Table, place: tuple[str, str, str, str]) -> None:
        super().__init__(table)
        self._place = place  # folder, digest, split, plane

    def __reduce__(self) -> tuple[Any, ...]:
        return _map_again, (*self._place, self.schema)

    def replace_schema_metadata(self, metadata: Mapping[Any, Any] | None = None) -> "MappedRows":
        """The same rows with the features that `datasets` notes beside a schema."""
        return MappedRows(self.table.replace_schema_metadata(metadata), self._place)

    def cast(self, schema: pa.Schema) -> "MappedRows":
        """The same rows under the schema that `datasets` makes of its features, which knows no `not null`."""
        return MappedRows(table_cast(self.table, schema), self._place)

    def __deepcopy__(self, memo: Any) -> Table:
        return self  # immutable


def hf_dataset(dataset: Dataset, split: str, plane: int | str | None) -> datasets.Dataset:
    """The rows of a split with one plane's masks: see `OpenDataset.hf`."""
    check_split(dataset, split)
    known = dataset.planes(split)
    name = known[0] if plane is None else str(plane)
    if name not in known:
        raise ConfigError(f"plane {name}: the {split} split has {', '.join(known)}")
    if not dataset.folder.is_local:
        raise ConfigError(f"{dataset.folder.location}: only files on a local disk can be memory-mapped: copy it first")
    roles, digest = dataset.manifest.roles, dataset.digest
    table = MappedRows(map_rows(dataset, split, name), (dataset.folder.location, digest, split, name))
    made = datasets.Dataset(table, fingerprint=f"{digest[:16]}-{split}-{name}")
    return made.with_transform(LabelRows(mask=roles.mask, pad=roles.pad))


def map_rows(dataset: Dataset, split: str, plane: str) -> pa.Table:
    """Rows and one plane's masks side by side, shard after shard, over the files' memory."""
    tables = []
    for index in range(dataset.num_shards(split)):
        shard = dataset.shard(split, index)
        for rows, masks in zip(shard.batches(fmt.ROWS), shard.batches(fmt.MASKS, planes=[plane]), strict=True):
            names = [*rows.schema.names, "targets", "swap_places", "swap_tokens"]
            tables.append(pa.Table.from_arrays([*rows.columns, *masks.columns], names=names))
    return pa.concat_tables(tables)


class LabelRows:
    """A transform: stored rows to `input_ids`, `attention_mask`, `labels` and `position_ids`."""

    def __init__(self, *, mask: int, pad: int) -> None:
        self._mask, self._pad = mask, pad

    def __call__(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[np.ndarray]]:
        out: dict[str, list[np.ndarray]] = {
            name: [] for name in ("input_ids", "attention_mask", "labels", "position_ids")
        }
        for i in range(len(rows["tokens"])):
            tokens = np.asarray(rows["tokens"][i], np.int64)
            bits = np.frombuffer(rows["targets"][i], np.uint8)
            target = np.unpackbits(bits, bitorder=fmt.BITS).astype(bool)
            ids = np.where(target, self._mask, tokens)
            ids[np.asarray(rows["swap_places"][i], np.int64)] = rows["swap_tokens"][i]
            used = int(np.sum(rows["segment_lengths"][i]))
            lengths = [*rows["segment_lengths"][i], tokens.size - used]
            out["input_ids"].append(ids)
            out["attention_mask"].append((np.arange(tokens.size) < used).astype(np.int64))
            out["labels"].append(np.where(target, tokens, IGNORED))
            out["position_ids"].append(np.concatenate([np.arange(length) for length in lengths]).astype(np.int64))
        return out


def _map_again(location: str, digest: str, split: str, plane: str, schema: pa.Schema) -> MappedRows:
    table = map_rows(Dataset.open(Folder(location), digest), split, plane)
    return MappedRows(table_cast(table, schema), (location, digest, split, plane))
