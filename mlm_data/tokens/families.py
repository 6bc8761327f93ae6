"""Families of tokenizers whose pieces are independent, and how to recognize them.

`find_family` looks at the normalizer, the pre-tokenizer and the model as HF `tokenizers` writes them out. It
is strict: a setting that it hasn't been taught means that the tokenizer belongs to no family, with one sentence
that says why.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Int64, UInt8

from mlm_data.hashing import string_buffers
from mlm_data.kernels import lean_kernel
from mlm_data.tokens.added import NONE, AddedTokens
from mlm_data.tokens.ask import Answers, ByteModel, Pipeline, bytes_of, texts_of
from mlm_data.tokens.bpe import BPE
from mlm_data.tokens.characters import NOTHING, PRE_TOKENIZERS, UNREAD, scan_characters
from mlm_data.tokens.classes import BLOCK, SURVIVES, VANISHES, pattern_classes, separated_classes
from mlm_data.tokens.composing import NFC
from mlm_data.tokens.emit import Buffers, any_code_point
from mlm_data.tokens.metaspace import MARK, marked_words
from mlm_data.tokens.reference import Reference
from mlm_data.tokens.scan_patterns import scan_cl100k, scan_gpt2
from mlm_data.tokens.scan_separated import scan_separated
from mlm_data.tokens.seams import Seams
from mlm_data.tokens.table import WORD_START, View
from mlm_data.tokens.viterbi import Viterbi
from mlm_data.tokens.wordpiece import WordPiece, gather

# Patterns that mean the same, and the longest run of digits in each. cl100k_base's own spelling, Llama 3's, Qwen 2's.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = {
    _CL100K: 3,
    _CL100K.replace("{1,3}", ""): 1,
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+": 3,
}

BYTES_PER_CALL = 1 << 20  # of pieces in one call of HF, which takes about 100 times as much meanwhile
LONG = 1 << 18  # bytes; a longer piece between spaces is normalized in parts

Bytes = UInt8[np.ndarray, " bytes"]
Places = Int64[np.ndarray, " pieces"]
Group = Int64[np.ndarray, " group"]  # numbers of some pieces


class Prepared(NamedTuple):
    """Texts as a scanner wants them."""

    texts: pa.LargeStringArray
    matches: Int64[np.ndarray, "matches+1 3"]  # added tokens in them
    left: Bool[np.ndarray, " texts"] | None  # texts that are left to HF; None: not one


class Family(Protocol):
    """How one kind of tokenizer cuts texts into independent pieces, and whom to ask about a piece."""

    def prepare(self, texts: pa.LargeStringArray) -> Prepared:
        """Normalize what must be, find added tokens, set aside what isn't certain."""
        ...

    def scan(self, data, bounds, matches, view: View, own: Buffers, ends) -> None:
        """Run the scanner; see `emit.py` for its contract."""
        ...

    def learn(self, point: int) -> None:
        """Read off the class of a code point that the scanner stopped at."""
        ...

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        """Answers for distinct pieces."""
        ...


