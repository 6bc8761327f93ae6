"""A version of a dataset, open: what it says of itself, its documents and rows, and how trainers read it."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from mlm_data.dataset.dataset import Dataset, RowView
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import Manifest
from mlm_data.shards.format import SPLITS, TRAIN
from mlm_data.stores.folder import Folder

if TYPE_CHECKING:
    import datasets

    from premask.batches import MaskedBatches


def open_dataset(location: str | os.PathLike[str]) -> "OpenDataset":
    """Open a version of a dataset.

    Args:
        location: the dataset's folder or URI; a version's name may follow an `@`.

    Raises:
        FormatError: if there is none, it is damaged, or its format is newer than this premask.
    """
    return OpenDataset(Dataset.open(os.fspath(location)))


class OpenDataset:
    """One version of a dataset. Small: shards are opened when something of them is asked for.

    It can be pickled, and so cross to a worker process: the folder and the digest travel, no shard is read.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.dataset.folder.location, self.digest)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.dataset.num_rows(split):,} {split}" for split in SPLITS)
        return f"<premask dataset {self.dataset.folder.location} {self.digest[:16]}: {counts} rows>"

    @property
    def digest(self) -> str:
        """The version's name."""
        return self.dataset.digest

    @property
    def manifest(self) -> Manifest:
        """What the version says of itself."""
        return self.dataset.manifest

    @property
    def ledger(self) -> Ledger:
        """What became of every document and token."""
        return Ledger.from_dict(self.manifest.ledger)

    @property
    def documents(self) -> "Documents":
        """Where the documents came from."""
        return Documents(self.dataset)

    def rows(self, split: str = TRAIN) -> "RowList":
        """The rows of a split, for people: tokens, segments with their sources, and what each plane hides."""
        return RowList(self.dataset, split)

    def torch(
        self,
        *,
        split: str = TRAIN,
        plane: int | Literal["epoch"] = "epoch",
        layout: Literal["padded", "pieces", "flat", "flash"] = "padded",
        batch_rows: int | None = 32,
        attention: Literal["row", "segment"] = "row",
        epochs: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        position_offset: int = 0,
    ) -> "MaskedBatches":
        """Batches for a trainer, as a `torch.utils.data.IterableDataset`; see there for what they hold.

        Args:
            split: whose rows.
            plane: `epoch`: epoch e reads plane e mod K; a number: that plane in every epoch.
            layout: `padded`: B rows of L places; `pieces`: each piece of a document in a row of its own; `flat`: one
                line of B * L places; `flash`: the same as HF's flash path takes it.
            batch_rows: B, of this rank. Such batches are whole: give a DataLoader `batch_size=None`. None: single rows,
                for trainers that make batches themselves, such as HF's.
            attention: of `padded`: `row`: tokens see all tokens of their row; `segment`: only those of their own
                segment, by a mask of [B, 1, L, L] for models that take one.
            epochs: how many to read; None: endless, so say how many steps you want.
            seed: of the order of rows.
            rank: this process among `world_size`, each of which reads its own rows. Trainers that deal out rows
                themselves want 0 of 1.
            world_size: see `rank`.
            position_offset: added to every position: 2 for RoBERTa, whose first two embeddings are not for tokens.

        Raises:
            ConfigError: for what can't be right, or if torch is not installed.
        """
        from mlm_data.errors import ConfigError

        try:
            from premask.batches import MaskedBatches
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ConfigError("ds.torch needs torch: pip install 'premask[train]'") from error
        return MaskedBatches(
            self.dataset,
            split=split,
            plane=plane,
            layout=layout,
            batch_rows=batch_rows,
            attention=attention,
            epochs=epochs,
            seed=seed,
            rank=rank,
            world_size=world_size,
            position_offset=position_offset,
        )

    def hf(self, split: str = TRAIN, *, plane: int | str | None = None) -> "datasets.Dataset":
        """The rows as a `datasets.Dataset` over the same files, memory-mapped, with one plane's masks.

        Args:
            split: whose rows.
            plane: which masks; None: plane 0, or the evaluation plane of the validation split.

        Raises:
            ConfigError: if `datasets` is not installed, the files can't be memory-mapped, or there is no such plane.
        """
        from mlm_data.errors import ConfigError

        try:
            from premask.hf import hf_dataset
        except ModuleNotFoundError as error:
            if error.name != "datasets":
                raise
            raise ConfigError("ds.hf needs HF datasets: pip install datasets") from error
        return hf_dataset(self.dataset, split, plane)


class Documents:
    """The documents of a version."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return sum(self._dataset.manifest.splits[split]["num_documents"] for split in SPLITS)

    def to_arrow(self, split: str | None = None) -> pa.Table:
        """One line for each document: `split`, `shard`, and the columns of the documents files.

        Args:
            split: whose; None: of both.
        """
        tables = []
        for name in SPLITS if split is None else (split,):
            for index in range(self._dataset.num_shards(name)):
                documents = self._dataset.shard(name, index).documents
                count = documents.num_rows
                own = {
                    "split": pa.array([name] * count, pa.string()),
                    "shard": pa.array(np.full(count, index, np.int32)),
                }
                theirs = {column: documents[column] for column in documents.schema.names}
                tables.append(pa.table(own | theirs))
        return pa.concat_tables(tables).unify_dictionaries() if tables else pa.table({})


class RowList(Sequence[RowView]):
    """The rows of a split, by number."""

    def __init__(self, dataset: Dataset, split: str) -> None:
        dataset.shard_rows(split)  # an unknown split is told now
        self._dataset, self._split = dataset, split

    def __len__(self) -> int:
        return self._dataset.num_rows(self._split)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= number < len(self):
            raise IndexError(f"row {index}: the {self._split} split has {len(self)} rows")
        return self._dataset.row(self._split, number)

    def __iter__(self) -> Iterator[RowView]:
        return (self[number] for number in range(len(self)))


def _reopen(location: str, digest: str) -> OpenDataset:
    return OpenDataset(Dataset.open(Folder(location), digest))
