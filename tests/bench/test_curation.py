"""What curation costs in a whole build: all presets, languages, privacy and near duplicates beside all off.

Each build is a process of its own, one worker, in turns; speed is that of a second build in it, whose tables and loops
are there. The figures to look at are the ratios and the difference in memory.
"""

import json
import statistics
import subprocess
import sys

import pytest

from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]

ROUNDS = 2
BYTES = 24 << 20
QUALITY = ["gopher_repetition", "gopher_quality", "c4", "fineweb"]
CLEAN = {"languages": {"keep": "all"}, "privacy": ["email", "ip", "phone", "iban"]}
VARIANTS = {
    "all off": {},
    "presets": {"quality": QUALITY},
    "languages": {"clean": {"languages": {"keep": "all"}}},
    "privacy": {"clean": {"privacy": CLEAN["privacy"]}},
    "near duplicates": {"deduplicate": {"near": {}}},
    "all on": {"quality": QUALITY, "clean": CLEAN, "deduplicate": {"near": {}}},
}
PROGRAM = """
import json, resource, shutil, sys, time
from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
values = json.loads(sys.argv[1])
config = parse_settings(BuildConfig, values, where="bench")
build(config, workers=1)  # kernels and tables are there
shutil.rmtree(values["output"])
started = time.perf_counter()
built = build(config, workers=1)
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
read = built.manifest.ledger["bytes"]["read"]
print(json.dumps({"rate": read / seconds, "peak": peak, "kept": built.manifest.ledger["documents"]["kept"]}))
"""


@pytest.mark.parametrize("size", [5000, 1000])
def test_whole_build(corpora, tmp_path, size):
    write_documents(corpora, tmp_path / "books.jsonl", size)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(ROUNDS):
        for name, more in VARIANTS.items():
            found[name].append(measure(tmp_path, corpora, more))
    rows = []
    for name, runs in found.items():
        rate = statistics.median(run["rate"] for run in runs)
        ratios = [run["rate"] / off["rate"] for run, off in zip(runs, found["all off"], strict=True)]
        more = statistics.median(run["peak"] - off["peak"] for run, off in zip(runs, found["all off"], strict=True))
        kept = f"{runs[0]['kept']:,}"
        rows.append((name, f"{rate / 1e6:.1f} MB/s", f"{statistics.median(ratios):.2f}", f"{more / 1e6:+.0f} MB", kept))
    show(
        f"whole build, one worker, documents of {size:,} bytes, {ROUNDS} rounds in turns",
        ("curation", "speed", "of all off", "peak memory", "documents kept"),
        rows,
        packages=("apache-beam", "py3langid", "numba"),
    )


def measure(tmp_path, corpora, more):
    settings = dict(more)
    item = {"path": str(tmp_path / "books.jsonl")}
    if "quality" in settings:
        item["quality"] = settings.pop("quality")
    values = {
        "inputs": [item],
        "output": str(tmp_path / "out"),
        "tokenizer": {"path": str(corpora / "tok/bert_vocab/bert-base-uncased-vocab.txt")},
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(values)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def write_documents(corpora, path, size):
    """Books cut at paragraphs into documents of about so many bytes."""
    with path.open("w") as file:
        written = 0
        for book in sorted((corpora / "en_classic_books_md").rglob("*.md")):
            part: list[str] = []
            for paragraph in book.read_text(errors="replace").split("\n\n"):
                part.append(paragraph)
                if sum(map(len, part)) >= size:
                    text = "\n\n".join(part)
                    file.write(json.dumps({"text": text}) + "\n")
                    written += len(text)
                    part = []
            if written > BYTES:
                return
