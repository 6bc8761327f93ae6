"""Models of sentencepiece, converted: the ids of its own library are the oracle."""

import io
import struct
from pydoc_data import topics

import pyarrow as pa
import pytest
import sentencepiece

from mlm_data.config import SpecialTokens
from mlm_data.errors import TokenizerError
from mlm_data.tokens.engine import load_tokenizer, make_engine
from mlm_data.tokens.sentencepiece import MARK, NORMAL, read_model

ROLES = SpecialTokens(mask="[MASK]", pad="[PAD]")
LINES = [line for text in topics.topics.values() for line in text.split("\n") if line.strip()][:2000]
LINES += ["Größe naïve façade Ελλάδα Москва 日本語 한국어 की है", "x" * 40 + " aaaa aaaaa aaaaaa"] * 3
TEXTS = [
    "", " ", "  ", "a", "The function returns a value.", "  two  spaces   here ", "tab\tand\nline\r\nfeed",
    "the\u00a0x",
    "unknown ☃ ☃☃ x☃y ☃", "aaaaaaa aaaaa aaa aa a", "Größe NAÏVE ﬁne ① ½ Ⅷ", "日本語 テスト", "한국어", "की है नहीं",
    "\u200bzero\u200bwidth", "\ufeffmark", "end\u3000", "\x01control\x7f", "x\x85y", "<unk> <s> </s> [MASK]",
    "a<sep>b <sep> c<sep>",
    "👍🏽 ok", "don't've it's", "x" * 7, " ".join(["word"] * 50), *LINES[100:160],
]  # fmt: skip


def train(**settings) -> bytes:
    """A model trained by the library."""
    sink = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=sink, num_threads=1, minloglevel=2,
        **{"vocab_size": 600, "hard_vocab_limit": False, "character_coverage": 0.999} | settings,
    )  # fmt: skip
    return sink.getvalue()


def differences(path, data: bytes, texts, special=ROLES):
    """Texts with other ids than the library's, by the engine that `auto` takes."""
    path.write_bytes(data)
    reference = load_tokenizer(path, special)
    library = sentencepiece.SentencePieceProcessor(model_proto=data)
    encoded = make_engine(reference).encode(pa.array(texts, pa.large_string()))
    got = [encoded.ids[a:b].tolist() for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]
    return [
        (text, ids, library.encode(text)) for text, ids in zip(texts, got, strict=True) if ids != library.encode(text)
    ]


OPTIONS = {
    "unigram": {},
    "bpe": {"model_type": "bpe"},
    "identity": {"normalization_rule_name": "identity"},
    "bpe, identity": {"model_type": "bpe", "normalization_rule_name": "identity"},
    "folded": {"normalization_rule_name": "nmt_nfkc_cf"},
    "nfkc": {"normalization_rule_name": "nfkc"},
    "no prefix": {"add_dummy_prefix": False},
    "bpe, no prefix": {"model_type": "bpe", "add_dummy_prefix": False},
    "all spaces": {"remove_extra_whitespaces": False},
    "all spaces, bare": {"remove_extra_whitespaces": False, "add_dummy_prefix": False, "model_type": "bpe"},
    "all spaces, identity": {"remove_extra_whitespaces": False, "normalization_rule_name": "identity"},
    "llama": {
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "vocab_size": 900,
        "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True, "split_digits": True,
    },
    "bytes": {"byte_fallback": True, "vocab_size": 900},
    "phrases": {"split_by_whitespace": False},
    "bpe of phrases": {"split_by_whitespace": False, "model_type": "bpe"},
    "own symbols": {"user_defined_symbols": ["<sep>", "ab"], "character_coverage": 1.0},
    "control symbols": {"control_symbols": ["[CLS]", "[MASK]"]},
    "other roles": {"pad_id": 0, "unk_id": 3, "bos_id": -1, "eos_id": 1, "unk_piece": "[UNK]"},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_ids_are_the_librarys(tmp_path, name):
    found = differences(tmp_path / "m.model", train(**OPTIONS[name]), TEXTS)
    assert not found, found[:3]


@pytest.mark.parametrize("name", ["unigram", "own symbols", "control symbols"])
def test_words_between_spaces_are_known_to_the_engine(tmp_path, border_texts, differing, name):
    (tmp_path / "m.model").write_bytes(train(**OPTIONS[name]))
    reference = load_tokenizer(tmp_path / "m.model", ROLES)
    engine = make_engine(reference, "words")
    assert engine.why == "the word table knows words between spaces (Unigram)"
    assert not differing(reference, engine, [*TEXTS, *border_texts(41, 300, LINES)])


def test_a_model_in_a_folder_and_roles_behind_its_pieces(tmp_path):
    data = train(**OPTIONS["other roles"])
    (tmp_path / "spiece.model").write_bytes(data)
    (tmp_path / "special_tokens_map.json").write_text('{"sep_token": "</s>", "pad_token": "<pad>"}')
    size = len(read_model(data).pieces)
    with pytest.raises(TokenizerError, match="no mask token: name one of its tokens"):
        load_tokenizer(tmp_path)
    reference = load_tokenizer(tmp_path, SpecialTokens(mask="<mask>"))
    assert (reference.roles.mask, reference.roles.pad, reference.roles.unk) == (size, 0, 3)
    assert reference.vocab_size == size + 1
    assert reference.notes[0].text.endswith("nmt_nfkc normalization; added behind them: <mask>")


def field(number: int, value: bytes | int | float) -> bytes:
    if isinstance(value, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", value)
    kind = 0 if isinstance(value, int) else 2
    key, rest = number << 3 | kind, value if kind == 0 else len(value)
    return b"".join(bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7]) for n in (key, rest)) + (
        b"" if kind == 0 else value
    )


