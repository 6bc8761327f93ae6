"""The reference: which ids a text has. Every engine must give these, and nothing else.

The rule. The reference behaviour is that of HF `tokenizers` for a tokenizer.json *with its special strings absent*:

1. Special tokens are the added tokens marked `special` and every token that is given a role (mask, pad, ...).
2. They are taken out of the added tokens, so that no raw text matches them. Added tokens that aren't special stay
   (OLMo's runs of spaces, `|||IP_ADDRESS|||`), with all their flags.
3. They are taken out of the *model* too: there the entry keeps its id but its string becomes one that no text can
   spell, and a BPE merge that makes or uses it is dropped. Without this step T5's model turns "</s>" into id 1, a
   Unigram model "<mask>" into its mask, and WordPiece after WhitespaceSplit "[MASK]" into [MASK]
   (`encode_special_tokens=True` doesn't help: it only touches the added tokens). What is left of the model splits such
   a piece into ordinary tokens.
4. Truncation and padding are cleared, no specials are added around a text, BPE dropout is refused.

So no special id ever comes out of a raw text, save the unknown token where the model has no other answer. A worked
trace, T5, "a</s>b":

    HF, specials known      ▁ a </s> ▁ b          ids 3 9 1 3 115      (1 is the special)
    the reference           ▁ a < / s > b         ids 3 9 2 87 7 3155 115

`Reference.encode_masked` is the other mode, for people who fill blanks: there the mask's string, and only it, is the
special.

The *canonical bytes* of a tokenizer are its tokenizer.json with truncation and padding cleared, as JSON with sorted
keys, no white space, in UTF-8: it keeps the special tokens, any program can load it, and its SHA-256 names it.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer

from mlm_data.config import SpecialTokens
from mlm_data.errors import TokenizerError
from mlm_data.tokens.files import Note, read_files
from mlm_data.types import Roles

ROLES = ("cls", "sep", "pad", "mask", "unk")
KNOWN_NAMES = {
    "cls": ("[CLS]", "<s>", "<cls>", "<bos>", "<|startoftext|>", "<|begin_of_text|>"),
    "sep": ("[SEP]", "</s>", "<sep>", "<eos>", "<|endoftext|>", "<|end_of_text|>"),
    "pad": ("[PAD]", "<pad>", "<|padding|>", "<|pad|>", "<PAD>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>", "<MASK>"),
    "unk": ("[UNK]", "<unk>", "<|unk|>", "<UNK>"),
}
UNUSED = re.compile(r"[\[<|]*(unused|extra_id_|madeupword|reserved_special_token_)[-_]?\d+[\]>|]*", re.ASCII)
# What a special's entry in the model is called instead. Unigram finds nothing under an empty string. Elsewhere keys
# must differ: a NUL, the name and more characters than WordPiece accepts in one word.
UNSPEAKABLE = "\0premask\0" * 32


@dataclass(frozen=True, eq=False)
class Reference:
    """A tokenizer as this project understands it: ids, roles, and the exact behaviour that engines must have."""

    json_bytes: bytes = field(repr=False)  # canonical tokenizer.json
    sha256: str  # of json_bytes, 64 hex digits
    vocab_size: int  # largest id + 1
    roles: Roles
    tokens: tuple[str, ...] = field(repr=False)  # string of every id; "" where there is none
    specials: tuple[str, ...] = field(repr=False)  # strings that are never special in a raw text, sorted
    where: str = ""  # path, for messages
    markers: tuple[str, ...] = ()  # tokens that stay whole in a raw text, sorted
    mask_markers: bool = False  # whether they may be hidden
    notes: tuple[Note, ...] = ()  # how it came to be so, for the plan

    @cached_property
    def special_ids(self) -> Int64[np.ndarray, " specials"]:
        """Ids of the special tokens, ascending. A raw text holds none of them, save perhaps the unknown token."""
        strings = set(self.specials)
        return np.array([i for i, token in enumerate(self.tokens) if token in strings], np.int64)

    @cached_property
    def never_targets(self) -> Int64[np.ndarray, " ids"]:
        """Ids that are never masking targets, ascending: the specials, the unknown token, and mostly the markers."""
        unk = [self.roles.unk] if self.roles.unk >= 0 else []
        shown = [] if self.mask_markers else self.marker_ids.tolist()
        return np.union1d(self.special_ids, np.array(unk + shown, np.int64))

    @cached_property
    def marker_ids(self) -> Int64[np.ndarray, " markers"]:
        """Ids of the markers, ascending."""
        strings = set(self.markers)
        return np.array([i for i, token in enumerate(self.tokens) if token in strings], np.int64)

    @cached_property
    def random_ids(self) -> Int64[np.ndarray, " ids"]:
        """What a random replacement is drawn from: all ids without specials, unknown, unused and absent ones."""
        unused = [i for i, token in enumerate(self.tokens) if not token or UNUSED.fullmatch(token)]
        every = np.arange(self.vocab_size, dtype=np.int64)
        return np.setdiff1d(every, np.union1d(self.never_targets, np.array(unused, np.int64)))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The canonical tokenizer.json, parsed. Don't change it."""
        return json.loads(self.json_bytes)

    @cached_property
    def raw_settings(self) -> dict[str, Any]:
        """The tokenizer.json of the reference behaviour: specials absent. Don't change it."""
        return without_specials(self.settings, set(self.specials))

    @cached_property
    def raw_tokenizer(self) -> Tokenizer:
        """The reference itself. Its ids need `renumber`. Safe to share among threads."""
        return _load(self.raw_settings, self.where)

    @cached_property
    def renumber(self) -> Int64[np.ndarray, " ids"] | None:
        """Id of `raw_tokenizer` -> id; None where they are the same.

        `tokenizers` numbers added tokens beyond the model's vocabulary in order: taking specials out moves the rest.
        """
        return _renumbering(self.raw_tokenizer, self.tokens)

    @cached_property
    def _masked(self) -> tuple[Tokenizer, Int64[np.ndarray, " ids"] | None]:
        mask = self.tokens[self.roles.mask]
        settings = without_specials(self.settings, set(self.specials) - {mask})
        if all(token["content"] != mask for token in settings["added_tokens"]):
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            settings["added_tokens"].append({"id": self.roles.mask, "content": mask, "special": True, **flags})
        tokenizer = _load(settings, self.where)
        return tokenizer, _renumbering(tokenizer, self.tokens)

    def encode_masked(self, text: str) -> Int64[np.ndarray, " tokens"]:
        """Ids of a text in which the mask's string is the mask; [CLS] and [SEP] around it where there are such roles.

        All other special strings are text, as in training.
        """
        tokenizer, renumber = self._masked
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        ids = ids if renumber is None else renumber[ids]
        around = [[role] if role >= 0 else [] for role in (self.roles.cls, self.roles.sep)]
        return np.concatenate([np.array(around[0], np.int64), ids, np.array(around[1], np.int64)])


