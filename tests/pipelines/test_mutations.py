"""A build whose masks are wrong is not published: faults of real packers, planted in the drawing of planes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlm_data.build import assemble
from mlm_data.build.prepare import open_prepared
from mlm_data.rows.masking import draw_plane
from mlm_data.shards import assemble as shards
from pipelines.commands.cli import main
from tests.pipelines.small_corpus import settings, write_jsonl


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Enough documents that a wrong share can't be chance."""
    folder = tmp_path_factory.mktemp("mutations")
    write_jsonl(folder / "in/a.jsonl", range(400))
    path = folder / "premask.yaml"
    path.write_text(json.dumps(settings(folder, unit_bytes=1_000_000, mask={"planes": 2, "rate": 0.3})))
    assert main(["build", str(path)]) == 0
    return path


def build_with(config, monkeypatch, capsys, draw) -> str:
    """Build with another drawing of planes; it must fail, and say why in one line."""
    monkeypatch.setattr(shards, "draw_plane", draw)
    folder = config.parent
    output = folder / f"out-{draw.__name__}"
    capsys.readouterr()
    code = main(["build", str(config), "--set", f"output={output}", "--workers", "1"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(lines) == 1
    assert not (output / "LATEST").exists()
    assert not (output / "versions").exists()
    return lines[0]


def test_cls_masked(config, monkeypatch, capsys):
    """ModernBERT's packer draws targets among all places, [CLS] and [SEP] too."""

    def cls_masked(rows, ids, copies, plane, **roles):
        masks = draw_plane(rows, ids, copies, plane, **roles)
        targets = masks.targets.copy()
        targets[:, 0] |= 1  # place 0 holds [CLS]
        return replace(masks, targets=targets)

    assert "targets on special tokens" in build_with(config, monkeypatch, capsys, cls_masked)


def test_random_ids_up_to_the_largest_in_the_batch(config, monkeypatch, capsys):
    """Random ids from [0, largest id in the batch] hold specials and miss the vocabulary's end."""

    def from_batch(rows, ids, copies, plane, **roles):
        random_ids = np.arange(0, int(rows.tokens.max()) + 1)
        return draw_plane(rows, ids, copies, plane, **{**roles, "random_ids": random_ids})

    assert "swaps to special or unused tokens" in build_with(config, monkeypatch, capsys, from_batch)


def test_random_ids_that_miss_a_part_of_the_vocabulary(config, monkeypatch, capsys):
    """No special among them, but only the lower half."""

    def lower_half(rows, ids, copies, plane, **roles):
        half = roles["random_ids"][: len(roles["random_ids"]) // 2]
        return draw_plane(rows, ids, copies, plane, **{**roles, "random_ids": half})

    assert "random token, by rank" in build_with(config, monkeypatch, capsys, lower_half)


def test_a_plane_repeated(config, monkeypatch, capsys):
    def repeated(rows, ids, copies, plane, **roles):
        return draw_plane(rows, ids, copies, replace(plane, index=0), **roles)

    assert "planes 0 and 1 hide the same places" in build_with(config, monkeypatch, capsys, repeated)


def test_a_wrong_split_of_the_targets(config, monkeypatch, capsys):
    """80/10/10 is asked for, 70/20/10 is drawn."""

    def wrong_split(rows, ids, copies, plane, **roles):
        if plane.mask_share < 1:
            plane = replace(plane, mask_share=0.7, random_share=0.2, keep_share=0.1)
        return draw_plane(rows, ids, copies, plane, **roles)

    assert "hold" in build_with(config, monkeypatch, capsys, wrong_split)


def test_another_rate(config, monkeypatch, capsys):
    def one_less(rows, ids, copies, plane, **roles):
        return draw_plane(rows, ids, copies, replace(plane, rate=plane.rate - 0.05), **roles)

    assert "rows with too few targets" in build_with(config, monkeypatch, capsys, one_less)


def test_a_document_lost_on_the_way(config, monkeypatch, capsys):
    """The ledger counts what was read and what was written on its own, and sees the difference."""

    def losing(prepared, context):
        return open_prepared(prepared, context).slice(1)

    monkeypatch.setattr(assemble, "open_prepared", losing)

    def honest(*args, **roles):
        return draw_plane(*args, **roles)

    assert "ledger does not balance" in build_with(config, monkeypatch, capsys, honest)
