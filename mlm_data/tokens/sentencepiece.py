"""A sentencepiece `.model` as a tokenizer.json, without the sentencepiece library.

A model is a protocol buffer: pieces with a score and a type, what trained them, and how a text is normalized. What its
library does with a text (Kudo, Richardson 2018, sec. 3; its code, version 0.2) becomes, step by step:

    precompiled_charsmap          Precompiled
    remove_extra_whitespaces      spaces at both ends go, runs become one
    add_dummy_prefix              Prepend "\u2581"
    escape_whitespaces            " " becomes "\u2581"
    unigram                       Unigram, scores as they are (float32)
    bpe                           BPE: two pieces merge where they make a piece, the best score first
    byte_fallback                 byte_fallback
    control symbols               special tokens; no text spells them
    user-defined symbols          unigram: pieces with the score that the library gives them

Where pieces hold the mark of a space only in front, cutting the text before each mark changes nothing, and each word
can be answered alone; where in addition all white space becomes spaces (nmt_nfkc), it is the very shape of T5's
tokenizer.json, which the words engine knows.

Ids are the model's own. What can't be the same is refused by the name of its option. Three differences come from HF
`tokenizers` and stay: its Precompiled looks at graphemes, so a mark on a character that the map changes may stay or go
otherwise; a text that spells "<0x41>" is read as that byte where there is byte_fallback; sums of scores are float64, so
two cuts of a long text that float32 can't tell apart may come out the other way.
"""

import base64
import itertools
from typing import Any, NamedTuple

import numpy as np
from tokenizers import normalizers

from mlm_data.config import SpecialTokens
from mlm_data.errors import TokenizerError
from mlm_data.tokens.wire import Value, fields, float32

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE = 1, 2
KINDS = {UNIGRAM: "unigram", BPE: "bpe", 3: "word", 4: "char"}
MARK = "\u2581"
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
# The library's own maps, all of whose results are NFKC: white space comes out as a space or as itself.
NOWHERE = "\uffff"  # no character, and never will be
OWN_MAPS = ("nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf")
WHITE_SPACE = [
    *range(0x09, 0x0E),
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
]


class Piece(NamedTuple):
    """One piece of a model."""

    text: str
    score: float
    kind: int


class Model(NamedTuple):
    """What a model file says, as far as it matters to a text."""

    pieces: list[Piece]
    kind: int = UNIGRAM
    suffix: bool = False  # treat_whitespace_as_suffix
    byte_fallback: bool = False
    map_name: str = ""
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra: bool = True
    escape: bool = True

    @property
    def mark(self) -> str:
        """What stands for a space in the pieces."""
        return MARK if self.escape else " "

    def spoken(self, *kinds: int) -> list[Piece]:
        return [piece for piece in self.pieces if piece.kind in kinds]


def from_model(data: bytes, where: str, special: SpecialTokens) -> tuple[dict[str, Any], str]:
    """The settings of a tokenizer.json, and what was converted, for the plan.

    A configured role whose token is no piece becomes a special token behind all pieces.

    Raises:
        TokenizerError: if it is no model, or one that can't be converted.
    """
    try:
        model = read_model(data)
    except ValueError as error:
        raise TokenizerError(f"{where}: not a sentencepiece model: {error}") from error
    _check(model, where)
    names = [piece.text for piece in model.pieces]
    wanted = [token for token in special.model_dump().values() if token is not None]
    added = [token for token in dict.fromkeys(wanted) if token not in names]
    specials = [(i, piece.text) for i, piece in enumerate(model.pieces) if piece.kind in (CONTROL, UNKNOWN)]
    specials += [(len(names) + i, token) for i, token in enumerate(added)]
    left = _spaces_left(model)
    spaced = left is not None
    # Unknown either way, so another unknown character does for them.
    kept = [_replace({"String": character}, NOWHERE) for character in left or ()]
    decoder = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}
    settings = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **FLAGS} for number, token in specials],
        "normalizer": _sequence("normalizers", _charsmap(model) + kept if spaced else _normalizer(model)),
        "pre_tokenizer": _sequence("pretokenizers", [{"type": "WhitespaceSplit"}, decoder])
        if spaced
        else _splitter(model),
        "post_processor": None,
        "decoder": decoder if model.escape else None,
        "model": _unigram(model, where) if model.kind == UNIGRAM else _bpe(model, where),
    }
    note = f"sentencepiece's {KINDS[model.kind]} of {len(names)} pieces, {model.map_name or 'no'} normalization"
    return settings, note + (f"; added behind them: {', '.join(added)}" if added else "")


