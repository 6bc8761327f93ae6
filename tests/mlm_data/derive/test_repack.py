"""Rows of another length from the same tokens: what a build with that length would have made."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlm_data.config import BuildConfig
from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import load_side
from mlm_data.derive.repack import change_length, documents_tokens, repack
from mlm_data.errors import ConfigError, FormatError
from mlm_data.rows.packing import cut_documents, fill_rows, pack, take_out
from mlm_data.settings import parse_settings
from mlm_data.types import Roles, Rows
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


@pytest.mark.parametrize(
    ("pack_settings", "mask"),
    [
        ({"sequence_length": 32}, {"planes": 2}),
        ({"sequence_length": 256}, {"planes": 1, "kind": "whole_word"}),
        ({"sequence_length": 8192}, {"planes": 2}),
        ({"sequence_length": 128, "max_segments": 3}, {"planes": 2}),
    ],
    ids=["32", "256", "8192", "max_segments"],
)
def test_the_version_is_that_of_a_build(corpus, tmp_path, pack_settings, mask):
    (tmp_path / "in").symlink_to(corpus / "in")
    own = {"sequence_length": 64} | {name: value for name, value in pack_settings.items() if name == "max_segments"}
    build(config_of(tmp_path, pack=own, mask=mask, output=str(tmp_path / "derived")))
    wanted = build(config_of(tmp_path, pack=pack_settings, mask=mask)).manifest
    parent = Dataset.open(tmp_path / "derived")
    shared = [tmp_path / "derived" / line["name"] for line in parent.files.to_pylist()]
    before = [(os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in shared]
    found = repack(parent, pack_settings["sequence_length"], workers=2)
    assert found.digest == wanted.digest
    assert found.to_bytes() == wanted.to_bytes()
    assert [(os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in shared] == before
    assert check_dataset(str(tmp_path / "derived")).ok
    side = load_side(parent.folder, found)
    assert (side["parent"], side["made_by"]) == (parent.digest, "repack")


@hypothesis_settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(2, 80).map(lambda n: 8 * n))
def test_there_and_back_is_the_parent(corpus, built, length):
    (corpus / "out/LATEST").write_text(built + "\n")
    there = repack(Dataset.open(corpus / "out"), length)
    assert there.sequence_length == length
    assert repack(Dataset.open(corpus / "out"), 64).digest == built


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 90), max_size=12),
    sequence_length=st.sampled_from([16, 24, 64]),
    roles=st.sampled_from([Roles(cls=2, sep=3, pad=0, mask=4, unk=1), Roles(cls=-1, sep=3, pad=0, mask=4, unk=-1)]),
    seed=st.integers(0, 2**32),
)
def test_taking_out_is_the_inverse_of_filling(lengths, sequence_length, roles, seed):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, 60_000, offsets[-1], dtype=np.uint16)
    word_starts = rng.random(ids.size) < 0.5
    segments = cut_documents(offsets, word_starts, capacity=sequence_length - roles.num_specials)
    packing = pack(segments.length + np.int32(roles.num_specials), sequence_length=sequence_length, max_segments=8)
    rows = fill_rows(ids, offsets, word_starts, segments, packing, sequence_length=sequence_length, roles=roles)
    found, starts = np.zeros_like(ids), np.zeros_like(word_starts)
    take_out(rows, offsets, found, starts, roles=roles)
    assert np.array_equal(found, ids)
    assert np.array_equal(starts, word_starts)


@pytest.mark.parametrize(
    "changes",
    [
        {"segment_documents": [7]},
        {"segment_documents": [-1]},
        {"segment_starts": [-1]},
        {"segment_starts": [2]},
        {"segment_lengths": [17]},
        {"segment_lengths": [1]},
    ],
    ids=str,
)
def test_segments_that_do_not_fit_are_told(changes):
    values = {"segment_lengths": [6], "segment_documents": [0], "segment_starts": [0]} | changes
    rows = Rows(
        tokens=np.zeros((1, 16), np.uint16),
        segment_offsets=np.array([0, 1], np.int32),
        word_starts=np.zeros((1, 2), np.uint8),
        **{name: np.array(value, np.int32) for name, value in values.items()},
    )
    offsets = np.array([0, 4], np.int64)
    with pytest.raises(FormatError, match="row 0: a segment doesn't fit"):
        take_out(
            rows, offsets, np.zeros(4, np.uint16), np.zeros(4, bool), roles=Roles(cls=2, sep=3, pad=0, mask=4, unk=1)
        )


def test_truncated_documents_are_refused(corpus, tmp_path):
    (tmp_path / "in").symlink_to(corpus / "in")
    pack_settings = {"sequence_length": 64, "long_documents": "truncate"}
    build(config_of(tmp_path, pack=pack_settings))
    with pytest.raises(ConfigError, match=r"tokens of long documents were cut off .* build again"):
        repack(Dataset.open(tmp_path / "out"), 128)


def test_settings_of_another_length():
    default = {"pack": {"sequence_length": 512, "max_segments": 16, "long_documents": "split"}}
    assert change_length(default, 2048, None).segments_per_row == 64
    own = {"pack": {"sequence_length": 512, "max_segments": 5, "long_documents": "split"}}
    assert change_length(own, 2048, None).segments_per_row == 5
    assert change_length(own, 2048, 9).segments_per_row == 9
    with pytest.raises(ConfigError, match="multiple of 8 between 16 and 65536, got 100: use 96 or 104"):
        change_length(default, 100, None)


def test_a_document_that_is_not_whole_is_told(corpus, built):
    dataset = Dataset.open(corpus / "out", built)
    shard = dataset.shard("train", 0)
    shard.rows = shard.rows[:-1] if len(shard.rows) > 1 else ()
    with pytest.raises(FormatError, match="run premask verify"):
        documents_tokens(shard, dataset.reference())
