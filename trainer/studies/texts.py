"""Texts of any length as batches of a model's shape: what scoring, probing and filling need.

Segments go into rows first-fit in their order: a row ends where the next one does not fit. Positions restart at each
segment and attention stays inside it, so a segment's outputs do not depend on its neighbours (a test says so).

    segments of 3, 4 and 2 places, L = 8      row 0: a a a b b b b .      row 1: c c . . . . . .
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mlm_data.errors import InputError
from trainer.model.encoder import Encoder


class TextBatch(NamedTuple):
    """One batch of whole segments."""

    input_ids: Tensor  # int32 [T]
    position_ids: Tensor  # int32 [T]
    cu_seqlens: Tensor  # int32 [T + 1]: as many borders as there could be
    starts: Int64[np.ndarray, " segments"]  # first place of each segment in the batch
    lengths: Int64[np.ndarray, " segments"]


def check_text(text: str, *, where: str = "") -> None:
    """Refuse a string that is no Unicode text: half of a surrogate pair, as JSON and a terminal may hold one.

    Raises:
        InputError: names the place in the text.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}the text has half of a surrogate pair at character {error.start}: take it out"
        ) from error


def pack(segments: Iterable[np.ndarray], *, rows: int, length: int, pad: int) -> Iterator[TextBatch]:
    """Batches of `rows` rows from segments of at most `length` ids each, in order."""
    held: list[np.ndarray] = []
    starts: list[int] = []
    row, used = 0, 0
    for segment in segments:
        assert segment.size <= length
        if used + segment.size > length:
            row, used = row + 1, 0
        if row == rows:
            yield _assemble(held, starts, rows, length, pad)
            held, starts, row, used = [], [], 0, 0
        held.append(segment)
        starts.append(row * length + used)
        used += segment.size
    if held:
        yield _assemble(held, starts, rows, length, pad)


def _assemble(segments: list[np.ndarray], starts: list[int], rows: int, length: int, pad: int) -> TextBatch:
    places = rows * length
    input_ids = np.full(places, pad, np.int32)
    begins = np.zeros(places, bool)
    begins[::length] = True
    for start, segment in zip(starts, segments, strict=True):
        input_ids[start : start + segment.size] = segment
        begins[start] = True
        if start + segment.size < places:
            begins[start + segment.size] = True  # the next segment, or padding
    borders = np.flatnonzero(begins)
    position_ids = np.arange(places) - np.repeat(borders, np.diff(np.append(borders, places)))
    cu_seqlens = np.full(places + 1, places, np.int32)
    cu_seqlens[: borders.size] = borders
    return TextBatch(
        torch.from_numpy(input_ids),
        torch.from_numpy(position_ids.astype(np.int32)),
        torch.from_numpy(cu_seqlens),
        np.array(starts, np.int64),
        np.array([segment.size for segment in segments], np.int64),
    )


@torch.no_grad()
def hidden_states(model: Encoder, batch: TextBatch, places_N: Tensor | None = None) -> Tensor:
    """The encoder's outputs for a packed batch: of all places [T, D], or of some [N, D]."""
    device = model.decoder_bias.device
    layout = batch.input_ids.to(device), batch.position_ids.to(device), batch.cu_seqlens.to(device)
    return model(*layout, None if places_N is None else places_N.to(device))
