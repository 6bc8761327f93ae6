"""BLiMP: does the model find the grammatical sentence of a minimal pair more probable?

A sentence's pseudo-log-likelihood (Salazar et al. 2020, sec. 2.2) is the sum over its tokens of log p(token | the
others): each token is masked once, alone, in a copy of its own.

    the cat sat:    log p(the | [MASK] cat sat) + log p(cat | the [MASK] sat) + log p(sat | the cat [MASK])

A pair counts as right if the good sentence has the higher sum (Warstadt et al. 2020, sec. 4.1). A sentence of n tokens
costs n segments of n + 2 places; the copies are packed into full batches. Sentences of unequal length are compared by
their sums, as in both papers.
"""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from mlm_data.errors import InputError
from trainer.studies.numbered_lines import numbered_lines
from trainer.studies.texts import hidden_states, pack
from trainer.training.runs import TrainedModel


def pseudo_log_likelihoods(trained: TrainedModel, texts: Sequence[str]) -> Float64[np.ndarray, " texts"]:
    """Natural logarithms; [CLS] and [SEP] are not scored.

    Raises:
        InputError: if a text is longer than the model's rows.
    """
    model, tokenizer = trained.model, trained.tokenizer
    roles = tokenizer.roles
    around = [role for role in (roles.cls, roles.sep) if role >= 0]
    copies: list[np.ndarray] = []
    owners, places, truths = [], [], []
    for number, text in enumerate(texts):
        ids = tokenizer.encode_masked(text)
        if ids.size > model.length:
            raise InputError(f"{text[:60]!r} has {ids.size} tokens, the model reads {model.length}: leave it out")
        scored = np.flatnonzero(~np.isin(ids, around))
        many = np.repeat(ids[None], scored.size, 0)
        many[np.arange(scored.size), scored] = roles.mask
        copies.extend(many)
        owners.append(np.full(scored.size, number))
        places.append(scored)
        truths.append(ids[scored])
    sums = np.zeros(len(texts))
    if not copies:
        return sums
    owner, place, truth = (np.concatenate(parts) for parts in (owners, places, truths))
    rows = trained.settings.batch_rows
    done = 0
    for batch in pack(copies, rows=rows, length=model.length, pad=roles.pad):
        part = slice(done, done + batch.starts.size)
        at = torch.from_numpy(batch.starts + place[part])
        with torch.no_grad():
            logits = model.logits(model.features(hidden_states(model, batch, at)))
            chosen = torch.from_numpy(truth[part]).to(logits.device)
            scores = -torch.nn.functional.cross_entropy(logits, chosen, reduction="none")
        np.add.at(sums, owner[part], scores.double().cpu().numpy())
        done = part.stop
    return sums


def read_pairs(path: Path, *, limit: int | None = None) -> list[tuple[str, str]]:
    """(good, bad) of each line of a BLiMP file.

    Raises:
        InputError: if the file can't be read, or a line is no pair.
    """
    pairs = []
    for number, line in islice(numbered_lines(path), limit):
        try:
            value = json.loads(line)
            pairs.append((value["sentence_good"], value["sentence_bad"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: no minimal pair: expected JSON with sentence_good and sentence_bad"
            ) from error
    return pairs


def evaluate(trained: TrainedModel, folder: Path, *, limit: int | None = None) -> dict[str, float]:
    """Share of pairs that are judged rightly, for each paradigm (the file's name) and as `mean` over paradigms.

    Raises:
        InputError: if there is no .jsonl file.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise InputError(f"{folder}: no .jsonl files: give the folder with BLiMP's paradigms")
    result = {}
    for path in files:
        pairs = read_pairs(path, limit=limit)
        scores = pseudo_log_likelihoods(trained, [sentence for pair in pairs for sentence in pair]).reshape(-1, 2)
        result[path.stem] = float((scores[:, 0] > scores[:, 1]).mean())
    return result | {"mean": float(np.mean(list(result.values())))}
