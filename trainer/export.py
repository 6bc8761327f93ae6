"""To and from HF transformers: a run's model as a folder that `ModernBertForMaskedLM.from_pretrained` loads, and back.

    OUT/config.json                 shape; the rotary bases in the spelling of transformers 4 and in that of 5
    OUT/model.safetensors           float32; the padding of the vocabulary is trimmed, the tied decoder is left out
    OUT/tokenizer.json              as trained with; puts [CLS] and [SEP] around a text as the rows had them
    OUT/tokenizer_config.json, OUT/special_tokens_map.json

Both models hold the same tensors under other names, so the way there and back changes no bit:

    blocks.3.qkv.weight            <->  model.layers.3.attn.Wqkv.weight       rows: query, key, value
    blocks.3.mlp_in.weight         <->  model.layers.3.mlp.Wi.weight          rows: value (through gelu), gate
    embedding.weight, decoder_bias <->  model.embeddings.tok_embeddings.weight, decoder.bias

HF counts a local window from end to end: `local_attention` = 2 * window, and place i sees |i - j| <= window. What our
encoder does not have (biases, dropout, scaled rotary positions, other activations) is refused, except for dropout,
which changes no output. Nothing here needs transformers, and no pickle is ever read.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer
from torch import Tensor

from mlm_data.config import SpecialTokens
from mlm_data.errors import InputError, StorageError, TokenizerError
from mlm_data.stores.folder import TEMPORARY, explain
from mlm_data.tokens.reference import ROLES, Reference, from_bytes
from trainer.config import ModelSettings, resolve
from trainer.model.encoder import PADDED_BIAS, padded_vocabulary
from trainer.training import checkpoint as ck
from trainer.training import runs
from trainer.training.record import imported_record, read, write

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
IMPORT_LENGTH = 512  # places in a row of an imported model, at most, until a dataset says how long its rows are

OUTER = {
    "embedding.weight": "model.embeddings.tok_embeddings.weight",
    "embedding_norm.weight": "model.embeddings.norm.weight",
    "final_norm.weight": "model.final_norm.weight",
    "head.dense.weight": "head.dense.weight",
    "head.norm.weight": "head.norm.weight",
    "decoder_bias": "decoder.bias",
}
INNER = {
    "attention_norm": "attn_norm",
    "qkv": "attn.Wqkv",
    "attention_out": "attn.Wo",
    "mlp_norm": "mlp_norm",
    "mlp_in": "mlp.Wi",
    "mlp_out": "mlp.Wo",
}
PER_ID = ("embedding.weight", "decoder_bias")  # one row or entry for each id

# What HF's configuration may say and our encoder can't do: field -> the only value that we take.
ONLY = {
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
}


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
    run = runs.newest(run)
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


def hf_name(name: str) -> str:
    """Name of one of our parameters in `ModernBertForMaskedLM`.

    >>> hf_name("blocks.3.qkv.weight")
    'model.layers.3.attn.Wqkv.weight'
    """
    if name in OUTER:
        return OUTER[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{INNER[part]}.weight"


def to_hf(tensors: dict[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """Our parameters under HF's names, the vocabulary's padding trimmed."""
    return {
        hf_name(name): (tensor[:vocab_size] if name in PER_ID else tensor).contiguous()
        for name, tensor in tensors.items()
    }


def from_hf(
    tensors: dict[str, Tensor], shape: ModelSettings, vocab_size: int, *, where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """HF's tensors under our names in float32, the vocabulary padded; and what was left out, one line each.

    Raises:
        InputError: if a tensor is missing, superfluous or of another shape.
        TokenizerError: if the model has fewer ids than the tokenizer.
    """
    left, result, notes = dict(tensors), {}, []
    decoder = left.pop("decoder.weight", None)
    shapes = parameter_shapes(shape)
    missing = [hf_name(name) for name in shapes if hf_name(name) not in left and name != "decoder_bias"]
    if missing:
        raise InputError(
            f"{where}: lacks {_few(missing)}: save a ModernBertForMaskedLM with `save_pretrained` of transformers"
        )
    num_ids = left[hf_name("embedding.weight")].shape[0]
    if num_ids < vocab_size:
        raise TokenizerError(
            f"{where}: the tokenizer has {vocab_size} ids, the model {num_ids}: "
            "take both from one folder of transformers"
        )
    if decoder is not None and not torch.equal(decoder, left[hf_name("embedding.weight")]):
        raise InputError(f"{where}: its decoder is not tied to its embedding, and ours is: train it with tied weights")
    left.setdefault(hf_name("decoder_bias"), torch.zeros(num_ids))  # decoder_bias: false
    for name, expected in shapes.items():
        tensor = left.pop(hf_name(name)).float()
        per_id = name in PER_ID
        wanted = (num_ids, *expected) if per_id else expected
        if tensor.shape != wanted:
            raise InputError(
                f"{where}: {hf_name(name)} has shape {list(tensor.shape)}, config.json asks for {list(wanted)}: "
                "take both from one folder of transformers"
            )
        result[name] = _padded(tensor, vocab_size, PADDED_BIAS if name == "decoder_bias" else 0.0) if per_id else tensor
    if left:
        raise InputError(f"{where}: has {_few(left)}, which our encoder has not: it can't be imported")
    if num_ids > vocab_size:
        notes.append(f"{where}: left out {num_ids - vocab_size} ids that its tokenizer does not have")
    return result, notes


def parameter_shapes(shape: ModelSettings) -> dict[str, tuple[int, ...]]:
    """Shape of each of our parameters, without the vocabulary's dimension."""
    width, inner = shape.width, shape.intermediate
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (width,), "embedding_norm.weight": (width,)}
    for layer in range(shape.layers):
        if layer:  # layer 0's attention norm is the identity
            shapes[f"blocks.{layer}.attention_norm.weight"] = (width,)
        shapes |= {
            f"blocks.{layer}.qkv.weight": (3 * width, width),
            f"blocks.{layer}.attention_out.weight": (width, width),
            f"blocks.{layer}.mlp_norm.weight": (width,),
            f"blocks.{layer}.mlp_in.weight": (2 * inner, width),
            f"blocks.{layer}.mlp_out.weight": (width, inner),
        }
    return shapes | {
        "final_norm.weight": (width,),
        "head.dense.weight": (width, width),
        "head.norm.weight": (width,),
        "decoder_bias": (),
    }