def read_model(data: bytes) -> Model:
    """Parse a model file.

    Raises:
        ValueError: if it is none.
    """
    pieces: list[Piece] = []
    facts: dict[str, Any] = {}
    for number, value in fields(data):
        if number == 1:
            pieces.append(_piece(_message(value)))
        elif number == 2:
            names = {3: "kind", 24: "suffix", 35: "byte_fallback"}
            facts |= {names[n]: v for n, v in fields(_message(value)) if n in names}
        elif number == 3:
            names = {1: "map_name", 2: "charsmap", 3: "dummy_prefix", 4: "remove_extra", 5: "escape"}
            facts |= {names[n]: v for n, v in fields(_message(value)) if n in names}
    if not pieces:
        raise ValueError("it has no pieces")
    for name in ("suffix", "byte_fallback", "dummy_prefix", "remove_extra", "escape"):
        if name in facts:
            facts[name] = bool(facts[name])
    facts["map_name"] = _message(facts.get("map_name", b"")).decode()
    facts["charsmap"] = _message(facts.get("charsmap", b""))
    return Model(pieces, **facts)


def _message(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where a text or a message is expected")
    return value


def _piece(data: bytes) -> Piece:
    text, score, kind = b"", 0.0, NORMAL
    for number, value in fields(data):
        if number == 1:
            text = _message(value)
        elif number == 2:
            score = float32(value)
        elif number == 3 and isinstance(value, int):
            kind = value
    return Piece(text.decode(), score, kind)


def _check(model: Model, where: str) -> None:
    """Refuse what would come out otherwise."""

    def refuse(option: str, why: str) -> None:
        raise TokenizerError(f"{where}: {option} can't be converted exactly: {why}: use a tokenizer.json")

    if model.kind not in (UNIGRAM, BPE):
        refuse(f"model_type {KINDS.get(model.kind, model.kind)}", "only unigram and bpe have a counterpart")
    if model.suffix:
        refuse("treat_whitespace_as_suffix", "marks stand behind words")
    seen: set[str] = set()
    for number, piece in enumerate(model.pieces):
        if not piece.text or piece.text in seen:
            refuse(f"piece {number}, {piece.text!r}", "it stands there twice" if piece.text else "it is empty")
        if not np.isfinite(piece.score):
            refuse(f"piece {number}, {piece.text!r}", f"its score is {piece.score}")
        if piece.kind not in range(NORMAL, BYTE + 1):
            refuse(f"piece {number}, {piece.text!r}", f"its type is {piece.kind}")
        if piece.kind == UNUSED:
            refuse(f"piece {number}, {piece.text!r}, of type UNUSED", "it is no piece, but keeps its id")
        seen.add(piece.text)
    if len(model.spoken(UNKNOWN)) != 1:
        refuse(f"{len(model.spoken(UNKNOWN))} pieces of type UNKNOWN", "there must be one")
    if model.byte_fallback and len(model.spoken(BYTE)) != 256:
        refuse("byte_fallback", f"{len(model.spoken(BYTE))} of 256 bytes are pieces")
    if not model.spoken(NORMAL):
        refuse("a model without ordinary pieces", "there is nothing to say")
    symbols = model.spoken(USER_DEFINED)
    if symbols and model.kind == BPE:
        refuse(f"user_defined_symbols ({symbols[0].text!r}) with model_type bpe", "merges would cross them")
    precompiled = _precompiled(model, where)
    for symbol in symbols:
        changed = precompiled is not None and precompiled.normalize_str(f"a{symbol.text}a") != f"a{symbol.text}a"
        if changed or MARK in symbol.text or " " in symbol.text:
            refuse(f"user_defined_symbols ({symbol.text!r})", "normalization would change it, or it holds a space")


def _precompiled(model: Model, where: str) -> normalizers.Normalizer | None:
    if not model.charsmap:
        return None
    try:
        return normalizers.Precompiled(model.charsmap)
    except BaseException as error:  # tokenizers raises plain Exception, and where it panics something that is none
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise TokenizerError(f"{where}: not a sentencepiece model: its precompiled_charsmap is damaged") from error


def _inner_mark(model: Model) -> bool:
    """Whether a piece holds the mark of a space elsewhere than in front, or none is the mark."""
    mark, spoken = model.mark, model.spoken(NORMAL, USER_DEFINED)
    return all(piece.text != mark for piece in spoken) or any(mark in piece.text[1:] for piece in spoken)


def _spaces_left(model: Model) -> list[str] | None:
    """Characters besides the space that are white space to HF and not to the library; None: words can't be told by it.

    Words are what stands between white space, each with a mark in front, if all white space becomes spaces, and no text
    spells the mark. (The library's maps keep U+0085.)
    """
    all_set = model.dummy_prefix and model.remove_extra and model.escape
    if not all_set or model.map_name not in OWN_MAPS or not model.charsmap or _inner_mark(model):
        return None
    normalizer = normalizers.Precompiled(model.charsmap)
    normal = {c for point in (*WHITE_SPACE, ord(MARK)) for c in normalizer.normalize_str(chr(point))}
    left = sorted(normal & {chr(point) for point in WHITE_SPACE if point != 0x20})
    spoken = set("".join(piece.text for piece in model.spoken(NORMAL, USER_DEFINED)))
    if MARK in normal or (left and (model.byte_fallback or spoken & {NOWHERE, *left})):
        return None
    return left


def _charsmap(model: Model) -> list[dict[str, Any]]:
    if not model.charsmap:
        return []
    return [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.charsmap).decode()}]


