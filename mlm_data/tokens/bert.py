"""The tokenizer.json of BERT: WordPiece after words and punctuation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def bert_settings(
    vocabulary: dict[str, int],
    specials: list[str],
    *,
    lowercase: bool,
    strip_accents: bool | None = None,
    split_chinese: bool = True,
    longest_word: int = 100,
    names: Mapping[str, str] = MappingProxyType(NAMES),
) -> dict[str, Any]:
    """The tokenizer.json of a BERT WordPiece vocabulary (Devlin et al. 2019, appendix A.2, and its code).

    Args:
        specials: the special tokens among its tokens.
        strip_accents: whether nonspacing marks go; None: as `lowercase`.
        split_chinese: whether each Chinese character is a word.
        longest_word: characters; a longer word is the unknown token, whole.
        names: the tokens' names by role, where they aren't BERT's.
    """
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    settings: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[name], "content": name, **flags} for name in specials],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": split_chinese,
            "strip_accents": strip_accents,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": around(vocabulary, names["cls"], names["sep"])
        if {names["cls"], names["sep"]} <= set(specials)
        else None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": names["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": longest_word,
            "vocab": vocabulary,
        },
    }
    return settings


def around(vocabulary: Mapping[str, int], cls: str = "[CLS]", sep: str = "[SEP]") -> dict[str, Any]:
    """The post-processor that puts [CLS] before and [SEP] after a text."""

    def one(name: str, type_id: int) -> dict[str, Any]:
        kind = "Sequence" if name in "AB" else "SpecialToken"
        return {kind: {"id": name, "type_id": type_id}}

    return {
        "type": "TemplateProcessing",
        "single": [one(cls, 0), one("A", 0), one(sep, 0)],
        "pair": [one(cls, 0), one("A", 0), one(sep, 0), one("B", 1), one(sep, 1)],
        "special_tokens": {name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in (cls, sep)},
    }
