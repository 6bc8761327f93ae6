"""Scores, and the trivial predictors that they are compared with, against plain Python."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import evaluation
from tests.trainer.oracle import plain_target_loss
from tests.trainer.precision import both_precisions, tolerance
from trainer.studies import evaluate as ev
from trainer.studies.fill import masked_logits
from trainer.training import machine as mc
from trainer.training import runs
from trainer.training.counts import token_rows, unigram_counts
from trainer.training.score import score
from trainer.training.step import Forward


@pytest.fixture(scope="module")
def opened(dataset) -> Dataset:
    return Dataset.open(dataset)


@pytest.fixture
def model(settings, opened):
    chosen = settings("budget.steps=1")
    machine = mc.choose(chosen)
    model = runs.make_model(chosen.model, opened.manifest.vocab_size, 64, machine, rows=4)
    model.initialize(torch.Generator().manual_seed(0), std=0.3)
    return model


def every_row(dataset: Dataset):
    """(tokens, segments as slices) of every training row, plainly."""
    for row in range(dataset.num_rows("train")):
        view = dataset.row("train", row)
        yield view.tokens.tolist(), [slice(one.place, one.place + one.length) for one in view.segments]


def test_rows_and_their_segments(opened):
    found = [(t, s) for tokens, segments in token_rows(opened) for t, s in zip(tokens, segments, strict=True)]
    wanted = list(every_row(opened))
    assert len(found) == len(wanted)
    for (tokens, segments), (plain, slices) in zip(found, wanted, strict=True):
        assert tokens.tolist() == plain
        numbers = np.zeros(64, int)
        for number, piece in enumerate(slices, start=1):
            numbers[piece] = number
        assert segments.tolist() == numbers.tolist()


def test_unigram_counts_and_score(opened):
    counts = Counter(token for tokens, slices in every_row(opened) for piece in slices for token in tokens[piece])
    assert {i: n for i, n in enumerate(unigram_counts(opened).tolist()) if n} == counts
    _, _, truths = ev.evaluation_targets(evaluation(opened, 4))
    found = ev.unigram_score(truths, unigram_counts(opened))
    total = sum(counts.values()) + opened.manifest.vocab_size
    wanted = -sum(math.log((counts[int(t)] + 1) / total) for t in truths)
    assert found.loss_sum == pytest.approx(wanted)
    assert found.targets == truths.size


def test_the_table_of_neighbours_is_the_plain_one(opened):
    pairs, middles = defaultdict(Counter), Counter()
    special = set(opened.never_targets().tolist())
    for tokens, slices in every_row(opened):
        for piece in slices:
            part = tokens[piece]
            for left, middle, right in zip(part, part[1:], part[2:], strict=False):
                if middle not in special:
                    pairs[left, right][middle] += 1
                    middles[middle] += 1

    def best(counter: Counter) -> int:
        return min(counter, key=lambda token: (-counter[token], token))

    table = ev.NeighbourTable(opened)
    left, right, _ = ev.evaluation_targets(evaluation(opened, 4))
    guesses = table.predict(left, right)
    for a, b, guess in zip(left.tolist(), right.tolist(), guesses.tolist(), strict=True):
        options = pairs.get((a, b)) or middles
        assert guess == best(options)


def test_neighbours_stop_at_borders(opened):
    for batch in evaluation(opened, 4):
        left, right, truths = ev.evaluation_targets([batch])
        places = batch.target_places[batch.target_ids >= 0]
        assert truths.size == places.size
        for place, a, b in zip(places.tolist(), left.tolist(), right.tolist(), strict=True):
            # A target is never [CLS] or [SEP], so both neighbours are in its segment.
            assert a == batch.input_ids[place - 1]
            assert b == batch.input_ids[place + 1]


@both_precisions
def test_the_score_is_that_of_whole_logits(model, opened, precision):
    stream = evaluation(opened, 4)
    for target_size in (stream.target_size, 7, 200):
        found = score(Forward(model), stream, target_size=target_size, device=torch.device("cpu"))
        loss_sum, hits, targets = 0.0, 0, 0
        for batch in stream:
            ids, positions, borders = (
                torch.from_numpy(x) for x in (batch.input_ids, batch.position_ids, batch.cu_seqlens)
            )
            with torch.no_grad():
                x = model(ids, positions, borders)
                features = model.features(x[torch.from_numpy(batch.target_places)])
                loss, hit = plain_target_loss(
                    features, model.embedding.weight, model.decoder_bias, torch.from_numpy(batch.target_ids)
                )
            loss_sum, hits, targets = loss_sum + loss.item(), hits + int(hit), targets + batch.num_targets
        assert found.loss_sum == pytest.approx(loss_sum, rel=max(1e-5, tolerance(precision, units=1)))
        assert found.targets == targets
        assert abs(found.hits - hits) <= (0 if precision == "float32" else 0.02 * targets)
        assert found.perplexity == pytest.approx(math.exp(found.loss))


def test_shuffling_moves_only_visible_ordinary_tokens(opened):
    special = opened.never_targets()
    batches = list(evaluation(opened, 4))
    for before, after in zip(batches, ev.shuffled(batches, opened), strict=True):
        one, two = before.input_ids.reshape(4, -1), after.input_ids.reshape(4, -1)
        fixed = np.isin(one, special)
        assert np.array_equal(one[fixed], two[fixed])
        assert np.array_equal(np.sort(one, 1), np.sort(two, 1))
        if before.num_targets:
            assert not np.array_equal(one, two)
        assert np.array_equal(before.target_ids, after.target_ids)


def test_a_report_has_everything(model, opened):
    result = ev.report(model, opened, batch_rows=4, device=torch.device("cpu"), baselines=True)
    assert result["nats_below_unigram"] == pytest.approx(result["unigram"]["loss"] - result["model"]["loss"])
    assert set(result) >= {"two_neighbours", "shuffled_context", "nats_lost_by_shuffling"}
    assert result["model"]["targets"] == result["two_neighbours"]["targets"]


@both_precisions
def test_a_row_alone_gives_the_logits_it_has_in_a_batch(settings, model, opened, precision):
    batch = next(iter(evaluation(opened, 4)))
    row, ends = opened.row("validation", 0), batch.cu_seqlens
    size = int(ends[1])
    ids = batch.input_ids[:size]
    places = np.flatnonzero(ids == opened.manifest.roles.mask)
    alone = runs.make_model(model.shape, 100, 64, mc.choose(settings("budget.steps=1")), rows=1)
    alone.load_state_dict(model.state_dict())
    found = masked_logits(alone, ids, places, pad=0)
    with torch.no_grad():
        x = model(*(torch.from_numpy(a) for a in (batch.input_ids, batch.position_ids, batch.cu_seqlens)))
        wanted = model.logits(model.features(x[torch.from_numpy(places)]))
    assert row.segments[0].length == size
    error = max(1e-4, tolerance(precision, units=4))
    torch.testing.assert_close(found, wanted, rtol=error, atol=error)
