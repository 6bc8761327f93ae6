"""Private data: recall on what was planted into real documents, and what is found in the same documents without it.

What is found there is printed with its surroundings, to be read: most is real. Nothing is asserted.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.curation.privacy import IBAN_LENGTHS, KINDS, find_private, replace_private
from mlm_data.hashing import string_buffers
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]
DOCUMENTS = 2_500  # of each source
SIZE = 3_000  # characters
STAYS = (
    "version 12.34.56.78",
    "section 3.1.2.4",
    "1.3.6.1.4.1.311.21",
    "v2.0.1.9",
    "§ 12.3.4.5",
    "978-0-306-40615-7",
    "OID 99.88.77.66",
)


def texts_of(corpora: Path) -> dict[str, list[str]]:
    def read(paths: list[Path]) -> list[str]:
        texts = (path.read_text("utf-8", "replace") for path in paths)
        return [text[i : i + SIZE] for text in texts for i in range(0, len(text), SIZE)]

    laws = [json.loads(line).get("text", "") for path in corpora.glob("en_dc_law/*.jsonl") for line in path.open()]
    library = Path(json.__file__).parent.parent
    return {
        "prose": read(sorted(corpora.glob("en_classic_books_md/**/*.md"))),
        "law": [text[i : i + SIZE] for text in laws for i in range(0, len(text), SIZE)],
        "PEPs": read(sorted(corpora.glob("en_peps/**/*.rst"))),
        f"code (Python {sys.version_info.major}.{sys.version_info.minor})": read(sorted(library.glob("*.py"))),
    }


def makers(draw: np.random.Generator) -> dict[str, Callable[[], str]]:
    def digits(n: int) -> str:
        return "".join(map(str, draw.integers(0, 10, n)))

    def pick(*options: str) -> str:
        return options[draw.integers(len(options))]

    def email() -> str:
        name = pick("ann", "j.smith", "o'neil", "Maria_Lopez", "k-ito", "t.b+lists", "x" + digits(3), "jürgen")
        host = pick("example", "mail.example", "uni-bonn", "sub.dept.example", "b" + digits(2), "müller")
        return f"{name}@{host}.{pick('org', 'com', 'co.uk', 'de', 'io', 'museum', 'EDU')}"

    def ip() -> str:
        if draw.random() < 0.2:
            groups = [f"{number:x}" for number in draw.integers(0, 65536, 7)]
            return pick("2a02:" + ":".join(groups), "2606:" + groups[0] + "::" + groups[1])
        first = pick("23", "45", "66", "81", "99", "131", "151", "177", "193", "212", "5", "18")
        return ".".join([first, *map(str, draw.integers(32, 256, 3))])

    def phone() -> str:
        area, exchange = pick("415", "202", "646", "312"), f"{draw.integers(2, 10)}{digits(2)}"
        return pick(
            f"({area}) {exchange}-{digits(4)}", f"{area}-{exchange}-{digits(4)}", f"{area}.{exchange}.{digits(4)}",
            f"+1 {area} {exchange} {digits(4)}", f"1-{area}-{exchange}-{digits(4)}", f"+1{area}{exchange}{digits(4)}",
            f"+49 30 {digits(7)}", f"+44 20 {digits(4)} {digits(4)}", f"+33 (0)1 {digits(2)} {digits(6)}",
            f"+81-3-{digits(4)}-{digits(4)}", f"+358 40 {digits(3)} {digits(4)}",
        )  # fmt: skip

    def iban() -> str:
        country = pick(*IBAN_LENGTHS)
        body = digits(IBAN_LENGTHS[country] - 4)
        check = 98 - int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
        whole = f"{country}{check:02d}{body}"
        return pick(whole, " ".join(whole[i : i + 4] for i in range(0, len(whole), 4)))

    return {"email": email, "ip": ip, "phone": phone, "iban": iban}


def test_planted(corpora):
    draw = np.random.default_rng(12)
    make = makers(draw)
    rows, found_rows, missed = [], [], []
    for source, texts in texts_of(corpora).items():
        chosen = [texts[i] for i in draw.permutation(len(texts))[:DOCUMENTS]]
        words = sum(len(text.split()) for text in chosen)
        array = pa.array(chosen, pa.large_string())
        before = find_private(array, KINDS)
        data, _ = string_buffers(array)
        for kind in range(len(KINDS)):
            spans = [(a, b) for a, b, k in zip(before.starts, before.ends, before.kinds, strict=True) if k == kind]
            around = [bytes(data[max(a - 24, 0) : b + 10]).decode("utf-8", "replace") for a, b in spans[:3]]
            if spans:
                found_rows.append((source, KINDS[kind], len(spans), f"{len(spans) * 1e5 / words:.2f}", ascii(around)))
        planted, values, stays = [], [], 0
        for text in chosen:
            kind = KINDS[draw.integers(len(KINDS))]
            value, stay = make[kind](), STAYS[draw.integers(len(STAYS))]
            gaps = [i for i, c in enumerate(text) if c == " "] or [0]
            place, other = sorted(draw.choice(gaps, 2))
            planted.append(f"{text[:place]} {value} {text[place:other]} {stay} {text[other:]}")
            values.append((kind, value, stay))
        done = replace_private(pa.array(planted, pa.large_string()), KINDS).texts.to_pylist()
        hits = dict.fromkeys(KINDS, 0)
        total = dict.fromkeys(KINDS, 0)
        for text, (kind, value, stay) in zip(done, values, strict=True):
            total[kind] += 1
            hits[kind] += value not in text
            missed += [(source, value)] if value in text else []
            stays += stay in text
        recall = [f"{hits[kind] / total[kind]:.4f}" for kind in KINDS]
        rows.append((source, len(chosen), words, *recall, f"{stays / len(chosen):.4f}"))
    columns = ("source", "documents", "words", *KINDS, "versions, sections, OIDs that stay")
    show("Planted: recall", columns, rows, packages=("numba",))
    show("Found without planting", ("source", "kind", "number", "per 100,000 words", "some"), found_rows)
    print("missed:", missed[:20])


def test_speed(corpora):
    rows = []
    for source, texts in texts_of(corpora).items():
        array = pa.array(texts, pa.large_string())
        replace_private(array, KINDS)
        spent = []
        for _ in range(5):
            start = time.thread_time()
            replace_private(array, KINDS)
            spent.append(time.thread_time() - start)
        rows.append((source, f"{sum(len(text.encode()) for text in texts) / np.median(spent) / 1e6:.0f}"))
    show("Replacing private data, one thread", ("source", "MB/s"), rows, packages=("numba",))
