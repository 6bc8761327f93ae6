"""The words engine gives the reference's ids and word starts: everywhere, whatever its table holds."""

import json
import subprocess
import sys
import threading
import unicodedata
from itertools import pairwise
from pathlib import Path
from pydoc_data import topics

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import SpecialTokens, TokenizerTraining
from mlm_data.tokens import emit, families, seams, viterbi
from mlm_data.tokens.engine import HuggingFaceEngine, from_bytes, load_tokenizer, make_engine
from mlm_data.tokens.train import train_tokenizer

TEXTS = list(topics.topics.values())
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TIKTOKEN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="session")
def trained():
    """Freshly trained tokenizers, each trained once; `change` edits the tokenizer.json."""
    known = {}

    def one(kind, change=None, **settings):
        key = json.dumps([kind, settings])
        if key not in known:
            texts = iter([pa.array(TEXTS, pa.large_string())])
            known[key] = train_tokenizer(texts, TokenizerTraining(kind=kind, vocab_size=1500, **settings))
        settings = json.loads(known[key])
        if change:
            change(settings)
        return from_bytes(json.dumps(settings).encode())

    return one


def strings(*texts):
    return pa.array(texts, pa.large_string())


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "offsets", "word_starts"))


def bert(**normalizer):
    return lambda settings: settings["normalizer"].update(normalizer)


def normalizers(*names):
    steps = [{"type": name} if isinstance(name, str) else name for name in names]
    return lambda settings: settings.update(normalizer={"type": "Sequence", "normalizers": steps})


def pattern(regex, behavior="Isolated", invert=False):
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return lambda settings: settings.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]})


def adding(*tokens, **flags):
    def change(settings):
        for token in tokens:
            vocabulary = settings["model"]["vocab"]
            number = vocabulary.setdefault(token, len(vocabulary))
            settings["added_tokens"].append({"id": number, "content": token, **FLAGS, **flags})

    return change


def both(*changes):
    return lambda settings: [change(settings) for change in changes]


SPACES = [" " * n for n in range(2, 25)]
WORDPIECE = {
    "uncased": bert(),
    "cased": bert(lowercase=False),
    "accents stripped, cased": bert(strip_accents=True, lowercase=False),
    "accents kept, uncased": bert(strip_accents=False),
    "controls kept": bert(clean_text=False),
    "chinese not split": bert(handle_chinese_chars=False),
    "no normalizer": lambda settings: settings.update(normalizer=None),
    "short words only": lambda settings: settings["model"].update(max_input_chars_per_word=7),
}
BPE = {
    "nfc": None,
    "gpt-2": lambda settings: settings.update(normalizer=None),
    "prefix space": both(lambda settings: settings["pre_tokenizer"].update(add_prefix_space=True)),
    "olmo": adding("|||IP_ADDRESS|||", "|||EMAIL_ADDRESS|||", *SPACES),
    "added before nfc": adding("|||IP_ADDRESS|||", "<|x|>", "=", normalized=False),
    "added, one byte": adding("=", "|||IP_ADDRESS|||"),
    "added, stripping": adding("|||IP_ADDRESS|||", lstrip=True, rstrip=True),
    "added, whole words": adding("the", "of", single_word=True),
    "added, of both kinds": both(adding("|||IP_ADDRESS|||"), adding("the", normalized=False)),
    "cl100k": pattern(CL100K),
    "cl100k of tiktoken": pattern(TIKTOKEN, "Removed", True),
    "qwen": both(pattern(CL100K.replace("{1,3}", "")), adding("|||IP_ADDRESS|||")),
    "ignored merges": lambda settings: settings["model"].update(ignore_merges=True),
}
QUOTES = {"type": "Replace", "pattern": {"String": "``"}, "content": '"'}
UNIGRAM = {
    "nfkc": None,
    "none": lambda settings: settings.update(normalizer=None),
    "nmt": normalizers("Nmt", "NFKC", {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}),
    "albert": normalizers(QUOTES, "NFKD", "StripAccents", "Lowercase"),
    "replaced": normalizers(QUOTES, {"type": "Replace", "pattern": {"String": "e"}, "content": "o\u2581 "}, "NFKC"),
    "stripped": normalizers("Nmt", {"type": "Strip", "strip_left": True, "strip_right": True}, "NFC"),
}


