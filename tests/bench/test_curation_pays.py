"""Does curation pay? A model trained on a dirty mix, raw and curated, for equally many steps; judged on clean English.

The mix: paragraphs of English books, of which a third stand there four times with a few words left out; above each a
menu as pages have it; German and French novels; pages of the web with all their tags. Held out: other paragraphs of the
books. One tokenizer, trained on the mix. Raw: exact copies are dropped, no more. Curated: English only, boilerplate
lines cut, near duplicates dropped, two presets. Prints the difference with its interval; asserts nothing.
"""

import json
import re
import statistics
import subprocess
import sys

import numpy as np
import pytest

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

SEEDS = (1, 2, 3)
STEPS = 80
ROWS = 16  # of 128 tokens, a step
STUDENT_95 = 4.303  # two-sided, three pairs
MENU = "Home | About | Contact us\nSubscribe to our newsletter for the latest news and offers\nAll rights reserved\n"
CURATED = {
    "clean": {"languages": {"keep": ["en"]}},
    "deduplicate": {"near": {}, "lines": {"min_chars": 15, "max_copies": 5}},
}
QUALITY = ["gopher_repetition", {"gopher_quality": {"min_words": 30}}]


def test_curation_pays(corpora, tmp_path):
    write_mix(corpora, tmp_path / "mix.jsonl")
    write_lines(tmp_path / "clean.jsonl", english(corpora)[1::2][:6000])
    train = {"kind": "wordpiece", "vocab_size": 8192}
    made = {
        "raw": make(tmp_path, "mix.jsonl", "raw", {"tokenizer": {"train": train}}),
    }
    path = next((tmp_path / "raw/tokenizer").iterdir())
    given = {"tokenizer": {"path": str(path)}}
    made["curated"] = make(tmp_path, "mix.jsonl", "curated", given | CURATED, quality=QUALITY)
    make(tmp_path, "clean.jsonl", "held", given | {"split": {"validation": 0.9}})
    losses: dict[str, list[float]] = {name: [] for name in made}
    for seed in SEEDS:
        for name in made:
            losses[name].append(train_and_judge(tmp_path, name, seed))
    gains = [raw - curated for raw, curated in zip(losses["raw"], losses["curated"], strict=True)]
    half = STUDENT_95 * statistics.stdev(gains) / len(gains) ** 0.5
    rows = [
        (name, f"{built.ledger['documents']['kept']:,}", f"{built.ledger['tokens']['in_rows']:,}",
         f"{statistics.mean(losses[name]):.3f}", " ".join(f"{loss:.3f}" for loss in losses[name]))
        for name, built in made.items()
    ]  # fmt: skip
    rows.append(("raw - curated", "", "", f"{statistics.mean(gains):+.3f} +- {half:.3f}", ""))
    show(
        f"tiny, {STEPS} steps, cross-entropy on held-out clean English, nats a target",
        ("data", "documents", "tokens", "mean", f"seeds {SEEDS}"),
        rows,
        packages=("torch",),
    )


def train_and_judge(tmp_path, name, seed):
    run = tmp_path / f"runs/{name}-{seed}"
    command = [sys.executable, "-m", "trainer"]
    fields = (f"budget.steps={STEPS}", "budget.minutes=null", f"batch_rows={ROWS}", f"seed={seed}")
    more = [part for field in fields for part in ("--set", field)]
    begin = ["run", "--recipe", "tiny", "--data", str(tmp_path / name), "--out", str(run), *more]
    subprocess.run([*command, *begin], check=True, capture_output=True)
    judge = ["eval", str(run), "--data", str(tmp_path / "held"), "--max-rows", "640", "--json"]
    done = subprocess.run([*command, *judge], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["model"]["loss"]


def make(tmp_path, file, name, more, quality=()):
    values = {
        "inputs": [
            {"path": str(tmp_path / file), "quality": list(quality)} if quality else {"path": str(tmp_path / file)}
        ],
        "output": str(tmp_path / name),
        "pack": {"sequence_length": 128},
        "split": {"validation": 0.02},
        **more,
    }
    built = build(parse_settings(BuildConfig, values, where="bench"), workers=2)
    assert built is not None
    return built.manifest


def write_mix(corpora, path):
    random = np.random.default_rng(0)
    documents = []
    for text in english(corpora)[0::2][:12_000]:
        documents.append(f"{MENU}{text}")
        if random.random() < 1 / 3:
            documents += [f"{MENU}{changed(text, random)}" for _ in range(3)]
    for folder in ("ml_de_eltec", "ml_fr_eltec"):
        for file in sorted((corpora / folder).rglob("*.txt"))[:4]:
            documents += paragraphs(file.read_text(errors="replace"))[:1500]
    for file in sorted((corpora / "web_html_readability").rglob("source.html"))[:30]:
        documents.append(file.read_text(errors="replace")[:60_000])
    write_lines(path, [documents[i] for i in random.permutation(len(documents))])


def changed(text, random):
    """The text with one word of twenty left out."""
    words = text.split(" ")
    keep = random.random(len(words)) > 0.05 if len(words) > 20 else np.ones(len(words), bool)
    return " ".join(word for word, kept in zip(words, keep, strict=True) if kept)


def english(corpora):
    texts = []
    for file in sorted((corpora / "en_classic_books_md").rglob("*.md")):
        texts += paragraphs(file.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n"))[:400]
    return texts


def paragraphs(text):
    found = [re.sub(r"\s+", " ", part).strip() for part in re.split(r"\n\s*\n", text)]
    return [part for part in found if len(part) > 300]


def write_lines(path, texts):
    with path.open("w") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\n")
