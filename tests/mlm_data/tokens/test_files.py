"""Folders as people keep their tokenizers: which file counts, which token plays which role, what is refused."""

import json
import shutil
from pydoc_data import topics

import pyarrow as pa
import pytest
from tokenizers import ByteLevelBPETokenizer

from mlm_data.config import SpecialTokens, TokenizerTraining
from mlm_data.errors import InputError, TokenizerError
from mlm_data.tokens.byte_level import byte_characters
from mlm_data.tokens.engine import HuggingFaceEngine, load_tokenizer, make_engine
from mlm_data.tokens.train import train_tokenizer

TEXTS = list(topics.topics.values())[:30]
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": {"content": "<mask>"}}


@pytest.fixture(scope="session")
def files():
    """vocab.json and merges.txt as GPT-2 and RoBERTa have them."""
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(TEXTS, vocab_size=700, special_tokens=special, show_progress=False)
    model = json.loads(tokenizer.to_str())["model"]
    merges = "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in model["merges"]) + "\n"
    return json.dumps(model["vocab"]), merges


@pytest.fixture
def folder(tmp_path, files):
    (tmp_path / "vocab.json").write_text(files[0])
    (tmp_path / "merges.txt").write_text(files[1])
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(ROBERTA))
    return tmp_path


def write(folder, name, value):
    (folder / name).write_text(json.dumps(value))


def test_vocab_json_and_merges(folder, border_texts, differing):
    (folder / "vocab.txt").write_text("never read")
    reference = load_tokenizer(folder)
    engine = make_engine(reference)
    assert engine.why == "the word table knows GPT-2's pattern (byte-level)"
    texts = [*TEXTS[:3], "a b  c\n\n'll é 👍🏽"]
    assert not differing(reference, engine, [*texts, *border_texts(9, 200, TEXTS)])
    library = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    got = HuggingFaceEngine(reference).encode(pa.array(texts, pa.large_string())).ids.tolist()
    assert got == [i for text in texts for i in library.encode(text).ids]
    roles = reference.roles
    assert (roles.cls, roles.pad, roles.sep, roles.mask) == (0, 1, 2, 4)
    assert "mask <mask> (the files beside it)" in roles.how
    assert reference.where.endswith("vocab.json")


def test_add_prefix_space_is_read(folder):
    write(folder, "tokenizer_config.json", {"add_prefix_space": True, "tokenizer_class": "RobertaTokenizerFast"})
    reference = load_tokenizer(folder)
    assert reference.settings["pre_tokenizer"]["add_prefix_space"] is True
    assert reference.settings["post_processor"]["single"][0] == {"SpecialToken": {"id": "<s>", "type_id": 0}}


def test_added_tokens_keep_their_ids(folder):
    size = load_tokenizer(folder).vocab_size
    write(folder, "added_tokens.json", {"<x>": size, "<y>": size + 1})
    reference = load_tokenizer(folder)
    assert reference.tokens[size:] == ("<x>", "<y>")
    assert "<x>" not in reference.specials
    write(folder, "added_tokens.json", {"<x>": size + 5})
    with pytest.raises(TokenizerError, match=rf"'<x>' has id {size + 5}; the next free one is {size}"):
        load_tokenizer(folder)
    write(folder, "added_tokens.json", {"<s>": 7})
    with pytest.raises(TokenizerError, match="'<s>' has id 0, and 7 by the files beside it"):
        load_tokenizer(folder)


def test_roles_of_a_tokenizer_json(tmp_path):
    """The files beside it name what is else told by a known name; the template and the settings count more."""
    data = json.loads(train_tokenizer(iter([pa.array(TEXTS, pa.large_string())]), TokenizerTraining(vocab_size=300)))
    number = len(data["model"]["vocab"])
    data["model"]["vocab"]["<hide>"] = number
    write(tmp_path, "tokenizer.json", data)
    assert load_tokenizer(tmp_path).roles.mask == 4
    write(tmp_path, "tokenizer_config.json", {"mask_token": "<hide>", "cls_token": "[SEP]", "unk_token": "[PAD]"})
    roles = load_tokenizer(tmp_path).roles
    assert (roles.mask, roles.cls, roles.unk) == (number, 2, 1)
    assert load_tokenizer(tmp_path / "tokenizer.json").roles.mask == 4  # a lone file is read alone
    assert load_tokenizer(tmp_path, SpecialTokens(mask="[MASK]")).roles.mask == 4
    write(tmp_path, "special_tokens_map.json", {"mask_token": "[MASK]"})  # the map counts more than the config
    assert load_tokenizer(tmp_path).roles.mask == 4
    write(tmp_path, "special_tokens_map.json", {"mask_token": "<absent>"})
    assert load_tokenizer(tmp_path).roles.mask == 4


def test_a_folder_with_vocab_txt(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*NAMES, "<hide>", "the", "The"]))
    write(tmp_path, "special_tokens_map.json", {"mask_token": "<hide>"})
    write(tmp_path, "tokenizer_config.json", {"do_lower_case": True})
    reference = load_tokenizer(str(tmp_path) + "/")
    assert reference.tokens[reference.roles.mask] == "<hide>"
    assert reference.raw_tokenizer.encode("The <hide>", add_special_tokens=False).tokens[0] == "the"


def test_beginning_and_end_stand_in_for_cls_and_sep(folder):
    write(folder, "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"})
    roles = load_tokenizer(folder).roles
    assert (roles.cls, roles.sep) == (0, 2)


def test_folders_without_one_tokenizer(tmp_path):
    with pytest.raises(TokenizerError, match="no tokenizer in this folder: it needs a"):
        load_tokenizer(tmp_path)
    for name in ("a.model", "b.model"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(TokenizerError, match=r"holds several models, a\.model, b\.model: name one"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_tokenizer(tmp_path / "absent")


def test_another_tokenizers_files_are_refused(folder):
    write(folder, "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"})
    with pytest.raises(TokenizerError, match="tokenizer_class CLIPTokenizer cuts texts in a way"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("vocab.json", "{", "not a vocab.json with a merges.txt"),
        ("vocab.json", "[1]", "must be an object of tokens and their ids"),
        ("vocab.json", '{"a": 0}', "255 of the 256 bytes have no token"),
        ("merges.txt", "a b c\n", "merge 1 is not two tokens: 'a b c'"),
        ("special_tokens_map.json", "[", r"special_tokens_map\.json: not valid JSON"),
        ("tokenizer_config.json", "[]", "expected a JSON object, got list"),
    ],
)
def test_broken_files(folder, name, text, problem):
    (folder / name).write_text(text)
    with pytest.raises(TokenizerError, match=problem) as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_the_characters_of_bytes():
    assert len(set(byte_characters())) == 256
    assert byte_characters()[ord("A")] == "A"
    assert byte_characters()[32] == "Ġ"


@pytest.mark.corpora
def test_roberta_without_its_tokenizer_json(corpora, tmp_path, border_texts):
    source = corpora / "tok/ortx/tokenizer/roberta-base"
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(source / name, tmp_path)
    write(tmp_path, "special_tokens_map.json", ROBERTA)
    texts = pa.array([*TEXTS, *border_texts(12, 300, TEXTS)], pa.large_string())
    one, other = (make_engine(load_tokenizer(place)).encode(texts).ids for place in (tmp_path, source))
    assert one.tolist() == other.tolist()