@pytest.mark.parametrize("name", WORDPIECE)
def test_wordpiece_is_exact(trained, border_texts, differing, name):
    reference = trained("wordpiece", WORDPIECE[name])
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, border_texts(1, 500, TEXTS))
    assert not differing(reference, engine, TEXTS[:8])


MARKED = [
    "की कु नहीं है",
    "ខ្មែរ ភាសា",
    "がバぱ",
    "Tiếng Việt ặệ",
    "İstanbul ISPARTA",
    "é e\u0301 É",
    "\u0301a \u0915\u093c",
]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_case_and_accents_are_two_settings(border_texts, differing, lowercase, strip_accents):
    """Of a tokenizer that is trained; the words engine and HF agree on marks, too."""
    texts = [*TEXTS[:20], *MARKED * 9]
    settings = TokenizerTraining(vocab_size=900, lowercase=lowercase, strip_accents=strip_accents, coverage=1.0)
    reference = from_bytes(train_tokenizer(iter([pa.array(texts, pa.large_string())]), settings))
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, [*MARKED, *border_texts(21, 300, MARKED)])
    tokens = "".join(reference.tokens[5:])
    assert any(unicodedata.category(c) == "Mn" for c in unicodedata.normalize("NFD", tokens)) is not strip_accents
    assert (tokens != tokens.lower()) is not lowercase


def test_words_of_any_length_are_cut(differing):
    """A trained WordPiece has no limit; HF's own search is the oracle up to where it takes too long."""
    rng = np.random.default_rng(5)
    dna = ["".join(rng.choice(list("acgt"), 900)) for _ in range(30)]
    reference = from_bytes(train_tokenizer(iter([strings(*dna)]), TokenizerTraining(vocab_size=300)))
    engine = make_engine(reference, "words")
    texts = [text[:n] for text, n in zip(dna, (99, 100, 101, 102, 255, 256, 700, 900), strict=False)]
    texts += [f"acgt {dna[8]}é{dna[9][:300]} t", f"é{dna[10][:120]}", dna[11][:400].upper(), f"{dna[12]}x", "\0" * 400]
    assert not differing(reference, engine, texts)
    encoded = engine.encode(strings(*dna))
    assert reference.roles.unk not in encoded.ids
    assert encoded.word_starts.sum() == len(dna)


def test_a_very_long_word_of_wordpiece_is_normalized_in_parts(monkeypatch):
    monkeypatch.setattr(seams, "PART_BYTES", 64)
    text = "Größeñandú" * 3000
    settings = TokenizerTraining(vocab_size=300, coverage=1.0)
    reference = from_bytes(train_tokenizer(iter([strings(text)]), settings))
    whole = make_engine(reference, "words").encode(strings(text))
    monkeypatch.setattr(families, "LONG", 100)
    parts = make_engine(reference, "words").encode(strings(text))
    assert same(whole, parts)
    assert reference.roles.unk not in whole.ids


def test_the_huggingface_engine_asks_no_long_word_of_hf(trained):
    """Its search takes the cube of the length: what one kernel answers in a moment would take it a year."""
    reference = trained("wordpiece")
    texts = strings("short", "then " + "function" * 40_000, "", "also short", "x" * 999)
    hf, words = make_engine(reference, "huggingface"), make_engine(reference, "words")
    assert same(hf.encode(texts), words.encode(texts))
    assert same(hf.encode(texts.slice(2, 2)), words.encode(texts.slice(2, 2)))


@pytest.mark.parametrize("name", BPE)
def test_byte_level_bpe_is_exact(trained, border_texts, differing, name):
    reference = trained("bpe", BPE[name])
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, border_texts(2, 400, TEXTS))
    assert not differing(reference, engine, TEXTS[:8])
    wholly = {"added, stripping", "added, whole words", "added, of both kinds", "added before nfc"}
    assert (engine.num_left > 0) == (name in wholly)


@pytest.mark.parametrize("name", UNIGRAM)
def test_unigram_is_exact(trained, border_texts, differing, name):
    reference = trained("unigram", UNIGRAM[name])
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, border_texts(3, 500, TEXTS))
    assert not differing(reference, engine, TEXTS[:8])


