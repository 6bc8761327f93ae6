"""Batches on their way to the device."""

import numpy as np
import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader
from tests.synthetic import make_dataset
from trainer.training.data import shorten, usual_segments
from trainer.training.stream import Stream


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Rows of few segments, and a loader's bound that is far above them."""
    folder = tmp_path_factory.mktemp("many") / "data"
    make_dataset(folder, num_rows=64, sequence_length=256, vocab_size=100, max_segments=16)
    return Dataset.open(folder)


def test_the_usual_number_of_segments_is_a_quarter_above_the_mean_and_never_above_the_bound(many):
    facts = many.manifest.splits["train"]
    per_row = facts["num_segments"] / facts["num_rows"] + 1
    for rows in (1, 8, 50):
        most = rows * many.manifest.max_segments
        assert min(most, 1.25 * per_row * rows - 1) <= usual_segments(many, rows) <= most
        assert usual_segments(many, rows) in (most, -(-usual_segments(many, rows) // 32) * 32)


def test_borders_are_cut_only_behind_the_last_segment(many):
    batch = next(Loader(many, batch_rows=8))
    used = int((batch.cu_seqlens < batch.cu_seqlens[-1]).sum())  # borders before the last: as many as segments
    short = shorten(batch, used)
    assert short.cu_seqlens.tolist() == np.unique(batch.cu_seqlens).tolist()
    assert short.input_ids is batch.input_ids
    for too_few in (1, used - 1):
        assert shorten(batch, too_few) is batch
    for more in (batch.cu_seqlens.size - 1, batch.cu_seqlens.size + 5):
        assert shorten(batch, more) is batch


def test_a_short_stream_gives_the_same_batches_with_fewer_borders(many, settings):
    chosen = settings("budget.steps=1", "batch_rows=8", data=many.folder.location)
    streams = [Stream(many, chosen), Stream(many, chosen, short=True)]
    for _ in range(5):
        whole, short = (stream.next() for stream in streams)
        assert short.input_ids.tolist() == whole.input_ids.tolist()
        assert np.unique(short.cu_seqlens).tolist() == np.unique(whole.cu_seqlens).tolist()
        assert short.cu_seqlens.size == usual_segments(many, 8) + 1 < whole.cu_seqlens.size
    for stream in streams:
        stream.close()
