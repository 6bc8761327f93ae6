"""A BERT vocab.txt as a tokenizer.json. The file lists tokens and says nothing of what is done to a text before.

The rule. What the configuration sets holds. Else what the tokenizer_config.json beside it says holds, as transformers
reads it. Else the tokens tell: a text is lowercased unless a token has a capital letter, for no text could give it; its
accents go unless a token has a nonspacing mark (Unicode's Mn, after NFD), for the same reason.

    the a ##s café        lowercase (no capital), accents kept (é)
    The a ##s Cafe        case kept, accents stripped
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from mlm_data.errors import TokenizerError
from mlm_data.tokens.bert import NAMES, bert_settings

SPECIAL = re.compile(r"\[.*\]")  # [CLS], [unused12]: their capitals say nothing


def from_vocabulary(
    data: bytes,
    where: str,
    *,
    beside: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
) -> tuple[dict[str, Any], str]:
    """The settings of a tokenizer.json, and what is done to a text before, with the reason, for the plan.

    Args:
        beside: the tokenizer_config.json that lies beside it.
        roles: tokens with a role, where the files beside it name them.
        lowercase, strip_accents: configured.

    Raises:
        TokenizerError: if it is no vocab.txt.
    """
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{where}: not a vocab.txt: byte {error.start} is not UTF-8") from error
    tokens = [line.rstrip("\r") for line in lines]
    while tokens and not tokens[-1]:
        tokens.pop()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    names = NAMES | dict(roles or {})
    if names["unk"] not in vocabulary:
        raise TokenizerError(f"{where}: not a BERT vocab.txt: no line is {names['unk']}: use a tokenizer.json")
    specials = [name for name in names.values() if name in vocabulary]
    beside = beside or {}
    lower, why_lower = _decide("do_lower_case", lowercase, beside, not any(_has_capital(token) for token in tokens))
    if "do_lower_case" in beside and "strip_accents" not in beside:
        beside = {**beside, "strip_accents": None}  # as the case, for BERT's own code
    strip, why_strip = _decide("strip_accents", strip_accents, beside, not any(_has_mark(token) for token in tokens))
    strip = lower if strip is None else strip
    settings = bert_settings(
        vocabulary,
        specials,
        lowercase=lower,
        strip_accents=None if strip == lower else strip,
        split_chinese=beside.get("tokenize_chinese_chars") is not False,
        names=names,
    )
    said = "lowercase" if lower else "case kept"
    return settings, f"{said} ({why_lower}), accents {'stripped' if strip else 'kept'} ({why_strip})"


def _decide(name: str, configured: bool | None, beside: Mapping[str, Any], guess: bool) -> tuple[Any, str]:
    if configured is not None:
        return configured, "configured"
    if name in beside:
        return beside[name], "by its tokenizer_config.json"
    if name == "do_lower_case":
        return guess, "no token has a capital letter" if guess else "tokens have capital letters"
    return guess, "no token has an accent" if guess else "tokens have accents"


def _has_capital(token: str) -> bool:
    return token != token.lower() and not SPECIAL.fullmatch(token)


def _has_mark(token: str) -> bool:
    return not token.isascii() and any(unicodedata.category(c) == "Mn" for c in unicodedata.normalize("NFD", token))