def known(corpora: Path, name: str):
    """A well-known tokenizer; where it has no mask, [MASK] is added."""
    place = {
        "bert-uncased": "tok/bert_vocab/bert-base-uncased-vocab.txt",
        "bert-cased": "tok/bert_vocab/bert-base-cased-vocab.txt",
        "bert-cased-2": "tok/ortx/bert_basic_cased_vocab.txt",
        "minilm": "tok/minilm/tokenizer.json",
        "roberta": "tok/ortx/tokenizer/roberta-base/tokenizer.json",
        "olmo": "tok/olmo_neox/gpt-neo-test-tokenizer.json",
        "t5": "tok/ortx/tokenizer/t5-small/tokenizer.json",
        "gpt2": "tok/ortx/gpt2.vocab",
    }[name]
    if name == "t5":
        return load_tokenizer(corpora / place, SpecialTokens(mask="<extra_id_0>"))
    if name not in ("olmo", "gpt2"):
        return load_tokenizer(corpora / place)
    if name == "gpt2":
        merges = (corpora / "tok/ortx/gpt2.merges.txt").read_text(encoding="utf-8").split("\n")
        model = {"type": "BPE", "vocab": json.loads((corpora / place).read_text(encoding="utf-8"))}
        model["merges"] = [merge for merge in merges if merge and not merge.startswith("#version")]
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        settings = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "model": model}
        settings |= {"truncation": None, "padding": None, "post_processor": None, "decoder": level}
    else:
        settings = json.loads((corpora / place).read_text(encoding="utf-8"))
    number = len(settings["model"]["vocab"]) + 100
    for i, content in enumerate(("[MASK]", "[PAD]")):
        settings["added_tokens"].append({"id": number + i, "content": content, **FLAGS, "special": True})
    return from_bytes(json.dumps(settings).encode())


KNOWN = ["bert-uncased", "bert-cased", "bert-cased-2", "minilm", "roberta", "gpt2", "olmo", "t5"]


@pytest.mark.corpora
@pytest.mark.parametrize("name", KNOWN)
def test_known_tokenizers_are_exact(corpora, border_texts, differing, name):
    reference = known(corpora, name)
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, border_texts(4, 500, TEXTS))
    assert engine.num_left == 0


# The traps that are known by code point. Each stands alone, in a sentence, doubled, and glued to words.
TRAPS = [
    *("cafe\u0301", "=\u0338", "\u1100\u1161", "\u1100\u1161\u11a8", "\u0958", "a\u00a0\u0301b", "\ufb01\u0301"),
    *(
        "\u200b",
        "\u200c",
        "\u200d",
        "\u200e",
        "\u200f",
        "\ufeff",
        "\ufffd",
        "\u2581",
        "x\u2581y",
        "'\u017f",
        "a'\u017fb",
    ),
    *("\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\x00", "\u00ad", "\u0345", "\u0130", "\u1e9e", "\u212b", "\ufdfa"),
    *(" \u0301", "\n\u0301", "\u0600 x", "\u0d4e x", " \u0e33", "e\u0323\u0302", "\u05e9\u05c1", "\u0915\u093c"),
    *(
        "👨\u200d👩\u200d👧",
        "👍🏽",
        "🇩🇪🇫🇷",
        "❤\ufe0f",
        "漢字kana かな",
        "\U00020000",
        "\uf900",
        "[MASK]",
        "</s>",
        "<mask>",
    ),
    *(
        "|||IP_ADDRESS|||",
        "  |||IP_ADDRESS||| ",
        "it's",
        "it'S",
        "'ll",
        "''re",
        " 's",
        "don't've",
        "\r\n",
        "\r\n\r\n x",
    ),
]


def trap_texts():
    # Characters with white space inside their normal form.
    inner = [
        chr(p)
        for p in range(0x110000)
        if not 0xD800 <= p < 0xE000 and not chr(p).isspace() and " " in unicodedata.normalize("NFKD", chr(p))
    ]
    assert len(inner) > 40
    forms = ("X", "XX", "the X of", "theXof", " X ", "\nX\n", "X X")
    return [form.replace("X", trap) for trap in (*TRAPS, *inner) for form in forms]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_every_known_trap(trained, differing, kind):
    changes = {"bpe": BPE["olmo"]}
    reference = trained(kind, changes.get(kind))
    assert not differing(reference, make_engine(reference, "words"), trap_texts())


