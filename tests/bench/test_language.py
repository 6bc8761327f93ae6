"""Languages: the kernel beside py3langid alone, on one thread, interleaved; accuracy on labelled sentences.

Times are CPU seconds of the one thread that works; the median of the rounds is shown. Nothing is asserted but equal
labels.
"""

import time

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.curation.language import LANGUAGES, cut, identify_languages
from mlm_data.curation.language_codes import shortest_code
from tests.bench.report import show

pytestmark = [pytest.mark.bench, pytest.mark.corpora]
ROUNDS = 7
SIZE = 1500  # bytes of a document
SHARE = 8  # the library sees every eighth document


def seconds(work) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def test_languages(corpora):
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    library = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    lines = {
        path.parent.name: [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        for path in sorted(corpora.glob("ml_lingua_testdata/*/sentences.txt"))
    }

    def documents(language: str) -> list[str]:
        data = "\n".join(lines[language]).encode()[: 40 * SIZE]
        return [data[i : i + SIZE].decode("utf-8", "ignore") for i in range(0, len(data) - SIZE, SIZE)]

    every = [document for language in lines for document in documents(language)]
    mixed = [every[i] for i in np.random.default_rng(0).permutation(len(every))]
    sentences = [line for language in lines for line in lines[language]][::4]
    rows = []
    for name, texts in {
        "English": documents("en") * 8,
        "37 languages, shuffled": mixed,
        "sentences": sentences,
    }.items():
        array = pa.array(texts, pa.large_string())
        found = identify_languages(array)
        some = texts[::SHARE]
        labels = [
            shortest_code(library.classify(text)[0]) for text in cut(array).to_pylist()[::SHARE]
        ]  # the same bytes
        assert [LANGUAGES[code] for code in found.codes[::SHARE]] == labels
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(seconds(lambda array=array: identify_languages(array)) / len(texts))
            theirs.append(seconds(lambda some=some: [library.classify(text) for text in some]) / len(some))
        ratio = float(np.median(np.divide(theirs, ours)))
        rows.append(
            (name, len(texts), f"{np.median(ours) * 1e6:.0f}", f"{np.median(theirs) * 1e6:.0f}", f"{ratio:.1f} x")
        )
    columns = ("documents of 1.5 kB", "number", "us each", "py3langid alone, us", "as fast")
    show("Language identification, one thread; equal labels", columns, rows, packages=("py3langid", "numba"))

    pairs = [(shortest_code(code), line) for code in lines for line in lines[code] if shortest_code(code) in LANGUAGES]
    found = identify_languages(pa.array([line for _, line in pairs], pa.large_string()))
    right = np.array([LANGUAGES[code] == want for code, (want, _) in zip(found.codes, pairs, strict=True)])
    sizes = np.array([len(line) for _, line in pairs])
    rows = [
        (name, int(mask.sum()), f"{right[mask].mean():.4f}")
        for name, mask in {"all": sizes > 0, "over 100 characters": sizes > 100}.items()
    ]
    show("Accuracy on sentences of 36 languages", ("sentences", "number", "right"), rows, packages=("py3langid",))
