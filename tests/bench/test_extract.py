"""Pages to texts: how good, and how fast, beside the library alone in one process; what the other steps cost.

F1 is over words of the expected article: precision and recall of the multiset of words, averaged over pages.
"""

import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import InputSettings
from mlm_data.text import markup
from mlm_data.text.charset import decode, find_charset
from mlm_data.text.extract import extract_pages
from mlm_data.text.extract_worker import EXTRACTORS
from mlm_data.text.mojibake import fix_mojibake
from mlm_data.text.pages import Page, page_texts
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]
ROUNDS = 5


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def f1(text: str, expected: str) -> tuple[float, float, float]:
    found, wanted = words(text), words(expected)
    common = (found & wanted).total()
    precision, recall = common / max(1, found.total()), common / max(1, wanted.total())
    return 2 * precision * recall / max(1e-9, precision + recall), precision, recall


def readability(corpora: Path) -> tuple[list[bytes], list[str]]:
    """Pages, and the text of the article that each holds."""
    folders = sorted(path.parent for path in (corpora / "web_html_readability").glob("*/source.html"))
    pages = [(folder / "source.html").read_bytes() for folder in folders]
    return pages, [markup.strip((folder / "expected.html").read_bytes()) for folder in folders]


def seconds(work) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def test_pages(corpora):
    pages, expected = readability(corpora)
    num_bytes = sum(map(len, pages))
    rows = []
    for name in ("resiliparse", "trafilatura"):
        alone = EXTRACTORS[name]()
        extract_pages(pages[:1], name)  # starts the process
        ways = {
            f"{name}, alone": lambda alone=alone: [alone(page.decode(errors="replace")) for page in pages],
            f"{name}, in its process": lambda name=name: [found.text for found in extract_pages(pages, name)],
            f"{name}, encoding found": lambda name=name: page_texts(
                [Page(data=page) for page in pages], InputSettings(path="x", extract=name)
            ).texts.to_pylist(),
        }
        spent: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS if name == "resiliparse" else 1):
            for way, work in ways.items():
                time_taken, texts = seconds(work)
                spent[way].append(time_taken)
                scores = np.mean([f1(text, wanted) for text, wanted in zip(texts, expected, strict=True)], 0)
                rows = [row for row in rows if row[0] != way]
                best = min(spent[way])
                ratio = float(np.median(np.divide(spent[f"{name}, alone"], spent[way]))) if spent[way] else 0
                rows.append(
                    (way, *(f"{score:.3f}" for score in scores), f"{len(pages) / best:.0f}",
                     f"{num_bytes / best / 1e6:.0f}", f"{ratio:.2f}")
                )  # fmt: skip
    stripped = np.mean([f1(markup.strip(page), wanted) for page, wanted in zip(pages, expected, strict=True)], 0)
    for way, work in {
        "stripper": lambda: [markup.strip(page) for page in pages],
        "measuring": lambda: [markup.measure(page, max_depth=512) for page in pages],
        "finding the encoding": lambda: [decode(page, find_charset(page, is_html=True)) for page in pages],
        "looking for mojibake": lambda: fix_mojibake(pa.array(expected, pa.large_string())),
    }.items():
        work()
        spent_one = min(seconds(work)[0] for _ in range(ROUNDS))
        scores = [f"{score:.3f}" for score in stripped] if way == "stripper" else ["", "", ""]
        size = sum(len(text.encode()) for text in expected) if "mojibake" in way else num_bytes
        rows.append((way, *scores, f"{len(pages) / spent_one:.0f}", f"{size / spent_one / 1e6:.0f}", ""))
    title = f"Article text of {len(pages)} pages, {num_bytes / 1e6:.1f} MB"
    columns = ["", "F1", "precision", "recall", "pages/s", "MB/s", "x alone"]
    show(title, columns, rows, packages=["resiliparse", "trafilatura", "chardet", "ftfy"])