def _normalizer(model: Model) -> list[dict[str, Any]]:
    steps = _charsmap(model)
    if steps and not model.remove_extra:
        # To HF's Precompiled a carriage return and a line feed are one character.
        steps.insert(0, _replace({"String": "\r"}, normalizers.Precompiled(model.charsmap).normalize_str("\r")))
    if model.remove_extra:
        steps += [_replace({"Regex": r"\A +"}, ""), _replace({"Regex": " {2,}"}, " ")]
    if model.dummy_prefix:
        steps.append({"type": "Prepend", "prepend": model.mark})
    if model.escape:
        steps.append(_replace({"String": " "}, MARK))
    if model.remove_extra:
        steps.append(_replace({"Regex": rf"{model.mark}+\z"}, ""))
    return steps


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _splitter(model: Model) -> dict[str, Any] | None:
    if _inner_mark(model):
        return None
    return {"type": "Split", "pattern": {"String": model.mark}, "behavior": "MergedWithNext", "invert": False}


def _sequence(name: str, steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"type": "Sequence", name: steps} if len(steps) > 1 else next(iter(steps), None)


def _unigram(model: Model, where: str) -> dict[str, Any]:
    normal = [piece.score for piece in model.spoken(NORMAL)]
    lowest, best = min(normal), np.float32(max(normal))

    def score(piece: Piece) -> float:
        if piece.kind == USER_DEFINED:
            return float(np.float32(len(piece.text.encode())) * best) - 0.1
        # Bytes are never found in a text by their names; the lowest score makes that as rare as it can be.
        return lowest if piece.kind == BYTE else piece.score

    scores = [score(piece) for piece in model.pieces]
    vocabulary: list[list[Any]] = [[piece.text, value] for piece, value in zip(model.pieces, scores, strict=True)]
    if min(scores) < lowest:
        # An unknown character then costs HF more than the library. That decides nothing where pieces are made of
        # characters that are pieces.
        known = {piece.text for piece in model.spoken(NORMAL, USER_DEFINED)}
        for piece in model.spoken(NORMAL, USER_DEFINED):
            strange = next((character for character in piece.text if character not in known), None)
            if strange is not None:
                raise TokenizerError(
                    f"{where}: user_defined_symbols can't be converted exactly: {piece.text!r} holds {strange!r}, "
                    "which is no piece: use a tokenizer.json"
                )
    unknown = next(i for i, piece in enumerate(model.pieces) if piece.kind == UNKNOWN)
    return {"type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": model.byte_fallback}


def _bpe(model: Model, where: str) -> dict[str, Any]:
    scores = {piece.text: piece.score for piece in model.spoken(NORMAL)}
    merged = sorted((text for text in scores if len(text) > 1), key=lambda text: -scores[text])
    for one, other in itertools.pairwise(merged):
        if scores[one] == scores[other]:
            raise TokenizerError(
                f"{where}: scores of model_type bpe can't be converted exactly: {one!r} and {other!r} have the same, "
                f"{scores[one]:g}: use a tokenizer.json"
            )
    merges = []
    for text in merged:
        strange = next((character for character in text if character not in scores), None)
        if strange is not None:
            raise TokenizerError(
                f"{where}: model_type bpe can't be converted exactly: {text!r} holds {strange!r}, which is no piece: "
                "use a tokenizer.json"
            )
        # The leftmost pair merges first; of "aa" "a" "aa" that is the one with the longer left side.
        cuts = [(text[:i], text[i:]) for i in range(len(text) - 1, 0, -1)]
        merges += [[left, right] for left, right in cuts if left in scores and right in scores]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.spoken(UNKNOWN)[0].text,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.text: number for number, piece in enumerate(model.pieces)},
        "merges": merges,
    }
