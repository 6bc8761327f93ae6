"""Languages: labels and scores equal py3langid's on the same bytes, and the rules around them."""

import sys
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("py3langid")

from mlm_data.curation import language
from mlm_data.curation.language import LANGUAGES, WHOLE, WINDOW, Py3langid, cut, identify_languages, model_sha256
from mlm_data.curation.language_codes import shortest_code
from mlm_data.curation.language_kernels import LOG_UNIT, SCORE_UNIT, WEIGHT_UNIT
from mlm_data.errors import ConfigError

SENTENCES = {
    "en": "The children walked home through the quiet streets and talked about the day.",
    "de": "Die Kinder gingen durch die stillen Straßen nach Hause und sprachen über den Tag.",
    "fr": "Les enfants rentraient à la maison par les rues calmes et parlaient de la journée.",
    "ru": "Дети шли домой по тихим улицам и говорили о прошедшем дне.",
    "el": "Τα παιδιά γύριζαν στο σπίτι από τους ήσυχους δρόμους και μιλούσαν για τη μέρα.",
    "ja": "子どもたちは静かな道を歩いて家に帰り、その日のことを話しました。",
    "hi": "बच्चे शांत सड़कों से घर लौट रहे थे और दिन के बारे में बात कर रहे थे।",
}


@pytest.fixture(scope="module")
def library():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def arrow(*texts):
    return pa.array(texts, pa.large_string())


def labels(found):
    return [LANGUAGES[code] for code in found.codes]


def twin_cut(text: str, window: int = WINDOW) -> str:
    """The excerpt, on Python's bytes."""
    data = text.encode()
    if len(data) <= 3 * window:
        return text
    middle = (len(data) - window) // 2

    def piece(start, end):
        while start < len(data) and data[start] & 0xC0 == 0x80:
            start += 1
        while start < end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        return data[start : max(start, end)]

    first_of_middle = middle
    while data[first_of_middle] & 0xC0 == 0x80:
        first_of_middle += 1
    pieces = [piece(0, window), piece(middle, middle + window), piece(len(data) - window, len(data))]
    return b"\n".join(pieces).decode()


def assert_equal(texts, library):
    """Labels are the library's, and scores within one unit: it adds in 32 bits."""
    found = identify_languages(arrow(*texts))
    for text, code, score in zip(texts, found.codes, found.scores, strict=True):
        want, chance = library.classify(twin_cut(text))
        assert LANGUAGES[code] == shortest_code(want), text
        assert abs(chance * SCORE_UNIT - score) < 1, text


def test_known_sentences():
    found = identify_languages(arrow(*SENTENCES.values()))
    assert labels(found) == list(SENTENCES)
    assert (found.scores > 0.35 * SCORE_UNIT).all()


def test_equal_to_the_library(library):
    texts = [*SENTENCES.values()]
    texts += [text * 5 for text in texts]  # the automaton goes on across repeats
    texts += [text * 40 for text in SENTENCES.values()]  # longer than one excerpt
    texts += [first + "\n" + second for first in SENTENCES.values() for second in SENTENCES.values()]
    texts += [text[:n] for text in SENTENCES.values() for n in range(8, 40, 5)]
    assert_equal(texts, library)


def test_capitals_and_letters_taken_apart(library):
    texts = [text.upper() for text in SENTENCES.values()]
    texts += [unicodedata.normalize("NFD", text) for text in SENTENCES.values()]
    texts += [unicodedata.normalize("NFD", text.upper()) for text in SENTENCES.values()]
    texts += [
        "ΟΔΥΣΣΕΥΣ ΚΑΙ ΠΗΝΕΛΟΠΗΣ",
        "각하는 집에 간다",
        unicodedata.normalize("NFD", "각하는 집에 간다"),
        "A\u0327\u0301 b\u0301\u0327",
    ]
    assert_equal([*texts, *SENTENCES.values()], library)


def test_a_text_does_not_depend_on_its_neighbours():
    texts = [*SENTENCES.values(), "", "12345 67890", SENTENCES["fr"].upper(), SENTENCES["de"] * 50]
    together = identify_languages(arrow(*texts))
    for i, text in enumerate(texts):
        alone = identify_languages(arrow(text))
        assert (alone.codes[0], alone.scores[0]) == (together.codes[i], together.scores[i])
    part = identify_languages(arrow(*texts)[3:7])
    assert np.array_equal(part.codes, together.codes[3:7])
    assert identify_languages(arrow()).codes.shape == (0,)


