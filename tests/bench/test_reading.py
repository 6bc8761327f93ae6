"""Reading, normalizing and hashing on one core, beside what others would use, in one run."""

import csv
import gzip
import hashlib
import json
import time
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pytest
import zstandard

from mlm_data.config import BuildConfig, CleanSettings
from mlm_data.hashing import hash128
from mlm_data.settings import parse_settings
from mlm_data.text.normalize import normalize
from mlm_data.text.reading import read_slice
from mlm_data.types import Slice
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]


def seconds(action, repeats=3):
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def read(path, kind, compression="", documents="file"):
    values = {"inputs": [{"path": "x", "documents": documents}], "output": "o", "tokenizer": {"train": {}}}
    config = parse_settings(BuildConfig, values, where="bench")
    size = path.stat().st_size
    piece = Slice(
        input=0, source="s", path=str(path), format=kind, compression=compression, start=0, end=size, num_bytes=size,
        identity="",
    )  # fmt: skip
    return [batch.table["text"] for batch in read_slice(piece, config)]


def read_by_arrow(path):
    """Without what makes it exact: it fails on mixed types, lone surrogates and any bad line."""
    return pyarrow.json.read_json(
        path,
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=8 << 20),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([("text", pa.large_string())]), unexpected_field_behavior="ignore"
        ),
    )


def read_csv_by_arrow(path):
    """Without offsets, and a broken row ends it."""
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=8 << 20),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(include_columns=["text"], column_types={"text": pa.large_string()}),
    )


def read_csv_by_python(path):
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8", newline="") as file:
        return [row[1] for row in csv.reader(file)]


def test_reading(corpora, tmp_path):
    law, books = tmp_path / "law.jsonl", tmp_path / "books.md"
    law.write_bytes((corpora / "en_dc_law/dev.jsonl").read_bytes() * 3)
    books.write_bytes(b"\n\n".join(path.read_bytes() for path in sorted(corpora.glob("en_classic_books_md/**/*.md"))))
    (tmp_path / "law.gz").write_bytes(gzip.compress(law.read_bytes(), 6))
    (tmp_path / "law.zst").write_bytes(zstandard.compress(law.read_bytes()))
    rows = []

    def measure(name, num_bytes, action):
        rows.append((name, f"{num_bytes / seconds(action) / 1e6:,.0f} MB/s"))

    size = law.stat().st_size
    measure("JSON Lines", size, lambda: read(law, "jsonl"))
    measure("  pyarrow.json, one thread", size, lambda: read_by_arrow(law))
    measure("  json.loads, line by line", size, lambda: [json.loads(line)["text"] for line in law.open("rb")])
    measure("JSON Lines, gzip (of what is read)", size, lambda: read(tmp_path / "law.gz", "jsonl", "gzip"))
    measure("JSON Lines, zstd (of what is read)", size, lambda: read(tmp_path / "law.zst", "jsonl", "zstd"))
    rows_of_law = [json.loads(line)["text"] for line in law.open("rb")]
    (tmp_path / "law.json").write_text(
        json.dumps([{"text": text} for text in rows_of_law], ensure_ascii=False), "utf-8"
    )
    with (tmp_path / "law.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["n", "text"], *enumerate(rows_of_law)])
    size = (tmp_path / "law.json").stat().st_size
    measure("a JSON array", size, lambda: read(tmp_path / "law.json", "json"))
    size = (tmp_path / "law.csv").stat().st_size
    measure("CSV", size, lambda: read(tmp_path / "law.csv", "csv"))
    measure("  pyarrow.csv, one thread", size, lambda: read_csv_by_arrow(tmp_path / "law.csv"))
    measure("  Python's csv", size, lambda: read_csv_by_python(tmp_path / "law.csv"))
    for documents in ("paragraph", "line"):
        measure(f"books by {documents}", books.stat().st_size, lambda how=documents: read(books, "text", "", how))

    raw = pa.chunked_array(read(books, "text", "", "paragraph")).combine_chunks()
    clean = normalize(raw, CleanSettings())
    ascii_only = clean.filter(pc.string_is_ascii(clean))
    for name, texts in (("clean ASCII", ascii_only), ("clean books", clean), ("books with CR LF", raw)):
        num_bytes = int(pc.sum(pc.binary_length(texts)).as_py())
        measure(f"normalize {name}", num_bytes, lambda texts=texts: normalize(texts, CleanSettings()))
    for language in ("de", "ru", "hi", "zh-CN"):
        files = sorted((corpora / "ml_hf_course" / language).rglob("*.mdx"))
        texts = pa.array([path.read_text("utf-8") for path in files] * 10, pa.large_string())
        num_bytes = int(pc.sum(pc.binary_length(texts)).as_py())
        plain = texts.to_pylist()
        measure(f"normalize {language}", num_bytes, lambda texts=texts: normalize(texts, CleanSettings()))
        measure(
            "  unicodedata's NFC alone", num_bytes, lambda texts=plain: [unicodedata.normalize("NFC", t) for t in texts]
        )
    num_bytes = int(np.diff(np.frombuffer(raw.buffers()[1], np.int64)).sum())
    measure("hash128, paragraphs", num_bytes, lambda: hash128(raw))
    measure("  hashlib.md5, paragraphs", num_bytes, lambda: [hashlib.md5(t.as_buffer()).digest() for t in raw])
    show("One core, best of 3", ["what", "speed"], rows, packages=["pyarrow", "numba", "zstandard"])