def load_tokenizer(
    path: str | os.PathLike[str],
    special: SpecialTokens = SpecialTokens(),
    *,
    markers: Sequence[str] = (),
    mask_markers: bool = False,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
) -> Reference:
    """Read a tokenizer: a tokenizer.json, a vocab.txt, a sentencepiece model, or a folder; see `files.py`.

    Args:
        markers: tokens of its vocabulary that stay whole where a raw text spells them. The canonical bytes hold them as
            added tokens that are not special, so that whoever loads those keeps them whole, too.
        mask_markers: whether markers may be masking targets.
        lowercase, strip_accents: for a vocab.txt, which says neither; None: what lies beside it or in it decides.

    Raises:
        InputError: if the file can't be read.
        TokenizerError: if it is no tokenizer, can't be repeated (dropout), or has no mask or no pad.
    """
    found = read_files(os.fspath(path), special, lowercase=lowercase, strip_accents=strip_accents)
    settings = _parse(found.json_bytes, found.where)
    return _reference(settings, special, found.where, markers, mask_markers, found.roles, found.notes)


def from_bytes(
    data: bytes,
    special: SpecialTokens = SpecialTokens(),
    *,
    markers: Sequence[str] = (),
    mask_markers: bool = False,
    where: str = "tokenizer.json",
) -> Reference:
    """A tokenizer.json's bytes as a `Reference`; its own canonical bytes come back unchanged.

    For `markers` and `mask_markers` see `load_tokenizer`.

    Raises:
        TokenizerError: as `load_tokenizer`.
    """
    return _reference(_parse(data, where), special, where, markers, mask_markers)


def from_roles(
    data: bytes,
    roles: Mapping[str, int],
    *,
    markers: Sequence[str] = (),
    mask_markers: bool = False,
    where: str = "tokenizer.json",
) -> Reference:
    """A tokenizer.json's bytes as a `Reference` whose roles are known by id, as in a manifest; -1: no such token.

    The file alone may not say which token plays which part: T5's names no mask, and a build's settings may have.

    Raises:
        TokenizerError: as `load_tokenizer`.
    """
    special = special_tokens(data, roles, where=where)
    return from_bytes(data, special, markers=markers, mask_markers=mask_markers, where=where)