def hf_config(shape: ModelSettings, tokenizer: Reference, positions: int) -> dict[str, Any]:
    """config.json for transformers 4 and 5."""
    ids = {role: getattr(tokenizer.roles, role) for role in ROLES}
    roles = {role: number if number >= 0 else None for role, number in ids.items()}
    full, sliding = "full_attention", "sliding_attention"
    return {
        "architectures": ["ModernBertForMaskedLM"],
        "model_type": "modernbert",
        "dtype": "float32",
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": positions,
        "norm_eps": shape.norm_eps,
        "local_attention": 2 * shape.window,
        # transformers 4
        "global_attn_every_n_layers": shape.global_every,
        "global_rope_theta": shape.rope_theta,
        "local_rope_theta": shape.local_rope_theta,
        # transformers 5
        "layer_types": [sliding if layer % shape.global_every else full for layer in range(shape.layers)],
        "rope_parameters": {
            full: {"rope_type": "default", "rope_theta": shape.rope_theta},
            sliding: {"rope_type": "default", "rope_theta": shape.local_rope_theta},
        },
        **ONLY,
        "decoder_bias": True,
        "tie_word_embeddings": True,
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
        "pad_token_id": roles["pad"],
        "cls_token_id": roles["cls"],
        "sep_token_id": roles["sep"],
        "bos_token_id": roles["cls"],
        "eos_token_id": roles["sep"],
    }


def shape_of(config: dict[str, Any], *, where: str) -> ModelSettings:
    """The shape that a config.json of transformers 4 or 5 describes.

    Raises:
        InputError: if it is another architecture, or one that our encoder can't be.
    """
    kind = config.get("model_type")
    if kind != "modernbert":
        raise InputError(f"{where}: model_type is {kind!r}: only modernbert can be imported")
    for name, value in ONLY.items():
        if config.get(name, value) != value:
            raise InputError(f"{where}: {name} is {config[name]!r}, our encoder only does {value!r}: can't import it")
    try:
        layers, local_attention = config["num_hidden_layers"], config.get("local_attention", 128)
        if local_attention % 2:
            raise InputError(f"{where}: local_attention is {local_attention}: it must be even, twice the window")
        return ModelSettings(
            layers=layers,
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            intermediate=config["intermediate_size"],
            global_every=_global_every(config, layers, where),
            window=local_attention // 2,
            rope_theta=_theta(config, "full_attention", "global_rope_theta", 160_000.0, where),
            local_rope_theta=_theta(config, "sliding_attention", "local_rope_theta", 10_000.0, where),
            norm_eps=config.get("norm_eps", 1e-5),
        )
    except KeyError as error:
        raise InputError(f"{where}: lacks {error}: not a config.json of ModernBERT") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "shape"
        raise InputError(f"{where}: our encoder can't have this {field}: {first['msg']}") from error
    except TypeError as error:
        raise InputError(f"{where}: not a config.json of ModernBERT: {error}") from error


def _global_every(config: dict[str, Any], layers: int, where: str) -> int:
    kinds = config.get("layer_types")
    if kinds is None:
        return config.get("global_attn_every_n_layers", 3)
    whole = [layer for layer, kind in enumerate(kinds) if kind == "full_attention"]
    every = whole[1] if len(whole) > 1 else max(1, layers)
    if len(kinds) != layers or whole != list(range(0, layers, every)):
        raise InputError(f"{where}: layer_types must be global at every n-th layer from the first on, are {kinds}")
    return every


def _theta(config: dict[str, Any], kind: str, old: str, default: float, where: str) -> float:
    rope = dict((config.get("rope_parameters") or {}).get(kind) or {})
    if rope.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        raise InputError(f"{where}: rotary positions are scaled: our encoder only does rope_type 'default'")
    return rope.get("rope_theta") or config.get(old) or default


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


def _padded(tensor: Tensor, vocab_size: int, value: float) -> Tensor:
    padded = tensor.new_full((padded_vocabulary(vocab_size), *tensor.shape[1:]), value)
    padded[:vocab_size] = tensor[:vocab_size]
    return padded


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
