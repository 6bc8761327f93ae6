"""A run's model as a folder of HF transformers: see the package's docstring."""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import safetensors.torch
from tokenizers import Tokenizer

from mlm_data.errors import StorageError
from mlm_data.loading.run_steps import newest_phase
from mlm_data.stores.folder import TEMPORARY, explain
from mlm_data.tokens.reference import ROLES, Reference
from trainer.hf import CONFIG, WEIGHTS
from trainer.hf.shape import hf_config
from trainer.hf.weights import to_hf
from trainer.training import checkpoint as ck
from trainer.training import runs
from trainer.training.record import read


def export_hf(run: Path, out: Path, *, which: str = "newest") -> list[str]:
    """Write the model of one of a run's checkpoints for HF transformers; the folder appears whole or not at all.

    `which` is as in `checkpoint.find`. Of a run in phases the newest counts, and of averaged weights the average, as in
    `runs.load`.

    Returns:
        One line for each newer checkpoint that is damaged and was passed over.

    Raises:
        CheckpointError: if `run` is no training run, or has no checkpoint.
        StorageError: if `out` holds something, or can't be written.
    """
    run = newest_phase(run)
    record = read(run)
    tokenizer = runs.load_tokenizer(run, record)
    found, notes = ck.find(run, which)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise StorageError(f"{out}: holds something already: choose an empty folder")
    positions = max(record.positions or 0, record.sequence_length)
    config = hf_config(record.settings.model, tokenizer, positions)
    files = tokenizer_files(tokenizer, positions) | {CONFIG: _json(config)}
    tensors = to_hf(runs.best_weights(found), tokenizer.vocab_size)
    temporary = out.absolute().parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        (temporary / WEIGHTS).write_bytes(safetensors.torch.save(tensors, metadata={"format": "pt"}))
        os.replace(temporary, out)
    except OSError as error:
        raise explain(error, str(out), "write the model") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return notes


def tokenizer_files(tokenizer: Reference, positions: int) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and special_tokens_map.json for transformers, as bytes by name."""
    specials = {
        f"{role}_token": tokenizer.tokens[number] for role in ROLES if (number := getattr(tokenizer.roles, role)) >= 0
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    return {
        "tokenizer.json": _with_template(tokenizer),
        "tokenizer_config.json": _json(config | specials),
        "special_tokens_map.json": _json(specials),
    }


def _with_template(tokenizer: Reference) -> bytes:
    """The tokenizer.json, whose post-processor puts around a text what a segment of a row has around it."""
    loaded = Tokenizer.from_str(tokenizer.json_bytes.decode())
    roles = tokenizer.roles
    around = [[number] if number >= 0 else [] for number in (roles.cls, roles.sep)]
    bare = loaded.encode("a", add_special_tokens=False).ids
    if loaded.encode("a", add_special_tokens=True).ids == around[0] + bare + around[1]:
        return tokenizer.json_bytes
    names = [[tokenizer.tokens[number] for number in side] for side in around]
    special = [{"SpecialToken": {"id": name, "type_id": 0}} for side in names for name in side]
    before, after = special[: len(names[0])], special[len(names[0]) :]
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B"))
    template = {
        "type": "TemplateProcessing",
        "single": [*before, first, *after],
        "pair": [*before, first, *after, second, *after],
        "special_tokens": {
            tokenizer.tokens[number]: {
                "id": tokenizer.tokens[number],
                "ids": [number],
                "tokens": [tokenizer.tokens[number]],
            }
            for side in around
            for number in side
        },
    }
    settings = dict(tokenizer.settings) | {"post_processor": template}
    return json.dumps(settings, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