def special_tokens(data: bytes, roles: Mapping[str, int], *, where: str = "tokenizer.json") -> SpecialTokens:
    """The strings of the tokens that play a part, by their ids in a tokenizer.json; -1: no such token."""
    names = _from_text(data.decode(errors="replace"), where)
    return SpecialTokens(**{role: names.id_to_token(number) for role, number in roles.items() if number >= 0})


def _reference(
    settings: dict[str, Any],
    special: SpecialTokens,
    where: str,
    markers: Sequence[str],
    mask_markers: bool,
    said: Mapping[str, str] = MappingProxyType({}),
    notes: tuple[Note, ...] = (),
) -> Reference:
    settings["truncation"] = settings["padding"] = None
    _add_markers(settings, markers, where)
    if settings["model"].get("dropout"):
        raise TokenizerError(
            f"{where}: BPE dropout {settings['model']['dropout']} makes ids random: set model.dropout to null"
        )
    try:
        canonical = json.dumps(settings, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        json_bytes = canonical.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_tokenizer(error, where) from error
    tokenizer = _from_text(canonical, where)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    vocab_size = max(ids.values(), default=-1) + 1
    tokens = [""] * vocab_size
    for token, number in ids.items():
        tokens[number] = token
    roles = _find_roles(settings, ids, special, where, said)
    specials = {token["content"] for token in settings["added_tokens"] if token.get("special")}
    with_role = {tokens[getattr(roles, role)]: role for role in ROLES if getattr(roles, role) >= 0}
    for marker in markers:
        if marker in with_role:
            raise TokenizerError(
                f"{where}: tokenizer.markers: {marker!r} is the {with_role[marker]} token: leave it out"
            )
    specials |= with_role.keys()
    return Reference(
        json_bytes=json_bytes,
        sha256=hashlib.sha256(json_bytes).hexdigest(),
        vocab_size=vocab_size,
        roles=roles,
        tokens=tuple(tokens),
        specials=tuple(sorted(specials)),
        where=where,
        markers=tuple(sorted(markers)),
        mask_markers=mask_markers,
        notes=notes,
    )


def with_added_tokens(data: bytes, tokens: Sequence[str]) -> bytes:
    """A tokenizer.json that has these tokens, too, behind all others."""
    if not tokens:
        return data
    settings = _parse(data, "tokenizer.json")
    known = _from_text(data.decode(), "tokenizer.json").get_vocab(with_added_tokens=True)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    first = max(known.values()) + 1
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    settings["added_tokens"] += [{"id": first + i, "content": token, **flags} for i, token in enumerate(new)]
    return json.dumps(settings, ensure_ascii=False).encode()


def _add_markers(settings: dict[str, Any], markers: Sequence[str], where: str) -> None:
    """Make each marker an added token that isn't special."""
    vocab = settings["model"]["vocab"]
    known = {token: number for number, (token, _) in enumerate(vocab)} if isinstance(vocab, list) else vocab
    added = {token["content"]: token for token in settings["added_tokens"]}
    for marker in markers:
        if marker in added:
            added[marker]["special"] = False
        elif marker in known:
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
            settings["added_tokens"].append({"id": known[marker], "content": marker, **flags})
        else:
            raise TokenizerError(
                f"{where}: tokenizer.markers: {marker!r} is no token of it: add it to the tokenizer, or leave it out"
            )


def without_specials(settings: dict[str, Any], specials: set[str]) -> dict[str, Any]:
    """A copy of a tokenizer.json in which these strings are absent from the added tokens and from the model.

    Ids stay, except those that `tokenizers` gives to added tokens by their order; see `Reference.renumber`.
    """
    model = dict(settings["model"])  # what isn't replaced below is shared with the original
    added = [token for token in settings["added_tokens"] if token["content"] not in specials]
    settings = settings | {"post_processor": None, "added_tokens": added, "model": model}
    if isinstance(model["vocab"], list):  # Unigram
        model["vocab"] = [["" if token in specials else token, score] for token, score in model["vocab"]]
        return settings
    names = {token: f"{UNSPEAKABLE}{token}" for token in specials if token in model["vocab"]}
    limit = model.get("max_input_chars_per_word", 0)
    if names and limit >= len(UNSPEAKABLE) and not (settings.get("normalizer") or {}).get("clean_text"):
        # BERT's cleaning leaves no NUL. Where there is none, and words may be as long as one likes, a million must do.
        names = {token: name + "\0" * min(limit, 1 << 20) for token, name in names.items()}
    model["vocab"] = {names.get(token, token): number for token, number in model["vocab"].items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if names and model.get("merges"):
        model["merges"] = [merge for merge in model["merges"] if not _touches(merge, names)]
    return settings


def _touches(merge: str | list[str], names: dict[str, str]) -> bool:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left in names or right in names or left + right in names


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        settings = json.loads(data)
        settings["added_tokens"] = settings.get("added_tokens") or []
        vocabulary = settings["model"]["vocab"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_tokenizer(error, where) from error
    if not vocabulary:
        raise TokenizerError(f"{where}: the tokenizer's vocabulary is empty: train it on more text")
    return settings


def _no_tokenizer(error: Exception, where: str) -> TokenizerError:
    return TokenizerError(
        f"{where}: not a tokenizer.json of HF tokenizers ({type(error).__name__}: {str(error)[:80]}): "
        "save it with `tokenizer.save_pretrained` of transformers, or name a BERT vocab.txt"
    )


def _load(settings: dict[str, Any], where: str) -> Tokenizer:
    return _from_text(json.dumps(settings, ensure_ascii=False), where)


def _from_text(text: str, where: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(text)
    except BaseException as error:  # tokenizers raises plain Exception, and where it panics something that is none
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise TokenizerError(f"{where}: HF tokenizers can't load it: {str(error)[:200]}") from error


def _renumbering(tokenizer: Tokenizer, tokens: tuple[str, ...]) -> Int64[np.ndarray, " ids"] | None:
    here = tokenizer.get_vocab(with_added_tokens=True)
    there = {token: number for number, token in enumerate(tokens)}
    size = max(here.values()) + 1
    result = np.arange(size, dtype=np.int64)
    for token, number in here.items():
        if token in there:
            result[number] = there[token]
    return None if np.array_equal(result, np.arange(size)) else result


def _find_roles(
    settings: dict[str, Any], ids: dict[str, int], special: SpecialTokens, where: str, said: Mapping[str, str]
) -> Roles:
    """Which token plays which role: configured, what the model does, what the files beside it say, a known name."""
    found, how = {}, []
    template = _from_post_processor(settings.get("post_processor"))
    for role in ROLES:
        name, source = getattr(special, role), "configured"
        if name is not None and name not in ids:
            raise TokenizerError(
                f"{where}: tokenizer.special.{role} is {name!r}, which is no token of it: name one that is, or add it"
            )
        if name is None and role in ("cls", "sep") and template is not None:
            name, source = template.get(role), "its template"
        elif name is None and role == "unk" and _unknown(settings["model"]) is not None:
            name, source = _unknown(settings["model"]), "its model"
        elif name is None and said.get(role) in ids:
            name, source = said[role], "the files beside it"
        elif name is None:
            name, source = next((known for known in KNOWN_NAMES[role] if known in ids), None), "by its name"
        found[role] = -1 if name is None else ids.get(name, -1)
        how.append(f"{role} none" if name is None else f"{role} {name} ({source})")
    for role in ("mask", "pad"):
        if found[role] < 0:
            raise TokenizerError(
                f"{where}: the tokenizer has no {role} token: name one of its tokens in tokenizer.special.{role}, "
                f"or add one, such as {KNOWN_NAMES[role][0]}"
            )
    for one, other in itertools.combinations(ROLES, 2):
        if found[one] == found[other] >= 0:
            raise TokenizerError(
                f"{where}: {one} and {other} are the same token: name another in tokenizer.special.{one} or .{other}"
            )
    return Roles(**found, how=", ".join(how))


def _unknown(model: dict[str, Any]) -> str | None:
    if isinstance(model["vocab"], list):
        unk_id = model.get("unk_id")
        return None if unk_id is None else model["vocab"][unk_id][0]
    return model.get("unk_token")


def _from_post_processor(processor: dict[str, Any] | None) -> dict[str, str | None] | None:
    """The specials that a post-processor puts around one text; None if it doesn't concern itself with that."""
    if processor is None:
        return None
    kind = processor.get("type")
    if kind == "Sequence":
        found = (_from_post_processor(inner) for inner in processor["processors"])
        return next((inner for inner in found if inner is not None), None)
    if kind in ("BertProcessing", "RobertaProcessing"):
        return {"cls": processor["cls"][0], "sep": processor["sep"][0]}
    if kind != "TemplateProcessing":
        return None
    before: list[str] = []
    after: list[str] = []
    place = before
    for part in processor["single"]:
        if "Sequence" in part:
            place = after
        else:
            place.append(part["SpecialToken"]["id"])
    return {"cls": before[0] if before else None, "sep": after[0] if after else None}
