"""Train a tokenizer on texts: the same texts, in any order and any batches, give the same file.

HF's trainers count words first, so the order of texts never matters, but what they do with the counts is not always
repeatable: `WordPieceTrainer` numbers the characters (and the same with ## before them) in the order of a
hash table with a random key, and equal merges are ordered by those numbers. The mend: the alphabet is counted here,
and handed over sorted, as special tokens, which get their numbers first; afterwards they become ordinary
again. Byte-level BPE has a fixed alphabet. `UnigramTrainer` sums floats in random order and can't be mended so:
`unigram.py` does it here.

Every kind has [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4. The caller chooses which texts to train on.

Sources: WordPiece: Schuster, Nakajima 2012, as in BERT (Devlin et al. 2019); byte-level BPE: Radford et al. 2019,
sec. 2.2; Unigram: Kudo 2018, sec. 3.2.
"""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mlm_data.characters import code_point
from mlm_data.config import TokenizerTraining
from mlm_data.errors import TokenizerError
from mlm_data.hashing import string_buffers
from mlm_data.kernels import kernel
from mlm_data.tokens.reference import around, bert_settings
from mlm_data.tokens.unigram import train_unigram

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LONGEST_RUN = 200  # characters without a space; a longer run is cut, for the cost of a merge grows with its word
LARGEST_ALPHABET = 1000  # characters with a token of their own; sentencepiece and BERT keep about as many
MOST_WORDS = 300_000  # distinct ones that Unigram learns from, the most frequent: they bound its memory
MIN_FREQUENCY = 2  # a pair seen once says nothing


def train_tokenizer(texts: Iterator[pa.LargeStringArray], settings: TokenizerTraining) -> bytes:
    """Train a tokenizer; returns its tokenizer.json.

    The vocabulary is smaller than asked for where the texts hold too little to fill it.

    Raises:
        TokenizerError: if there is no text, or the vocabulary is too small for the kind.
    """
    smallest = {"wordpiece": 64, "bpe": len(SPECIALS) + 256, "unigram": 64}[settings.kind]
    if settings.vocab_size < smallest:
        raise TokenizerError(
            f"tokenizer.train.vocab_size: {settings.kind} needs at least {smallest}, got {settings.vocab_size}"
        )
    batches = [_without_long_runs(batch) for batch in texts if len(batch)]
    if all(pc.all(pc.or_(pc.equal(pc.utf8_length(batch), 0), pc.utf8_is_space(batch))).as_py() for batch in batches):
        raise TokenizerError("nothing to train a tokenizer on: the texts hold no words: check the inputs")
    train = {"wordpiece": _train_wordpiece, "bpe": _train_bpe, "unigram": _train_unigram}[settings.kind]
    result = train(batches, settings)
    result["truncation"] = result["padding"] = None
    return json.dumps(result, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _train_wordpiece(batches: list[pa.LargeStringArray], settings: TokenizerTraining) -> dict[str, Any]:
    empty = bert_settings({name: i for i, name in enumerate(SPECIALS)}, SPECIALS, lowercase=settings.lowercase)
    tokenizer = Tokenizer.from_str(json.dumps(empty))
    limit = min(LARGEST_ALPHABET, (settings.vocab_size - len(SPECIALS)) // 3)
    alphabet = _alphabet(batches, tokenizer.normalizer, limit)
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[*SPECIALS, *alphabet, *("##" + character for character in alphabet)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    tokenizer.train_from_iterator((batch.to_pylist() for batch in batches), trainer)
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    return bert_settings(vocabulary, SPECIALS, lowercase=settings.lowercase)


def _train_bpe(batches: list[pa.LargeStringArray], settings: TokenizerTraining) -> dict[str, Any]:
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
    return result


def _train_unigram(batches: list[pa.LargeStringArray], settings: TokenizerTraining) -> dict[str, Any]:
    words, counts = _count_words(batches)
    room = settings.vocab_size - len(SPECIALS)
    pieces = train_unigram(words, counts, num_pieces=room, largest_alphabet=min(LARGEST_ALPHABET, room // 2))
    vocabulary = [(name, 0.0) for name in SPECIALS] + pieces
    tokenizer = Tokenizer(models.Unigram(vocabulary, SPECIALS.index("[UNK]"), False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(SPECIALS)
    result = json.loads(tokenizer.to_str())
    result["post_processor"] = around({name: i for i, name in enumerate(SPECIALS)})
    return result


def _count_words(batches: list[pa.LargeStringArray]) -> tuple[list[str], Int64[np.ndarray, " words"]]:
    """The most frequent words, with the mark of their start, sorted; and how often each occurs."""
    tables = []
    for batch in batches:
        words = pc.list_flatten(pc.utf8_split_whitespace(pc.utf8_normalize(batch, "NFKC")))
        counted = pc.value_counts(words)
        tables.append(pa.table({"word": counted.field("values"), "count": counted.field("counts")}))
    table = pa.concat_tables(tables).group_by("word").aggregate([("count", "sum")])
    table = table.filter(pc.greater(pc.utf8_length(table["word"]), 0))
    table = table.sort_by([("count_sum", "descending"), ("word", "ascending")]).slice(0, MOST_WORDS)
    table = table.sort_by("word")
    return ["\u2581" + word for word in table["word"].to_pylist()], table["count_sum"].to_numpy()


def _alphabet(batches: list[pa.LargeStringArray], normalizer: normalizers.Normalizer, limit: int) -> list[str]:
    """The `limit` most frequent characters of the normalized texts, without spaces and controls, sorted."""
    counts = np.zeros(0x110000, np.int64)
    for batch in batches:
        data, offsets = string_buffers(batch)
        count_characters(data[offsets[0] : offsets[-1]], counts)
    found: dict[str, int] = {}
    for point in np.flatnonzero(counts).tolist():
        for character in normalizer.normalize_str(chr(point)):
            if not character.isspace() and unicodedata.category(character) not in ("Cc", "Cs"):
                found[character] = found.get(character, 0) + int(counts[point])
    best = sorted(found, key=lambda character: (-found[character], character))[:limit]
    return sorted(best)


@kernel
def count_characters(data, counts):
    """Add the code points of valid UTF-8 to counts[0x110000]."""
    i = 0
    while i < data.size:
        point, length = code_point(data, i)
        counts[point] += 1
        i += length


def _without_long_runs(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Cut runs of more than LONGEST_RUN characters without a space."""
    return pc.replace_substring_regex(texts, rf"(\S{{{LONGEST_RUN}}})", r"\1 ")
