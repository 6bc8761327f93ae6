"""The reference behaviour: special strings in raw text are text; roles; canonical bytes."""

import hashlib
import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from mlm_data.config import SpecialTokens
from mlm_data.errors import InputError, TokenizerError
from mlm_data.tokens.bert import bert_settings
from mlm_data.tokens.reference import from_bytes, load_tokenizer

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def added(number, content, *, special=True, **flags):
    return {"id": number, "content": content, "special": special, **FLAGS, **flags}


def settings(model, *, tokens=(), normalizer=None, pre_tokenizer=None, **more):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(tokens),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": None,
        "model": model,
        **more,
    }


def unigram(**more):
    pieces = ["<pad>", "</s>", "<unk>", "<mask>", "▁", *"abcdeghklmnpsu</>", "▁a", "ab"]
    model = {"type": "Unigram", "unk_id": 2, "vocab": [[piece, -1.0] for piece in pieces]}
    specials = [added(i, pieces[i]) for i in range(4)]
    pre = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return settings(model, tokens=specials, pre_tokenizer=pre, **more)


def wordpiece(pre="BertPreTokenizer", **more):
    names = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[",
        "]",
        "a",
        "##a",
        "mask",
        "##M",
        "##ASK",
        "##]",
        "[unused0]",
    ]
    result = bert_settings({name: i for i, name in enumerate(names)}, names[:5], lowercase=False)
    return result | {"pre_tokenizer": {"type": pre}} | more


def bpe(**more):
    tokens = ["<pad>", "<mask>", "<", "m", "as", "k", ">", "a", "s", "ma", "<m"]
    merges = [["m", "as"], ["a", "s"], ["<m", "as"], ["<", "m"], ["mas", "k"], ["<", "mask"], ["<mask", ">"]]
    vocab = {token: i for i, token in enumerate([*tokens, "mas", "mask", "<mask", "<mas"])}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": merges}
    return settings(model, tokens=[added(0, "<pad>"), added(1, "<mask>")], **more)


def reference(value, **special):
    return from_bytes(json.dumps(value).encode(), SpecialTokens(**special))


def raw_tokens(ref, text):
    encoding = ref.raw_tokenizer.encode(text, add_special_tokens=False)
    ids = encoding.ids if ref.renumber is None else ref.renumber[encoding.ids].tolist()
    return [ref.tokens[i] for i in ids]


def test_hf_itself_makes_specials_of_raw_text():
    """Why the reference isn't plain HF, nor HF with encode_special_tokens."""
    tokenizer = Tokenizer.from_str(json.dumps(unigram()))
    assert 1 in tokenizer.encode("a</s>", add_special_tokens=False).ids
    tokenizer.encode_special_tokens = True
    assert 1 in tokenizer.encode("a</s>", add_special_tokens=False).ids
    assert 3 in tokenizer.encode("<mask>", add_special_tokens=False).ids
    tokenizer = Tokenizer.from_str(json.dumps(wordpiece("WhitespaceSplit")))
    tokenizer.encode_special_tokens = True
    assert tokenizer.encode("[MASK]", add_special_tokens=False).ids == [4]


def test_unigram_specials_are_text():
    ref = reference(unigram())
    assert raw_tokens(ref, "ab</s>") == ["▁", "ab", "<", "/", "s", ">"]
    assert raw_tokens(ref, "<mask><pad>") == ["▁", "<", "m", "a", "s", "k", ">", "<", "p", "a", "d", ">"]
    assert raw_tokens(ref, "<unk>") == ["▁", "<", "u", "n", "k", ">"]
    assert raw_tokens(ref, "?") == ["▁", "<unk>"]  # the model has no other answer


@pytest.mark.parametrize("pre", ["BertPreTokenizer", "WhitespaceSplit"])
def test_wordpiece_specials_are_text(pre):
    ref = reference(wordpiece(pre))
    expected = ["[", "##M", "##ASK", "##]"] if pre == "WhitespaceSplit" else ["[", "[UNK]", "]"]
    assert raw_tokens(ref, "[MASK]") == expected
    assert raw_tokens(ref, "a [mask]")[0] == "a"
    assert not {2, 3, 4} & set(ref.raw_tokenizer.encode("[MASK][SEP] [CLS] [PAD]").ids)


def test_bpe_merges_of_specials_are_dropped():
    assert 1 in Tokenizer.from_str(json.dumps(bpe() | {"added_tokens": []})).encode("<mask>").ids
    assert "<mask>" not in raw_tokens(reference(bpe()), "<mask>")


