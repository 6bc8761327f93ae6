"""The model's shape as config.json of transformers says it, written and read.

HF counts a local window from end to end: `local_attention` = 2 * window, and place i sees |i - j| <= window.
"""

from typing import Any

from pydantic import ValidationError

from mlm_data.errors import InputError
from mlm_data.tokens.reference import ROLES, Reference
from trainer.config import ModelSettings

# What HF's configuration may say and our encoder can't do: field -> the only value that we take.
ONLY = {
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
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
