"""How many bytes really cross between the steps of a build, files behind messages included."""

import json
import random
from collections import Counter

import pytest

from mlm_data.build.account import Kind, Part
from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from pipelines.build import build
from tests.pipelines.small_corpus import settings

DOCUMENTS, LINES = 3000, 30
CHANGES = {
    "deduplicate": {"exact": True, "near": {}, "lines": {"min_chars": 10, "max_copies": 20}},
    "unit_bytes": 1 << 20,
}


def write_documents(path):
    """Documents of about 2 KB in lines; each tenth is a copy, each tenth nearly one, and all end with the same line."""
    chosen = random.Random(0)
    words = [f"{chosen.choice('bdfgklmnprst')}{chosen.choice('aeiou')}{number}" for number in range(5000)]
    documents: list[list[str]] = []
    for number in range(DOCUMENTS):
        lines = [" ".join(chosen.choices(words, k=12)) for _ in range(LINES - 1)]
        if number % 10 in (4, 5) and number // 50 % 2:
            lines = documents[number - 50][: LINES - 1 - number % 10 % 2]
        documents.append([*lines, "Home | About | Contact"])
    path.write_text("".join(json.dumps({"text": "\n".join(lines), "url": "x"}) + "\n" for lines in documents))


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """(bytes by kind of message, what was built)"""
    folder = tmp_path_factory.mktemp("shuffle")
    (folder / "in").mkdir()
    write_documents(folder / "in/a.jsonl")
    found: Counter[Kind] = Counter()
    send, work = Part.send, Folder(folder / "out").join("work")

    def counted(part, kind, receiver, payload):
        message = send(part, kind, receiver, payload)
        name = payload.rpartition(b"\x01")[2]
        found[kind] += len(message) + (work.num_bytes(name.decode()) if name.startswith(b"signatures/") else 0)
        return message

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Part, "send", counted)
        built = build(parse_settings(BuildConfig, settings(folder, **CHANGES), where="test"))
    return found, built


def test_bytes_of_a_document(sent):
    found, built = sent
    read = built.manifest.ledger["documents"]["read"]
    assert (
        read
        == DOCUMENTS
        == built.manifest.ledger["documents"]["kept"] + sum(built.manifest.ledger["documents"]["dropped"].values())
    )
    assert built.manifest.ledger["documents"]["dropped"]["exact_duplicate"] == DOCUMENTS // 20
    assert 17 * read < found[Kind.SIGNATURES] + found[Kind.COPIES] < 24 * read
    near = (Kind.BANDS, Kind.EDGES, Kind.NEAR)
    assert 16 * 9 * read * 0.9 < sum(found[kind] for kind in near) < 200 * read


def test_bytes_of_a_line(sent):
    found, _ = sent
    assert 9 * DOCUMENTS * LINES * 0.9 < found[Kind.LINES] < 10 * DOCUMENTS * LINES


def test_no_text_crosses(sent):
    found, built = sent
    assert sum(found.values()) < built.num_bytes / 2
