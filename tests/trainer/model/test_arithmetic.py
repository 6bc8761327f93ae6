"""The arithmetic of a step against torch's own counter, the model itself, and pairs counted one by one."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer.oracle import plain_target_loss
from trainer.config import ModelSettings
from trainer.model.arithmetic import (
    PEAKS,
    least_seconds,
    memory_bytes,
    num_parameters,
    peak_of,
    seen_pairs,
    step_flops,
)
from trainer.model.attention import make_attention
from trainer.model.encoder import Encoder
from trainer.recipes import RECIPES

SHAPE = ModelSettings(layers=5, width=64, heads=2, intermediate=96, window=8)
BASE = ModelSettings(**RECIPES["base"]()["model"])


def make(shape: ModelSettings, vocab_size: int, kind: str = "batched") -> Encoder:
    attention = make_attention(kind, rows=2, length=32, window=shape.window)
    with torch.device("meta"):
        return Encoder(shape, vocab_size, length=32, attention=attention, compute=torch.float32)


@pytest.mark.parametrize("lengths", [[1], [8], [9], [10], [40], [3, 17, 9, 1]])
@pytest.mark.parametrize("window", [None, 1, 8])
def test_pairs_counted_one_by_one(lengths, window):
    plain = sum(1 for n in lengths for i in range(n) for j in range(n) if window is None or abs(i - j) <= window)
    assert seen_pairs(lengths, window) == plain


@pytest.mark.parametrize("shape", [SHAPE, BASE], ids=["tiny", "base"])
def test_parameters_are_those_of_the_model(shape):
    assert num_parameters(shape, 1000) == make(shape, 1000).num_parameters()


def test_products_are_those_that_torch_counts():
    model = make(SHAPE, 100)
    with torch.device("meta"):
        ids, borders = torch.empty(64, dtype=torch.int32), torch.empty(3, dtype=torch.int32)
        places, targets = torch.empty(10, dtype=torch.int32), torch.empty(10, dtype=torch.int64)
    counter = FlopCounterMode(display=False)
    with counter:  # sees matrix products, not our attention operation
        features = model.features(model(ids, ids, borders, places))
        plain_target_loss(features, model.embedding.weight, model.decoder_bias, targets)[0].backward()
    ours = step_flops(SHAPE, vocab_size=100, lengths=[32, 32], targets=10)
    assert counter.get_total_flops() == ours["products"] + ours["head"]


def test_attention_counts_pairs_in_segment_and_window():
    found = step_flops(SHAPE, vocab_size=100, lengths=[20, 12], targets=1)["attention"]
    wide, near = 2, 3  # layers 0 and 3; 1, 2 and 4
    assert found == 3 * 4 * 64 * (wide * (400 + 144) + near * seen_pairs([20, 12], 8))


def test_the_worked_example():
    found = step_flops(BASE, vocab_size=50_368, lengths=[1024] * 8, targets=1229)
    assert sum(found.values()) == pytest.approx(6.33e12, rel=1e-3)
    memory = memory_bytes(BASE, vocab_size=50_368, places=8192, targets=1229)
    assert memory["weights"] == 4 * 149_655_232
    assert memory["activations"] == pytest.approx(4.29e9, rel=1e-3)


def test_peaks_are_found_by_name():
    assert peak_of("NVIDIA H100 PCIe").flops == 756e12
    assert peak_of("NVIDIA H100 80GB HBM3").flops == 989.4e12
    assert peak_of("some other device") is None


@pytest.mark.parametrize("device", ["NVIDIA H100", "NVIDIA A100-SXM4-80GB"])
@pytest.mark.parametrize("length", [512, 1024, 4096, 8192])
def test_the_table_in_the_documentation_is_this_arithmetic(device, length):
    """A row of docs/lab-notes.md, computed again."""
    peak = PEAKS[device]
    step = {"vocab_size": 50_368, "lengths": [length] * (32_768 // length), "targets": 9830}
    seconds = least_seconds(BASE, peak=peak, **step)
    total = sum(seconds.values())
    memory = sum(value for kind, value in seconds.items() if kind.endswith("memory"))
    others = memory - seconds["layers, memory"]
    milliseconds = [seconds[kind] for kind in ("products", "attention", "head", "layers, memory")] + [others, total]
    cells = [
        device.split()[1].split("-")[0],
        f"{length:,}",
        *(f"{value * 1000:.1f}" for value in milliseconds),
        f"{32_768 / total:,.0f}",
        f"{sum(step_flops(BASE, **step).values()) / total / peak.flops:.0%}",
        f"{32_768 / ((total - memory) / 0.65 + memory / 0.8):,.0f}",
    ]
    page = (Path(__file__).resolve().parents[3] / "docs/lab-notes.md").read_text()
    assert f"| {' | '.join(cells)} |" in page


def test_the_memory_in_the_documentation_is_this_arithmetic():
    page = re.sub(r"\s+", " ", (Path(__file__).resolve().parents[3] / "docs/lab-notes.md").read_text())
    for places, targets, said in ((32_768, 9830, "18.4 GiB."), (96 * 1024, 29_491, "comes to 50.4 GiB.")):
        total = sum(memory_bytes(BASE, vocab_size=50_368, places=places, targets=targets).values())
        assert f"{total / 2**30:.1f} GiB." in said
        assert said in page
