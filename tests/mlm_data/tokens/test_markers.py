"""Markers stay whole in raw text, with every engine and for whoever loads the tokenizer; and they are not hidden."""

import itertools
import json
import random

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from mlm_data.config import SpecialTokens
from mlm_data.errors import TokenizerError
from mlm_data.tokens.bert import bert_settings
from mlm_data.tokens.engine import make_engine
from mlm_data.tokens.reference import from_bytes, load_tokenizer, with_added_tokens

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MARKERS = ["[DRUG]", "<num>", "[DRUG2]"]


def bert(*, lowercase=True, added=()):
    pieces = [*"abcdegmnru0123456789[]<>.,é", *("##" + c for c in "abcdegmnru0123456789é"), "drug", "num", "the"]
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *MARKERS, *pieces])}
    settings = bert_settings(vocabulary, SPECIALS, lowercase=lowercase)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    settings["added_tokens"] += [{"id": vocabulary[t], "content": t, "special": True, **flags} for t in added]
    return json.dumps(settings).encode()


def t5():
    pieces = ["<pad>", "</s>", "<unk>", "[MASK]", *MARKERS, "▁", *"abcdegmnru[]<>", "▁the", "drug"]
    tokenizer = Tokenizer(models.Unigram([(piece, -2.0) for piece in pieces], 2, False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer.to_str().encode()


def gpt2():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<mask>", *MARKERS, *alphabet, "Ġt", "he"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "t"), ("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer.to_str().encode()


TOKENIZERS = {"bert": bert(), "cased bert": bert(lowercase=False), "t5": t5(), "gpt2": gpt2()}


def tokens_of(reference, engine, *texts):
    encoded = make_engine(reference, engine).encode(pa.array(texts, pa.large_string()))
    bounds = encoded.offsets.tolist()
    tokens = [reference.tokens[i] for i in encoded.ids.tolist()]
    return [tokens[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_engines_agree_on_markers_anywhere(name):
    reference = from_bytes(TOKENIZERS[name], markers=MARKERS)
    random_ = random.Random(name)
    parts = [
        *MARKERS,
        "[DRUG",
        "DRUG]",
        "[drug]",
        "<",
        "num>",
        " ",
        "  ",
        "\n",
        "the",
        "drug",
        "é",
        "e\u0301",
        "\u0301",
    ]
    parts += ["\u200d", "\u3000", "[MASK]", "</s>", "0", ".", "ﬁ", "漢"]
    texts = ["".join(random_.choices(parts, k=random_.randrange(12))) for _ in range(3000)]
    texts += ["", MARKERS[0], MARKERS[0] * 3, "a" + MARKERS[1], MARKERS[1] + "a", " " + MARKERS[1] + " "]
    array = pa.array(texts, pa.large_string())
    words, plain = (make_engine(reference, engine).encode(array) for engine in ("words", "huggingface"))
    np.testing.assert_array_equal(words.offsets, plain.offsets)
    np.testing.assert_array_equal(words.ids, plain.ids)
    np.testing.assert_array_equal(words.word_starts, plain.word_starts)
    assert np.isin(reference.marker_ids, words.ids).all()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_marker_is_one_token_and_a_word(name):
    reference = from_bytes(TOKENIZERS[name], markers=MARKERS)
    for engine in ("words", "huggingface"):
        (tokens,) = tokens_of(reference, engine, "the [DRUG]num[DRUG2]")
        assert tokens.count("[DRUG]") == tokens.count("[DRUG2]") == 1


def test_without_the_setting_a_special_is_text():
    reference = from_bytes(bert(added=MARKERS))
    assert tokens_of(reference, "words", "[DRUG]") == [["[", "drug", "]"]]


def test_whoever_loads_the_dataset_s_tokenizer_keeps_them_whole():
    """An exported tokenizer gives the ids that were trained; and reading it again needs no setting for that."""
    reference = from_bytes(bert(added=MARKERS), markers=MARKERS)
    loaded = Tokenizer.from_str(reference.json_bytes.decode())
    assert loaded.encode("a [DRUG] b", add_special_tokens=False).tokens == ["a", "[DRUG]", "b"]
    assert loaded.decode([reference.tokens.index("[DRUG]")], skip_special_tokens=True) == "[DRUG]"
    again = from_bytes(reference.json_bytes)
    assert again.sha256 == reference.sha256
    assert tokens_of(again, "words", "a [DRUG]") == [["a", "[DRUG]"]]
    assert again.encode_masked("a [DRUG] [MASK]").tolist() == reference.encode_masked("a [DRUG] [MASK]").tolist()


def test_markers_are_hidden_only_on_request():
    shown, hidden = (from_bytes(bert(), markers=MARKERS, mask_markers=choice) for choice in (False, True))
    assert shown.marker_ids.tolist() == [5, 6, 7]
    assert set(shown.marker_ids) <= set(shown.never_targets)
    assert not set(shown.marker_ids) & set(shown.random_ids)
    assert not set(hidden.marker_ids) & set(hidden.never_targets)
    assert set(hidden.marker_ids) <= set(hidden.random_ids)


def test_a_marker_must_be_a_token_without_a_role():
    with pytest.raises(TokenizerError, match=r"tokenizer.markers: '\[GENE\]' is no token of it: add it"):
        from_bytes(bert(), markers=["[GENE]"])
    with pytest.raises(TokenizerError, match=r"tokenizer.markers: '\[MASK\]' is the mask token: leave it out"):
        from_bytes(bert(), markers=["[MASK]"])
    with pytest.raises(TokenizerError, match=r"'<num>' is the sep token"):
        from_bytes(bert(), SpecialTokens(sep="<num>"), markers=["<num>"])


def test_tokens_are_added_behind_all_others():
    data = with_added_tokens(gpt2(), ["[GENE]", "<num>", "[GENE]", "[CELL]"])
    before, after = from_bytes(gpt2()), from_bytes(data, markers=["[GENE]", "[CELL]"])
    assert after.tokens == (*before.tokens, "[GENE]", "[CELL]")
    assert tokens_of(after, "words", "[GENE]t") == [["[GENE]", "t"]]
    assert with_added_tokens(gpt2(), []) == gpt2()


def test_a_vocabulary_file_has_markers(tmp_path):
    lines = [*SPECIALS, "<num>", "a", "b"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
    reference = load_tokenizer(tmp_path / "vocab.txt", markers=["<num>"])
    assert tokens_of(reference, "words", "a<num>b") == [["a", "<num>", "b"]]