def find_family(reference: Reference) -> tuple[Family | None, str]:
    """The family of a tokenizer, or None; and why, as half a sentence."""
    settings = json.loads(reference.raw_tokenizer.to_str())
    normalizer, pre_tokenizer = settings["normalizer"] or {}, settings["pre_tokenizer"] or {}
    added = [token for token in settings["added_tokens"] if token["content"]]
    model = settings["model"]["type"]
    if pre_tokenizer.get("type") == "BertPreTokenizer" and model == "WordPiece":
        if normalizer.get("type", "BertNormalizer") != "BertNormalizer":
            return None, f"BERT's words under a {normalizer['type']} normalizer"
        tokens, refused = _raw_tokens(reference, added)
        if refused is not None:
            return None, f"BERT's words beside added tokens such as {refused!r}"
        return BertWords(reference, tokens, lowercase=normalizer.get("lowercase", False)), "BERT's words (WordPiece)"
    pattern = _byte_pattern(pre_tokenizer)
    if pattern is not None and model == "BPE":
        name, digits, prefix_space = pattern
        if normalizer and normalizer != {"type": "NFC"}:
            return None, f"{name} under a {normalizer['type']} normalizer"
        tokens = _added_tokens(reference, added)
        composed = [token for token in added if unicodedata.normalize("NFC", token["content"]) != token["content"]]
        if not tokens.usable or composed or (added and prefix_space):
            return None, f"{name} beside added tokens such as {(composed or added)[0]['content']!r}"
        nfc = bool(normalizer)
        return BytePattern(reference, tokens, digits=digits, nfc=nfc, prefix_space=prefix_space), f"{name} (byte-level)"
    parts = pre_tokenizer.get("pretokenizers", [])
    if parts == PRE_TOKENIZERS and model == "WordLevel" and not normalizer:
        tokens, strange = _raw_tokens(reference, added)
        if strange is not None:
            return None, f"characters beside added tokens such as {strange!r}"
        if settings["model"]["unk_token"] not in settings["model"]["vocab"]:
            return None, "characters without an unknown token"
        return Characters(reference, tokens), "characters"
    if [part["type"] for part in parts] == ["WhitespaceSplit", "Metaspace"] and model in ("Unigram", "BPE"):
        metaspace = parts[1]
        if metaspace["prepend_scheme"] != "always" or not metaspace["split"] or metaspace["replacement"] != "▁":
            return None, f"Metaspace with prepend_scheme {metaspace['prepend_scheme']!r}"
        if model == "Unigram" and settings["model"].get("unk_id") is None:
            return None, "Unigram without an unknown token"
        looking = next((step for step in _steps(normalizer) if not _looks_inside_words(step)), None)
        if looking is not None:
            return None, f"words between spaces under a {looking['type']} normalizer"
        tokens, refused = _raw_tokens(reference, added)
        if refused is not None:
            return None, f"words between spaces beside added tokens such as {refused!r}"
        return SpacedWords(reference, tokens, _steps(normalizer)), f"words between spaces ({model})"
    return None, f"{model} after {pre_tokenizer.get('type', 'no')} pre-tokenizer"


def _added_tokens(reference: Reference, added: list[dict[str, Any]]) -> AddedTokens:
    return AddedTokens(added, {token: number for number, token in enumerate(reference.tokens)})


def _raw_tokens(reference: Reference, added: list[dict[str, Any]]) -> tuple[AddedTokens, str | None]:
    """Added tokens that are found in the raw text, before all else; and one that keeps the scanner from doing so."""
    tokens = _added_tokens(reference, added)
    strange = [token["content"] for token in added if token["normalized"] or not tokens.usable]
    return tokens, strange[0] if strange else None


def _steps(normalizer: dict[str, Any]) -> list[dict[str, Any]]:
    """A normalizer's steps, flat."""
    if normalizer.get("type") == "Sequence":
        return [inner for step in normalizer["normalizers"] for inner in _steps(step)]
    return [normalizer] if normalizer else []


def _looks_inside_words(step: dict[str, Any]) -> bool:
    """Whether a normalizer changes nothing across a certain border, once words are split at white space."""
    if step["type"] == "Replace":
        pattern = step["pattern"]
        if pattern.get("Regex") in (" {2,}", r"\s+", r"\s{2,}"):
            return step["content"] == " "
        string, content = pattern.get("String", ""), step["content"]
        if len(string) < 2:
            # What becomes of a single character is read off with its class. The space must stay one, for words are
            # joined by it to be normalized; other white space may become a letter (U+0085 of sentencepiece's models).
            letter = content != "" and chr(MARK) not in content and not any(c.isspace() for c in content)
            return string not in ("", " ") and (letter or not string.isspace())
        # Nobody asks what becomes of several: they must hold no border, and turn into none.
        inside = content != "" and not any(c.isspace() for c in unicodedata.normalize("NFKD", content))
        inside = inside and chr(MARK) not in content + string
        return inside and not any(c.isspace() or unicodedata.category(c)[0] in "ZC" for c in string)
    return step["type"] in {"Precompiled", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "Strip"}


