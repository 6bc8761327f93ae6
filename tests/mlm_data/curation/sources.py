"""Documents of five kinds from the shared corpora, normalized, on which quality rules are compared."""

import gzip
import json
from pathlib import Path

import pyarrow as pa

from mlm_data.config import CleanSettings
from mlm_data.text.normalize import normalize


def documents(corpora: Path) -> dict[str, pa.LargeStringArray]:
    """Every third PEP, every sixth RFC, pieces of books, every 40th section of law, documents of C4: 7 MB."""

    def read(pattern: str, step: int) -> list[str]:
        return [path.read_text("utf-8", "replace") for path in sorted(corpora.glob(pattern))[::step]]

    found = {
        "PEPs": read("en_peps/**/*.rst", 3),
        "RFCs": read("en_rust_rfcs/**/*.md", 6),
        "books": [
            book[start : start + 6000]
            for book in read("en_classic_books_md/**/*.md", 25)
            for start in range(0, len(book), 60000)
        ],
        "law": [
            json.loads(line)["text"]
            for path in sorted(corpora.glob("en_dc_law/*.jsonl"))
            for line in path.read_text("utf-8").splitlines()[::40]
        ],
        "C4": [
            text
            for path in sorted(corpora.glob("web_dolma_c4_docs/**/*.gz"))
            for line in gzip.decompress(path.read_bytes()).decode().splitlines()
            if (text := json.loads(line).get("text"))
        ],
    }
    return {
        source: normalize(pa.array(list(dict.fromkeys(texts)), pa.large_string()), CleanSettings())
        for source, texts in found.items()
    }
