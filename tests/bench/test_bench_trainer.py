"""Training speed: this trainer, and HF's where transformers is installed. Prints; asserts nothing."""

import importlib.util

import pytest

from tests.bench.report import show
from tests.synthetic import make_dataset

pytestmark = pytest.mark.bench


def test_training_speed(tmp_path):
    from trainer.bench import bench
    from trainer.config import resolve
    from trainer.data import open_dataset

    data = make_dataset(
        tmp_path / "data", num_rows=256, validation_rows=0, sequence_length=256, vocab_size=8192, planes=1
    )
    settings = resolve(recipe_name="small", values={"data": str(data), "out": "unused"}, overrides=["batch_rows=32"])
    peers = importlib.util.find_spec("transformers") is not None
    found = bench(open_dataset(str(data)), settings, rounds=5, peers=peers)
    rows = [
        (line["name"], f"{line['useful_tokens_per_second']:,.0f}", f"{line['ours_is_faster_by']:.2f} x")
        for line in found["peers"]
    ]
    rows.append(("share of the GEMM peak", f"{found['share_of_peak']:.0%} of {found['gemm_peak_gflops']:.0f} GF/s", ""))
    rows.append(("waiting for the loader at 1 M tokens/s", f"{found['loader_wait']:.2%}", ""))
    rows += [(f"time: {name}", f"{share:.0%}", "") for name, share in found["time"].items()]
    packages = ("torch", "transformers") if peers else ("torch",)
    title = f"training, 6 x 256, L = 256, 8,192 places a step, {found['precision']}"
    show(title, ("", "useful tokens/s", "premask is faster by"), rows, packages=packages)