def test_nothing_to_go_by():
    found = identify_languages(arrow("", " ", "\n", "...", "a"))
    assert labels(found) == ["und"] * 5
    assert not found.scores.any()


def test_no_language():
    found = identify_languages(arrow("12345 67890", "0 1 0 1 1 0 1 0", "2020-01-01 12:00:00 +0100", "☃☃☃"))
    assert labels(found) == ["zxx"] * 4
    assert (found.scores == SCORE_UNIT).all()


def test_one_language_for_three():
    texts = arrow("Djeca su išla kući kroz mirne ulice i razgovarala o danu.", SENTENCES["en"])
    apart, together = identify_languages(texts), identify_languages(texts, group=True)
    assert labels(apart)[0] in {"bs", "hr", "sr"}
    assert labels(together) == ["sh", "en"]
    assert together.scores[0] > apart.scores[0]
    assert together.scores[1] == apart.scores[1]


@pytest.mark.parametrize("window", [4, 7, 16])
def test_excerpts(window):
    texts = [text * k for text in SENTENCES.values() for k in (1, 2)] + ["é" * n for n in range(5, 30)] + ["", "🦀" * 9]
    assert cut(arrow(*texts), window=window).to_pylist() == [twin_cut(text, window) for text in texts]


def test_short_texts_are_not_copied():
    texts = arrow("a" * WHOLE, "b")
    assert cut(texts) is texts


def test_a_long_text_is_judged_by_three_places():
    foreign = SENTENCES["de"] * 100
    assert labels(identify_languages(arrow("License: MIT\n" * 30 + foreign))) == ["de"]
    huge = arrow(SENTENCES["fr"] * 300_000)
    assert labels(identify_languages(huge)) == ["fr"]


def test_every_code_is_the_shortest_and_stands_once():
    assert len(set(LANGUAGES)) == len(LANGUAGES)
    assert [shortest_code(code) for code in LANGUAGES] == list(LANGUAGES)


def test_sums_are_those_of_plain_numpy(library):
    """Integer sums by count equal the sum over features in 64-bit floating point."""
    from py3langid.langid import visit_counts

    text = SENTENCES["en"] * 3
    visits = visit_counts(library.tk_nextmove, library._rowbase, library.tk_output, text.encode())
    features, counts = np.array([*visits.keys()]), np.array([*visits.values()], np.float64)
    want = np.log1p(counts) @ library.nb_ptc[features].astype(np.float64) + library.nb_pc
    model = language._model()
    logs = model.logs[counts.astype(int)]
    sums = logs @ model.weights[features][:, : len(want)].astype(np.int64) + model.priors
    assert np.allclose(sums / (WEIGHT_UNIT * LOG_UNIT), want, atol=1e-2)
    assert Counter(visits).most_common(1)[0][1] > 1


def test_a_model_has_a_version():
    assert len(model_sha256()) == 64
    assert model_sha256() in Py3langid().version
    assert Py3langid().version != Py3langid(group=True).version


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(ConfigError, match=r"py3langid is not installed: pip install 'premask\[curation\]'"):
        model_sha256()


def sentences(corpora):
    for path in sorted(corpora.glob("ml_lingua_testdata/*/sentences.txt")):
        for line in path.read_text("utf-8").splitlines():
            if line.strip():
                yield path.parent.name, line


@pytest.mark.corpora
def test_equal_on_every_fifth_shared_sentence(corpora, library):
    assert_equal([text for _, text in sentences(corpora)][::5], library)


@pytest.mark.corpora
@pytest.mark.slow
def test_equal_on_all_shared_texts(corpora, library):
    texts = [text for _, text in sentences(corpora)]
    texts += [path.read_text("utf-8", "replace") for path in sorted(corpora.glob("ml_udhr/**/*.txt"))]
    texts += [path.read_text("utf-8", "replace") for path in sorted(corpora.glob("en_peps/**/*.rst"))]
    assert_equal([text for text in texts if any(map(str.isalpha, text)) and len(text) > 8], library)


@pytest.mark.corpora
def test_accuracy_over_a_hundred_characters(corpora):
    pairs = [(code, text) for code, text in sentences(corpora) if len(text) > 100 and shortest_code(code) in LANGUAGES]
    found = labels(identify_languages(arrow(*(text for _, text in pairs))))
    right = [shortest_code(code) == label for (code, _), label in zip(pairs, found, strict=True)]
    assert np.mean(right) >= 0.985
