"""Tokenizers that few people have: each is exact, by the table or by HF, whatever its settings are."""

import json
from pydoc_data import topics

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from mlm_data.errors import TokenizerError
from mlm_data.tokens.engine import from_bytes, make_engine

TEXTS = list(topics.topics.values())
SPECIALS = ["[PAD]", "[UNK]", "[MASK]"]
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SPLIT = [{"type": "WhitespaceSplit"}]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def metaspace(scheme="always", split=True, replacement="▁"):
    return {"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme, "split": split}


@pytest.fixture(scope="session")
def base():
    """A small trained model of each kind, as the settings of a tokenizer.json."""
    spaced = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    kinds = {
        "spaced bpe": (models.BPE(unk_token="[UNK]"), trainers.BpeTrainer, spaced, normalizers.NFKC(), {}),
        "byte bpe": (models.BPE(), trainers.BpeTrainer, level, None, {"initial_alphabet": sorted(alphabet)}),
        "unigram": (models.Unigram(), trainers.UnigramTrainer, spaced, normalizers.NFKC(), {"unk_token": "[UNK]"}),
        "wordpiece": (
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer,
            pre_tokenizers.BertPreTokenizer(),
            normalizers.BertNormalizer(),
            {},
        ),
    }
    result = {}
    for kind, (model, trainer, pre_tokenizer, normalizer, more) in kinds.items():
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer, tokenizer.normalizer = pre_tokenizer, normalizer
        training = trainer(vocab_size=700, special_tokens=SPECIALS, show_progress=False, **more)
        tokenizer.train_from_iterator(TEXTS[:40], training)
        result[kind] = tokenizer.to_str()
    return lambda kind: json.loads(result[kind])


def model(**settings):
    return lambda tokenizer: tokenizer["model"].update(settings)


def before(*parts):
    """Other pre-tokenizers."""
    one = parts[0] if len(parts) == 1 else {"type": "Sequence", "pretokenizers": list(parts)}
    return lambda tokenizer: tokenizer.update(pre_tokenizer=one)


def normal(*steps):
    steps = [{"type": step} if isinstance(step, str) else step for step in steps]
    one = steps[0] if len(steps) == 1 else {"type": "Sequence", "normalizers": steps}
    return lambda tokenizer: tokenizer.update(normalizer=one)


def replace(string, content):
    return {"type": "Replace", "pattern": {"String": string}, "content": content}


def regex(pattern, content):
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def add(*contents, **flags):
    def change(tokenizer):
        vocabulary = tokenizer["model"]["vocab"]
        names = [entry[0] for entry in vocabulary] if isinstance(vocabulary, list) else list(vocabulary)
        after = max(len(names), 1 + max(token["id"] for token in tokenizer["added_tokens"]))
        for content in contents:
            known = content in names
            number = names.index(content) if known else after
            if known and not isinstance(vocabulary, list):
                number = vocabulary[content]
            after += not known
            tokenizer["added_tokens"].append({"id": number, "content": content, **FLAGS, **flags})

    return change


def fallback(tokenizer):
    """The 256 byte tokens, and the switch that uses them."""
    names = tokenizer["model"]
    if isinstance(names["vocab"], list):
        names["vocab"] += [[byte, -20.0] for byte in BYTES]
    else:
        first = len(names["vocab"])
        names["vocab"] |= {byte: first + i for i, byte in enumerate(BYTES)}
    names["byte_fallback"] = True


def short_alphabet(*letters):
    """Take characters and their merges away, so that they are unknown."""

    def change(tokenizer):
        names = tokenizer["model"]
        if isinstance(names["vocab"], list):
            names["vocab"] = [entry for entry in names["vocab"] if entry[0] not in letters]
            return
        kept = [token for token in sorted(names["vocab"], key=names["vocab"].get) if not set(token) & set(letters)]
        names["vocab"] = {token: i for i, token in enumerate(kept)}
        if "merges" in names:
            names["merges"] = [merge for merge in names["merges"] if not set("".join(merge)) & set(letters)]

    return change


def all_of(*changes):
    return lambda tokenizer: [change(tokenizer) for change in changes]


STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}
ODD = {
    "spaced bpe": {
        "as trained": None,
        "unknowns": short_alphabet("e", "T"),
        "fused unknowns": all_of(short_alphabet("e", "T"), model(fuse_unk=True)),
        "no unknown": all_of(short_alphabet("e", "T"), model(unk_token=None)),
        "bytes": all_of(short_alphabet("e"), fallback),
        "bytes, fused": all_of(short_alphabet("e"), fallback, model(fuse_unk=True)),
        "ignored merges": model(ignore_merges=True),
        "suffix": model(end_of_word_suffix="</w>"),
        "lowercase": normal("Lowercase"),
        "strip": normal(STRIP, "NFC"),
    },
    "unigram": {
        "as trained": None,
        "bytes": fallback,
        "never": before(*SPLIT, metaspace("never")),
        "first": before(*SPLIT, metaspace("first")),
        "not split": before(*SPLIT, metaspace(split=False)),
        "other mark": before(*SPLIT, metaspace(replacement="_")),
        "metaspace alone": before(metaspace()),
        "metaspace alone, never": before(metaspace("never")),
        "metaspace alone, first": before(metaspace("first")),
        "metaspace alone, not split": before(metaspace(split=False)),
        "white space first": before({"type": "Whitespace"}, metaspace()),
        "prepend": normal({"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")),
        "prepend, no pre-tokenizer": all_of(
            normal({"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")), lambda t: t.update(pre_tokenizer=None)
        ),
        "spaces to marks": normal(replace(" ", "▁")),
        "spaces collapsed to a mark": normal("NFKC", regex(" {2,}", "▁")),
        "newline to a word": normal(replace("\n", "x")),
        "e is a space": normal(replace("e", " ")),
        "e vanishes": normal(replace("e", "")),
        "e becomes a mark": normal(replace("e", "▁")),
        "th vanishes": normal(replace("th", ""), "NFKC"),
        "th is a space": normal(replace("th", " "), regex(" {2,}", " ")),
        "th vanishes, of is a space": normal(replace("th", ""), replace("of", " "), regex(" {2,}", " ")),
        "an accent vanishes": normal(replace("e\u0301", "e"), "NFC"),
        "a joiner vanishes": normal(replace("a\u200d", "a")),
        "a next line is a letter": normal(replace("\x85", "\uffff"), "NFKC"),
        "a no-break space is a letter": normal("NFC", replace("\u00a0", "x")),
        "any regex": normal(regex("t(.)", "x")),
        "lowercase": normal("NFD", "Lowercase", "StripAccents", STRIP),
        "strip left": normal({"type": "Strip", "strip_left": True, "strip_right": False}),
        "nested": normal({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Nmt"}]}, "NFC"),
        "added": add("covid", "the"),
        "added, raw": add("covid", "the", "é", normalized=False),
        "added, stripping": add("the", lstrip=True, rstrip=True),
        "added, whole words": add("the", single_word=True),
        "added, a mark": add("▁the", "▁"),
    },
    "byte bpe": {
        "as trained": None,
        "prefix space": lambda t: t["pre_tokenizer"].update(add_prefix_space=True),
        "unknown": all_of(short_alphabet("e", "T"), model(unk_token="[UNK]")),
        "fused unknowns": all_of(short_alphabet("e", "T"), model(unk_token="[UNK]", fuse_unk=True)),
        "no unknown": short_alphabet("e", "T"),
        "ignored merges": model(ignore_merges=True),
        "suffix": model(end_of_word_suffix="</w>"),
        "bytes": all_of(short_alphabet("e"), fallback),
        "lowercase": normal("Lowercase"),
        "nfc": normal("NFC"),
        "nfc in a sequence": normal("NFC", "NFC"),
        "strip": normal(STRIP),
        "prepend": normal({"type": "Prepend", "prepend": " "}),
        "replace": normal(replace("e", " ")),
        "no regex": lambda t: t["pre_tokenizer"].update(use_regex=False),
        "digits first": before({"type": "Digits", "individual_digits": True}, LEVEL),
        "added": add("the", " of", "covid"),
        "added, nfc": all_of(normal("NFC"), add("the", "é", "=")),
        "added, raw, nfc": all_of(normal("NFC"), add("the", "é", "=", normalized=False)),
        "added, left": add("the", "=", lstrip=True),
        "added, right": add("the", "=", rstrip=True),
        "added, whole words": add("the", "é", single_word=True),
        "added, one in another": add("the", "then", "he", "=="),
        "added, prefix space": all_of(lambda t: t["pre_tokenizer"].update(add_prefix_space=True), add("the")),
        "added, white space": add("\n\n", "\t", "  "),
    },
    "wordpiece": {
        "as trained": None,
        "other prefix": model(continuing_subword_prefix="@@"),
        "no prefix": model(continuing_subword_prefix=""),
        "one character": model(max_input_chars_per_word=1),
        "long words": model(max_input_chars_per_word=100_000),
        "normalizer in a sequence": normal(
            {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "NFC",
        ),
        "strip": normal(STRIP),
        "replace": normal(replace("e", " ")),
        "lowercase": normal("Lowercase"),
        "no normalizer": lambda t: t.update(normalizer=None),
        "white space": before({"type": "Whitespace"}),
        "white space and punctuation": before({"type": "WhitespaceSplit"}, {"type": "Punctuation"}),
        "added": add("covid", "the"),
        "added, stripping": add("the", lstrip=True, rstrip=True),
        "added, whole words": add("the", single_word=True, normalized=False),
    },
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in ODD.items() for name in names])
def test_odd_tokenizers_are_exact(base, border_texts, differing, kind, name):
    settings = base(kind)
    if ODD[kind][name]:
        ODD[kind][name](settings)
    reference = from_bytes(json.dumps(settings).encode())
    engine = make_engine(reference)
    assert engine.why
    texts = [*border_texts(31, 250, TEXTS), TEXTS[1][:3000], "thofthof of th th ofth", "covid thethe=é é=the  e\u0301"]
    found = differing(reference, engine, texts)
    assert not found, (engine.why, found[:3])


def test_a_model_without_an_answer_is_a_mistake_of_the_user(base):
    settings = base("unigram")
    settings["model"]["unk_id"] = None
    engine = make_engine(from_bytes(json.dumps(settings).encode()))
    assert (engine.name, engine.why) == ("huggingface", "the word table doesn't know Unigram without an unknown token")
    assert len(engine.encode(pa.array(["return"], pa.large_string())).ids)
    with pytest.raises(TokenizerError, match=r"no ids for a text: .*: give its model an unknown token"):
        engine.encode(pa.array(["return \u2603"], pa.large_string()))


@pytest.mark.parametrize("kind", ["spaced bpe", "byte bpe"])
def test_a_tokenizer_that_hf_panics_at_is_a_mistake_of_the_user(base, kind):
    settings = base(kind)
    settings["model"]["continuing_subword_prefix"] = "##"  # its merges have none
    with pytest.raises(TokenizerError, match="HF tokenizers can't load it"):
        from_bytes(json.dumps(settings).encode())
