"""Packed texts, pseudo-likelihoods and probes against one text at a time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.errors import InputError
from trainer.studies import blimp
from trainer.studies.fill import masked_logits
from trainer.studies.probe import fit, mean_features, probe, text_segments
from trainer.studies.texts import hidden_states, pack
from trainer.training.runs import open_run

SENTENCES = ["the cat sat", "open the file for reading", "np", "the mat and the file sat on the cat for reading np"]


@pytest.fixture
def trained(run):
    trained, _ = open_run(Path(run.out))
    trained.model.initialize(torch.Generator().manual_seed(0), std=0.3)
    return trained


@pytest.fixture
def alone(run, trained):
    """The same weights for one row."""
    alone, _ = open_run(Path(run.out), rows=1)
    alone.model.load_state_dict(trained.model.state_dict())
    return alone


@given(st.lists(st.integers(1, 16), min_size=1, max_size=40), st.integers(1, 4))
def test_packing_keeps_every_segment_in_order(sizes, rows):
    segments = [np.full(size, number + 1) for number, size in enumerate(sizes)]
    seen = []
    for batch in pack(segments, rows=rows, length=16, pad=0):
        ids, positions = batch.input_ids.numpy(), batch.position_ids.numpy()
        borders = set(batch.cu_seqlens.tolist())
        assert ids.size == rows * 16
        assert batch.cu_seqlens[-1] == ids.size
        assert np.array_equal(np.flatnonzero(positions == 0), sorted(borders - {ids.size}))
        for start, size in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True):
            assert start // 16 == (start + size - 1) // 16
            assert positions[start : start + size].tolist() == list(range(size))
            assert {start, start + size} <= borders
            seen.append(ids[start : start + size].tolist())
        assert (ids > 0).sum() == batch.lengths.sum()
    assert seen == [segment.tolist() for segment in segments]


def test_pseudo_log_likelihood_is_one_mask_at_a_time(trained, alone):
    found = blimp.pseudo_log_likelihoods(trained, SENTENCES)
    roles = trained.tokenizer.roles
    for text, total in zip(SENTENCES, found, strict=True):
        ids = trained.tokenizer.encode_masked(text)
        wanted = 0.0
        for place in range(1, ids.size - 1):
            masked = ids.copy()
            masked[place] = roles.mask
            logits = masked_logits(alone.model, masked, np.array([place]), pad=roles.pad)
            wanted += torch.log_softmax(logits[0].double(), -1)[ids[place]].item()
        assert total == pytest.approx(wanted, rel=1e-4)


def test_blimp_counts_pairs(trained, tmp_path):
    pairs = [("the cat sat", "cat the sat"), ("the mat", "mat the"), ("np and the", "the and np")]
    lines = [json.dumps({"sentence_good": good, "sentence_bad": bad}) for good, bad in pairs]
    (tmp_path / "one.jsonl").write_text("\n".join(lines))
    (tmp_path / "two.jsonl").write_text("\n".join(lines[:2]))
    scores = blimp.pseudo_log_likelihoods(trained, [text for pair in pairs for text in pair]).reshape(-1, 2)
    wins = scores[:, 0] > scores[:, 1]
    found = blimp.evaluate(trained, tmp_path)
    assert found == {"one": wins.mean(), "two": wins[:2].mean(), "mean": (wins.mean() + wins[:2].mean()) / 2}
    assert blimp.evaluate(trained, tmp_path, limit=1)["one"] == wins[0]


def test_blimp_refuses(trained, tmp_path):
    with pytest.raises(InputError, match=r"no \.jsonl files"):
        blimp.evaluate(trained, tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"sentence_good": "x"}\n')
    with pytest.raises(InputError, match="line 1: no minimal pair"):
        blimp.evaluate(trained, tmp_path)
    with pytest.raises(InputError, match="the model reads 64: leave it out"):
        blimp.pseudo_log_likelihoods(trained, ["cat " * 100])


def test_features_are_the_mean_of_normed_outputs(trained, alone):
    segments, num_cut = text_segments(trained, [*SENTENCES, "cat " * 100])
    features = mean_features(trained, segments)
    assert num_cut == 1
    for text, found in zip(SENTENCES, features, strict=False):
        ids = alone.tokenizer.encode_masked(text)
        (batch,) = pack([ids], rows=1, length=64, pad=0)
        with torch.no_grad():
            states = alone.model.final_norm(hidden_states(alone.model, batch))[: ids.size]
        np.testing.assert_allclose(found, states.mean(0).numpy(), rtol=1e-3, atol=1e-4)


def test_the_regression_finds_the_minimum():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64) * torch.tensor([1, 10, 0.1, 1, 1]) + 3
    y = (x[:, 0] + x[:, 1] / 10 > 3.3).long()
    weight, bias = fit(x, y, 2, 1e-3)
    assert ((x @ weight + bias).argmax(-1) == y).double().mean() > 0.97
    again, _ = fit(x, y, 2, 1e-3)
    assert torch.equal(weight, again)


def test_a_probe_tells_words_apart(trained, tmp_path):
    path = tmp_path / "labelled.jsonl"
    texts = [f"the cat sat {'on ' * n}" for n in range(40)] + [f"open the file {'for ' * n}" for n in range(40)]
    lines = [{"text": text, "label": int("file" in text)} for text in texts]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    found = probe(trained, path)
    assert found.accuracy == 1
    assert found.num_train + found.num_test == 80
    assert found.classes == 2
    assert 0.2 < found.majority < 0.9


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"text": "a"}'], "line 1: expected JSON with 'text' and 'label'"),
        (["{"], "line 1: expected JSON"),
        (['{"text": 3, "label": 1}'], "'text' is no string"),
        (['{"text": "a\u2028b", "label": 1}', "", '{"text": "b"}'], "line 3: expected JSON"),
        (['{"text": "a", "label": 1}'] * 9, "a probe needs at least two"),
        (['{"text": "a", "label": 1}', '{"text": "a", "label": 2}'], "too few for a training and a test part"),
    ],
)
def test_a_probe_refuses(trained, tmp_path, lines, message):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        probe(trained, path)
    with pytest.raises(InputError, match="can't be read"):
        probe(trained, Path(tmp_path / "absent.jsonl"))
