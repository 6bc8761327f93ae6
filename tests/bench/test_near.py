"""Near duplicates: how fast texts become signatures, beside datatrove and rensa, and what is found of what was planted.

One thread; times are CPU seconds of this process. Ratios are of medians of interleaved rounds in one run. The peers see
a share of the texts, as they are slow and remember nothing. Nothing is asserted.
"""

import importlib
import os
import re
import time

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.duplicates.decontaminate import build_index, find_matches
from mlm_data.duplicates.lines import line_hashes
from mlm_data.duplicates.minhash import band_keys, sketch
from tests.bench.report import show
from tests.mlm_data.duplicates.planted import find_pairs, plant, recall

pytestmark = pytest.mark.bench
NGRAM = 5
ROUNDS = 5


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ours(bands, rows):
    def run(texts):
        values = sketch(texts, ngram=NGRAM, size=bands * rows).values
        band_keys(values, bands=bands)

    return run


def datatrove(folder):
    """The step's own shingles and signatures, 14 x 8; its xxhash is handed bytes, which xxhash 4 insists on."""
    minhash = importlib.import_module("datatrove.pipeline.dedup.minhash")
    xxhash = importlib.import_module("xxhash")
    step = minhash.MinhashDedupSignature(
        str(folder), minhash.MinhashConfig(n_grams=NGRAM, num_buckets=14, hashes_per_bucket=8)
    )
    step._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())

    def run(texts):
        for text in texts:
            step.get_signature(step.get_shingles(text))

    return run


def rensa():
    """112 values in one batch, over 5-grams of words that Python's `re` finds: it makes no shingles itself."""
    find = re.compile(r"\w+").findall
    matrix = importlib.import_module("rensa").RMinHash.digest_matrix_from_token_sets

    def run(texts):
        sets = []
        for text in texts:
            words = find(text.lower())
            sets.append([" ".join(words[k : k + NGRAM]) for k in range(max(1, len(words) - NGRAM + 1))])
        matrix(sets, 112, 42)

    return run


@pytest.fixture
def books(corpora) -> str:
    paths = sorted((corpora / "en_classic_books_md").rglob("*.md"))
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in paths[:60])[: 24 << 20]


@pytest.mark.corpora
@pytest.mark.parametrize("size", [1000, 5000])
def test_signatures_from_text(books, tmp_path, size):
    os.environ["RAYON_NUM_THREADS"] = "1"
    texts = [books[i : i + size] for i in range(0, len(books), size)]
    peers = {
        "premask 16 x 7": (ours(16, 7), 1, lambda texts: pa.array(texts, pa.large_string())),
        "datatrove 14 x 8": (datatrove(tmp_path), 100, list),
        "rensa 112": (rensa(), 8, list),
    }
    speeds = {name: [] for name in peers}
    for number in range(ROUNDS + 1):
        for name, (run, share, prepare) in peers.items():
            taken = texts[number % share :: share]
            batch = prepare(taken)
            spent = seconds(lambda run=run, batch=batch: run(batch))
            if number:  # the first round compiles and warms up
                speeds[name].append(sum(len(text.encode()) for text in taken) / spent / 1e6)
    first = next(iter(speeds.values()))
    rows = [
        [name, f"{np.median(found):.2f}", f"{np.median(np.divide(first, found)):.1f} x"]
        for name, found in speeds.items()
    ]
    show(
        f"Signatures from text, English books in texts of {size} characters, one thread",
        ["", "MB/s", "premask is"],
        rows,
        packages=("numba", "datatrove", "rensa", "spacy"),
    )


@pytest.mark.corpora
def test_the_other_rooms(books):
    texts = pa.array([books[i : i + 5000] for i in range(0, len(books), 5000)], pa.large_string())
    generator = np.random.default_rng(0)
    words = books[:200_000].split()
    items = [" ".join(words[k : k + 20]) for k in generator.integers(0, len(words) - 20, 2000)]
    items += [" ".join(generator.permutation(words[:40])) for _ in range(20_000)]
    index = build_index(pa.array(items, pa.large_string()), np.zeros(len(items), np.int32), num_files=1)
    works = {
        "sketch, 112 values": lambda: sketch(texts, ngram=NGRAM, size=112),
        f"decontaminate, {len(items):,} items": lambda: find_matches(texts, index),
        "lines, 30 characters": lambda: line_hashes(texts, min_chars=30),
    }
    rows = []
    for name, work in works.items():
        work()
        speed = texts.get_total_buffer_size() / np.median([seconds(work) for _ in range(ROUNDS)]) / 1e6
        rows.append([name, f"{speed:.0f}"])
    show("From text, one thread", ["", "MB/s"], rows, packages=("numba",))


def test_recall_of_planted_near_duplicates():
    planted = plant(20_000, 2500, seed=2)
    rows = []
    for bands, rows_of_band, verify in [(16, 7, 0.7), (14, 8, 0.7), (16, 7, 1e-9)]:
        found = find_pairs(planted.texts, bands=bands, rows=rows_of_band, verify=verify)
        shares = [f"{recall(found, pairs):.4f}" for pairs in planted.pairs.values()]
        pairs = set().union(*planted.pairs.values())
        wrong = sum((a, b) not in pairs and (b, a) not in pairs for a, b in found)
        rows.append([f"{bands} x {rows_of_band}", f"{verify:.2f}", *shares, wrong])
    show(
        "Near duplicates found among 20,000 documents of 60 to 600 words, 2,500 pairs each",
        ["bands x rows", "verify", *(f"Jaccard {similarity}" for similarity in planted.pairs), "others dropped"],
        rows,
    )
