"""What the pages about DNA and words of one's own show is run: script, configuration, what is hidden together."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlm_data.dataset.dataset import Dataset

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs/how-to"


def shown(page: str, language: str) -> str:
    """The first fenced block of a language in a page."""
    found = re.search(rf"```{language}\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL)
    assert found, f"{page} shows no {language}"
    return found[1]


def run(folder: Path, *words: str) -> None:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, *words], cwd=folder, check=True, env={**os.environ, "PYTHONPATH": path})


def targets(dataset: Dataset):
    """Of every row of training: its view, and the targets of its first plane as places."""
    for row in range(dataset.num_rows("train")):
        view = dataset.row("train", row)
        yield view, np.asarray(view.planes["0"].targets)


@pytest.mark.slow
def test_dna(tmp_path):
    draw = np.random.default_rng(0)
    records = ("".join(draw.choice(list("ACGT"), 1500)) for _ in range(40))
    (tmp_path / "genome.fasta").write_text("".join(f">c{i}\n{record}\n" for i, record in enumerate(records)))
    (tmp_path / "kmers.py").write_text(shown("dna.md", "python"))
    (tmp_path / "dna.yaml").write_text(shown("dna.md", "yaml"))
    run(tmp_path, "kmers.py")
    run(tmp_path, "-m", "pipelines", "build", "dna.yaml")
    seen = 0
    for _, places in targets(Dataset.open(tmp_path / "datasets/dna")):
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1) if places.size else []
        assert {len(one) for one in runs} <= {6}
        seen += len(runs)
    assert seen > 100


@pytest.mark.slow
def test_words_of_a_segmenter(tmp_path):
    line = shown("own-segmenter.md", "json")
    first = json.loads(line)
    others = [{"text": f"{number}{first['text']}", "words": [str(number), *first["words"]]} for number in range(200)]
    lines = [first, *others, {"text": "我爱", "words": ["我们"]}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines))
    (tmp_path / "chinese.yaml").write_text(shown("own-segmenter.md", "yaml"))
    run(tmp_path, "-m", "pipelines", "build", "chinese.yaml")
    dataset = Dataset.open(tmp_path / "datasets/chinese")
    assert dataset.manifest.splits["train"]["num_documents"] == len(lines) - 1  # the last one's words don't fit
    sizes = set()
    for view, places in targets(dataset):
        hidden = np.isin(np.arange(len(view.tokens)), places)
        for segment in view.segments:
            inside = np.arange(segment.place + 1, segment.place + segment.length - 1)
            begins = np.flatnonzero(view.word_starts[inside])
            for word in np.split(inside, begins[1:]):
                assert hidden[word].all() or not hidden[word].any()
                sizes.add(len(word))
    assert 4 in sizes  # 自然语言
