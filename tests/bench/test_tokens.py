"""How fast texts become ids: the words engine beside its peers, on one thread, interleaved in one run.

Times are CPU seconds of the one thread that works, so that another process on the machine disturbs little. Ratios are
what counts; nothing is asserted but equal ids. `warm` text is new to every engine; before it, each read other text.
Each round starts with engines that have read nothing; the median round is shown.
"""

import importlib
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import SpecialTokens
from mlm_data.tokens.engine import HuggingFaceEngine, Reference, load_tokenizer, make_engine
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]
PIECE = 64 << 10  # bytes of a text
ROUNDS = 4
HF_SHARE = 8  # HF sees every eighth text: it is slow, and its speed doesn't depend on what it saw


def pieces(paths: list[Path]) -> list[str]:
    """Texts of about PIECE characters."""
    texts = [path.read_bytes().decode("utf-8", "replace") for path in paths]
    return [text[i : i + PIECE] for text in texts for i in range(0, len(text), PIECE)]


def num_bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def taken(texts: list[str], size: int) -> tuple[list[str], list[str]]:
    """Texts of about `size` bytes, and the rest."""
    ends = np.cumsum([len(text.encode()) for text in texts])
    cut = int(np.searchsorted(ends, size)) + 1
    return texts[:cut], texts[cut:]


def seconds(work) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


class Peer:
    """One engine of a race: MB/s of each lap. `start` makes what is run."""

    def __init__(self, name: str, prepare, start, share: int = 1) -> None:
        self.name, self._prepare, self._start, self.share = name, prepare, start, share
        self._speeds: dict[str, list[float]] = {}

    def start(self) -> None:
        self._run = self._start()

    def speed(self, label: str) -> float:
        return float(np.median(self._speeds[label]))

    def times(self, other: "Peer", label: str) -> float:
        """How many times as fast as another: the median of the rounds' ratios."""
        return float(np.median(np.divide(self._speeds[label], other._speeds[label])))

    def lap(self, label: str, texts: list[str]) -> None:
        texts = texts[:: self.share]
        batches = [self._prepare(texts[i : i + 64]) for i in range(0, len(texts), 64)]
        spent = sum(seconds(lambda batch=batch: self._run(batch)) for batch in batches)
        self._speeds.setdefault(label, []).append(num_bytes(texts) / spent / 1e6)


def arrow(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def race(title: str, reference: Reference, laps: dict[str, list[str]], tmp_path: Path, others: list[str]) -> None:
    """Run all laps with all peers, one after another in each lap, and print a table."""
    warm_up = make_engine(reference, "words")  # compiles, or loads, the kernels
    warm_up.encode(arrow(["The cat sat.", "naïve 漢字"]))
    sample = next(iter(laps.values()))[:4]
    want, got = HuggingFaceEngine(reference).encode(arrow(sample)), warm_up.encode(arrow(sample))
    assert np.array_equal(want.ids, got.ids)
    assert np.array_equal(want.word_starts, got.word_starts)
    engines, hf = [], reference.raw_tokenizer

    def start_ours():
        engines.append(make_engine(reference, "words"))
        return engines[-1].encode

    def hf_ids(batch: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in hf.encode_batch_fast(batch, add_special_tokens=False)]

    peers = [Peer("premask words", arrow, start_ours), Peer("HF tokenizers", list, lambda: hf_ids, HF_SHARE)]
    found = []
    for name in others:
        try:
            module = importlib.import_module(name)
        except ImportError:
            print(f"{name} isn't installed: pip install {name}")
            continue
        found.append(name.replace("_", "-"))
        path = tmp_path / "tokenizer.json"
        path.write_bytes(reference.json_bytes)
        if name == "gigatoken":

            def start_giga(module=module, path=path):
                giga = module.Tokenizer(str(path))
                return lambda batch: giga.encode_batch(batch, parallel=False)

            peers.append(Peer(name, lambda texts: [text.encode() for text in texts], start_giga))
        else:
            vocabulary = tmp_path / "vocab.txt"
            vocabulary.write_text("\n".join(reference.tokens), encoding="utf-8")
            flash = module.BertTokenizerFlash(str(vocabulary), do_lower_case=True)
            peers.append(
                Peer(
                    name,
                    list,
                    lambda flash=flash: lambda batch: [flash.tokenizer.encode(t, "longest", 1 << 20) for t in batch],
                    HF_SHARE,
                )
            )
    for number in range(ROUNDS):
        turns = peers[:: (-1) ** number]  # who comes after HF finds the caches empty: each does as often
        for peer in turns:
            peer.start()
        for label, texts in laps.items():
            for peer in turns:
                peer.lap(label, texts)
    rows = [
        [
            peer.name,
            *(f"{peer.speed(label):.1f}" for label in laps),
            *(f"{peers[0].times(peer, label):.2f} x" for label in laps),
        ]
        for peer in peers
    ]
    columns = ["engine", *(f"{label}, MB/s" for label in laps), *(f"premask is, {label}" for label in laps)]
    show(f"{title}, one thread", columns, rows, packages=("tokenizers", "numba", "pyarrow", *found))
    print(f"{engines[-1].num_asked} pieces asked of the model, {engines[-1].num_left} texts left to HF")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def books(corpora) -> list[str]:
    return pieces(sorted((corpora / "en_classic_books_md").rglob("*.md")))


def test_wordpiece_on_books(corpora, books, tmp_path):
    cold, rest = taken(books, 20 << 20)
    warm, _ = taken(rest, 30 << 20)
    reference = load_tokenizer(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")
    race("WordPiece, uncased, English books", reference, {"cold": cold, "warm": warm}, tmp_path, ["flash_tokenizer"])


def test_byte_level_bpe_on_books(corpora, books, tmp_path):
    cold, rest = taken(books, 20 << 20)
    warm, _ = taken(rest, 30 << 20)
    reference = load_tokenizer(corpora / "tok/ortx/tokenizer/roberta-base")
    race("Byte-level BPE, English books", reference, {"cold": cold, "warm": warm}, tmp_path, ["gigatoken"])


def test_wordpiece_on_26_languages(corpora, tmp_path):
    paths = [p for p in sorted((corpora / "ml_hf_course").rglob("*")) if p.suffix in (".mdx", ".md")]
    reference = load_tokenizer(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")
    laps = {"cold": pieces(paths[::2]), "warm": pieces(paths[1::2])}
    race("WordPiece, uncased, 26 languages", reference, laps, tmp_path, [])


def test_unigram_on_books(corpora, books, tmp_path):
    cold, rest = taken(books, 10 << 20)
    warm, _ = taken(rest, 10 << 20)
    special = SpecialTokens(mask="<extra_id_0>")
    reference = load_tokenizer(corpora / "tok/ortx/tokenizer/t5-small", special)
    race("Unigram (T5), English books", reference, {"cold": cold, "warm": warm}, tmp_path, [])


def test_two_threads_share_a_table(corpora, books):
    """Wall time: another process on the machine disturbs it."""
    reference = load_tokenizer(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")
    engine, batches = make_engine(reference, "words"), [arrow(books[i : i + 64]) for i in range(0, len(books), 64)]
    [engine.encode(batch) for batch in batches]

    def run(threads: int) -> float:
        workers = [threading.Thread(target=lambda: [engine.encode(b) for b in batches]) for _ in range(threads)]
        start = time.perf_counter()
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        return threads * num_bytes(books) / (time.perf_counter() - start) / 1e6

    one, two = (max(run(threads) for _ in range(5)) for threads in (1, 2))
    print(f"one thread {one:.0f} MB/s, two threads {two:.0f} MB/s: {two / one:.2f} x")
