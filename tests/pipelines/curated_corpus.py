"""Documents that curation drops, one for each reason, each beside one that differs a little and stays."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.mlm_data.curation.fasttext_files import write_model
from tests.pipelines.small_corpus import sentence, settings, text

GERMAN = (
    "Der alte Fluss fließt langsam durch die grüne Ebene, und am Abend sitzen die Leute vor ihren Häusern und erzählen "
    "sich Geschichten von früher, die niemand mehr glaubt, obwohl sie alle wahr sind."
)
CODE = "x = y[0]; for (i=0;i<n;i++) { a[i] += b[i]; } return a; " * 5
ITEM = "nobody in the whole town had ever seen a kingfisher carry seven golden keys across the frozen lake at noon"
SHORT_ITEM = "purple bishops juggle warm teapots"


def prose(number: int, sentences: int = 8) -> str:
    """English enough for every rule, and like no other number's."""
    return f"The house of the river, and that which we have with us, is {number} years old. {text(number, sentences)}"


def changed(number: int, words: int) -> str:
    """`prose` with so many of its words replaced, spread over it."""
    found = prose(number, 30).split()
    step = len(found) // max(1, words)
    for place in range(0, step * words, step):
        found[place] = f"other{place}"
    return " ".join(found)


SHORT = "The house of that river is with us, and old."


def fifty(number: int) -> str:
    """Five sentences of ten words."""
    return " ".join([SHORT, *(sentence(number * 100 + i, 9) for i in range(4))])


def half_ended(number: int, lines: int) -> str:
    """One line of sentences, and so many that end without a mark."""
    return "\n".join([prose(number), *(sentence(number * 100 + i).rstrip(".") for i in range(lines))])


# reason -> (text of the document that goes, of its neighbour that stays), each of a number of its own.
WEB: dict[str, tuple[str, str]] = {
    "empty": ("", prose(1000)),
    "too_short": (prose(1001)[:99].strip("., "), prose(1001)[:101].strip("., ")),
    "no_tokens": ("\u200b " * 120 + "\u200b", f"{prose(1002)}\u200b"),
    "lines_removed": (
        f"{prose(1003, 2)}\nALL OF THIS IS SHOUTED AT YOU\nTHIS TOO AND MORE",
        f"{prose(1004, 2)}\nAll of this is said to you.",
    ),
    "blocked_domain": (prose(1005), prose(1006)),
    "other_language": (f"{GERMAN} {GERMAN} 1", prose(1007)),
    "unsure_language": (CODE, f"{prose(1008)} {CODE[:20]}"),
    "classifier": (f"{prose(1009)} {'bad ' * 400}end.", f"{prose(1010)} {'good ' * 400}end."),
    "custom:tests.pipelines.own_filters:is_no_recipe": (
        f"{prose(1011)} Then preheat the oven.",
        f"{prose(1012)} Then heat the oven.",
    ),
    "exact_duplicate": (prose(1013), prose(1014)),
    "near_duplicate": (changed(1015, 1), changed(1016, 60)),
    "contaminated": (f"{prose(1017)} {ITEM}. The end.", f"{prose(1018)} {' '.join(ITEM.split()[:15])}. An end."),
}
QUALITY: dict[str, tuple[str, str]] = {
    "gopher_repetition:repeated_paragraphs": (
        "\n\n".join([prose(1100), *["ab cd ef"] * 9]),
        "\n\n".join([prose(1101), "ab cd ef"]),
    ),
    "gopher_quality:too_few_words": (fifty(1102).rpartition(" ")[0] + ".", fifty(1103)),
    "c4:curly_bracket": (f"{prose(1104)} And {{ here.", f"{prose(1105)} And ( here."),
    "fineweb:too_few_terminated_lines": (half_ended(1106, 9), half_ended(1107, 6)),
}
# What copies are copies of; it comes before them, and the near duplicate is not longer.
FIRST = {"exact_duplicate": prose(1013), "near_duplicate": changed(1015, 0) + " And so on.", "other": changed(1016, 0)}


