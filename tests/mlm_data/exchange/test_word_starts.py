"""Word starts that are read off tokens: those that the text gave, as far as tokens tell."""

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mlm_data.config import SpecialTokens
from mlm_data.exchange.word_starts import find_word_starts, word_marks
from mlm_data.tokens.engine import from_bytes, make_engine
from tests.pipelines.small_corpus import text

TEXTS = [
    text(number) + f" It's {number * 37}, isn't it? (No_no: x=[{number}]) ünï — 12.5%\n\nDone." for number in range(60)
]
SPECIALS = ["<pad>", "<unk>", "<mask>"]


def trained(kind, size=400):
    if kind == "wordpiece":
        model, trainer = models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer
        before, options = pre_tokenizers.BertPreTokenizer(), {}
    elif kind == "byte-level":
        model, trainer = models.BPE(), trainers.BpeTrainer
        before = pre_tokenizers.ByteLevel(add_prefix_space=False)
        options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    else:
        model, trainer = models.Unigram(), trainers.UnigramTrainer
        before, options = pre_tokenizers.Metaspace(), {"unk_token": "<unk>"}
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = before, decoders.Metaspace()
    tokenizer.train_from_iterator(
        TEXTS, trainer(vocab_size=size, special_tokens=SPECIALS, show_progress=False, **options)
    )
    special = SpecialTokens(pad="<pad>", mask="<mask>")
    return from_bytes(tokenizer.to_str().encode(), special)


@pytest.mark.parametrize(("kind", "least"), [("wordpiece", 1.0), ("metaspace", 1.0), ("byte-level", 0.985)])
def test_they_are_those_of_the_text(kind, least):
    reference = trained(kind, 330 if kind == "wordpiece" else 400)
    encoded = make_engine(reference, "huggingface").encode(pa.array(TEXTS, pa.large_string()))
    starts = find_word_starts(encoded.ids, encoded.offsets, word_marks(reference))
    assert (starts == encoded.word_starts).mean() >= least
    assert (~encoded.word_starts).mean() > 0.1  # there is something to be found


def test_the_trace_of_the_head():
    reference = trained("byte-level")
    number = {token: i for i, token in enumerate(reference.tokens)}
    ids = np.array([number[token] for token in ("a", "b", "(", "x", ")", "\u0120", "1", "2", "b")])
    starts = find_word_starts(ids, np.array([0, 1, 1, 9]), word_marks(reference))
    assert starts.astype(int).tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 1]


def test_where_tokens_say_nothing_every_token_is_a_word():
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, "A", "C", "G", "T"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    reference = from_bytes(tokenizer.to_str().encode(), SpecialTokens(pad="<pad>", mask="<mask>"))
    assert find_word_starts(np.array([3, 4, 4, 5]), np.array([0, 4]), word_marks(reference)).all()
    assert find_word_starts(np.zeros(0, np.int64), np.array([0, 0]), word_marks(reference)).size == 0
