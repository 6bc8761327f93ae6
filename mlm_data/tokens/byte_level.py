"""vocab.json and merges.txt of GPT-2 and RoBERTa as a tokenizer.json: byte-level BPE (Radford et al. 2019, sec. 2.2).

The two files say neither how a text is cut nor which tokens are special. How is known for the classes that share
GPT-2's pattern; another class that a tokenizer_config.json names is refused, for the same two files then mean another
tokenizer (CLIP lowercases and marks the ends of words, Qwen cuts otherwise).
"""

import json
from collections.abc import Mapping
from typing import Any

from mlm_data.characters import byte_characters
from mlm_data.errors import TokenizerError
from mlm_data.tokens.bert import around

# GPT-2's pattern, and around a text: nothing, or RoBERTa's <s> and </s>.
CLASSES = {"GPT2", "Roberta", "Bart", "Longformer", "LED", "MVP", "Deberta"}
FLAGS = {"single_word": False, "rstrip": False, "normalized": False}


def from_vocab_and_merges(
    vocab: bytes,
    merges: bytes,
    where: str,
    config: Mapping[str, Any],
    roles: Mapping[str, str],
    added: Mapping[str, int],
) -> dict[str, Any]:
    """The settings of a tokenizer.json.

    Args:
        config: the tokenizer_config.json beside it.
        roles: which token plays which role; these are special.
        added: tokens beyond the vocabulary, with their ids.

    Raises:
        TokenizerError: if the files are broken, or belong to a tokenizer of another kind.
    """
    name = str(config.get("tokenizer_class") or "GPT2Tokenizer")
    if name.removesuffix("Fast").removesuffix("Tokenizer") not in CLASSES:
        raise TokenizerError(
            f"{where}: tokenizer_class {name} cuts texts in a way that vocab.json and merges.txt don't say: load it "
            "with transformers and save its tokenizer.json beside them"
        )
    try:
        vocabulary = json.loads(vocab)
        lines = merges.decode().split("\n")
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{where}: not a vocab.json with a merges.txt: {str(error)[:80]}") from error
    if not isinstance(vocabulary, dict) or not all(isinstance(number, int) for number in vocabulary.values()):
        raise TokenizerError(f"{where}: not a vocab.json: it must be an object of tokens and their ids")
    missing = [character for character in byte_characters() if character not in vocabulary]
    if missing:
        raise TokenizerError(
            f"{where}: not a byte-level vocabulary: {len(missing)} of the 256 bytes have no token: load it with "
            "transformers and save its tokenizer.json beside it"
        )
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    broken = next((number for number, pair in enumerate(pairs) if len(pair) != 2), None)
    if broken is not None:
        raise TokenizerError(f"{where}: merges.txt: merge {broken + 1} is not two tokens: {' '.join(pairs[broken])!r}")
    ids = dict(vocabulary)
    size = max(vocabulary.values()) + 1
    for token, number in sorted(added.items(), key=lambda item: item[1]):
        if token in vocabulary and vocabulary[token] != number:
            raise TokenizerError(f"{where}: {token!r} has id {vocabulary[token]}, and {number} by the files beside it")
        if token not in vocabulary:
            if number != size:
                raise TokenizerError(f"{where}: the added token {token!r} has id {number}; the next free one is {size}")
            ids[token] = number
            size += 1
    special = {token for token in roles.values() if token in ids}
    tokens = [
        {"id": ids[token], "content": token, "special": token in special, "lstrip": token == roles.get("mask"), **FLAGS}
        for token in sorted({*special, *(token for token in added if token in ids)}, key=lambda token: ids[token])
    ]
    level = {"type": "ByteLevel", "add_prefix_space": bool(config.get("add_prefix_space")), "trim_offsets": True}
    level["use_regex"] = True
    both = {roles.get("cls"), roles.get("sep")} <= set(ids) and not name.startswith("GPT2")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": around(ids, roles["cls"], roles["sep"]) if both else None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocabulary,
            "merges": pairs,
        },
    }
