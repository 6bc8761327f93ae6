"""A ModernBERT folder of HF transformers as the beginning of a run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from mlm_data.config import SpecialTokens
from mlm_data.errors import InputError, StorageError
from mlm_data.stores.folder import explain
from mlm_data.tokens.reference import Reference, from_bytes
from trainer.config import resolve
from trainer.hf import CONFIG, INDEX, WEIGHTS
from trainer.hf.shape import shape_of
from trainer.hf.weights import from_hf
from trainer.training import checkpoint as ck
from trainer.training.record import imported_record, write

IMPORT_LENGTH = 512  # places in a row of an imported model, at most, until a dataset says how long its rows are


def import_hf(source: Path, run: Path) -> list[str]:
    """Begin a run from a ModernBERT folder of HF transformers: `train` goes on from it, `fill` uses it as it is.

    The first dataset that it is trained on must have been built with its tokenizer (RUN/tokenizer.json). Its recipe is
    `adapt`: the rates of training from scratch make a model forget.

    Returns:
        What was left out, one line each.

    Raises:
        InputError: if a file is missing or damaged, or the model is none that our encoder can be.
        TokenizerError: if the tokenizer does not fit the model, or can't be used for masked-language modelling.
        StorageError: if `run` holds something, or can't be written.
    """
    config = _read_config(source)
    shape = shape_of(config, where=str(source / CONFIG))
    tokenizer = _read_tokenizer(source)
    tensors, notes = from_hf(_read_tensors(source), shape, tokenizer.vocab_size, where=str(source))
    if run.is_file() or (run.is_dir() and any(run.iterdir())):
        raise StorageError(f"{run}: holds something already: choose an empty folder")
    positions = int(config.get("max_position_embeddings") or IMPORT_LENGTH)
    adapt = {"data": "", "out": str(run), "model": shape.model_dump(mode="json")}
    record = imported_record(
        resolve(recipe_name="adapt", values=adapt),
        tokenizer,
        name=config.get("_name_or_path") or source.name,
        positions=positions,
        length=min(positions, IMPORT_LENGTH),
    )
    try:
        ck.save(run, ck.Checkpoint(step=0, model=tensors, optimizer={}, state={"imported": True}))
        write(run, record, tokenizer.json_bytes)
    except OSError as error:
        raise explain(error, str(run), "write the run") from error
    return notes


def _read_config(source: Path) -> dict[str, Any]:
    if not source.is_dir():
        raise InputError(f"{source}: no such folder: name one that transformers' `save_pretrained` wrote")
    config = _read_json(source / CONFIG)
    if not isinstance(config, dict):
        raise InputError(f"{source / CONFIG}: not a config.json of transformers")
    return config


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: missing: name a folder that transformers' `save_pretrained` wrote") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error


def _read_tokenizer(source: Path) -> Reference:
    path = source / "tokenizer.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: can't be read: {error.strerror}: save the fast tokenizer beside the model with `save_pretrained`"
        ) from error
    said = (
        _read_json(path.with_name("tokenizer_config.json")) if path.with_name("tokenizer_config.json").exists() else {}
    )
    names = {role: said.get(f"{role}_token") for role in ("mask", "pad")}  # tokenizer.json itself may not say which
    names = {role: name.get("content") if isinstance(name, dict) else name for role, name in names.items()}
    return from_bytes(data, SpecialTokens(**names), where=str(path))


def _read_tensors(source: Path) -> dict[str, Tensor]:
    names: Iterable[str] = [WEIGHTS]
    if not (source / WEIGHTS).exists() and (source / INDEX).exists():
        index = _read_json(source / INDEX)
        names = sorted({Path(name).name for name in index.get("weight_map", {}).values()})
    tensors: dict[str, Tensor] = {}
    for name in names:
        try:
            tensors |= safetensors.torch.load_file(source / name)
        except FileNotFoundError:
            pickled = ": pickled weights are never loaded" if any(source.glob("*.bin")) else ""
            raise InputError(
                f"{source / name}: missing{pickled}: save the model with transformers' `save_pretrained`"
            ) from None
        except (OSError, safetensors.SafetensorError) as error:
            raise InputError(f"{source / name}: damaged: {error}: fetch it again") from error
    return tensors
