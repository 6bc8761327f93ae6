"""Batches of static shape, assembled straight from memory-mapped shards.

A batch is B rows of L places laid end to end, T = B * L. A worked trace with B = 1, L = 8, [MASK] = 4: the row

    tokens  2 17 18 3  2 21 3  0      segment_lengths 4 3      targets bits 0b00100110      swap place 5 -> 99

becomes

    input_ids      2  4  4 3  2 99 3  0      targets 1, 2, 5 hold [MASK]; then the swaps are put over it
    position_ids   0  1  2 3  0  1 2  0      restart at each segment; the padding is a segment of its own
    cu_seqlens     0 4 7 8 8 8 ...           filled up with T
    target_places  1 2 5 0 0 ...             filled up with place 0
    target_ids     17 18 21 -100 -100 ...    filled up with -100, which the loss ignores

Rows of one batch lie in many files. The kernel therefore reads through a table of addresses, one line for each record
batch of each open shard, and checks every length and place before it uses it: a damaged file is an error, not a crash.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64
from numba import carray, types

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import FormatError
from mlm_data.kernels import intrinsic, kernel
from mlm_data.loading.open_shards import (
    NUM_PLANE_COLUMNS,
    NUM_ROW_COLUMNS,
    SEGMENT_OFFSETS,
    SEGMENTS,
    SWAP_OFFSETS,
    SWAP_PLACES,
    SWAP_TOKENS,
    TARGETS,
    TOKENS,
    OpenShards,
)
from mlm_data.shards import format as fmt
from mlm_data.types import IGNORED

_BATCH_ROWS = fmt.BATCH_ROWS
_LOWEST_BIT = np.array([0, *(((byte & -byte).bit_length() - 1) for byte in range(1, 256))], np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """B rows of L places as T = B * L places in a line; all shapes are the same in every batch of a plane."""

    input_ids: Int32[np.ndarray, " T"]
    position_ids: Int32[np.ndarray, " T"]
    cu_seqlens: Int32[np.ndarray, " segments+1"]
    target_places: Int32[np.ndarray, " targets"]
    target_ids: Int64[np.ndarray, " targets"]
    shards: Int32[np.ndarray, " B"]  # where each row came from; -1 for an empty row
    rows: Int32[np.ndarray, " B"]
    num_targets: int  # the rest of the targets is filled up
    num_tokens: int  # places in segments; the rest is padding


class BatchMaker:
    """Makes batches of the rows that it is told, from shards that it keeps open. Not to be used by two threads at once.

    Args:
        dataset: an open dataset.
        split: whose rows.
        planes: the planes that batches may ask for; all of the split's by default.
        batch_rows: B.
        window: W; where files can't be memory-mapped, 2 W shards are held in memory.
    """

    def __init__(
        self, dataset: Dataset, *, split: str, planes: list[str] | None = None, batch_rows: int, window: int
    ) -> None:
        manifest = dataset.manifest
        self.dataset, self.split, self.batch_rows = dataset, split, batch_rows
        self.planes = planes or dataset.planes(split)
        self.length = manifest.sequence_length
        self.max_segments = batch_rows * manifest.max_segments
        self.shards = OpenShards(dataset, split=split, planes=self.planes, window=window)
        self._roles = manifest.roles
        self._wide = fmt.token_type(manifest.vocab_size) == pa.uint32()

    def max_targets(self, planes: list[str]) -> int:
        """Length of the target arrays of a batch that reads these planes."""
        return self.batch_rows * max(1, *(self.dataset.manifest.max_targets(plane) for plane in planes))

    def make(
        self,
        shards: Int32[np.ndarray, " rows"],
        rows: Int32[np.ndarray, " rows"],
        planes: list[tuple[str, slice]],
    ) -> Batch:
        """Assemble a batch of at most B rows; the rest is empty rows.

        Args:
            shards: shard of each row.
            rows: row in the shard.
            planes: which plane masks which part of the rows.

        Raises:
            FormatError: if a file is damaged.
        """
        self.shards.begin()
        slots, plane_columns = np.full(self.batch_rows, -1, np.int32), np.zeros(self.batch_rows, np.int32)
        for plane, part in planes:
            slots[part] = self.shards.find(plane, shards[part])
            plane_columns[part] = NUM_ROW_COLUMNS + NUM_PLANE_COLUMNS * self.planes.index(plane)
        all_shards, all_rows = np.full(self.batch_rows, -1, np.int32), np.full(self.batch_rows, -1, np.int32)
        all_shards[: shards.size], all_rows[: rows.size] = shards, rows
        num_places = self.batch_rows * self.length
        max_targets = self.max_targets([plane for plane, _ in planes] or self.planes[:1])
        input_ids, position_ids = np.empty(num_places, np.int32), np.empty(num_places, np.int32)
        cu_seqlens = np.empty(self.max_segments + 1, np.int32)
        target_places, target_ids = np.empty(max_targets, np.int32), np.empty(max_targets, np.int64)
        bad, num_targets, num_tokens = _assemble(
            self.shards.addresses, slots, all_rows, plane_columns,
            self.length, self._wide, self._roles.mask, self._roles.pad,
            input_ids, position_ids, cu_seqlens, target_places, target_ids,
        )  # fmt: skip
        if bad >= 0:
            shard = self.dataset.shard(self.split, int(all_shards[bad]))
            names = " or ".join(shard.files[kind].name for kind in (fmt.ROWS, fmt.MASKS))
            raise FormatError(
                f"{self.dataset.folder.location}/{names}: row {all_rows[bad]} breaks the format: run premask verify"
            )
        return Batch(
            input_ids=input_ids,
            position_ids=position_ids,
            cu_seqlens=cu_seqlens,
            target_places=target_places,
            target_ids=target_ids,
            shards=all_shards,
            rows=all_rows,
            num_targets=num_targets,
            num_tokens=num_tokens,
        )


@intrinsic
def _pointer(typing_context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.intp), generate


@kernel
def _assemble(
    addresses, slots, rows, plane_columns, length, wide, mask_id, pad_id,
    input_ids, position_ids, cu_seqlens, target_places, target_ids,
):  # fmt: skip
    """Fill the arrays of one batch; returns (index of a bad row or -1, number of targets, number of tokens)."""
    num_targets, num_segments, num_tokens = 0, 0, 0
    cu_seqlens[0] = 0
    for b in range(slots.size):
        base = b * length
        if slots[b] < 0:
            for place in range(base, base + length):
                input_ids[place] = pad_id
                position_ids[place] = place - base
            num_segments += 1
            if num_segments >= cu_seqlens.size:
                return b, 0, 0
            cu_seqlens[num_segments] = base + length
            continue
        line = addresses[slots[b], rows[b] // _BATCH_ROWS]
        masks = line[plane_columns[b] :]
        row = rows[b] % _BATCH_ROWS

        # Segments: their lengths make the positions and the borders.
        offsets = carray(_pointer(line[SEGMENT_OFFSETS] + 4 * row), 2, np.int32)
        lengths = carray(_pointer(line[SEGMENTS] + 4 * offsets[0]), max(offsets[1] - offsets[0], 0), np.int32)
        used = 0
        for s in range(lengths.size + 1):
            size = lengths[s] if s < lengths.size else length - used
            if size < 0 or used + size > length:
                return b, 0, 0
            if size == 0:
                if s < lengths.size:
                    return b, 0, 0
                break
            if num_segments + 1 >= cu_seqlens.size:
                return b, 0, 0
            for j in range(size):
                position_ids[base + used + j] = j
            if s < lengths.size:
                num_tokens += size
            used += size
            num_segments += 1
            cu_seqlens[num_segments] = base + used

        swap_offsets = carray(_pointer(masks[SWAP_OFFSETS] + 4 * row), 2, np.int32)
        first, count = swap_offsets[0], max(swap_offsets[1] - swap_offsets[0], 0)
        swap_places = carray(_pointer(masks[SWAP_PLACES] + 2 * first), count, np.uint16)
        targets = carray(_pointer(masks[TARGETS] + row * (length // 8)), length // 8, np.uint8)
        row_ids = input_ids[base : base + length]
        if wide:
            tokens = carray(_pointer(line[TOKENS] + 4 * row * length), length, np.uint32)
            swap_tokens = carray(_pointer(masks[SWAP_TOKENS] + 4 * first), count, np.uint32)
            num_targets = _mask_row(
                tokens,
                targets,
                swap_places,
                swap_tokens,
                mask_id,
                base,
                row_ids,
                target_places,
                target_ids,
                num_targets,
            )
        else:
            narrow = carray(_pointer(line[TOKENS] + 2 * row * length), length, np.uint16)
            narrow_swaps = carray(_pointer(masks[SWAP_TOKENS] + 2 * first), count, np.uint16)
            num_targets = _mask_row(
                narrow,
                targets,
                swap_places,
                narrow_swaps,
                mask_id,
                base,
                row_ids,
                target_places,
                target_ids,
                num_targets,
            )
        if num_targets < 0:
            return b, 0, 0
    cu_seqlens[num_segments + 1 :] = slots.size * length
    target_places[num_targets:] = 0
    target_ids[num_targets:] = IGNORED
    return -1, num_targets, num_tokens


@kernel
def _mask_row(
    tokens, targets, swap_places, swap_tokens, mask_id, base, row_ids, target_places, target_ids, num_targets
):
    """One row's input ids and targets; returns the number of targets so far, or -1 for a row that breaks a bound."""
    for j in range(tokens.size):
        row_ids[j] = tokens[j]
    for byte in range(targets.size):
        bits = np.int64(targets[byte])
        while bits:
            place = byte * 8 + _LOWEST_BIT[bits]
            if num_targets >= target_places.size:
                return -1
            target_places[num_targets] = base + place
            target_ids[num_targets] = tokens[place]
            row_ids[place] = mask_id
            num_targets += 1
            bits &= bits - 1
    for s in range(swap_places.size):
        if swap_places[s] >= tokens.size:
            return -1
        row_ids[swap_places[s]] = swap_tokens[s]
    return num_targets
