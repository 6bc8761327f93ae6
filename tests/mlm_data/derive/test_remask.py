"""Other masks over the same rows: shared files stay untouched, and the masks are those of a build."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlm_data.config import BuildConfig, MaskSettings
from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import latest, load_manifest, load_side
from mlm_data.derive import remask as module
from mlm_data.derive.remask import change_masks, remask
from mlm_data.errors import BuildError, ConfigError, StorageError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from mlm_data.types import PlaneMasks
from pipelines.build import build
from tests.pipelines.small_corpus import settings, write_jsonl


def config_of(folder, **changes) -> BuildConfig:
    return parse_settings(BuildConfig, settings(folder, **changes), where="test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "in/a.jsonl", range(60))
    write_jsonl(folder / "in/b.jsonl", [*range(100, 140), *range(5, 10)])
    return folder


@pytest.fixture(scope="module")
def built(corpus) -> str:
    return build(config_of(corpus)).manifest.digest


@pytest.fixture
def parent(corpus, built) -> Dataset:
    (corpus / "out/LATEST").write_text(built + "\n")
    return Dataset.open(corpus / "out")


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each file that holds data."""
    kinds = ("rows", "masks", "documents", "signatures")
    paths = [path for kind in kinds for path in sorted((folder / kind).glob("*.arrow"))]
    return {str(path.relative_to(folder)): (os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in paths}


def test_the_rows_are_shared_and_not_touched(corpus, parent):
    before = files_below(corpus / "out")
    manifest = remask(parent, {"rate": 0.15, "kind": "whole_word", "planes": 3}, workers=2)
    after = files_below(corpus / "out")
    assert {name: after[name] for name in before} == before
    new = set(after) - set(before)
    assert new
    assert all(name.startswith("masks/") for name in new)
    assert check_dataset(str(corpus / "out")).ok
    assert manifest.config["mask"]["rate"] == [0.15] * 3
    side = load_side(parent.folder, manifest)
    assert side["parent"] == parent.digest
    assert side["made_by"] == "remask"
    assert side["asked"] == {"rate": 0.15, "kind": "whole_word", "planes": 3}
    assert Dataset.open(corpus / "out", parent.digest).num_rows("train") == parent.num_rows("train")


def test_the_parents_own_settings_give_the_parents_digest(parent):
    manifest = remask(parent, {})
    assert manifest.digest == parent.digest
    assert manifest.to_bytes() == parent.manifest.to_bytes()


@pytest.mark.parametrize(
    "mask",
    [
        {"planes": 3, "rate": 0.15, "kind": "whole_word"},
        {"planes": 4, "rate": [0.3, 0.3, 0.15, 0.05]},
        {"planes": 1, "kind": "span", "rate": 0.2, "mask_share": 1.0, "random_share": 0.0, "keep_share": 0.0},
        {"planes": 2, "kind": "ngram", "ngram": 4, "rate": 0.2},
        {"planes": 2, "seed": 12},
    ],
    ids=["whole_word", "annealed", "span", "ngram", "seed"],
)
def test_the_masks_are_those_of_a_build(corpus, parent, tmp_path, mask):
    (tmp_path / "in").symlink_to(corpus / "in")
    wanted = build(config_of(tmp_path, mask=mask)).manifest
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in mask.items()}
    found = remask(parent, changes)
    assert found.digest == wanted.digest
    assert found.to_bytes() == wanted.to_bytes()
    assert set(files_below(tmp_path / "out")) <= set(files_below(corpus / "out"))


@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.floats(0.05, 0.9),
    planes=st.integers(1, 3),
    kind=st.sampled_from(["token", "whole_word", "span", "ngram"]),
    workers=st.integers(1, 3),
)
def test_there_and_back_is_the_parent(corpus, built, rate, planes, kind, workers):
    (corpus / "out/LATEST").write_text(built + "\n")
    parent = Dataset.open(corpus / "out")
    own = parent.manifest.config["mask"]
    runs = {"ngram": 3} if kind == "ngram" else {}
    remask(parent, {"rate": round(rate, 3), "planes": planes, "kind": kind} | runs, workers=workers)
    back = remask(Dataset.open(corpus / "out"), {"rate": tuple(own["rate"]), "kind": own["kind"]}, workers=workers)
    assert back.digest == built


def test_a_list_of_rates_says_how_many_planes_there_are():
    settings = MaskSettings(planes=2, rate=(0.3, 0.3))
    assert change_masks(settings, {"planes": 8}).rates == (0.3,) * 8
    assert change_masks(settings, {"rate": (0.3, 0.15, 0.05)}).planes == 3
    runs = change_masks(settings, {"kind": "ngram", "ngram": 6})
    assert (runs.kind, runs.ngram) == ("ngram", 6)
    assert change_masks(runs, {"kind": "token"}).ngram is None
    assert change_masks(runs, {"rate": 0.15}).ngram == 6
    with pytest.raises(ConfigError, match="kind is ngram: say how many tokens a run has"):
        change_masks(settings, {"kind": "ngram"})
    with pytest.raises(ConfigError, match="ngram is 6, and kind is token"):
        change_masks(settings, {"ngram": 6})
    with pytest.raises(ConfigError, match="2 values for 3 planes"):
        change_masks(MaskSettings(planes=2, rate=(0.3, 0.15)), {"planes": 3})
    with pytest.raises(ConfigError, match="unknown field 'rat': did you mean 'rate'"):
        change_masks(settings, {"rat": 0.2})
    with pytest.raises(ConfigError, match=r"must be 1, got 1\.2"):
        change_masks(settings, {"mask_share": 1.0})


def test_one_of_two_at_once_wins_and_the_other_says_so(corpus, parent):
    """The second is published while the first is at work."""
    ready, go, failed = threading.Event(), threading.Event(), []

    def slow(done, total):
        ready.set()
        go.wait(60)

    def first():
        try:
            remask(parent, {"rate": 0.2}, progress=slow)
        except StorageError as error:
            failed.append(str(error))

    thread = threading.Thread(target=first)
    thread.start()
    ready.wait(60)
    second = remask(parent, {"rate": 0.25})
    go.set()
    thread.join()
    assert latest(Folder(corpus / "out")) == second.digest
    assert "was published in the meantime" in failed[0]
    assert remask(Dataset.open(corpus / "out"), {"rate": 0.2}).config["mask"]["rate"] == [0.2, 0.2]


def test_masks_that_fail_the_audit_are_not_published(corpus, parent, monkeypatch):
    drawn = module.draw_planes

    def with_everything_hidden(rows, documents, planes, reference):
        masks = drawn(rows, documents, planes, reference)
        one = masks["0"]
        targets = np.full_like(one.targets, 255)
        return masks | {"0": PlaneMasks(**{**vars(one), "targets": targets})}

    monkeypatch.setattr(module, "draw_planes", with_everything_hidden)
    with pytest.raises(BuildError, match="the audit of the masks failed"):
        remask(parent, {"rate": 0.2})
    assert load_manifest(parent.folder).digest == parent.digest
