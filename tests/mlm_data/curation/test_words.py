import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.curation.words import ENDS_SENTENCE, Words, hash_words, scan_words
from mlm_data.hashing import string_buffers
from tests.mlm_data.curation import plain_quality

HOSTILE = "aB.c?!\"'») \t\n\u2028\u00a0\u3000é中。…-•#1·ก\U0001f600\u0301"


def scan(texts: list[str]) -> Words:
    data, offsets = string_buffers(pa.array(texts, pa.large_string()))
    return scan_words(data, offsets[:-1], offsets[1:])


@settings(deadline=None)
@given(st.lists(st.text(HOSTILE, max_size=60), max_size=4))
def test_words_are_those_of_plain_python(texts):
    found = scan(texts)
    plain = [plain_quality.words(text) for text in texts]
    assert found.offsets.tolist() == np.cumsum([0, *map(len, plain)]).tolist()
    flat = [pair for one in plain for pair in one]
    assert found.flags.tolist() == [flags for _, flags in flat]
    assert found.chars.tolist() == [len(word) for word, _ in flat]
    assert found.hashes.tolist() == hash_words(word for word, _ in flat).tolist()
    whole = "".join(texts).encode()
    assert all(whole[place:].startswith(word.encode()) for place, (word, _) in zip(found.places, flat, strict=True))


@pytest.mark.parametrize("word", ["end.", "end!", "”end.”", "so?)", "3.14.", "三。", "www.example.org.", 'No."'])
def test_ends_a_sentence(word):
    assert scan([word]).flags[0] & ENDS_SENTENCE


@pytest.mark.parametrize("word", ["end", "end...", "J.", "U.S.", "e.g.", "Mr.", "etc.", "end.,", ".", "3.14", "…"])
def test_ends_no_sentence(word):
    assert not scan([word]).flags[0] & ENDS_SENTENCE


@settings(deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=20), max_size=50))
def test_different_words_have_different_hashes_wherever_they_stand(words):
    assert len(set(hash_words(words).tolist())) == len(set(words))
    assert all(hash_words([word])[0] == value for word, value in zip(words, hash_words(words), strict=True))
