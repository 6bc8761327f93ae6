"""Train a tokenizer on texts: the same texts, in any order and any batches, give the same file.

HF's trainers count words first, so the order of texts never matters, but what they do with the counts is not always
repeatable: `WordPieceTrainer` numbers the characters (and the same with ## before them) in the order of a
hash table with a random key, and equal merges are ordered by those numbers. The mend: the alphabet is counted here,
and handed over sorted, as special tokens, which get their numbers first; afterwards they become ordinary
again. Byte-level BPE has a fixed alphabet. `UnigramTrainer` sums floats in random order and can't be mended so:
`train_unigram.py` does it here.

Every kind has [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4. The caller chooses which texts to train on.

Sources: WordPiece: Schuster, Nakajima 2012, as in BERT (Devlin et al. 2019); byte-level BPE: Radford et al. 2019,
sec. 2.2; Unigram: Kudo 2018, sec. 3.2.

A trained WordPiece cuts words of any length: HF's limit of 100 characters makes each longer word unknown, and a line of
DNA is one word. HF's own search for such a word costs the cube of its length (7 s for 10,000 characters), so whoever
is asked for its ids here takes `wordpiece.py`'s; see `engine.py`.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt8
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mlm_data.characters import code_point
from mlm_data.config import TokenizerTraining
from mlm_data.errors import TokenizerError
from mlm_data.hashing import string_buffers
from mlm_data.kernels import kernel
from mlm_data.threads import interruptible
from mlm_data.tokens.alphabet import Alphabet, choose_alphabet
from mlm_data.tokens.bert import around, bert_settings
from mlm_data.tokens.characters import character_settings
from mlm_data.tokens.table import LONGEST_KEY
from mlm_data.tokens.train_unigram import train_unigram

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MARK = "\u2581"  # of a word's start
LONGEST_RUN = 200  # characters without a space; a longer run is cut, for the cost of a merge grows with its word
MOST_WORDS = 300_000  # distinct ones that Unigram learns from, the most frequent: they bound its memory
MIN_FREQUENCY = 2  # a pair seen once says nothing
ANY_LENGTH = 2**31 - 1  # characters of a word that WordPiece cuts
ALGORITHM_VERSION = 2  # enters cache keys: count up when the same texts give another tokenizer


class Trained(NamedTuple):
    """A trained tokenizer."""

    json_bytes: bytes  # its tokenizer.json
    alphabet: Alphabet | None  # None: it can spell every text


def train_tokenizer(texts: Iterator[pa.LargeStringArray], settings: TokenizerTraining) -> bytes:
    """`train`, for its tokenizer.json alone."""
    return train(texts, settings).json_bytes


def train(texts: Iterator[pa.LargeStringArray], settings: TokenizerTraining) -> Trained:
    """Train a tokenizer, which Ctrl-C can interrupt at any moment.

    The vocabulary is smaller than asked for where the texts hold too little to fill it.

    Raises:
        TokenizerError: if there is no text, or the vocabulary is too small for the kind.
    """
    smallest = len(SPECIALS) + 256 if settings.kind == "bpe" else 64
    if settings.vocab_size < smallest:
        raise TokenizerError(
            f"tokenizer.train.vocab_size: {settings.kind} needs at least {smallest}, got {settings.vocab_size}"
        )
    return interruptible(lambda: _train(texts, settings))


def _train(texts: Iterator[pa.LargeStringArray], settings: TokenizerTraining) -> Trained:
    batches = [_without_long_runs(batch) for batch in texts if len(batch)]
    if all(pc.all(pc.or_(pc.equal(pc.utf8_length(batch), 0), pc.utf8_is_space(batch))).as_py() for batch in batches):
        raise TokenizerError("nothing to train a tokenizer on: the texts hold no words: check the inputs")
    result, alphabet = KINDS[settings.kind](batches, settings)
    result["truncation"] = result["padding"] = None
    json_bytes = json.dumps(result, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return Trained(json_bytes, alphabet)


Result = tuple[dict[str, Any], Alphabet | None]


def _train_wordpiece(batches: list[pa.LargeStringArray], settings: TokenizerTraining) -> Result:
    rules: dict[str, Any] = {
        "lowercase": settings.lowercase,
        "strip_accents": settings.strip_accents,
        "longest_word": ANY_LENGTH,
    }
    tokenizer = Tokenizer.from_str(json.dumps(bert_settings({n: i for i, n in enumerate(SPECIALS)}, SPECIALS, **rules)))

    def forms(character: str) -> list[str]:
        # What is always a word of its own, as punctuation and Chinese characters are, never stands within one.
        normal = tokenizer.normalizer.normalize_str(f"a{character}a")
        alone = len(tokenizer.pre_tokenizer.pre_tokenize_str(normal)) == 3
        return [character] if alone else [character, f"##{character}"]

    alphabet = choose_alphabet(
        _count_characters(batches, tokenizer.normalizer),
        coverage=settings.alphabet_coverage,
        room=settings.vocab_size - len(SPECIALS),
        price=lambda character: len(forms(character)),
    )
    inner = sorted(form for character in alphabet.characters for form in forms(character)[1:])
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[*SPECIALS, *alphabet.characters, *inner],
        initial_alphabet=list(alphabet.characters),
        limit_alphabet=len(alphabet.characters),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    tokenizer.train_from_iterator((batch.to_pylist() for batch in batches), trainer)
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    # The word table keeps keys of up to 255 bytes. A longer piece is no loss: others spell it.
    short = (token for token in sorted(vocabulary, key=vocabulary.get) if len(token.encode()) <= LONGEST_KEY)
    return bert_settings({token: number for number, token in enumerate(short)}, SPECIALS, **rules), alphabet


def _train_characters(batches: list[pa.LargeStringArray], settings: TokenizerTraining) -> Result:
    alphabet = choose_alphabet(
        _count_characters(batches, None),
        coverage=settings.alphabet_coverage,
        room=settings.vocab_size - len(SPECIALS),
    )
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet.characters])}
    return character_settings(vocabulary, SPECIALS), alphabet


def _train_bpe(batches: list[pa.LargeStringArray], settings: TokenizerTraining) -> Result:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((batch.to_pylist() for batch in batches), trainer)
    result = json.loads(tokenizer.to_str())
    result["post_processor"] = around(result["model"]["vocab"])
    return result, None


def _train_unigram(batches: list[pa.LargeStringArray], settings: TokenizerTraining) -> Result:
    table = _count_words(batches)
    room = settings.vocab_size - len(SPECIALS)
    # The mark of a word's start is a piece, too, and the smallest one that stands for a space.
    alphabet = choose_alphabet(_characters_of(table), coverage=settings.alphabet_coverage, room=room - 1)
    words, counts = _most_frequent(table, alphabet)
    pieces = train_unigram(words, counts, num_pieces=room, alphabet={MARK, *alphabet.characters})
    vocabulary = [(name, 0.0) for name in SPECIALS] + pieces
    tokenizer = Tokenizer(models.Unigram(vocabulary, SPECIALS.index("[UNK]"), False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(SPECIALS)
    result = json.loads(tokenizer.to_str())
    result["post_processor"] = around({name: i for i, name in enumerate(SPECIALS)})
    return result, alphabet


KINDS: dict[str, Callable[[list[pa.LargeStringArray], TokenizerTraining], Result]] = {
    "wordpiece": _train_wordpiece,
    "bpe": _train_bpe,
    "unigram": _train_unigram,
    "characters": _train_characters,
}


def _count_words(batches: list[pa.LargeStringArray]) -> pa.Table:
    """The texts' words, and how often each occurs; the most frequent first."""
    tables = []
    for batch in batches:
        words = pc.list_flatten(pc.utf8_split_whitespace(pc.utf8_normalize(batch, "NFKC")))
        counted = pc.value_counts(words)
        tables.append(pa.table({"word": counted.field("values"), "count": counted.field("counts")}))
    table = pa.concat_tables(tables).group_by("word").aggregate([("count", "sum")])
    table = table.filter(pc.greater(pc.utf8_length(table["word"]), 0))
    return table.sort_by([("count_sum", "descending"), ("word", "ascending")])


