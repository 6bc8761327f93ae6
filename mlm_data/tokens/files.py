"""A tokenizer as people keep it: one file, or a folder of several, as a tokenizer.json.

    tokenizer.json                     as it is
    vocab.json + merges.txt            byte-level BPE (GPT-2, RoBERTa)
    vocab.txt                          BERT's WordPiece; see `vocabulary.py`
    *.model                            sentencepiece; see `sentencepiece.py`

Of a folder the first of these counts. special_tokens_map.json and tokenizer_config.json in it say which token plays
which role; they count less than a configured role, and than what the tokenizer itself does (the template of a
tokenizer.json, the model's unknown token), and more than a known name. Beside a lone vocab.txt its
tokenizer_config.json is read as well; beside other lone files nothing is.
"""

import json
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.fs

from mlm_data.config import SpecialTokens
from mlm_data.errors import TokenizerError
from mlm_data.stores.folder import Folder, file_info, open_input
from mlm_data.tokens.byte_level import from_vocab_and_merges
from mlm_data.tokens.sentencepiece import from_model
from mlm_data.tokens.vocabulary import from_vocabulary

ROLE_KEYS = {"cls_token": "cls", "sep_token": "sep", "pad_token": "pad", "mask_token": "mask", "unk_token": "unk"}
LIKEWISE = {"bos_token": "cls", "eos_token": "sep"}  # where there is none of the others
MAP, CONFIG = "special_tokens_map.json", "tokenizer_config.json"


class Note(NamedTuple):
    """One line of a plan."""

    name: str
    text: str


class Found(NamedTuple):
    """What a path holds."""

    json_bytes: bytes  # a tokenizer.json
    where: str  # the file that it was read from, for messages
    roles: Mapping[str, str]  # what the files beside it say of roles
    notes: tuple[Note, ...]


def read_files(
    path: str, special: SpecialTokens, *, lowercase: bool | None = None, strip_accents: bool | None = None
) -> Found:
    """Read a tokenizer from a file or a folder.

    Raises:
        InputError: if a file can't be read.
        TokenizerError: if there is no tokenizer, or one that can't be converted.
    """
    folder = path.rstrip("/") if file_info(path).type == pyarrow.fs.FileType.Directory else None
    where = path if folder is None else _choose(folder)
    name = posixpath.basename(where)
    if not name.endswith(".txt") and (lowercase, strip_accents) != (None, None):
        setting = "lowercase" if lowercase is not None else "strip_accents"
        raise TokenizerError(f"{where}: tokenizer.{setting} is for a vocab.txt; this file says it itself: leave it out")
    around = folder if folder is not None or not name.endswith(".txt") else posixpath.dirname(where) or "."
    config, roles, added = _said(around) if around is not None else ({}, {}, {})
    if name.endswith(".txt"):
        settings, note = from_vocabulary(
            _read(where), where, beside=config, roles=roles, lowercase=lowercase, strip_accents=strip_accents
        )
        notes: tuple[Note, ...] = (Note("normalization", note),)
    elif name.endswith(".model"):
        settings, note = from_model(_read(where), where, special)
        notes = (Note("converted", note),)
    elif name == "vocab.json" and folder is not None:
        merges = f"{folder}/merges.txt"
        settings = from_vocab_and_merges(_read(where), _read(merges), where, config, roles, added)
        notes = (Note("converted", "byte-level BPE of vocab.json and merges.txt"),)
    else:
        return Found(_read(where), where, roles, ())
    return Found(json.dumps(settings, ensure_ascii=False).encode(), where, roles, notes)


def _choose(folder: str) -> str:
    if _exists(f"{folder}/tokenizer.json"):
        return f"{folder}/tokenizer.json"
    if _exists(f"{folder}/vocab.json") and _exists(f"{folder}/merges.txt"):
        return f"{folder}/vocab.json"
    if _exists(f"{folder}/vocab.txt"):
        return f"{folder}/vocab.txt"
    models = _names(folder, ".model")
    if len(models) > 1:
        raise TokenizerError(f"{folder}: holds several models, {', '.join(models)}: name one in tokenizer.path")
    if models:
        return f"{folder}/{models[0]}"
    raise TokenizerError(
        f"{folder}: no tokenizer in this folder: it needs a tokenizer.json, vocab.json and merges.txt, vocab.txt, "
        "or a sentencepiece .model"
    )


def _said(folder: str) -> tuple[dict[str, Any], dict[str, str], dict[str, int]]:
    """tokenizer_config.json, which token plays which role, and tokens beyond the vocabulary, with their ids."""
    config = _object(f"{folder}/{CONFIG}")
    roles: dict[str, str] = {}
    for said in (_object(f"{folder}/{MAP}"), config):
        for keys in (ROLE_KEYS, LIKEWISE):
            for key, role in keys.items():
                token = said.get(key)
                token = token.get("content") if isinstance(token, dict) else token
                if isinstance(token, str) and token not in roles.values():
                    roles.setdefault(role, token)
    added = {token: number for token, number in _object(f"{folder}/added_tokens.json").items() if _is_id(number)}
    for number, token in (config.get("added_tokens_decoder") or {}).items():
        if isinstance(token, dict) and isinstance(token.get("content"), str) and number.isdigit():
            added.setdefault(token["content"], int(number))
    return config, roles, added


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _object(path: str) -> dict[str, Any]:
    """A JSON file's object; empty where there is no such file."""
    if not _exists(path):
        return {}
    try:
        value = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: not valid JSON: {str(error)[:80]}: mend it, or take it away") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{path}: expected a JSON object, got {type(value).__name__}: mend it, or take it away")
    return value


def _exists(path: str) -> bool:
    return file_info(path).type == pyarrow.fs.FileType.File


def _names(folder: str, ending: str) -> list[str]:
    return [name for name in Folder(folder).names() if name.endswith(ending)]


def _read(path: str) -> bytes:
    with open_input(path) as stream:
        try:
            return bytes(stream.read())
        except (OSError, pa.ArrowInvalid) as error:
            raise TokenizerError(f"{path}: can't read the tokenizer: {error}") from error
