"""Batches of a dataset as a torch `IterableDataset`.

What they hold, all int64 unless said otherwise, of B rows of L places (T = B * L):

    padded   input_ids, attention_mask, labels, position_ids [B, L]; with attention="segment" attention_mask is float32
             [B, 1, L, L], 0 inside a segment and the lowest number elsewhere, as HF's models add it to the scores
    pieces   input_ids, attention_mask, labels, position_ids [N, L]: each of the N pieces of documents that B packed
             rows hold in a row of its own
    flat     input_ids, labels, position_ids [T], cu_seqlens int32 [S + 1], max_seqlen
    flash    input_ids, labels, position_ids [1, T], cu_seq_lens_q and _k int32 [S + 1], max_length_q and _k

labels are -100 where nothing is to be predicted. S is the most segments that B rows may have; borders after the last
segment repeat T, which are segments without a token.

The stream is the loader's: `mlm_data.loading.loader` says in which order. Step s of N ranks consumes N * B rows from
s * N * B on. Of W workers of a DataLoader, worker w makes the steps w, w + W, ...: a DataLoader takes them in turn, so
that W workers give what none gives, in the same order.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import CheckpointError, ConfigError
from mlm_data.loading.batches import Batch
from mlm_data.loading.checks import check_whole
from mlm_data.loading.layouts import labels_of, padded, pieces, segment_mask
from mlm_data.loading.loader import Loader
from mlm_data.stores.folder import Folder

CHUNK_ROWS = 32  # made at once where single rows are given out
LAYOUTS = ("padded", "pieces", "flat", "flash")
ATTENTIONS = ("row", "segment")


class MaskedBatches(IterableDataset):
    """See the module's docstring, and `premask.OpenDataset.torch` for the arguments."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        split: str,
        plane: int | Literal["epoch"],
        layout: str,
        batch_rows: int | None,
        attention: str,
        epochs: int | None,
        seed: int,
        rank: int | None,
        world_size: int | None,
        position_offset: int,
    ) -> None:
        for name, value, known in (("layout", layout, LAYOUTS), ("attention", attention, ATTENTIONS)):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if layout != "padded" and attention != "row":
            raise ConfigError("attention='segment' is for layout='padded': no other layout needs it")
        if layout not in {"padded", "pieces"} and batch_rows is None:
            raise ConfigError("single rows (batch_rows=None) are for layout='padded' and 'pieces'")
        if epochs is not None:
            check_whole("epochs", epochs, least=1)
        check_whole("position_offset", position_offset, least=0)
        self._rank, self._world_size = _ranks(rank, world_size)
        self._location, self._digest = dataset.folder.location, dataset.digest
        self._layout, self._attention = layout, attention
        self._length, self._pad = dataset.manifest.sequence_length, dataset.manifest.roles.pad
        self._offset = position_offset
        self._one_by_one = batch_rows is None
        self._loading: dict[str, Any] = {
            "split": split,
            "planes": None if plane == "epoch" else [plane],
            "batch_rows": CHUNK_ROWS if batch_rows is None else batch_rows,
            "seed": seed,
            "rank": self._rank,
            "world_size": self._world_size,
        }
        self._loader: Loader | None = None
        self.num_rows = dataset.num_rows(split)
        self._epochs = epochs
        self._first = 0  # row of the stream where steps begin
        self._given = (0, 0)  # steps of this copy that are done since, and what it has given out of the next
        self._worker: tuple[int, int] | None = None  # that gave it out, and how many there were
        Loader(dataset, **self._loading).close()  # what can't be right is told now; no shard is opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loader": None}

    @property
    def step_rows(self) -> int:
        """Rows of the stream that one step of all ranks consumes."""
        return self._loading["batch_rows"] * self._world_size

    def set_epoch(self, epoch: int) -> None:
        """Begin at the first row of an epoch. With `epochs=1`: call it before each, as trainers do.

        Raises:
            ConfigError: if it is no number of an epoch.
        """
        check_whole("epoch", epoch, least=0)
        self._first, self._given = epoch * self.num_rows, (0, 0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker = (info.id, info.num_workers) if info else (0, 1)
        if self._given != (0, 0) and worker != self._worker:
            raise CheckpointError(
                f"the state is of worker {self._worker}, this is worker {worker} (number, of how many): "
                "go on with as many workers"
            )
        self._worker = worker
        end = None if self._epochs is None else (self._first // self.num_rows + self._epochs) * self.num_rows
        while True:
            steps, inside = self._given
            first = self._first + (steps * worker[1] + worker[0]) * self.step_rows
            if end is not None and first >= end:
                break
            items = self._items(first, end)
            for number in range(inside, len(items)):
                self._given = (steps, number + 1) if number + 1 < len(items) else (steps + 1, 0)
                yield items[number]
            if inside >= len(items):  # a step that holds nothing for this rank
                self._given = (steps + 1, 0)
        self._given = (0, 0)

    def state_dict(self) -> dict[str, Any]:
        """Where this copy of the dataset is, as plain values.

        In a process without workers that is all. With workers each copy has its own; a DataLoader that keeps states,
        such as torchdata's, gathers them. With torch's own, note the steps that you have taken, and ask `state_at`.
        """
        worker, workers = self._worker or (0, 1)
        steps, inside = self._given
        if workers == 1 and inside == 0:
            return self.state_at(steps)
        return self.state_at(0) | {"given": [steps, inside], "worker": worker, "num_workers": workers}

    def state_at(self, steps: int) -> dict[str, Any]:
        """The state after so many steps from where this dataset began, whatever the number of workers."""
        return {
            "digest": self._digest,
            "split": self._loading["split"],
            "seed": self._loading["seed"],
            "rows_consumed": self._first + steps * self.step_rows,
            "given": [0, 0],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            CheckpointError: if it belongs to another dataset, split or order.
        """
        for name, value in (self.state_at(0) | {"rows_consumed": None, "given": None}).items():
            if name not in state:
                raise CheckpointError(f"the state has no {name!r}: it is damaged")
            if value is not None and state[name] != value:
                raise CheckpointError(f"{name} is {value!r}, the state has {state[name]!r}")
        steps, inside = state["given"]
        self._first, self._given = int(state["rows_consumed"]), (int(steps), int(inside))
        self._worker = (state["worker"], state["num_workers"]) if self._given != (0, 0) else None

    def _items(self, first: int, end: int | None) -> list[dict[str, Any]]:
        """The batch of a step, or its rows one by one."""
        if self._loader is None:
            self._loader = Loader(Dataset.open(Folder(self._location), self._digest), **self._loading)
        batch = self._loader.batch_at(first, end)
        tensors = self._lay_out(batch)
        if not self._one_by_one:
            return [tensors]
        count = int((batch.rows >= 0).sum()) if self._layout == "padded" else tensors["input_ids"].shape[0]
        return [{name: tensor[row] for name, tensor in tensors.items()} for row in range(count)]

    def _lay_out(self, batch: Batch) -> dict[str, Any]:
        is_square = self._layout in {"padded", "pieces"}
        if is_square:
            lay_out = padded if self._layout == "padded" else pieces
            arrays = lay_out(batch, length=self._length, pad=self._pad)
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            if self._attention == "segment":
                allowed = torch.from_numpy(segment_mask(batch, length=self._length))
                lowest = torch.finfo(torch.float32).min
                tensors["attention_mask"] = torch.zeros(allowed.shape).masked_fill_(~allowed, lowest)
        else:
            tensors = {
                "input_ids": torch.from_numpy(batch.input_ids).long(),
                "labels": torch.from_numpy(labels_of(batch)),
                "position_ids": torch.from_numpy(batch.position_ids).long(),
            }
        if self._offset:
            tensors["position_ids"] += self._offset
        if is_square:
            return tensors
        borders = torch.from_numpy(batch.cu_seqlens)
        if self._layout == "flat":
            return {**tensors, "cu_seqlens": borders, "max_seqlen": self._length}
        lines: dict[str, Tensor] = {name: tensor[None] for name, tensor in tensors.items()}
        return {
            **lines,
            "cu_seq_lens_q": borders,
            "cu_seq_lens_k": borders,
            "max_length_q": self._length,
            "max_length_k": self._length,
        }


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """The ranks that were asked for; none only where there is one process."""
    if rank is not None or world_size is not None:
        if rank is None or world_size is None:
            raise ConfigError("give rank and world_size together")
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        size = torch.distributed.get_world_size()
        if size > 1:
            raise ConfigError(
                f"{size} processes train together: give rank= and world_size=, or rank=0, world_size=1 where the "
                "trainer itself deals out rows"
            )
    return 0, 1