def model(*pieces, trainer: bytes = b"", normalizer: bytes = b"") -> bytes:
    rows = [("<unk>", 0.0, 2), (MARK, -2.0, NORMAL), ("a", -3.0, NORMAL), ("b", -3.5, NORMAL), *pieces]
    data = b"".join(field(1, field(1, text.encode()) + field(2, score) + field(3, kind)) for text, score, kind in rows)
    return data + field(2, trainer) + field(3, normalizer)


BPE = field(3, 2)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a sentencepiece model: it has no pieces"),
        (b"\x0a\xff", "not a sentencepiece model: byte 1: it ends within a number"),
        (b"PK\x03\x04 something else", "not a sentencepiece model"),
        (field(1, field(1, b"\xff")), "not a sentencepiece model: .*utf-8"),
        (field(1, 7), "a number stands where a text or a message is expected"),
        (model(trainer=field(3, 3)), "model_type word can't be converted exactly"),
        (model(trainer=field(3, 4)), "model_type char can't be converted exactly"),
        (model(trainer=field(24, 1)), "treat_whitespace_as_suffix can't be converted exactly"),
        (model(trainer=field(35, 1)), "byte_fallback can't be converted exactly: 0 of 256 bytes"),
        (model(("ab", -1.0, 5)), "piece 4, 'ab', of type UNUSED"),
        (model(("ab", -1.0, 9)), "piece 4, 'ab' .* its type is 9"),
        (model(("a", -1.0, 1)), "piece 4, 'a' .* stands there twice"),
        (model(("", -1.0, 1)), "piece 4, '' .* it is empty"),
        (model(("ab", float("nan"), 1)), "its score is nan"),
        (model(("<u>", 0.0, 2)), "2 pieces of type UNKNOWN"),
        (field(1, field(1, b"<unk>") + field(3, 2)), "a model without ordinary pieces"),
        (model(("<x>", 0.0, 4), trainer=BPE), r"user_defined_symbols \('<x>'\) with model_type bpe"),
        (model(("a b", 0.0, 4)), r"user_defined_symbols \('a b'\)"),
        (model(("<xxxxxxxxx>", 0.0, 4)), "'<xxxxxxxxx>' holds '<', which is no piece"),
        (model(("ab", -1.0, 1), ("ba", -1.0, 1), trainer=BPE), "'ab' and 'ba' have the same, -1"),
        (model(("ax", -1.0, 1), trainer=BPE), "'ax' holds 'x', which is no piece"),
        (model(normalizer=field(2, b"\x05\0\0\0abc")), "precompiled_charsmap is damaged"),
    ],
)
def test_what_is_refused(tmp_path, data, problem):
    path = tmp_path / "m.model"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=problem) as caught:
        load_tokenizer(path, ROLES)
    assert "\n" not in str(caught.value)


def test_models_written_by_hand(tmp_path):
    """The defaults of a model that says nothing; and escape_whitespaces off."""
    data = model(("ab", -1.0, NORMAL))
    assert not differences(tmp_path / "m.model", data, ["ab ba", " a  b ", "", "x", "\n"])
    bare = model((" ", -1.0, NORMAL), (" a", -1.5, NORMAL), normalizer=field(5, 0))
    assert not differences(tmp_path / "n.model", bare, ["ab ba", " a  b ", "", "x"])


@pytest.mark.corpora
@pytest.mark.parametrize("name", ["pegasus_sp/sp_test.model", "seqio_sp/sentencepiece.model"])
def test_known_models(corpora, tmp_path, name):
    texts = [text for text in TEXTS if "\x85" not in text]
    lines = (corpora / "en_peps").rglob("*.rst")
    texts += [line for path in sorted(lines)[:6] for line in path.read_text(encoding="utf-8").split("\n")[:80]]
    found = differences(tmp_path / "m.model", (corpora / "tok" / name).read_bytes(), texts)
    assert not found, found[:3]
