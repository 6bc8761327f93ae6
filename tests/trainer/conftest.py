"""A small dataset and small runs for the trainer's tests."""

from pathlib import Path

import pytest

from tests.synthetic import make_dataset

SMALL = (
    "model.layers=2",
    "model.width=32",
    "model.heads=2",
    "model.intermediate=32",
    "batch_rows=4",
    "compile=off",
    "log_every=4",
    "evaluate_every=10",
    "checkpoint_every=5",
    "schedule.warmup_steps=4",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """These models are too small for two threads to help, and threads that wait for each other cost other programs."""
    import os

    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("trainer") / "data", num_rows=40, validation_rows=10, vocab_size=100)


@pytest.fixture
def precision() -> str:
    """Of every run that a test begins; a test that is to hold in both is marked with `precision.both_precisions`."""
    return "float32"


@pytest.fixture
def small(precision) -> tuple[str, ...]:
    """Overrides that make a run of milliseconds a step."""
    return (*SMALL, f"precision={precision}")


@pytest.fixture
def settings(small, dataset, tmp_path):
    """A function that makes small settings: settings("budget.steps=3", out="name")."""
    from trainer.config import resolve

    def make(*overrides: str, out: str = "run", data: Path = dataset):
        values = {"data": str(data), "out": str(tmp_path / out)}
        return resolve(recipe_name="tiny", values=values, overrides=[*small, *overrides])

    return make


TEXTS = ["open the file for reading and writing", "the cat sat on the mat", "import numpy as np"] * 20


@pytest.fixture(scope="session")
def tokenizer() -> bytes:
    """A tiny WordPiece tokenizer.json."""
    import pyarrow as pa

    from mlm_data.config import TokenizerTraining
    from mlm_data.tokens.reference import from_bytes
    from mlm_data.tokens.train import train_tokenizer

    texts = iter([pa.array(TEXTS, pa.large_string())])
    return from_bytes(train_tokenizer(texts, TokenizerTraining(vocab_size=100))).json_bytes


@pytest.fixture
def run(settings, tmp_path, tokenizer):
    """The settings of a trained run whose tokenizer is a real one."""
    from mlm_data.tokens.reference import from_bytes
    from trainer.training.loop import train

    reference = from_bytes(tokenizer)
    data = make_dataset(
        tmp_path / "words",
        num_rows=24,
        validation_rows=8,
        vocab_size=reference.vocab_size,
        tokenizer=tokenizer,
        roles=reference.roles,
    )
    chosen = settings("budget.steps=3", data=data)
    train(chosen)
    return chosen
