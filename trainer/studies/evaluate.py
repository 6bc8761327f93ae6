"""How good a model is on the evaluation plane, and what trivial predictors reach on the same targets.

The evaluation plane is the same for every dataset: 15 %, all [MASK], a seed of its own. Cross-entropies are in nats.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32, Int64

from mlm_data import seeds
from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.loading.batches import Batch
from mlm_data.loading.loader import evaluation
from mlm_data.types import IGNORED
from trainer.model.encoder import Encoder
from trainer.training.counts import token_rows, unigram_counts
from trainer.training.score import Score, score
from trainer.training.step import Forward


def shuffled(batches: Iterable[Batch], dataset: Dataset, *, seed: int = 0) -> Iterable[Batch]:
    """The same batches with the visible ordinary tokens of each row in a keyed random order."""
    special = np.zeros(dataset.manifest.vocab_size, bool)
    special[dataset.never_targets()] = True
    length = dataset.manifest.sequence_length
    for number, batch in enumerate(batches):
        ids = batch.input_ids.reshape(-1, length).copy()
        key = np.uint64(seeds.fold(seeds.fold(np.uint64(seed), seeds.SAMPLE), number))
        priority = seeds.draws(key, ids.size).reshape(ids.shape)
        movable = ~special[ids]
        # Sort movable places of each row by priority; the others stay: they sort into their own slots.
        for row in range(ids.shape[0]):
            places = np.flatnonzero(movable[row])
            ids[row, places] = ids[row, places[np.argsort(priority[row, places], kind="stable")]]
        yield Batch(**{**batch.__dict__, "input_ids": ids.reshape(-1)})


def evaluation_targets(
    batches: Iterable[Batch],
) -> tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Left neighbour, right neighbour (as the model sees them) and true id of every target; -1 across a border."""
    lefts, rights, truths = [], [], []
    for batch in batches:
        valid = batch.target_ids != IGNORED
        places = batch.target_places[valid]
        ids, starts = batch.input_ids, batch.position_ids == 0
        before, after = np.maximum(places - 1, 0), np.minimum(places + 1, ids.size - 1)
        lefts.append(np.where(starts[places] | (places == 0), -1, ids[before]))
        rights.append(np.where(starts[after] | (places == ids.size - 1), -1, ids[after]))
        truths.append(batch.target_ids[valid])
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(truths)


def unigram_score(truths: Int64[np.ndarray, " n"], counts: Int64[np.ndarray, " vocab"]) -> Score:
    """What a model that knows only frequencies reaches: add-one smoothed counts of the training tokens."""
    smoothed = counts + 1.0
    log_p = np.log(smoothed / smoothed.sum())
    return Score(
        loss_sum=float(-log_p[truths].sum()), hits=int((truths == counts.argmax()).sum()), targets=int(truths.size)
    )


class NeighbourTable:
    """Left and right token -> most frequent middle, from the training tokens; the commonest token for an unseen pair.

    A count table by sorting: (left, right, middle) as one integer each, runs counted, the longest of each pair kept.
    """

    def __init__(self, dataset: Dataset, *, max_tokens: int = 20_000_000) -> None:
        vocab = self._vocab = np.int64(dataset.manifest.vocab_size)
        triples = []
        for tokens, segments in token_rows(dataset, max_tokens=max_tokens):
            same = (segments[:, :-2] == segments[:, 2:]) & (segments[:, 2:] > 0)
            left, middle, right = (tokens[:, i : tokens.shape[1] - 2 + i][same].astype(np.int64) for i in range(3))
            triples.append((left * vocab + right) * vocab + middle)
        every = np.concatenate(triples)
        common = ~np.isin(np.arange(vocab), dataset.never_targets())
        every = every[common[every % vocab]]
        self._pairs = _most_frequent(every, vocab)
        self._commonest = int(np.bincount(every % vocab).argmax())

    def predict(self, left: Int32[np.ndarray, " n"], right: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The most frequent middle of each pair."""
        guess = np.full(left.size, self._commonest, np.int64)
        keys, values = self._pairs
        wanted = left * self._vocab + right
        found = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
        hit = (keys[found] == wanted) & (left >= 0) & (right >= 0)
        guess[hit] = values[found[hit]]
        return guess


def _most_frequent(keyed: Int64[np.ndarray, " n"], vocab: np.int64) -> tuple[np.ndarray, np.ndarray]:
    """Of integers key * vocab + value: the distinct keys ascending, and the most frequent value of each."""
    distinct, counts = np.unique(keyed, return_counts=True)
    keys = distinct // vocab
    order = np.lexsort((-counts, keys))  # most frequent first within a key; ties by the lower id
    first = np.concatenate([[True], keys[order][1:] != keys[order][:-1]])
    return keys[order][first], (distinct % vocab)[order][first]


def report(
    model: Encoder,
    dataset: Dataset,
    *,
    batch_rows: int,
    device: torch.device,
    baselines: bool,
    max_rows: int | None = None,
) -> dict[str, Any]:
    """Everything `premask-train eval` prints, as plain types.

    Raises:
        ConfigError: if there is no validation split, or no target in it.
    """
    stream = evaluation(dataset, batch_rows)
    target_size = stream.target_size
    batches = list(_take(stream, max_rows))
    found = score(Forward(model), batches, target_size=target_size, device=device)
    if not found.targets:
        raise ConfigError(f"{dataset.folder.location}: its evaluation plane hides nothing: build it with more text")
    result: dict[str, Any] = {"dataset": dataset.digest, "model": found.to_dict()}
    if not baselines:
        return result
    left, right, truths = evaluation_targets(batches)
    result["unigram"] = unigram_score(truths, unigram_counts(dataset)).to_dict()
    guess = NeighbourTable(dataset).predict(left, right)
    result["two_neighbours"] = {"accuracy": float((guess == truths).mean()), "targets": int(truths.size)}
    mixed = score(Forward(model), shuffled(batches, dataset), target_size=target_size, device=device)
    result["shuffled_context"] = mixed.to_dict()
    result["nats_below_unigram"] = result["unigram"]["loss"] - result["model"]["loss"]
    result["nats_lost_by_shuffling"] = mixed.loss - result["model"]["loss"]
    return result


def _take(batches: Iterable[Batch], max_rows: int | None) -> Iterable[Batch]:
    rows = 0
    for batch in batches:
        if max_rows is not None and rows >= max_rows:
            return
        rows += batch.rows.size
        yield batch
