"""The examples run, and do what they say."""

import re

import numpy as np
import pyarrow as pa
import pytest

from examples import build_a_dataset, draw_planes, filter_documents, read_batches
from mlm_data.dataset.dataset import Dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return build_a_dataset.main(tmp_path_factory.mktemp("example"))


def test_a_dataset_is_built(dataset):
    documents = Dataset.open(dataset).manifest.ledger["documents"]
    assert documents["read"] == len(build_a_dataset.CITIES) * len(build_a_dataset.MONTHS) + 1
    assert documents["dropped"] == {"exact_duplicate": 1}


def test_batches_are_read_and_read_again(dataset, capsys):
    first, second, third, again = read_batches.main(dataset)
    assert first.input_ids.shape == second.input_ids.shape == third.input_ids.shape
    assert not np.array_equal(first.input_ids, second.input_ids)
    assert np.array_equal(third.input_ids, again.input_ids)
    assert "for" in capsys.readouterr().out


def test_planes_are_drawn(dataset, tmp_path):
    draw_planes.main(dataset, tmp_path / "planes.svg")
    picture = (tmp_path / "planes.svg").read_text()
    view = Dataset.open(dataset).row("train", 0)
    squares = re.findall(rf'width="{draw_planes.SIDE - 2}" height="\d+" fill="(#\w+)"', picture)
    assert len(squares) == len(view.planes) * len(view.tokens)
    targets = sum(len(plane.targets) for plane in view.planes.values())
    assert sum(colour != draw_planes.COLOURS["visible"] for colour in squares) == targets


def test_a_filter_decides(tmp_path, capsys):
    dataset = Dataset.open(filter_documents.main(tmp_path / "code"))
    reason = "custom:examples.filter_documents:is_in_force"
    assert dataset.manifest.ledger["documents"]["dropped"] == {reason: len(filter_documents.SUBJECTS)}
    assert "kept 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("Fees.\nRepealed.\nAct 1.", False),
        ("Fees.\n[Expired]\nAct 1.", False),
        ("Fees.\nIt was repealed.\nAct 1.", True),
        ("Fees.\nFive for a boat.\nRepealed.\nTen for a cart.", True),  # one paragraph of it
        ("Repealed.", True),
    ],
)
def test_the_filter_looks_at_the_line_below_the_heading(text, stays):
    batch = pa.record_batch({"text": pa.array([text], pa.large_string())})
    assert filter_documents.is_in_force(batch).to_pylist() == [stays]
