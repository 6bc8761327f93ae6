"""Scores of the user's fastText model, on a tiny one that is written by hand."""

import math
import sys

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.curation.classifier import classifier_scores, fasttext_labels, file_sha256
from mlm_data.errors import ConfigError
from tests.mlm_data.curation.fasttext_files import write_model

WORDS = {"</s>": (0.0, 0.0), "good": (1.0, 0.0), "bad": (0.0, 1.0)}
LABELS = {"__label__hq": (3.0, -3.0), "__label__lq": (-3.0, 3.0)}


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "hq.bin", WORDS, LABELS)


def scores(model, *texts, label="__label__hq"):
    return classifier_scores(pa.array(texts, pa.large_string()), model, label)


def test_a_score_is_the_probability_of_the_label(model):
    # Three tokens, the end of the line among them, averaged: (2/3, 0); scores 2 and -2.
    want = round(1 / (1 + math.exp(-4)), 4)
    assert scores(model, "good good") == pytest.approx([want], abs=1.01e-4)
    assert scores(model, "good good", label="__label__lq") == pytest.approx([1 - want], abs=1.01e-4)


def test_scores_are_multiples_of_a_ten_thousandth(model):
    got = scores(model, "good", "bad bad", "good bad", "", "unknown")
    assert got.dtype == np.float32
    assert np.array_equal(got, (np.rint(got * 10_000) / 10_000).astype(np.float32))
    assert got[0] > got[2] == got[3] == got[4] > got[1]


def test_a_line_feed_is_a_space(model):
    one, other = scores(model, "good\ngood\nbad", "good good bad")
    assert one == other


def test_the_labels_are_read_from_the_file(model):
    assert fasttext_labels(model) == tuple(LABELS)


def test_a_label_that_is_not_there(model):
    with pytest.raises(ConfigError, match="has no label '__label__x': it has __label__hq, __label__lq"):
        scores(model, "a", label="__label__x")


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"x" + data[1:], lambda data: data[:130]])
def test_a_file_that_is_no_model(model, tmp_path, damage):
    bad = tmp_path / "bad.bin"
    bad.write_bytes(damage((tmp_path / "hq.bin").read_bytes()))
    with pytest.raises(ConfigError, match="is no supervised model of fastText"):
        scores(str(bad), "a")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="can't read the model: No such file"):
        scores(str(tmp_path / "none.bin"), "a")


def test_without_the_library(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(ConfigError, match=r"fasttext is not installed: pip install 'premask\[fasttext\]'"):
        scores(model, "a")


def test_the_key_is_the_hash_of_the_file(model, tmp_path):
    other = write_model(tmp_path / "other.bin", WORDS, {"__label__hq": (3.0, -2.0), "__label__lq": (-3.0, 3.0)})
    assert file_sha256(model) == file_sha256(write_model(tmp_path / "same.bin", WORDS, LABELS))
    assert file_sha256(model) != file_sha256(other)
