"""All shared corpora as one build, every format at once: nothing is lost, and it is the same on any runner."""

import json
from typing import Any

import pytest

from mlm_data.config import BuildConfig
from mlm_data.dataset.manifest import load_manifest
from mlm_data.quality_settings import PRESETS
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from pipelines.build import build
from pipelines.commands.cli import main
from tests.pipelines.small_corpus import kill_midway

pytestmark = [pytest.mark.corpora, pytest.mark.slow]


def write_config(folder, corpora, **changes):
    """Every file of text below the corpora, with all of curation that needs no file of the user's."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = corpora / "eval_blimp"
    web: dict[str, Any] = {"quality": list(PRESETS), "extract": "resiliparse"}
    plain: dict[str, Any] = {"format": "text", "documents": "file"}
    inputs: list[dict[str, Any]] = [
        {"path": "en_classic_books_md/**/*.md", "documents": "paragraph", "name": "books"},
        {"path": "en_dc_law/**/*.jsonl", "name": "law"},
        {"path": "en_peps/**/*.rst", "name": "peps", **plain},
        {"path": "en_rust_rfcs/**/*.md", "name": "rfcs", **plain},
        {"path": "ml_*/**/*.md*", "name": "markdown", **plain},
        {"path": "ml_*/**/*.txt", "name": "languages", "documents": "paragraph", "format": "text"},
        {"path": "ml_bible/**/*.tsv", "name": "bible", **plain},
        {"path": "nltk/**/*.txt", "name": "nltk", "encoding": "latin-1", **plain},
        {"path": "unicode/**/*.txt", "name": "unicode", **plain},
        {"path": "tok/**/*.txt", "name": "vocabularies", **plain},
        {"path": "tok/**/*.json", "name": "json", **plain},
        {"path": "eval_blimp/**/*.jsonl", "name": "blimp", "text_field": "sentence_good", "weight": 0.5},
        {"path": "web_dolma_c4_docs/multiple_files/*", "name": "c4", "quality": list(PRESETS)},
        {"path": "web_dolma_c4_docs/provided/documents/*.gz", "name": "documents"},
        {"path": "web_html_readability/**/*.html", "name": "pages", **web},
        {"path": "web_warc/[wrd]*/*.warc*", "name": "archives", **web},
        {"path": "web_warc/commoncrawl_whirlwind/*.wet*", "name": "extracts"},
    ]
    values = {
        "inputs": [item | {"path": str(corpora / item["path"])} for item in inputs],
        "output": str(folder / "out"),
        "tokenizer": {"train": {"kind": "bpe", "vocab_size": 4096, "sample_bytes": 8_000_000}},
        "clean": {
            "min_chars": 20,
            "fix_encoding": True,
            "privacy": ["email", "ip", "phone", "iban"],
            "languages": {"keep": "all"},
            "lines": ["refinedweb"],
        },
        "deduplicate": {"near": {}, "lines": {}},
        "decontaminate": {"against": [str(evaluation / "**/*.jsonl")], "action": "cut", "window": 0},
        "mixing": {"by": "language", "temperature": 0.7},
        "max_quarantined": 1.0,
        "max_truncated": 100,
    }
    path = folder / "premask.yaml"
    path.write_text(json.dumps(values | changes))
    return path


@pytest.fixture(scope="module")
def first(corpora, tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    assert main(["build", str(write_config(folder, corpora)), "--workers", "1"]) == 0
    return folder


def digest_of(folder) -> str:
    return (folder / "out/LATEST").read_text().strip()


def test_the_ledger_balances_and_every_input_is_in_it(first):
    manifest = load_manifest(Folder(str(first / "out")))
    documents, tokens = manifest.ledger["documents"], manifest.ledger["tokens"]
    gone = sum(documents["dropped"].values()) + sum(documents["quarantined"].values())
    assert documents["read"] + documents["repeated"] == documents["kept"] + gone
    lost = sum(tokens["dropped"].values()) + tokens["truncated"]
    assert tokens["tokenized"] + tokens["repeated"] == tokens["in_rows"] + lost
    sums = {reason: counts[0] for (reason,), counts in manifest.funnel.by("reason").items()}
    assert sums.pop("kept") == documents["kept"] - documents["repeated"]
    assert sums == documents["dropped"]
    names = {item["name"] for item in json.loads((first / "premask.yaml").read_text())["inputs"]}
    assert {name for (name,) in manifest.funnel.by("input")} == names
    cut = {name: count for name, count in manifest.funnel.changes.items() if "evaluations" in name}
    assert cut["evaluations cut from blimp"] > 0
    for name in names:  # what was cut is counted in three ways, or in none
        ways = (f"documents of {name} with evaluations cut", f"evaluations cut from {name}",
                f"characters cut from {name} as evaluations")  # fmt: skip
        assert sum(way in cut for way in ways) in (0, 3)


def test_it_is_sound(first, capsys):
    capsys.readouterr()
    assert main(["verify", str(first / "out")]) == 0
    assert "sound" in capsys.readouterr().out


@pytest.mark.parametrize("beam_args", [[], ["--direct_running_mode=multi_processing"]], ids=["threads", "processes"])
def test_two_workers_in_another_folder_give_the_same_digest(first, corpora, tmp_path, beam_args):
    values = json.loads(write_config(tmp_path, corpora).read_text())
    built = build(parse_settings(BuildConfig, values, where="test"), workers=2, beam_args=beam_args)
    assert built is not None
    assert built.manifest.digest == digest_of(first)


def test_killed_in_the_middle_it_goes_on(first, corpora, tmp_path):
    path = write_config(tmp_path, corpora)
    kill_midway(path, prepared=20, workers=2)
    assert main(["build", str(path)]) == 0
    assert digest_of(tmp_path) == digest_of(first)
