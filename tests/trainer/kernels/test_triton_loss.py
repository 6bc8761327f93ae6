"""The Triton kernel against its twin in Triton's interpreter, and through the compilers for two GPUs.

What this proves: the program is right, and ptxas takes it. That a GPU runs it so is shown by test_cuda.py, on one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[dev]' on Linux")

HERE = Path(__file__).resolve().parent
SHAPES = {
    "one block": {"rows": 12, "vocab": 64, "block": 64},
    "last block half full": {"rows": 12, "vocab": 100, "block": 64},
    "many blocks": {"rows": 7, "vocab": 1000, "block": 64},
    "vocabulary below a block": {"rows": 12, "vocab": 50, "block": 4096},
}
CASES = {
    f"{name}, {dtype}": {"kind": "compare", "dtype": dtype, "scale": 4.0} | shape
    for name, shape in SHAPES.items()
    for dtype in ("float32", "bfloat16", "float16")
}
CASES["large logits"] = {"kind": "compare", "rows": 6, "vocab": 300, "block": 64, "dtype": "float32", "scale": 300.0}
CASES["ties"] = {"kind": "compare", "rows": 4, "vocab": 200, "block": 64, "dtype": "float32", "scale": 1, "ties": True}
CASES["whole, float32"] = {"kind": "whole", "dtype": "float32"}
CASES["whole, bfloat16"] = {"kind": "whole", "dtype": "bfloat16"}
CASES["broken"] = {"kind": "broken"}
A_UNIT = {"float32": 2.0**-22, "bfloat16": 2.0**-8, "float16": 2.0**-11}  # of a gradient near 1


@pytest.fixture(scope="module")
def results() -> dict[str, dict]:
    command = [sys.executable, str(HERE / "interpreted_loss.py"), json.dumps(list(CASES.values()))]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE.parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["kind"] == "compare"])
def test_the_kernel_agrees_with_its_twin(results, name):
    found, case = results[name], CASES[name]
    assert found["loss"] <= 1e-6 * max(1.0, case["scale"])
    assert found["gradient"] <= A_UNIT[case["dtype"]]
    assert found["hits"] == 0
    assert found["num_hits"] >= 1
    assert found["ignored"] == 0
    assert found["beyond"] == 0


def test_of_equal_logits_the_lower_id_is_the_best(results):
    assert results["ties"]["num_hits"] == 2


def test_in_the_whole_loss_either_kernel_gives_the_same(results):
    assert max(results["whole, float32"].values()) <= 1e-6
    # The interpreter cuts float32 to bf16, a unit of 2^-8 at most; twin and GPU round to the nearest.
    assert max(results["whole, bfloat16"].values()) <= 2.0**-6


def test_a_broken_row_breaks_its_own_loss_only(results):
    assert results["broken"]["finite"] == [False, False, True]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("logits", ["*bf16", "*fp32"])
def test_ptxas_takes_it(capability, logits):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from trainer.kernels.triton_loss import BLOCK, WARPS, softmax_gradient_kernel

    pointers = {
        "logits_ptr": logits,
        "bias_ptr": "*fp32",
        "target_ptr": "*i64",
        "loss_ptr": "*fp32",
        "hit_ptr": "*fp32",
    }
    source = ASTSource(
        fn=softmax_gradient_kernel,
        signature=pointers | {"stride": "i32", "vocab_size": "i32", "ignore": "constexpr", "block": "constexpr"},
        constexprs={"ignore": -100, "block": BLOCK},
        attrs={(place,): [["tt.divisibility", 16]] for place in range(7)},
    )
    options = {"num_warps": WARPS, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert f"sm_{capability}" in compiled.asm["ptx"]
    assert compiled.asm["cubin"][:4] == b"\x7fELF"
    assert ".v4.b32" in compiled.asm["ptx"]  # loads of 16 bytes
    assert ".local" not in compiled.asm["ptx"]  # nothing spilled by Triton's own choice
    assert compiled.metadata.shared <= 48 * 1024
