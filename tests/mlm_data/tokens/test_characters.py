"""Tokens that are characters: each a word, white space nothing; the scanner gives what HF gives."""

import json

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import TokenizerTraining
from mlm_data.tokens.characters import character_settings
from mlm_data.tokens.engine import HuggingFaceEngine, from_bytes, make_engine
from mlm_data.tokens.reference import with_added_tokens
from mlm_data.tokens.train import SPECIALS, train

SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "C1=CC=C(C=C1)[N+](=O)[O-]", "c1cc[nH]c1"]


def strings(*texts):
    return pa.array(texts, pa.large_string())


def trained(texts, **settings):
    return train(iter([strings(*texts)]), TokenizerTraining(kind="characters", **settings))


def test_each_character_is_a_token_and_a_word():
    reference = from_bytes(trained(SMILES).json_bytes)
    assert reference.tokens == (*SPECIALS, *sorted(set("".join(SMILES))))
    engine = make_engine(reference)
    assert (engine.name, engine.why) == ("words", "the word table knows characters")
    encoded = engine.encode(strings("Cc1 =\nx", "", " "))
    assert [reference.tokens[i] for i in encoded.ids] == ["C", "c", "1", "=", "[UNK]"]
    assert encoded.word_starts.all()
    assert encoded.offsets.tolist() == [0, 5, 5, 5]


@pytest.mark.parametrize("texts", [SMILES, ["aé漢👍🏽 e\u0301 \u0915\u0940 \x85 \u2028x\u200b"], ["[MASK] a </s>"]])
def test_the_scanner_is_exact(texts, border_texts, differing):
    reference = from_bytes(trained(texts).json_bytes)
    assert not differing(reference, make_engine(reference, "words"), [*texts, *border_texts(7, 400, texts)])


def test_markers_are_found_first(differing):
    data = with_added_tokens(trained(SMILES).json_bytes, ["[DRUG]", "c1"])
    reference = from_bytes(data, markers=["[DRUG]", "c1"])
    texts = ["C[DRUG]C", "[DRUG]", "cc1c1[DRUG", "[DRUG][DRUG] c1", ""]
    assert not differing(reference, make_engine(reference, "words"), texts)


def test_more_than_one_run_of_the_scanner(differing):
    reference = from_bytes(trained(SMILES).json_bytes)
    engine = make_engine(reference, "words")
    texts = ["Cc1 " * 120_000, "x", "O" * 300_000]
    encoded = engine.encode(strings(*texts))
    assert np.diff(encoded.offsets).tolist() == [360_000, 1, 300_000]
    assert not differing(reference, engine, ["C" * 2000, "O=" * 999])


def test_special_strings_in_a_text_are_characters():
    reference = from_bytes(trained(["[MASK] here"]).json_bytes)
    encoded = make_engine(reference).encode(strings("[MASK]"))
    assert [reference.tokens[i] for i in encoded.ids] == list("[MASK]")
    assert reference.encode_masked("[MASK]h").tolist()[1] == reference.roles.mask


def test_all_characters_have_tokens_unless_told_otherwise():
    text = "A" * 100_000 + "U"
    assert trained([text]).alphabet.characters == ("A", "U")
    assert trained([text], coverage=0.999).alphabet.characters == ("A",)


def test_room_runs_out():
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 100)))
    found = trained([text], vocab_size=64)
    assert from_bytes(found.json_bytes).vocab_size == 64
    assert found.alphabet.num_without_room == 41


def test_other_word_level_tokenizers_take_hf():
    settings = character_settings({name: i for i, name in enumerate([*SPECIALS, "a", "b"])}, SPECIALS)
    settings["normalizer"] = {"type": "Lowercase"}
    engine = make_engine(from_bytes(json.dumps(settings).encode()))
    assert engine.name == "huggingface"
    assert "WordLevel" in engine.why
    assert isinstance(engine, HuggingFaceEngine)
