"""What can be proven of the GPU path on a machine without a GPU: it is traced whole, and its launches are counted.

Every kernel that Inductor generates goes through ptxas for two GPUs, which proves that ptxas takes it, nothing more.
test_cuda.py proves the rest where there is a GPU.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer.config import ModelSettings
from trainer.model.arithmetic import BASE_LAYER_BYTES, BASE_OTHER_BYTES, memory_bytes
from trainer.recipes import RECIPES

pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[dev]' on Linux")

HERE = Path(__file__).resolve().parent
# Kernels started for one layer, ModernBERT-base in bf16. More is a regression; fewer is worth recording.
# Attention counts as one, though flash attention's backward pass starts a few of its own.
RECORDED = {
    "forward": {"triton": 8, "products": 4, "attention": 1},
    "backward": {"triton": 9, "products": 8, "attention": 1, "sums": 2},
}
# Bytes that Inductor's kernels read and write for one place in one layer (at 8,192 places, weights' copies included).
RECORDED_BYTES = {"forward": 32_361, "backward": 47_818}
PARTS = ("embed", "first block", "local block", "global block", "features")


@pytest.fixture(scope="module")
def proof(tmp_path_factory) -> dict:
    if not torch.__version__.startswith("2.13."):
        pytest.skip(f"reads private interfaces of torch 2.13, this is {torch.__version__}")
    folder = tmp_path_factory.mktemp("caches")
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parent.parent),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-W", "ignore", str(HERE / "gpu_codegen.py"), "80", "90"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_every_part_has_a_forward_and_a_backward_program(proof):
    assert set(proof["launches"]) == set(PARTS)
    assert all(set(programs) == {"forward", "backward"} for programs in proof["launches"].values())


@pytest.mark.parametrize("block", ["first block", "local block", "global block"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_layer_starts_no_more_kernels_than_recorded(proof, block, direction):
    found = proof["launches"][block][direction]
    assert found["attention"] == 1
    for kind, count in found.items():
        assert count <= RECORDED[direction].get(kind, 0), (kind, found)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_layer_moves_no_more_bytes_than_recorded(proof, direction):
    assert proof["bytes_per_place"]["local block"][direction] <= RECORDED_BYTES[direction]


def test_the_arithmetic_knows_these_bytes(proof):
    others = sum(sum(proof["bytes_per_place"][part].values()) for part in ("embed", "features"))
    assert sum(RECORDED_BYTES.values()) == BASE_LAYER_BYTES
    assert others == pytest.approx(BASE_OTHER_BYTES, abs=2)


def test_a_layer_keeps_what_the_arithmetic_says(proof):
    shape = ModelSettings(**RECIPES["base"]()["model"])
    said = memory_bytes(shape, vocab_size=1, places=1, targets=1)["activations"] / shape.layers
    for block in ("first block", "local block", "global block"):
        assert said <= proof["saved_per_place"][block] <= said + 64  # statistics of norms and softmax
    assert said == 22 * 768 + 6 * 1152


def test_local_and_global_layers_cost_the_same_launches(proof):
    assert proof["launches"]["local block"] == proof["launches"]["global block"]


def test_ptxas_takes_every_generated_kernel(proof):
    assert len(proof["kernels"]) >= 20
    for name, sizes in proof["kernels"].items():
        assert sorted(sizes) == ["sm_80", "sm_90"], name
        assert min(sizes.values()) > 1000, name
