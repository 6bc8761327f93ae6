"""Fill the blanks of a text: the most probable tokens for each [MASK]."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlm_data.errors import InputError
from trainer.model.encoder import Encoder
from trainer.studies.texts import check_text
from trainer.training.runs import TrainedModel


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One token for one blank, and its probability among the whole vocabulary."""

    token: str
    probability: float


def fill(trained: TrainedModel, text: str, *, top: int = 5) -> list[list[Guess]]:
    """The `top` most probable tokens of each [MASK] of a text, in order, most probable first.

    Every blank is judged with all others still blank. The model must have been loaded with one row.

    Raises:
        InputError: if the text has no [MASK], or is longer than the model's rows.
    """
    check_text(text)
    tokenizer, model = trained.tokenizer, trained.model
    ids = tokenizer.encode_masked(text)
    mask = tokenizer.tokens[tokenizer.roles.mask]
    places = np.flatnonzero(ids == tokenizer.roles.mask)
    if not places.size:
        raise InputError(f"the text has no {mask}: write {mask} where a word is missing")
    if ids.size > model.length:
        raise InputError(f"the text has {ids.size} tokens, the model reads {model.length}: shorten it")
    logits = masked_logits(model, ids, places, pad=tokenizer.roles.pad)
    probabilities, best = torch.softmax(logits, -1).topk(min(top, logits.shape[1]), -1)
    return [
        [
            Guess(token=tokenizer.tokens[number], probability=probability)
            for number, probability in zip(numbers, row, strict=True)
        ]
        for numbers, row in zip(best.tolist(), probabilities.tolist(), strict=True)
    ]


@torch.no_grad()
def masked_logits(model: Encoder, ids: np.ndarray, places: np.ndarray, *, pad: int) -> torch.Tensor:
    """float32 [places, vocab] of one segment, alone in a row."""
    length = model.length
    device = model.decoder_bias.device
    input_ids = torch.full((length,), pad, dtype=torch.int32)
    input_ids[: ids.size] = torch.from_numpy(ids)
    position_ids = torch.cat([torch.arange(ids.size), torch.arange(length - ids.size)]).int()
    borders = torch.tensor([0, ids.size, length], dtype=torch.int32)
    at = torch.from_numpy(places).to(device)
    return model.logits(model.features(model(input_ids.to(device), position_ids.to(device), borders.to(device), at)))


def to_json(text: str, guesses: list[list[Guess]]) -> dict[str, Any]:
    """Plain types for --json."""
    return {
        "text": text,
        "blanks": [[{"token": one.token, "probability": one.probability} for one in blank] for blank in guesses],
    }
