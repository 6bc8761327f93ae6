"""`python -m pipelines.warm`: compile every kernel once, so that the first build and the first batch start at once.

It builds a tiny dataset from the language reference that comes with Python, once for each family of tokenizers, in a
temporary folder, and reads it. Machine code is cached beside the source; worker images run this when they are made.
"""

import html
import json
import logging
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FAMILIES = (
    {"kind": "wordpiece", "vocab_size": 600},
    {"kind": "wordpiece", "vocab_size": 600, "lowercase": False},
    {"kind": "bpe", "vocab_size": 600},
    {"kind": "unigram", "vocab_size": 600},
    {"kind": "characters"},
)
KINDS = ("token", "whole_word", "span", "token", "ngram")
DOCUMENTS = ("file", "line", "paragraph", "paragraph", "line")


def warm(folder: Path) -> None:
    """Build, check and read a small dataset for each family of tokenizers and each kind of masks."""
    from mlm_data.config import BuildConfig
    from mlm_data.dataset.check import check_dataset
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.loading.loader import Loader, evaluation
    from mlm_data.settings import parse_settings
    from pipelines.build import build
    from pipelines.demo_corpus import topics

    with (folder / "topics.jsonl").open("w", encoding="utf-8") as file:
        for document in list(topics())[:40]:
            file.write(json.dumps(document) + "\n")
            private = " Write to somebody@mail.example.net or call +49 30 901820, from 84.165.12.7. And once more."
            file.write(json.dumps(document | {"text": document["text"] + private}) + "\n")  # a near duplicate
    (folder / "topics.txt").write_text(
        "\n\n".join(document["text"] for document in topics())[:100_000], encoding="utf-8"
    )
    for number, (family, kind) in enumerate(zip(FAMILIES, KINDS, strict=True)):
        output = folder / str(number)
        values: dict[str, Any] = {
            "inputs": [
                {"path": str(folder / "topics.jsonl")},
                {"path": str(folder / "topics.txt"), "documents": DOCUMENTS[number]},
            ],
            "output": str(output),
            "tokenizer": {"train": family},
            "clean": {"min_chars": 10},
            "pack": {"sequence_length": 128},
            "mask": {"planes": 2, "kind": kind, "rate": 0.2} | ({"ngram": 6} if kind == "ngram" else {}),
            "split": {"validation": 0.2},
        }
        if number == 0:
            add_curation(values, folder)
        add_format(values, folder, number)
        if number == 1:
            item = " ".join(next(iter(topics()))["text"].split()[:30])
            (folder / "cut.txt").write_text(item, encoding="utf-8")
            values["decontaminate"] = {"against": str(folder / "cut.txt"), "action": "cut"}
        build(parse_settings(BuildConfig, values, where="warm"), workers=1)
        check_dataset(str(output))
        dataset = Dataset.open(output)
        with Loader(dataset, batch_rows=4) as batches:
            next(batches)
        next(iter(evaluation(dataset, 4)))


def add_format(values: dict[str, Any], folder: Path, number: int) -> None:
    """An input of another format for each build, with what costs a kernel of its own: quotes, marks, line ends."""
    from pipelines.demo_corpus import topics

    texts = [document["text"][:2000] for document in list(topics())[:20]]
    texts += ["Cafe\u0301 a\u0323\u0302 " + text for text in texts[:2]]  # not in normal form C
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    pages = "".join(f"<p>{html.escape(text)}</p>" for text in texts)
    records = [
        f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.example/{place}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(text.encode())}\r\n\r\n{text}\r\n\r\n"
        for place, text in enumerate(texts)
    ]
    words = [json.dumps({"text": text, "words": text.split()}) for text in texts]
    name, content, settings = (
        ("page.html", f"<html><body><article>{pages}</article></body></html>", {}),
        ("table.csv", "text,number\r\n" + "".join(f"{text},1\r\n" for text in quoted), {}),
        (
            "array.json",
            json.dumps([{"parts": [{"t": text}, {"t": text}]} for text in texts]),
            {"text_field": "parts[].t"},
        ),
        ("pages.wet", "".join(records), {}),
        ("words.jsonl", "\r\n".join(words) + "\r\n", {"word_field": "words"}),
    )[number]
    if name == "page.html" and not find_spec("resiliparse"):
        return
    (folder / name).write_text(content, encoding="utf-8", newline="")
    values["inputs"].append({"path": str(folder / name), **settings})


def add_curation(values: dict[str, Any], folder: Path) -> None:
    """Switch on all of curation whose libraries are installed."""
    (folder / "against.txt").write_text("an item that stands nowhere in the topics of the language reference at all")
    from mlm_data.quality_settings import PRESETS

    for item in values["inputs"]:
        item |= {"quality": list(PRESETS), "weight": 1.5}
    values["clean"] |= {"privacy": ["email", "ip", "phone", "iban"], "lines": ["refinedweb", "c4"]}
    values["clean"] |= {"languages": {"keep": "all"}} if find_spec("py3langid") else {}
    values["clean"] |= {"fix_encoding": True} if find_spec("ftfy") and find_spec("chardet") else {}
    values["deduplicate"] = {"near": {}, "lines": {}}
    values["decontaminate"] = {"against": str(folder / "against.txt")}


def main() -> int:
    """Compile, quietly: Beam warns of clients for services that nobody asked for as soon as it is imported."""
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        warm(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
