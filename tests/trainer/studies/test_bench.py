"""The benchmark measures what it says, on a model of a moment."""

import json

import pytest
import torch

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader
from trainer.commands import cli
from trainer.model.arithmetic import step_flops
from trainer.studies import bench as bn
from trainer.studies import peers as pr


def test_it_prints_speed_and_where_time_goes(dataset, small, capsys, monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1")  # no second process
    monkeypatch.setattr(bn.mc, "measured_peak", lambda precision, device: 1e12)
    monkeypatch.setattr(bn, "loader_wait", lambda *_: 0.001)
    options = [option for value in (*small, "budget.steps=1") for option in ("--set", value)]
    assert cli.main(["bench", "--data", str(dataset), *options, "--no-peers", "--rounds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (ours,) = found["peers"]
    assert ours["ours_is_faster_by"] == 1
    assert ours["best"] >= ours["useful_tokens_per_second"] > 0
    assert 0 < ours["useful_share"] <= 1
    assert 0 < found["share_of_peak"] < 1
    assert sum(found["time"].values()) == pytest.approx(1)


def test_which_peers_is_one_choice(capsys):
    parser = cli.parser()
    assert parser.parse_args(["bench"]).peers == []  # all
    assert parser.parse_args(["bench", "--peer", "BERT", "--peer", "eager"]).peers == ["BERT", "eager"]
    assert parser.parse_args(["bench", "--no-peers"]).peers is None
    assert cli.main(["bench", "--no-peers", "--peer", "BERT"]) == 2
    assert "not allowed with argument --no-peers" in capsys.readouterr().err


def test_useful_operations_leave_padding_out(dataset, settings):
    opened = Dataset.open(dataset)
    chosen = settings("budget.steps=1")
    batch = next(Loader(opened, batch_rows=4))
    segments = [
        segment.length
        for shard, row in zip(batch.shards.tolist(), batch.rows.tolist(), strict=True)
        for segment in opened.where("train", int(opened.shard_rows("train")[:shard].sum()) + row)
    ]
    wanted = sum(step_flops(chosen.model, vocab_size=100, lengths=segments, targets=batch.num_targets).values())
    assert bn._flops(opened, chosen, batch) == wanted


def test_the_waterfall_is_the_ratio_of_each_line_to_the_one_before():
    speeds = {pr.EAGER: 100, pr.COMPILED: 150, pr.FULL: 450, pr.SPARSE: 900}
    rounds = {"seconds": [[1.0, 1.0]] * 3, "beside": [[1.0, 1.0]] * 3}
    peers = {
        name: pr.Peer(name=name, step=lambda _: None, useful=[speed], ours=[1800], **rounds)
        for name, speed in speeds.items()
    }
    ours = pr.Peer(name="premask", step=lambda _: None, useful=[1800], ours=[1800], **rounds)
    lines = bn._waterfall(peers, ours)
    assert [line["factor"] for line in lines] == [1.5, 3, 2, 2]
    assert [line["what"] for line in lines][:3] == ["compilation", "no padding", "head at targets only"]
    assert bn._waterfall({}, ours) == []
    assert bn._waterfall({pr.SPARSE: peers[pr.SPARSE]}, ours) == []


def test_each_peer_is_compared_with_this_trainer_right_before_it(monkeypatch):
    """Another program makes the machine five times as slow in the second half of each round."""
    now, steps = 0.0, 0

    def step(seconds: float):
        def act(_: int) -> None:
            nonlocal now, steps
            now += seconds * (5 if steps % 8 >= 4 else 1)  # a round: 2 steps of ours, 2 of a peer, and so again
            steps += 1

        return act

    monkeypatch.setattr(bn.time, "perf_counter", lambda: now)
    every = [pr.Peer(name=str(n), step=step(n), useful=[100], ours=[100]) for n in (1.0, 2.0, 3.0)]
    for number in range(3):
        bn.take_turns(every, number, lambda: None)
    assert [bn._line(peer, 100)["ours_is_faster_by"] for peer in every] == [1.0, 2.0, 3.0]
    assert [len(peer.seconds) for peer in every] == [3, 3, 3]


def test_the_loader_is_waited_for_less_than_always(dataset, settings):
    share = bn.loader_wait(Dataset.open(dataset), settings("budget.steps=1"), seconds=0.05)
    assert 0 <= share < 1


def test_files_of_a_dataset_leave_the_page_cache_and_stay_as_they_are(dataset):
    opened = Dataset.open(dataset)
    assert bn.forget_pages(opened.folder) == len(list(dataset.glob("rows/*"))) + len(list(dataset.glob("masks/*")))
    assert opened.shard("train", 0) is not None


def test_the_peak_is_a_number_of_operations_per_second():
    assert 1e8 < bn.mc.measured_peak(torch.float32, torch.device("cpu"), size=256, repeats=3) < 1e14