def write_corpus(folder: Path) -> Path:
    """Crafted documents in JSON Lines, others in Parquet, text.gz and WARC, and the files that settings name."""
    (folder / "books").mkdir(parents=True)
    first = [{"text": text, "url": "https://first.example/"} for text in FIRST.values()]
    for name, cases in (("web", WEB), ("quality", QUALITY)):
        lines = first if name == "web" else []
        for reason, (goes, stays) in cases.items():
            host = "www.spam.example" if reason == "blocked_domain" else "good.example"
            lines.append({"text": goes, "url": f"https://{host}/{reason}/goes"})
            lines.append({"text": stays, "url": f"https://notspam.example/{reason}/stays"})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wiki = [prose(number) for number in range(2000, 2060)]
    wiki[7] = f"Write to jane.doe@mail.example or call +49 30 1234567. {wiki[7]}"
    pq.write_table(pa.table({"text": wiki, "url": ["https://wiki.example/"] * 60}), folder / "wiki.parquet")
    for book in range(2):
        menu = "Home and About and Contact and Imprint of our house"
        parts = [f"{menu}\n{prose(number)}" for number in range(3000 + 20 * book, 3012 + 20 * book)]
        (folder / f"books/{book}.txt.gz").write_bytes(gzip.compress("\n\n".join(parts).encode(), mtime=0))
    (folder / "crawl.warc").write_bytes(b"".join(page(number) for number in range(4000, 4010)))
    (folder / "hosts.txt").write_text("# ours\nspam.example\n")
    (folder / "evaluation.jsonl").write_text(json.dumps({"question": ITEM, "answers": [SHORT_ITEM, "no"]}) + "\n")
    words = {"</s>": (0.0, 0.0), "good": (1.0, 0.0), "bad": (0.0, 1.0)}
    write_model(folder / "hq.bin", words, {"__label__hq": (3.0, -3.0), "__label__lq": (-3.0, 3.0)})
    return folder


def page(number: int) -> bytes:
    """A response of a WARC file."""
    html = f"<html><head><title>t</title></head><body><article><p>{prose(number)}</p></article></body></html>".encode()
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://crawl.example/{number}\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def everything(folder: Path, **changes: object) -> dict[str, Any]:
    """A configuration with all of curation on, over `write_corpus`."""
    presets = ["gopher_repetition", "gopher_quality", "c4", "fineweb"]
    values: dict[str, Any] = {
        "inputs": [
            {"path": str(folder / "web.jsonl"), "name": "web", "keep_fields": ["url"]},
            {"path": str(folder / "quality.jsonl"), "name": "quality", "quality": presets, "keep_fields": ["url"]},
            {"path": str(folder / "wiki.parquet"), "name": "wiki", "weight": 1.5, "keep_fields": ["url"]},
            {"path": str(folder / "books/*.txt.gz"), "name": "books", "documents": "paragraph"},
            {"path": str(folder / "crawl.warc"), "name": "crawl", "weight": 0.5},
        ],
        "clean": {
            "fix_encoding": True,
            "privacy": ["email", "phone"],
            "languages": {"keep": ["en"], "min_score": 0.35},
            "lines": ["refinedweb"],
            "max_words_removed": 0.05,
            "domains": {"drop": str(folder / "hosts.txt")},
            "classifier": {"path": str(folder / "hq.bin"), "label": "__label__hq", "min": 0.02},
            "custom": ["tests.pipelines.own_filters:is_no_recipe", "tests.pipelines.own_filters:length"],
        },
        "deduplicate": {"exact": True, "near": True, "lines": {"min_chars": 30, "max_copies": 5}},
        "decontaminate": {"against": [str(folder / "evaluation.jsonl")]},
        "unit_bytes": 20_000,
    }
    return settings(folder, **(values | changes))
