"""Engines: texts to token ids. They differ in speed, never in ids.

`words` scans bytes itself and remembers each distinct word; `huggingface` asks HF `tokenizers` about every text. What
both must give is defined in `reference.py`. `auto` takes `words` wherever the tokenizer belongs to a family that it
knows, and `.why` says which it is and why.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import pyarrow as pa

from mlm_data.errors import TokenizerError
from mlm_data.tokens.families import find_family
from mlm_data.tokens.huggingface import LONG_WORD, HuggingFaceEngine
from mlm_data.tokens.reference import Reference, from_bytes, load_tokenizer
from mlm_data.tokens.words import WordsEngine
from mlm_data.types import Encoded

ALGORITHM_VERSION = 2  # enters cache keys: count up when any id or word start comes out differently

__all__ = ["Engine", "HuggingFaceEngine", "Reference", "from_bytes", "load_tokenizer", "make_engine"]


class Engine(Protocol):
    """Texts to ids. Safe to share among threads."""

    name: str  # words | huggingface
    why: str  # one sentence for the plan

    def encode(self, texts: pa.LargeStringArray) -> Encoded:
        """Ids of each text, without specials around it, as the reference gives them."""
        ...


def make_engine(
    reference: Reference,
    engine: Literal["auto", "words", "huggingface"] = "auto",
    *,
    budget_bytes: int = 512 << 20,
) -> Engine:
    """The engine for a tokenizer.

    Args:
        budget_bytes: memory of the word table; it bounds speed, never ids.

    Raises:
        TokenizerError: if `words` is asked for and the tokenizer belongs to no family that it knows.
    """
    if engine == "huggingface":
        return HuggingFaceEngine(reference, "the configuration asks for it", _for_long_words(reference))
    family, kind = find_family(reference)
    if family is not None:
        return WordsEngine(reference, family, f"the word table knows {kind}", budget_bytes)
    why = f"the word table doesn't know {kind}"
    if engine == "words":
        raise TokenizerError(f"{reference.where}: {why}: set tokenizer.engine to auto or huggingface")
    return HuggingFaceEngine(reference, why)


def _for_long_words(reference: Reference) -> Callable[[pa.LargeStringArray], Encoded] | None:
    """Who answers for words that would cost HF hours: none where the model calls them unknown, or the table can't."""
    if reference.settings["model"].get("max_input_chars_per_word", 0) <= LONG_WORD:
        return None
    family, kind = find_family(reference)
    return None if family is None else WordsEngine(reference, family, f"the word table knows {kind}").encode