@pytest.mark.corpora
@pytest.mark.parametrize("name", KNOWN)
def test_every_known_trap_of_known_tokenizers(corpora, differing, name):
    reference = known(corpora, name)
    assert not differing(reference, make_engine(reference, "words"), trap_texts())


def test_every_character_once(trained, differing):
    """Each code point of the first two planes between letters and spaces, the scanner's classes against HF."""
    points = [*range(0x3000), *range(0x3000, 0x30000, 97), *range(0xA000, 0xE000, 13), 0xFFFF, 0x10FFFF]
    texts = [f"a{chr(p)}b {chr(p)} 1{chr(p)}2 !{chr(p)}?" for p in points if not 0xD800 <= p < 0xE000]
    for kind in ("wordpiece", "bpe", "unigram"):
        reference = trained(kind)
        assert not differing(reference, make_engine(reference, "words"), texts)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_a_full_table_never_changes_ids(trained, border_texts, kind):
    """The smallest budget: the table is emptied again and again."""
    reference = trained(kind)
    texts = strings(*border_texts(5, 300), *[f"w{i}x{i * i} " * 2 for i in range(12_000)])
    engine = make_engine(reference, "words", budget_bytes=1)
    got = engine.encode(texts)
    assert engine.table.num_resets > 0
    assert engine.table.num_bytes <= engine.table.budget_bytes
    assert same(got, make_engine(reference, "words").encode(texts))
    assert same(got, engine.encode(texts))


@pytest.mark.parametrize("room", [(3, 2), (100, 400)])  # nothing goes through the queue; a queue is cut short
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_buffers_that_fill_up_never_change_ids(trained, border_texts, monkeypatch, kind, room):
    reference = trained(kind)
    texts = strings(*border_texts(6, 300, TEXTS))
    want = make_engine(reference, "words").encode(texts)
    monkeypatch.setattr(emit, "IDS_PER_RUN", room[0])
    monkeypatch.setattr(emit, "HOLES_PER_RUN", room[1])
    assert same(make_engine(reference, "words").encode(texts), want)


def test_threads_share_a_table(trained, border_texts):
    reference = trained("bpe", BPE["olmo"])
    texts = strings(*border_texts(7, 400, TEXTS))
    want = make_engine(reference, "words").encode(texts)
    engine, results = make_engine(reference, "words", budget_bytes=1 << 20), [None] * 4

    def run(i):
        results[i] = [engine.encode(texts) for _ in range(2)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(same(result, want) for part in results for result in part)


def test_slices_empty_arrays_and_empty_texts(trained):
    reference = trained("wordpiece")
    engine, texts = make_engine(reference, "words"), strings("noise", "", "The cat", "", "sat.", "noise")
    assert same(engine.encode(texts.slice(1, 4)), HuggingFaceEngine(reference).encode(texts.slice(1, 4)))
    for empty in (strings(), strings(""), strings("", ""), strings(" \n")):
        encoded = engine.encode(empty)
        assert len(encoded.ids) == len(encoded.word_starts) == 0
        assert encoded.offsets.tolist() == [0] * (len(empty) + 1)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_long_words(trained, differing, kind):
    reference = trained(kind)
    texts = [
        unit * count for unit in ("a", "é", "漢", "=", "ab", "aé1", "\u0301", " ") for count in (99, 101, 300, 5000)
    ]
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, texts)
    assert not differing(reference, engine, [" ".join(pair) for pair in pairwise(texts)])