def _byte_pattern(pre_tokenizer: dict[str, Any]) -> tuple[str, int | None, bool] | None:
    """Name, longest run of digits (None: any) and add_prefix_space of a byte-level pre-tokenizer."""
    kind = pre_tokenizer.get("type")
    if kind == "ByteLevel" and pre_tokenizer.get("use_regex", True):
        return "GPT-2's pattern", None, pre_tokenizer["add_prefix_space"]
    parts = pre_tokenizer.get("pretokenizers", []) if kind == "Sequence" else []
    if [part["type"] for part in parts] != ["Split", "ByteLevel"]:
        return None
    split, level = parts
    covers = (split["behavior"], split["invert"]) in (("Isolated", False), ("Removed", True))
    digits = CL100K.get(split["pattern"].get("Regex"))
    if not covers or digits is None or level.get("use_regex", True) or level["add_prefix_space"]:
        return None
    return "cl100k's pattern", digits, False


def _with_matches(texts: pa.LargeStringArray, added: AddedTokens) -> Prepared:
    """Raw texts and the added tokens in them."""
    if not added.tokens:
        return Prepared(texts, NONE, None)
    left = np.zeros(len(texts), bool)
    matches = added.find(*string_buffers(texts), left)
    return Prepared(texts, matches, left if left.any() else None)


class Words:
    """Words between spaces and single characters, asked of the whole pipeline."""

    def __init__(self, reference: Reference, added: AddedTokens, *, isolates: bool) -> None:
        tokenizer = reference.raw_tokenizer
        self._table = separated_classes(tokenizer.normalizer, tokenizer.pre_tokenizer, careful=not isolates)
        self._pipeline = Pipeline(reference)
        self._isolates = isolates
        self._added = added

    def prepare(self, texts: pa.LargeStringArray) -> Prepared:
        return _with_matches(texts, self._added)

    def scan(self, data, bounds, matches, view: View, own: Buffers, ends) -> None:
        own_buffers = *own.written, ends, own.state
        scan_separated(data, bounds, self._table.classes, self._isolates, matches, *view, *own_buffers)

    def learn(self, point: int) -> None:
        self._table.learn(point)

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        return self._pipeline.ask(texts_of(data, starts, lengths))


class BertWords(Words):
    """BERT's words. Plain ones are normalized in one call and answered by `wordpiece.py`."""

    def __init__(self, reference: Reference, added: AddedTokens, *, lowercase: bool) -> None:
        super().__init__(reference, added, isolates=True)
        self._model = WordPiece(reference)
        self._normalizer = reference.raw_tokenizer.normalizer
        self._lowercase = lowercase
        step = json.loads(reference.raw_tokenizer.to_str())["normalizer"]
        self._seams = Seams([step] if step else [])

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        kinds = np.empty(len(starts), np.int64)
        piece_kinds(data, starts, lengths, self._table.classes, self._model.max_chars, kinds)
        kinds[(lengths > LONG) & (kinds == PLAIN)] = LONG_WORD
        parts: list[tuple[Group, Answers]] = []
        groups = [np.flatnonzero(kinds == kind) for kind in range(5)]
        for kind, group in enumerate(groups):
            if not len(group):
                continue
            if kind == STRANGE or not self._model.usable:
                parts += _in_calls(self._pipeline.ask, data, starts, lengths, group)
            elif kind == TOO_LONG:
                ids = np.full(len(group), self._model.unknown, np.uint32)
                parts.append((group, Answers(ids, np.arange(len(group) + 1, dtype=np.int64))))
            elif kind == LONG_WORD:
                parts += [(group[i : i + 1], self._long(data, starts[k], lengths[k])) for i, k in enumerate(group)]
            else:
                parts.append((group, self._plain(data, starts[group], lengths[group], ascii_only=kind == ASCII)))
        return _merged(parts, len(starts))

    def _long(self, data: Bytes, start: int, length: int) -> Answers:
        word = np.frombuffer(self._seams.normalize(data[start : start + length]), np.uint8)
        return self._model.ask(word, np.array([0, len(word)]))

    def _plain(self, data: Bytes, starts: Places, lengths: Places, *, ascii_only: bool) -> Answers:
        words, bounds = np.empty(int(lengths.sum()), np.uint8), np.zeros(len(starts) + 1, np.int64)
        if ascii_only or self._normalizer is None:
            gather(data, starts, lengths, self._lowercase, words, bounds)
        else:
            # Plain words hold no space before or after, so spaces can keep them apart.
            joined = " ".join(texts_of(data, starts, lengths))
            normal = [word.encode() for word in self._normalizer.normalize_str(joined).split(" ")]
            assert len(normal) == len(starts)
            words = np.frombuffer(b"".join(normal), np.uint8)
            np.cumsum([len(word) for word in normal], out=bounds[1:])
        return self._model.ask(words, bounds)