def test_ignored_merges_reach_no_special():
    value = bpe()
    value["model"]["ignore_merges"] = True
    assert "<mask>" not in raw_tokens(reference(value), "<mask>")


def test_word_of_unspeakable_characters_is_no_special():
    value = wordpiece("WhitespaceSplit")
    value["model"]["max_input_chars_per_word"] = 10_000
    value["normalizer"] = None
    ref = reference(value)
    name = next(name for name in ref.raw_settings["model"]["vocab"] if name.endswith("[MASK]" + "\0" * 10_000))
    assert ref.raw_tokenizer.encode(name, add_special_tokens=False).ids == [1]


def test_added_tokens_that_are_not_special_stay_and_keep_their_ids():
    value = wordpiece()
    value["added_tokens"] += [added(14, "<|late|>"), added(15, "|||IP|||", special=False, normalized=True)]
    ref = reference(value)
    assert ref.vocab_size == 16
    assert raw_tokens(ref, "a|||IP|||a") == ["a", "|||IP|||", "a"]
    assert "<|late|>" not in raw_tokens(ref, "<|late|>")
    assert ref.renumber is not None  # tokenizers moved it to 14


def test_truncation_and_padding_are_cleared():
    value = wordpiece(
        truncation={"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        padding={
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
    )
    ref = reference(value)
    assert raw_tokens(ref, "a a a") == ["a"] * 3
    assert ref.sha256 == reference(wordpiece()).sha256


def test_canonical_bytes_name_the_tokenizer():
    ref = reference(wordpiece())
    again = from_bytes(ref.json_bytes)
    assert again.json_bytes == ref.json_bytes
    assert ref.sha256 == hashlib.sha256(ref.json_bytes).hexdigest()
    assert Tokenizer.from_str(ref.json_bytes.decode()).encode("[MASK]").ids == [2, 4, 3]  # any program can use it


def test_roles_from_template_model_and_names():
    roles = reference(wordpiece()).roles
    assert (roles.cls, roles.sep, roles.pad, roles.mask, roles.unk) == (2, 3, 0, 4, 1)
    assert roles.how.startswith("cls [CLS] (its template)")
    roles = reference(unigram()).roles
    assert (roles.cls, roles.sep, roles.pad, roles.mask, roles.unk) == (-1, 1, 0, 3, 2)
    processor = {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["a", 5]}
    processor |= {"trim_offsets": True, "add_prefix_space": False}
    roles = reference(unigram(post_processor={"type": "Sequence", "processors": [processor]})).roles
    assert (roles.cls, roles.sep) == (5, 1)


def test_configured_roles_win_and_become_special():
    ref = reference(unigram(), mask="k", cls="a")
    assert ref.roles.mask == ref.tokens.index("k")
    assert ref.roles.cls == 5
    assert "mask k (configured)" in ref.roles.how
    assert raw_tokens(ref, "bk") == ["▁", "b", "<unk>"]  # a mask of one character can't be spelled at all


@pytest.mark.parametrize("role", ["mask", "pad"])
def test_no_mask_or_pad_is_refused(role):
    value = unigram()
    number = {"mask": 3, "pad": 0}[role]
    value["model"]["vocab"][number][0] = "<other>"
    value["added_tokens"][number]["content"] = "<other>"
    with pytest.raises(TokenizerError, match=rf"no {role} token: name one .* tokenizer\.special\.{role}"):
        reference(value)
    assert getattr(reference(value, **{role: "<other>"}).roles, role) == number


def test_bad_roles_are_refused():
    with pytest.raises(TokenizerError, match="'<masque>', which is no token"):
        reference(unigram(), mask="<masque>")


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(("cls", "sep", "pad", "mask", "unk"), 2)))
def test_roles_that_collide_are_refused(one, other):
    line = rf"{one} and {other} are the same token: name another in tokenizer.special.{one} or .{other}"
    with pytest.raises(TokenizerError, match=line):
        reference(unigram(), **{one: "a", other: "a"})


def test_never_targets_and_random_ids():
    ref = reference(wordpiece())
    assert ref.never_targets.tolist() == [0, 1, 2, 3, 4]
    assert ref.random_ids.tolist() == [5, 6, 7, 8, 9, 10, 11, 12]  # 13 is [unused0]
    value = unigram()
    value["added_tokens"] = value["added_tokens"][3:]  # the unknown token is no added token here
    assert reference(value, pad="a").never_targets.tolist() == [1, 2, 3, 5]
    assert 1 in reference(value, pad="a", sep="b").random_ids  # "</s>" has no role and isn't special here


