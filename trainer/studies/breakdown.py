"""Where a model is good and where not: loss and accuracy by source, word start, frequency band, and segment length.

Every target of the evaluation plane has a loss and a hit; they are grouped by what is known of its place. Bands of
frequency are powers of ten of the token's count in the training rows, bands of length powers of two.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.batches import Batch
from mlm_data.loading.loader import evaluation
from mlm_data.shards import format as fmt
from trainer.model.encoder import Encoder
from trainer.training.counts import unigram_counts
from trainer.training.data import Tensors

MAX_SOURCES = 20  # the rest is summed up


@torch.no_grad()
def target_losses(
    model: Encoder, batch: Batch, device: torch.device
) -> tuple[Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Loss (nats) and hit of each target that is not filled up."""
    tensors = Tensors.of(batch, device)
    count = batch.num_targets
    places = tensors.target_places[:count]
    x_ND = model(tensors.input_ids, tensors.position_ids, tensors.cu_seqlens, places)
    logits = model.logits(model.features(x_ND))
    wanted = tensors.target_ids[:count]
    losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    return losses.cpu().numpy(), (logits.argmax(-1) == wanted).cpu().numpy()


def breakdown(
    model: Encoder, dataset: Dataset, *, batch_rows: int, device: torch.device, max_rows: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """For each way to group: lines of name, targets, loss and accuracy, largest first (bands in their order)."""
    counts = unigram_counts(dataset)
    sums: dict[str, dict[str, np.ndarray]] = {
        name: defaultdict(lambda: np.zeros(3)) for name in ("source", "word_start", "frequency", "length")
    }
    rows = 0
    for batch in evaluation(dataset, batch_rows):
        if max_rows is not None and rows >= max_rows:
            break
        rows += batch.rows.size
        losses, hits = target_losses(model, batch, device)
        places, truths = batch.target_places[: batch.num_targets], batch.target_ids[: batch.num_targets]
        sources, starts, lengths = _facts(dataset, batch, places)
        bands = np.floor(np.log10(np.maximum(counts[truths], 1))).astype(int)
        sizes = np.floor(np.log2(lengths)).astype(int)
        groups = {
            "source": sources,
            "word_start": np.where(starts, "begins a word", "inside a word"),
            "frequency": np.array([f"1e{band} to 1e{band + 1}" for band in bands]),
            "length": np.array([f"{2**size} to {2 ** (size + 1) - 1}" for size in sizes]),
        }
        for name, keys in groups.items():
            for key in np.unique(keys):
                chosen = keys == key
                sums[name][str(key)] += [chosen.sum(), losses[chosen].sum(), hits[chosen].sum()]
    return {name: _lines(table, by_name=name in ("frequency", "length")) for name, table in sums.items()}


def _facts(dataset: Dataset, batch: Batch, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, word start and segment length of each target."""
    length = dataset.manifest.sequence_length
    sources = np.empty(places.size, object)
    starts = np.zeros(places.size, bool)
    lengths = np.ones(places.size, np.int64)
    for number in np.unique(places // length).tolist():
        shard = dataset.shard(fmt.VALIDATION, int(batch.shards[number]))
        batch_number, row = divmod(int(batch.rows[number]), fmt.BATCH_ROWS)
        rows = shard.rows[batch_number]
        part = slice(int(rows.segment_offsets[row]), int(rows.segment_offsets[row + 1]))
        ends = np.cumsum(rows.segment_lengths[part])
        here = np.flatnonzero(places // length == number)
        inside = places[here] - number * length
        segment = np.searchsorted(ends, inside, side="right")
        lengths[here] = rows.segment_lengths[part][segment]
        bits = np.unpackbits(rows.word_starts[row], bitorder=fmt.BITS)
        starts[here] = bits[inside].astype(bool)
        documents = rows.segment_documents[part][segment]
        sources[here] = np.array(shard.documents["source"].take(documents).to_pylist(), object)
    return sources.astype(str), starts, lengths


def _lines(table: dict[str, np.ndarray], *, by_name: bool) -> list[dict[str, Any]]:
    items = sorted(table.items(), key=lambda item: float(item[0].split()[0]) if by_name else -item[1][0])
    if len(items) > MAX_SOURCES and not by_name:
        rest = np.sum([values for _, values in items[MAX_SOURCES:]], 0)
        items = [*items[:MAX_SOURCES], (f"{len(items) - MAX_SOURCES} others", rest)]
    return [
        {"name": name, "targets": int(count), "loss": loss / count, "accuracy": hits / count}
        for name, (count, loss, hits) in items
    ]