class Characters:
    """Characters alone; see `characters.py`."""

    def __init__(self, reference: Reference, added: AddedTokens) -> None:
        self._ids: Int32[np.ndarray, " 1114112"] = np.full(0x110000, UNREAD, np.int32)
        self._pipeline = Pipeline(reference)
        self._added = added

    def prepare(self, texts: pa.LargeStringArray) -> Prepared:
        return _with_matches(texts, self._added)

    def scan(self, data, bounds, matches, view: View, own: Buffers, ends) -> None:
        scan_characters(data, bounds, self._ids, matches, own.out, ends, own.state)

    def learn(self, point: int) -> None:
        first = point // BLOCK * BLOCK
        points = [p for p in range(first, first + BLOCK) if not 0xD800 <= p < 0xE000]
        answers = self._pipeline.ask([chr(p) for p in points])
        ids = np.full(len(points), NOTHING, np.int32)
        ids[np.diff(answers.bounds) == 1] = answers.ids & ~WORD_START
        self._ids[points] = ids

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        raise AssertionError("characters leave no holes")


class SpacedWords(Words):
    """Words between spaces, with a mark before each. Unigram answers for plain ones come from `viterbi.py`."""

    def __init__(self, reference: Reference, added: AddedTokens, steps: list[dict[str, Any]]) -> None:
        super().__init__(reference, added, isolates=False)
        self._model = Viterbi(reference)
        self._normalizer = reference.raw_tokenizer.normalizer
        self._seams = Seams(steps)

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        if not self._model.usable:
            every = np.arange(len(starts))
            return _merged([*_in_calls(self._pipeline.ask, data, starts, lengths, every)], len(starts))
        kinds = np.empty(len(starts), np.int64)
        piece_kinds(data, starts, lengths, self._table.classes, NO_LIMIT, kinds)
        kinds[lengths > LONG] = TOO_LONG
        strange, plain = np.flatnonzero(kinds == STRANGE), np.flatnonzero((kinds == ASCII) | (kinds == PLAIN))
        parts = [
            *_in_calls(self._pipeline.ask, data, starts, lengths, strange),
            *_in_calls(self._plain, data, starts, lengths, plain),
        ]
        for i in np.flatnonzero(kinds == TOO_LONG):
            parts.append((np.array([i]), self._long(data[starts[i] : starts[i] + lengths[i]])))
        return _merged(parts, len(starts))

    def _long(self, piece: Bytes) -> Answers:
        answers = self._model.ask(*marked_words(np.frombuffer(self._seams.normalize(piece), np.uint8)))
        return Answers(answers.ids, np.array([0, len(answers.ids)]))

    def _plain(self, pieces: list[str]) -> Answers:
        # Nothing in plain words touches the spaces between them.
        joined = " ".join(pieces)
        normal = (joined if self._normalizer is None else self._normalizer.normalize_str(joined)).split(" ")
        if len(normal) != len(pieces) or not all(normal):
            return self._pipeline.ask(pieces)
        words = [("\u2581" + word).encode() for word in normal]
        bounds = np.zeros(len(words) + 1, np.int64)
        np.cumsum([len(word) for word in words], out=bounds[1:])
        return self._model.ask(np.frombuffer(b"".join(words), np.uint8), bounds)


