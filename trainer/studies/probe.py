"""Is the encoder any good? A linear probe: logistic regression on its frozen outputs, against the majority class.

With a learning rate and epochs the encoder is fine-tuned too, from there on: see finetune.py.

A text's features are the mean over its places of the encoder's normed outputs. Texts are split into training and test
by a hash of the text, 4 to 1, so that the same text is never on both sides. The regression minimizes

    mean cross-entropy + l2 / 2 |W|^2        by L-BFGS in float64, features standardized

which has one minimum: no seed, no learning rate. A text that is longer than the model's rows is cut, and counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32
from torch import Tensor

from mlm_data.errors import InputError
from mlm_data.hashing import hash128
from trainer.studies.labelled import read_labelled
from trainer.studies.texts import hidden_states, pack
from trainer.training.machine import Machine
from trainer.training.runs import TrainedModel

TEST_SHARE = 5  # every fifth text, by hash


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a probe found."""

    accuracy: float  # on the test part
    majority: float  # of always saying the commonest training label
    classes: int
    num_train: int
    num_test: int
    num_cut: int  # texts longer than the model's rows
    finetuned: float | None = None  # accuracy on the test part after fine-tuning, where it was asked for

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How to fine-tune; None: the default of finetune.py."""

    machine: Machine
    epochs: int | None = None
    lr: float | None = None


def probe(
    trained: TrainedModel,
    path: Path,
    *,
    text_field: str = "text",
    label_field: str = "label",
    l2: float = 1e-2,
    tuning: Tuning | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Probe:
    """Train and test a linear probe on a labelled JSONL file; with `tuning`, fine-tune the encoder as well.

    Raises:
        InputError: for a line without text or label, fewer than two classes, or too few texts.
        ConfigError: for epochs or a learning rate that can't be right.
    """
    texts, labels = read_labelled(path, text_field, label_field)
    names = sorted(set(labels))
    if len(names) < 2:
        raise InputError(f"{path}: {len(names)} class: a probe needs at least two in {label_field!r}")
    numbers = {name: number for number, name in enumerate(names)}
    y = np.array([numbers[label] for label in labels])
    hashes = hash128(pa.array(texts, pa.large_string()))[:, 0]
    test = hashes % np.uint64(TEST_SHARE) == 0
    if not test.any() or test.all() or len(set(y[~test])) < 2:
        raise InputError(f"{path}: {len(texts)} texts are too few for a training and a test part: give more")
    segments, num_cut = text_segments(trained, texts)
    features = mean_features(trained, segments)
    start = fit(torch.from_numpy(features[~test]).double(), torch.from_numpy(y[~test]), len(names), l2)
    guess = (torch.from_numpy(features[test]).double() @ start[0] + start[1]).argmax(-1).numpy()
    majority = np.bincount(y[~test]).argmax()
    finetuned = None
    if tuning is not None:
        from trainer.studies.finetune import EPOCHS, finetune

        options: dict[str, Any] = {
            "epochs": EPOCHS if tuning.epochs is None else tuning.epochs,
            "lr": tuning.lr,
            "say": say,
        }
        found = finetune(trained, tuning.machine, segments, y, test, hashes, start, **options)
        finetuned = float((found == y[test]).mean())
    return Probe(
        accuracy=float((guess == y[test]).mean()),
        majority=float((y[test] == majority).mean()),
        classes=len(names),
        num_train=int((~test).sum()),
        num_test=int(test.sum()),
        num_cut=num_cut,
        finetuned=finetuned,
    )


def text_segments(trained: TrainedModel, texts: Sequence[str]) -> tuple[list[np.ndarray], int]:
    """Each text's ids, and how many texts were cut to the model's length.

    Raises:
        InputError: for a text without any token.
    """
    model, tokenizer = trained.model, trained.tokenizer
    segments, num_cut = [], 0
    for text in texts:
        ids = tokenizer.encode_masked(text)
        if not ids.size:
            raise InputError(f"the text {text[:60]!r} has no token: leave it out")
        if ids.size > model.length:
            last = ids[-1:] if tokenizer.roles.sep >= 0 else ids[:0]
            ids, num_cut = np.concatenate([ids[: model.length - last.size], last]), num_cut + 1
        segments.append(ids)
    return segments, num_cut


def mean_features(trained: TrainedModel, segments: Sequence[np.ndarray]) -> Float32[np.ndarray, "texts width"]:
    """The mean normed output of each text."""
    model, pad = trained.model, trained.tokenizer.roles.pad
    features = np.zeros((len(segments), model.shape.width), np.float32)
    done = 0
    for batch in pack(segments, rows=trained.settings.batch_rows, length=model.length, pad=pad):
        with torch.no_grad():
            states = model.final_norm(hidden_states(model, batch)).float().cpu().numpy()
        sums = np.add.reduceat(np.append(states, np.zeros((1, states.shape[1]), np.float32), 0), _edges(batch), 0)[::2]
        count = batch.starts.size
        features[done : done + count] = sums / batch.lengths[:, None]
        done += count
    return features


def _edges(batch: Any) -> np.ndarray:
    """start, end, start, end, ...: `reduceat` sums start to end, and end to the next start."""
    return np.stack([batch.starts, batch.starts + batch.lengths], 1).reshape(-1)


def fit(x: Tensor, y: Tensor, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """Weights [D, classes] and biases [classes] of the regression, for features as they come."""
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-6)
    z = (x - mean) / scale
    weight = torch.zeros(x.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss = torch.nn.functional.cross_entropy(z @ weight + bias, y) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    search.step(closure)
    with torch.no_grad():
        plain = weight / scale[:, None]
        return plain, bias - mean @ plain
