"""The whole build against the usual HF route, on the same text, cores and tokenizer, interleaved in one run."""

import itertools
import json
import time
from pathlib import Path

import pytest

from mlm_data.build import context
from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from pipelines.commands.build import disk_bytes
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

ROUNDS = 3
SOURCES = ("en_classic_books_md", "en_dc_law", "en_peps", "en_rust_rfcs")
SUFFIXES = {".md", ".rst", ".jsonl"}
LENGTH = 512
WORKERS = 2


@pytest.fixture(scope="module")
def texts(corpora, tmp_path_factory):
    """English books, law and technical prose as JSONL, a paragraph a line."""
    path = tmp_path_factory.mktemp("peers") / "texts.jsonl"
    files = [file for name in SOURCES for file in sorted((corpora / name).rglob("*")) if file.suffix in SUFFIXES]
    with path.open("w", encoding="utf-8") as out:
        for file in files:
            for text in file.read_text(encoding="utf-8", errors="replace").split("\n\n"):
                if len(text) >= 100:
                    out.write(json.dumps({"text": text}) + "\n")
    return path


def ours(texts, vocabulary, folder) -> tuple[float, int, float, float]:
    """Seconds, tokens, bytes on disk per token; nothing prepared, no word known."""
    context._engines.clear()
    values = {
        "inputs": [{"path": str(texts)}],
        "output": str(folder),
        "tokenizer": {"path": str(vocabulary)},
        "clean": {"min_chars": 0},
        "pack": {"sequence_length": LENGTH},
        "mask": {"planes": 1, "rate": 0.15},
    }
    started = time.perf_counter()
    built = build(parse_settings(BuildConfig, values, where="bench"), workers=WORKERS)
    seconds = time.perf_counter() - started
    tokens = sum(split["num_tokens"] for split in built.manifest.splits.values())
    disk = disk_bytes(str(folder))
    return seconds, tokens, (disk["rows"] + disk["masks"]) / tokens, sum(disk.values()) / tokens


def theirs(texts, vocabulary, folder):
    """`datasets`: load, tokenize, group into rows; masks are drawn anew for each batch of training."""
    import datasets
    from tokenizers import BertWordPieceTokenizer
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=BertWordPieceTokenizer(str(vocabulary))._tokenizer,
        mask_token="[MASK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    )

    def tokenize(batch):
        return tokenizer(batch["text"], return_special_tokens_mask=True)

    def group(batch):
        joined = {name: list(itertools.chain.from_iterable(values)) for name, values in batch.items()}
        total = len(joined["input_ids"]) // LENGTH * LENGTH
        return {name: [v[i : i + LENGTH] for i in range(0, total, LENGTH)] for name, v in joined.items()}

    started = time.perf_counter()
    data = datasets.load_dataset("json", data_files=str(texts), cache_dir=str(folder), split="train")
    data = data.map(tokenize, batched=True, num_proc=WORKERS, remove_columns=["text"])
    data = data.map(group, batched=True, num_proc=WORKERS)
    seconds = time.perf_counter() - started
    tokens = len(data) * LENGTH
    disk = sum(Path(file["filename"]).stat().st_size for file in data.cache_files)
    return seconds, tokens, disk / tokens


def test_whole_build(texts, corpora, tmp_path):
    vocabulary = corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt"
    ours(texts, vocabulary, tmp_path / "warm")  # numba loads its machine code
    mine, other = [], []
    for number in range(ROUNDS):
        mine.append(ours(texts, vocabulary, tmp_path / f"ours-{number}"))
        other.append(theirs(texts, vocabulary, tmp_path / f"theirs-{number}"))
    size = texts.stat().st_size
    best, peer = min(mine), min(other)
    rows = [
        (
            "premask build, 2 workers, word table cold",
            f"{best[0]:.2f} s",
            f"{size / best[0] / 1e6:.1f} MB/s",
            f"{best[1]:,}",
        ),
        (
            "datasets: load, map, group, 2 processes",
            f"{peer[0]:.2f} s",
            f"{size / peer[0] / 1e6:.1f} MB/s",
            f"{peer[1]:,}",
        ),
        ("ratio, best of 3 rounds each", f"{peer[0] / best[0]:.1f} x", "", ""),
        ("ratio, worst round", f"{min(t[0] / m[0] for m, t in zip(mine, other, strict=True)):.1f} x", "", ""),
    ]
    show(
        f"JSONL to rows of {LENGTH}, {size / 1e6:.0f} MB",
        ("what", "time", "speed", "tokens"),
        rows,
        packages=("datasets", "transformers", "tokenizers", "apache-beam"),
    )
    rows = [
        ("rows and one plane at 15 %", f"{best[2]:.2f}"),
        ("with documents and signatures", f"{best[3]:.2f}"),
        ("the cache of datasets, without masks", f"{peer[2]:.2f}"),
    ]
    show("bytes on disk per token", ("what", "bytes"), rows)