class BytePattern:
    """Byte-level BPE after GPT-2's pattern (`digits` is None) or cl100k's."""

    def __init__(
        self, reference: Reference, added: AddedTokens, *, digits: int | None, nfc: bool, prefix_space: bool
    ) -> None:
        self._table = pattern_classes()
        self._model = ByteModel(reference)
        self._merges = BPE(reference)
        self._added = added
        self._digits = digits
        self._nfc = NFC(reference.raw_tokenizer.normalizer) if nfc else None
        self._prefix_space = prefix_space

    def prepare(self, texts: pa.LargeStringArray) -> Prepared:
        left = np.zeros(len(texts), bool)
        if self._nfc is not None:
            risky = self._nfc.risky(*string_buffers(texts))
            if risky.any():
                if self._added.tokens and not self._added.normalized:
                    left |= risky
                texts = self._nfc.normalize(texts, risky)
        if self._prefix_space:
            without = pc.and_(pc.invert(pc.starts_with(texts, " ")), pc.greater(pc.binary_length(texts), 0))
            empty, space = pa.scalar("", pa.large_string()), pa.scalar(" ", pa.large_string())
            texts = pc.binary_join_element_wise(pc.if_else(without, space, empty), texts, empty)
        matches = self._added.find(*string_buffers(texts), left) if self._added.tokens else NONE
        return Prepared(texts, matches, left if left.any() else None)

    def scan(self, data, bounds, matches, view: View, own: Buffers, ends) -> None:
        if self._digits is None:
            queue = own.queue, own.words
            scan_gpt2(data, bounds, self._table.classes, matches, *view, *queue, *own.written, ends, own.state)
        else:
            classes = self._table.classes
            scan_cl100k(data, bounds, classes, self._digits, matches, *view, *own.written, ends, own.state)

    def learn(self, point: int) -> None:
        self._table.learn(point)

    def ask(self, data: Bytes, starts: Places, lengths: Places) -> Answers:
        answers = self._merges.ask(data, starts, lengths) if self._merges.usable else None
        if answers is not None:
            return answers
        every = np.arange(len(starts))
        calls = [
            (part, self._model.ask(bytes_of(data, starts[part], lengths[part]))) for part in _calls(lengths, every)
        ]
        return _merged(calls, len(starts))


STRANGE, ASCII, PLAIN, TOO_LONG, LONG_WORD = 0, 1, 2, 3, 4
NO_LIMIT = 1 << 62  # characters of a word


@lean_kernel
def piece_kinds(data, starts, lengths, classes, max_chars, kinds):
    """What is known of each piece: ASCII letters and digits; plain characters; too long a word; or nothing.

    Of LONG_WORD, plain characters in such number that they are normalized in parts, the caller decides.
    """
    for i in range(starts.size):
        end = starts[i] + lengths[i]
        place = starts[i]
        plain = True
        is_ascii = True
        chars = 0
        while place < end:
            point, length = any_code_point(data, place, end)
            kind = classes[point]
            is_ascii = is_ascii and (48 <= point <= 57 or 65 <= point <= 90 or 97 <= point <= 122)
            plain = plain and (kind & (SURVIVES | VANISHES)) != 0
            chars += (kind & SURVIVES) != 0
            place += length
        if not plain:
            kinds[i] = STRANGE
        elif chars > max_chars:
            kinds[i] = TOO_LONG
        elif is_ascii:
            kinds[i] = ASCII
        else:
            kinds[i] = PLAIN


def _calls(lengths: Places, group: Group) -> Iterator[Group]:
    """The pieces of a group in parts of about BYTES_PER_CALL."""
    call = np.cumsum(lengths[group]) // BYTES_PER_CALL
    yield from (part for part in np.split(group, np.flatnonzero(np.diff(call)) + 1) if len(part))


def _in_calls(
    ask: Callable[[list[str]], Answers],
    data: Bytes,
    starts: Places,
    lengths: Places,
    group: Int64[np.ndarray, " group"],
) -> Iterator[tuple[Group, Answers]]:
    """Answers for the pieces of a group, and for which pieces they are."""
    for part in _calls(lengths, group):
        yield part, ask(texts_of(data, starts[part], lengths[part]))


def _merged(parts: list[tuple[Group, Answers]], count: int) -> Answers:
    """Answers of groups of pieces, in the pieces' own order."""
    if len(parts) == 1:
        return parts[0][1]
    bounds = np.zeros(count + 1, np.int64)
    for group, answers in parts:
        bounds[group + 1] = np.diff(answers.bounds)
    np.cumsum(bounds, out=bounds)
    ids = np.empty(bounds[-1], np.uint32)
    for group, answers in parts:
        distribute(answers.ids, answers.bounds, group, bounds, ids)
    return Answers(ids, bounds)


@lean_kernel
def distribute(answers, ends, group, bounds, ids):
    """Copy answer i, answers[ends[i]:ends[i + 1]], to ids[bounds[group[i]]:]."""
    for i in range(group.size):
        place = bounds[group[i]]
        for j in range(ends[i], ends[i + 1]):
            ids[place] = answers[j]
            place += 1
