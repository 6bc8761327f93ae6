"""Input of any size for measurements: real texts, each copy of them with another order of its words.

Copy k of a text holds its words 0, k, 2k, ..., then 1, k + 1, ..., so that the words are the same and hardly a run of
five of them is: no copy is a duplicate of another, and the vocabulary of the corpus stays that of the texts.
"""

from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("en_classic_books_md", "en_peps", "en_rust_rfcs", "nltk/state_union", "ml_de_eltec", "ml_fr_eltec")
ENDINGS = (".md", ".txt", ".rst")
DOCUMENT_BYTES = 2048  # about: documents of 1 to 4 KB


def salted(corpora: Path, num_bytes: int) -> Iterator[bytes]:
    """Documents of about `DOCUMENT_BYTES`, each one line, that add up to `num_bytes`."""
    paths = sorted(path for name in FOLDERS for path in (corpora / name).rglob("*") if path.suffix in ENDINGS)
    texts = [path.read_bytes().decode("utf-8", "ignore").split() for path in paths]
    total, stride = 0, 0
    while True:
        stride += 1
        for words in texts:
            size = DOCUMENT_BYTES // 6
            for first in range(0, len(words), size):
                some = words[first : first + size]
                mixed = [word for start in range(stride) for word in some[start::stride]]
                line = " ".join(mixed).encode() + b"\n"
                yield line
                total += len(line)
                if total >= num_bytes:
                    return


def write_one(corpora: Path, path: Path, num_bytes: int) -> None:
    """One file with a document a line."""
    with path.open("wb") as file:
        file.writelines(salted(corpora, num_bytes))


def write_many(corpora: Path, folder: Path, num_files: int, num_bytes: int) -> None:
    """So many files, a document or some in each."""
    part = num_bytes // num_files
    documents, number = bytearray(), 0
    for line in salted(corpora, num_bytes):
        documents += line
        if len(documents) >= part:
            path = folder / f"{number // 1000:03}" / f"{number:06}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(documents)
            documents.clear()
            number += 1
