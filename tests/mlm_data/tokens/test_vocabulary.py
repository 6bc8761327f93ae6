"""A vocab.txt: what decides case and accents, and what the plan says of it."""

import json

import pytest

from mlm_data.errors import TokenizerError
from mlm_data.tokens.engine import load_tokenizer
from mlm_data.tokens.vocabulary import from_vocabulary

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary(*tokens, **given):
    settings, note = from_vocabulary("\n".join([*NAMES, *tokens]).encode(), "vocab.txt", **given)
    normalizer = settings["normalizer"]
    strip = normalizer["strip_accents"]
    return normalizer["lowercase"], normalizer["lowercase"] if strip is None else strip, note


CASES = {
    "nothing said, plain": (["a", "##b"], {}, True, True),
    "a capital": (["a", "The"], {}, False, True),
    "a capital in brackets": (["a", "[unused1]", "[X]"], {}, True, True),
    "a composed accent": (["a", "café"], {}, True, False),
    "a mark alone": (["a", "##\u0941"], {}, True, False),
    "a mark that takes space": (["a", "##\u093e"], {}, True, True),
    "capital and accent": (["The", "é"], {}, False, False),
    "beside: cased": (["a"], {"do_lower_case": False}, False, False),
    "beside: uncased": (["The", "é"], {"do_lower_case": True}, True, True),
    "beside: uncased, null": (["é"], {"do_lower_case": True, "strip_accents": None}, True, True),
    "beside: uncased with accents": (["a"], {"do_lower_case": True, "strip_accents": False}, True, False),
    "beside: only accents": (["The"], {"strip_accents": True}, False, True),
    "beside: something else": (["The", "é"], {"model_max_length": 512}, False, False),
}


@pytest.mark.parametrize("name", CASES)
def test_who_decides(name):
    tokens, beside, lowercase, strip = CASES[name]
    assert vocabulary(*tokens, beside=beside)[:2] == (lowercase, strip)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip", [True, False])
def test_the_configuration_wins(lowercase, strip):
    beside = {"do_lower_case": not lowercase, "strip_accents": not strip}
    found = vocabulary("The", "é", beside=beside, lowercase=lowercase, strip_accents=strip)
    assert found[:2] == (lowercase, strip)
    assert found[2].count("configured") == 2


def test_the_plan_says_why():
    assert vocabulary("a")[2] == "lowercase (no token has a capital letter), accents stripped (no token has an accent)"
    assert vocabulary("A", "é")[2] == "case kept (tokens have capital letters), accents kept (tokens have accents)"
    note = vocabulary("A", beside={"do_lower_case": True})[2]
    assert note == "lowercase (by its tokenizer_config.json), accents stripped (by its tokenizer_config.json)"


def test_what_is_written_as_ever_keeps_its_bytes():
    """BERT's own rule, accents as case, is written as null."""
    for tokens in (["a"], ["A", "é"]):
        settings, _ = from_vocabulary("\n".join([*NAMES, *tokens]).encode(), "vocab.txt")
        assert settings["normalizer"]["strip_accents"] is None


def test_chinese_characters_and_other_names():
    data = "\n".join(["<pad>", "<unk>", "<mask>", "a"]).encode()
    roles = {"pad": "<pad>", "unk": "<unk>", "mask": "<mask>", "cls": "[CLS]"}
    settings, _ = from_vocabulary(data, "vocab.txt", beside={"tokenize_chinese_chars": False}, roles=roles)
    assert settings["normalizer"]["handle_chinese_chars"] is False
    assert settings["model"]["unk_token"] == "<unk>"
    assert [token["content"] for token in settings["added_tokens"]] == ["<pad>", "<unk>", "<mask>"]
    with pytest.raises(TokenizerError, match=r"no line is \[UNK\]"):
        from_vocabulary(data, "vocab.txt")


def test_the_file_beside_a_lone_vocab_txt_counts(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*NAMES, "the", "The"]))
    assert load_tokenizer(path).raw_tokenizer.encode("The", add_special_tokens=False).tokens == ["The"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    reference = load_tokenizer(path)
    assert reference.raw_tokenizer.encode("The", add_special_tokens=False).tokens == ["the"]
    assert "by its tokenizer_config.json" in reference.notes[0].text
    assert load_tokenizer(path, lowercase=False).raw_tokenizer.encode("The", add_special_tokens=False).tokens == ["The"]


@pytest.mark.parametrize("setting", ["lowercase", "strip_accents"])
def test_settings_that_other_files_have_themselves(tmp_path, setting):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(TokenizerError, match=rf"tokenizer\.{setting} is for a vocab.txt; this file says it itself"):
        load_tokenizer(path, **{setting: False})


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "lowercase"),
    [("bert_vocab/bert-base-uncased-vocab.txt", True), ("bert_vocab/bert-base-cased-vocab.txt", False)],
)
def test_known_vocabularies_stay_what_they_were(corpora, name, lowercase):
    normalizer = load_tokenizer(corpora / "tok" / name).settings["normalizer"]
    assert (normalizer["lowercase"], normalizer["strip_accents"]) == (lowercase, None)
