"""The weights under our names and under HF's.

Both models hold the same tensors under other names, so the way there and back changes no bit:

    blocks.3.qkv.weight            <->  model.layers.3.attn.Wqkv.weight       rows: query, key, value
    blocks.3.mlp_in.weight         <->  model.layers.3.mlp.Wi.weight          rows: value (through gelu), gate
    embedding.weight, decoder_bias <->  model.embeddings.tok_embeddings.weight, decoder.bias
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from mlm_data.errors import InputError, TokenizerError
from trainer.config import ModelSettings
from trainer.model.encoder import PADDED_BIAS, padded_vocabulary

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


def _padded(tensor: Tensor, vocab_size: int, value: float) -> Tensor:
    padded = tensor.new_full((padded_vocabulary(vocab_size), *tensor.shape[1:]), value)
    padded[:vocab_size] = tensor[:vocab_size]
    return padded


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