def test_ids_without_a_token_are_never_drawn():
    value = wordpiece()
    value["model"]["vocab"]["far"] = 20
    ref = reference(value)
    assert ref.vocab_size == 21
    assert ref.tokens[15] == ""
    assert 20 in ref.random_ids
    assert 15 not in ref.random_ids


def test_encode_masked():
    ref = reference(wordpiece())
    assert ref.encode_masked("a [MASK] [SEP]").tolist() == [2, 7, 4, 5, 1, 6, 3]
    value = wordpiece()
    value["added_tokens"] += [added(14, "<|late|>"), added(15, "|IP|", special=False)]
    assert reference(value).encode_masked("[MASK]|IP|").tolist() == [2, 4, 15, 3]
    assert reference(unigram(), mask="k").encode_masked("ak").tolist()[-2:] == [
        reference(unigram()).tokens.index("k"),
        1,
    ]


def test_dropout_is_refused():
    value = bpe()
    value["model"]["dropout"] = 0.1
    with pytest.raises(TokenizerError, match=r"dropout 0\.1"):
        reference(value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a tokenizer.json"),
        (b"\xff\xfe", "not a tokenizer.json"),
        (b"[]", "not a tokenizer.json"),
        (b'{"a": 1}', "not a tokenizer.json"),
        (b'{"model": {"vocab": {}}}', "vocabulary is empty"),
        (b'{"model": {"type": "BPE", "vocab": {"\\ud800": 0}, "merges": []}}', "not a tokenizer.json"),
        (b'{"model": {"type": "Strange", "vocab": {"a": 0}}}', "can't load it"),
    ],
)
def test_what_is_no_tokenizer(data, problem):
    with pytest.raises(TokenizerError, match=problem) as caught:
        from_bytes(data)
    assert "\n" not in str(caught.value)


def test_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_tokenizer(tmp_path / "absent.json")
    (tmp_path / "tokenizer.json").write_text(json.dumps(wordpiece()))
    assert load_tokenizer(tmp_path).sha256 == reference(wordpiece()).sha256
    assert load_tokenizer(tmp_path / "tokenizer.json").where.endswith("tokenizer.json")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_vocab_txt(tmp_path, end):
    path = tmp_path / "vocab.txt"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "\u2028"]
    path.write_bytes((end.join(names) + end).encode())
    ref = load_tokenizer(path)
    assert ref.tokens == tuple(names)
    assert raw_tokens(ref, "Á [MASK] ab") == ["a", "[UNK]", "[UNK]", "[UNK]", "a", "##b"]
    assert ref.roles.cls == 2
    path.write_text("\n".join([*names, "Word"]))
    assert raw_tokens(load_tokenizer(path), "A Word") == ["[UNK]", "Word"]  # cased
    path.write_text("a\nb\n")
    with pytest.raises(TokenizerError, match=r"no line is \[UNK\]"):
        load_tokenizer(path)
    path.write_bytes(b"\xff")
    with pytest.raises(TokenizerError, match="not UTF-8"):
        load_tokenizer(path)


@pytest.mark.corpora
def test_known_tokenizers(corpora):
    bert = load_tokenizer(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")
    mini = load_tokenizer(corpora / "tok/minilm")
    assert bert.vocab_size == mini.vocab_size == 30522
    assert len(bert.random_ids) == 30522 - 994 - 5
    assert raw_tokens(mini, "x " * 300) == ["x"] * 300
    roberta = load_tokenizer(corpora / "tok/ortx/tokenizer/roberta-base")
    assert [roberta.tokens[i] for i in roberta.encode_masked("The cat <mask> on")] == [
        "<s>", "The", "Ġcat", "<mask>", "Ġon", "</s>",
    ]  # fmt: skip
    t5 = load_tokenizer(corpora / "tok/ortx/tokenizer/t5-small", SpecialTokens(mask="<extra_id_0>"))
    assert t5.raw_tokenizer.encode("a</s>b").ids == [3, 9, 2, 87, 7, 3155, 115]
    assert np.array_equal(t5.special_ids, [0, 1, 2, *range(32000, 32100)])
    assert pa.array(t5.tokens).null_count == 0