def _characters_of(table: pa.Table) -> dict[str, int]:
    """How often each character occurs in the words of a table."""
    words = table["word"].combine_chunks().cast(pa.large_string())
    sizes = np.diff(np.frombuffer(words.buffers()[1], np.int64)[: len(words) + 1])
    counts = np.zeros(0x110000, np.int64)
    weights = np.repeat(table["count_sum"].to_numpy().astype(np.int64), sizes)
    add_characters(np.frombuffer(words.buffers()[2], np.uint8)[: len(weights)], weights, counts)
    return {chr(point): int(counts[point]) for point in np.flatnonzero(counts).tolist()}


def _most_frequent(table: pa.Table, alphabet: Alphabet) -> tuple[list[str], Int64[np.ndarray, " words"]]:
    """The most frequent words, with the mark of their start, sorted; and how often each occurs.

    A character of the alphabet that only rare words hold stands there as a word, so that it gets its piece.
    """
    kept = table.slice(0, MOST_WORDS)
    found = dict(zip((MARK + word for word in kept["word"].to_pylist()), kept["count_sum"].to_pylist(), strict=True))
    if len(table) > MOST_WORDS:
        missing = set(alphabet.characters) - set("".join(found))
        found |= dict.fromkeys(missing, 1)
    words = sorted(found)
    return words, np.array([found[word] for word in words], np.int64)


def _count_characters(batches: list[pa.LargeStringArray], normalizer: normalizers.Normalizer | None) -> dict[str, int]:
    """How often each character of the normalized texts occurs, without spaces and controls."""
    counts = np.zeros(0x110000, np.int64)
    for batch in batches:
        data, offsets = string_buffers(batch)
        count_characters(data[offsets[0] : offsets[-1]], counts)
    found: dict[str, int] = {}
    for point in np.flatnonzero(counts).tolist():
        for character in chr(point) if normalizer is None else normalizer.normalize_str(chr(point)):
            if not character.isspace() and unicodedata.category(character) not in ("Cc", "Cs"):
                found[character] = found.get(character, 0) + int(counts[point])
    return found


def count_characters(data: UInt8[np.ndarray, " bytes"], counts: Int64[np.ndarray, " 1114112"]) -> None:
    """Add the code points of valid UTF-8 to `counts`."""
    add_characters(data, np.empty(0, np.int64), counts)


@kernel
def add_characters(data, weights, counts):
    """Add the code points of valid UTF-8 to counts[0x110000]: once each, or the weight of their first byte."""
    i = 0
    while i < data.size:
        point, length = code_point(data, i)
        counts[point] += weights[i] if weights.size else 1
        i += length


def _without_long_runs(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Cut runs of more than LONGEST_RUN characters without a space."""
    return pc.replace_substring_regex(texts, rf"(\S{{{LONGEST_RUN}}})", r"\1 ")
