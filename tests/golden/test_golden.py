"""Golden datasets stay readable for ever, and by whoever has read the format's page."""

import json
from pathlib import Path

import numpy as np
import pytest

from examples import read_without_premask
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.names import tags, versions
from mlm_data.dataset.verify import verify
from mlm_data.errors import PurgedError
from mlm_data.shards.format import SPLITS
from mlm_data.stores.folder import Folder
from tests.golden import make

NAMES = sorted(path.stem for path in make.HERE.glob("*.json"))


def test_each_dataset_has_expectations():
    folders = {path.name for path in make.HERE.iterdir() if (path / "LATEST").exists()}
    assert {*folders, make.BY_HAND} == set(NAMES)
    assert len(NAMES) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_dataset_is_sound_and_says_what_it_always_said(name):
    folder = Folder(make.place_of(name))
    assert json.loads(json.dumps(make.look(folder))) == json.loads((make.HERE / f"{name}.json").read_text("utf-8"))
    for digest in versions(folder):
        report = verify(folder, digest)
        assert report.ok, report.problems


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_made_from_the_page_alone_agrees(name):
    path = make.place_of(name)
    for tag in ("", *tags(Folder(path))):
        try:
            dataset = Dataset.open(f"{path}@{tag}" if tag else path)
        except PurgedError:
            with pytest.raises(ValueError, match="was purged on"):
                read_without_premask.open_version(path, tag)
            continue
        for split in SPLITS:
            found = list(read_without_premask.rows(path, split, tag))
            assert len(found) == dataset.num_rows(split)
            for number, (tokens, segments, documents, shown) in enumerate(found):
                view = dataset.row(split, number)
                assert np.array_equal(tokens, view.tokens)
                assert [len(one) for one in segments] == [one.length for one in view.segments]
                assert documents == [one.id for one in view.segments]
                assert set(shown) == set(view.planes)
                for plane, (read, targets) in shown.items():
                    wanted, mine = view.tokens.copy(), view.planes[plane]
                    wanted[mine.targets] = dataset.manifest.roles.mask
                    for place, token in mine.swaps.items():
                        wanted[place] = token
                    assert np.array_equal(read, wanted)
                    assert np.array_equal(targets, mine.targets)


def test_the_reader_is_short_and_needs_nothing_of_ours():
    text = Path(read_without_premask.__file__).read_text("utf-8")
    assert "mlm_data" not in text.replace("read_without_premask", "")
    assert len(text.splitlines()) < 60