@pytest.mark.parametrize("room", [1, 64])
@pytest.mark.parametrize("name", UNIGRAM)
def test_long_words_of_unigram(trained, border_texts, differing, monkeypatch, name, room):
    """Long pieces are normalized in parts, cut into words here, and their pieces are found a second time."""
    monkeypatch.setattr(families, "LONG", room)
    monkeypatch.setattr(families, "BYTES_PER_CALL", 3 * room)
    monkeypatch.setattr(seams, "PART_BYTES", room)
    monkeypatch.setattr(viterbi, "SHORT", room)
    reference = trained("unigram", UNIGRAM[name])
    engine = make_engine(reference, "words")
    assert not differing(reference, engine, border_texts(8, 150, TEXTS))
    units = ("a", "é", "漢", "=", "ab", "the", "aé1", "\u0301", "e\u0301", "\u2581a", "x\u2581\u2581", "\u200b", "``")
    texts = [unit * (size // len(unit)) for unit in units for size in (room, room + 1, 2 * room - 1, 900)]
    assert not differing(reference, engine, texts)
    assert not differing(reference, engine, [" ".join(pair) for pair in pairwise(texts)])


def test_broken_utf8_is_safe(trained):
    """Bytes that are no UTF-8 can't come from a reader; if they do, nothing is read beyond the text."""
    data = [b"a\xff\xfe b", b"\xe2\x82", b"\xf0\x9f", b"x \xc3", b"\x80\x80", b"\xed\xa0\x80"]
    offsets = np.concatenate([[0], np.cumsum([len(item) for item in data])]).astype(np.int64)
    texts = pa.LargeStringArray.from_buffers(len(data), pa.py_buffer(offsets), pa.py_buffer(b"".join(data)))
    engine = make_engine(trained("bpe", BPE["gpt-2"]), "words")
    assert len(engine.encode(texts).offsets) == len(data) + 1


def test_wide_ids(trained):
    def widen(settings):
        settings["model"]["vocab"] |= {f"filler{i}": 2000 + i for i in range(70_000)}

    reference = trained("wordpiece", widen)
    encoded = make_engine(reference, "words").encode(strings("The filler69999 cat"))
    assert encoded.ids.dtype == np.uint32
    assert same(encoded, HuggingFaceEngine(reference).encode(strings("The filler69999 cat")))


def replaced(string, content):
    return normalizers({"type": "Replace", "pattern": {"String": string}, "content": content}, "NFKC")


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        ("wordpiece", normalizers("NFC", "Lowercase"), "under a Sequence normalizer"),
        ("wordpiece", adding("covid"), "beside added tokens such as 'covid'"),
        ("wordpiece", lambda s: s.update(pre_tokenizer={"type": "Whitespace"}), "WordPiece after Whitespace"),
        ("wordpiece", lambda s: s.update(pre_tokenizer=None), "WordPiece after no pre-tokenizer"),
        ("bpe", lambda s: s.update(normalizer={"type": "NFKC"}), "GPT-2's pattern under a NFKC normalizer"),
        ("bpe", adding("e\u0301"), "beside added tokens"),
        ("bpe", pattern(r"\p{L}+|\s+"), "BPE after Sequence"),
        ("unigram", lambda s: s["pre_tokenizer"]["pretokenizers"][1].update(prepend_scheme="first"), "'first'"),
        ("unigram", normalizers({"type": "Prepend", "prepend": "x"}), "under a Prepend normalizer"),
        ("unigram", normalizers({"type": "ByteLevel"}), "under a ByteLevel normalizer"),
        ("unigram", replaced("th", ""), "under a Replace normalizer"),
        ("unigram", replaced("th", "t h"), "under a Replace normalizer"),
        ("unigram", replaced("th", "\u00a8"), "under a Replace normalizer"),  # NFKC has a space in it
        ("unigram", replaced("th", "\u2581"), "under a Replace normalizer"),
        ("unigram", replaced("t\u200b", "x"), "under a Replace normalizer"),
    ],
)
def test_other_tokenizers_take_the_plain_way(trained, differing, kind, change, why):
    reference = trained(kind, change)
    engine = make_engine(reference)
    assert engine.name == "huggingface"
    assert engine.why.startswith("the word table doesn't know ")
    assert why in engine.why
    assert not differing(reference, engine, TEXTS[:3])


def test_the_plan_is_told_why(trained):
    engine = make_engine(trained("bpe"))
    assert (engine.name, engine.why) == ("words", "the word table knows GPT-2's pattern (byte-level)")


def readable(corpora: Path):
    """Every file of the corpora as texts of at most 64 KiB; what isn't UTF-8 is read as far as it goes."""
    for path in sorted(corpora.rglob("*")):
        if not path.is_file() or "tok" in path.relative_to(corpora).parts[:1]:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".jsonl":
            lines = text.split("\n")
            yield from (json.loads(line).get("text", line) if line.startswith("{") else line for line in lines)
        else:
            yield from (text[i : i + 65536] for i in range(0, len(text), 65536))


