"""Shards that are open, as a table of addresses that a kernel can read through.

A line of the table belongs to one record batch of one open shard: where its tokens and segments begin, and for each
plane its targets and swaps. Opening a file costs about half a millisecond, so a shard that is memory-mapped is opened
once, with all planes, and thousands stay open. Files that must be decoded or fetched are held in memory: 2 * window
shards, and of each only the planes of the batch at hand.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import FormatError
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import Shard, is_decoded

MAPPED_SHARDS = 4096  # open at once where they are memory-mapped: each costs address space and two mappings of 65,530

# Columns of the address table: those of the rows, then those of each plane.
TOKENS, SEGMENT_OFFSETS, SEGMENTS = range(3)
NUM_ROW_COLUMNS = 3
TARGETS, SWAP_OFFSETS, SWAP_PLACES, SWAP_TOKENS = range(4)
NUM_PLANE_COLUMNS = 4


@dataclass
class _Held:
    """What keeps the addresses of one slot alive."""

    shard: int
    is_mapped: bool
    rows: list[pa.RecordBatch]
    masks: dict[int, list[pa.RecordBatch]] = field(default_factory=dict)


class OpenShards:
    """Open shards of a split by slot: the least recently used go first, never one that the batch at hand needs.

    Attributes:
        addresses: [slots, record batches, 3 + 4 * planes] int64.
    """

    def __init__(self, dataset: Dataset, *, split: str, planes: list[str], window: int) -> None:
        self._dataset, self._split, self._planes = dataset, split, planes
        counts = dataset.shard_rows(split)
        pieces = -(-int(counts.max(initial=1)) // fmt.BATCH_ROWS)
        self._limit = 2 * window  # raised when the first shard turns out to be memory-mapped
        capacity = min(2 * window, counts.size)
        self.addresses = np.zeros((capacity, pieces, NUM_ROW_COLUMNS + NUM_PLANE_COLUMNS * len(planes)), np.int64)
        self._used = np.full(capacity, -1, np.int64)  # when last; -1: free
        self._plane_used = np.full((capacity, len(planes)), -1, np.int64)  # -1: not there
        self._held: list[_Held | None] = [None] * capacity
        self._slots = np.full(counts.size, -1, np.int32)
        self._clock = 0

    def __len__(self) -> int:
        return sum(held is not None for held in self._held)

    def begin(self) -> None:
        """Begin a batch: what it finds stays open until the next one begins."""
        self._clock += 1

    def find(self, plane: str, shards: Int32[np.ndarray, " rows"]) -> Int32[np.ndarray, " rows"]:
        """Slots of the shards; those that are not open are opened.

        Raises:
            FormatError: if a file is damaged.
        """
        p = self._planes.index(plane)
        slots = self._slots[shards]
        ready = (slots >= 0) & (self._plane_used[slots, p] >= 0)
        self._used[slots[slots >= 0]] = self._clock  # before anything is thrown out
        self._plane_used[slots[ready], p] = self._clock
        if ready.all():
            return slots
        for index in np.unique(shards[~ready]).tolist():
            shard = self._dataset.shard(self._split, index)
            slot = int(self._slots[index])
            if slot < 0:
                slot = self._open(shard)
            self._open_planes(shard, slot, p)
        return self._slots[shards]

    def open_ahead(self, plane: str, shards: Int32[np.ndarray, " shards"]) -> None:
        """Open shards before a batch asks for them, as long as they turn out to be memory-mapped."""
        self.begin()
        for place in range(shards.size):
            (slot,) = self.find(plane, shards[place : place + 1]).tolist()
            if not self._held[slot].is_mapped:
                return

    def _open(self, shard: Shard) -> int:
        rows = shard.batches(fmt.ROWS, ("tokens", "segment_lengths"))
        is_mapped = self._dataset.folder.is_mapped and not (rows and is_decoded(rows[0]))
        if is_mapped and self._dataset.folder.is_local:  # a copy of a bucket's file takes disk while it is open
            self._limit = max(self._limit, MAPPED_SHARDS)
            for kind in (fmt.ROWS, fmt.MASKS):  # all of it will be read, row by row in a random order
                self._dataset.folder.read_ahead(shard.files[kind].name)
        slot = self._free_slot()
        for piece, batch in enumerate(rows):
            tokens, lengths = batch.columns
            line = [_address(tokens.flatten()), _address(lengths.offsets), _address(lengths.values)]
            self.addresses[slot, piece, :NUM_ROW_COLUMNS] = line
        self._held[slot] = _Held(shard=shard.index, is_mapped=is_mapped, rows=rows)
        self._used[slot], self._slots[shard.index] = self._clock, slot
        return slot

    def _open_planes(self, shard: Shard, slot: int, wanted: int) -> None:
        held = self._held[slot]
        assert held is not None
        opened = list(range(len(self._planes))) if held.is_mapped else [wanted]
        if not held.is_mapped:
            for old in [p for p in held.masks if self._plane_used[slot, p] < self._clock]:
                del held.masks[old]
                self._plane_used[slot, old] = -1
        batches = shard.batches(fmt.MASKS, planes=[self._planes[p] for p in opened])
        for piece, batch in enumerate(batches):
            for i, p in enumerate(opened):
                begin = NUM_ROW_COLUMNS + NUM_PLANE_COLUMNS * p
                targets, places, tokens = batch.columns[3 * i : 3 * i + 3]
                line = _plane_addresses(targets, places, tokens, self._planes[p], shard.where(fmt.MASKS))
                self.addresses[slot, piece, begin : begin + NUM_PLANE_COLUMNS] = line
        for p in opened:
            held.masks[p] = batches
            self._plane_used[slot, p] = self._clock

    def _free_slot(self) -> int:
        oldest = int(self._used.argmin())
        in_use = self._used[oldest] == self._clock
        if self._used[oldest] >= 0 and (in_use or self._used.size < self._limit):
            oldest = self._used.size  # grow: this batch needs them all, or there is room
            self.addresses = np.concatenate([self.addresses, np.zeros_like(self.addresses)])
            self._used = np.concatenate([self._used, np.full_like(self._used, -1)])
            self._plane_used = np.concatenate([self._plane_used, np.full_like(self._plane_used, -1)])
            self._held += [None] * oldest
        held = self._held[oldest]
        if held is not None:
            self._slots[held.shard] = -1
            self._held[oldest] = None
            self._plane_used[oldest] = -1
        return oldest


def _plane_addresses(targets: pa.Array, places: pa.Array, tokens: pa.Array, plane: str, where: str) -> list[int]:
    if not places.offsets.equals(tokens.offsets):
        columns = f"swap_places_{plane} and swap_tokens_{plane}"
        raise FormatError(f"{where}: {columns} have different lengths: run premask verify")
    return [
        targets.buffers()[1].address + targets.offset * targets.type.byte_width,
        _address(places.offsets),
        _address(places.values),
        _address(tokens.values),
    ]


def _address(array: pa.Array) -> int:
    """Where the first value of a primitive array lies; 0 for an empty one, which nobody reads."""
    data = array.buffers()[1]
    return 0 if data is None else data.address + array.offset * array.type.byte_width