@pytest.mark.slow
@pytest.mark.corpora
@pytest.mark.parametrize("name", [*KNOWN, "wordpiece", "bpe", "unigram"])
def test_every_text_of_the_corpora(corpora, trained, differing, name):
    reference = known(corpora, name) if name in KNOWN else trained(name)
    engine, batch, size, texts = make_engine(reference, "words"), [], 0, 0
    for text in (*readable(corpora), None):
        if text is not None:
            batch.append(text)
            size += len(text)
        if size > 4 << 20 or text is None:
            assert not differing(reference, engine, batch)
            texts += len(batch)
            batch, size = [], 0
    assert engine.num_left == 0
    print(f"{name}: {texts} texts, 0 differences; {engine.num_asked} pieces asked, {engine.num_left} texts left to HF")


RANDOM = {
    "BERT": ["bert-uncased", "bert-cased"],
    "GPT-2's pattern": ["roberta", "olmo"],
    "cl100k's pattern": ["cl100k", "qwen"],
    "Metaspace": ["t5", "unigram"],
}


@pytest.mark.slow
@pytest.mark.corpora
@pytest.mark.parametrize("family", RANDOM)
def test_a_million_random_texts(corpora, trained, border_texts, differing, family):
    names = RANDOM[family]
    total = 1_000_000
    for name in names:
        if name in KNOWN:
            reference = known(corpora, name)
        else:
            reference = trained("unigram") if name == "unigram" else trained("bpe", BPE[name])
        engine = make_engine(reference, "words")
        for seed in range(total // len(names) // 10_000):
            assert not differing(reference, engine, border_texts(10_000 + seed, 10_000, TEXTS))
        print(f"{family}, {name}: {total // len(names)} random texts, 0 differences; {engine.num_left} left to HF")


BIG = """
import resource, sys, tempfile
import numpy as np
import pyarrow as pa
from mlm_data.config import SpecialTokens
from mlm_data.tokens.engine import load_tokenizer, make_engine
path, what, mask = sys.argv[1:]
engine = make_engine(load_tokenizer(path, SpecialTokens(mask=mask or None)), "words")
engine.encode(pa.array(["a warm-up"], pa.large_string()))
fox = "The quick brown fox, 2026; it's unbelievable! "
parts = {
    "a document of 200 MB": (fox * 1000 for _ in range(4400)),
    "a word of 50 MB": ("ab" * 25_000 for _ in range(1000)),
    "10 million words": (
        "".join(f" {i:x}{i * 2654435761 % 2**32:x}" for i in range(first, first + 10_000))
        for first in range(0, 10_000_000, 10_000)
    ),
}
# By way of a file, so that the peak before is no higher than what the text itself takes.
with tempfile.TemporaryFile() as file:
    for part in parts[what]:
        file.write(part.encode())
    file.seek(0)
    data = np.fromfile(file, np.uint8)
offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
texts = pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
encoded = engine.encode(texts)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
output = sum(array.nbytes for array in (encoded.ids, encoded.word_starts, encoded.offsets))
assert engine.table.num_bytes <= engine.table.budget_bytes
print((after - before) * 1024, output, len(encoded.ids))
"""


BIG_PATHS = [
    "tok/bert_vocab/bert-base-uncased-vocab.txt",
    "tok/ortx/tokenizer/roberta-base",
    "tok/ortx/tokenizer/t5-small",
]


@pytest.mark.slow
@pytest.mark.corpora
@pytest.mark.parametrize("what", ["a document of 200 MB", "a word of 50 MB", "10 million words"])
@pytest.mark.parametrize("path", BIG_PATHS)
def test_memory_stays_within_the_budget(corpora, what, path):
    """Peak memory grows by no more than the table's budget, beside the ids themselves."""
    mask = "<extra_id_0>" if "t5" in path else ""
    command = [sys.executable, "-c", BIG, str(corpora / path), what, mask]
    grown, output, ids = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert ids > 0
    assert grown - 2 * output < 512 << 20
    print(f"{what}: {ids} ids of {output >> 20} MiB; peak memory grew by {grown >> 20} MiB")
