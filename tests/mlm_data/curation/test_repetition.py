import random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.curation.repetition import TOP, WALKED, count_repetition
from mlm_data.curation.words import scan_words
from mlm_data.hashing import string_buffers
from tests.mlm_data.curation import plain_quality


def check(texts: list[str]) -> None:
    data, offsets = string_buffers(pa.array(texts, pa.large_string()))
    top, walked = count_repetition(scan_words(data, offsets[:-1], offsets[1:]))
    for row, text in enumerate(texts):
        words = text.split()
        assert top[row].tolist() == [plain_quality.top_n_gram(words, n) for n in TOP]
        assert walked[row].tolist() == [plain_quality.repeated_n_grams(words, n) for n in WALKED]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "cc", "dé"]), max_size=60).map(" ".join), max_size=3))
def test_few_words_repeat_much(texts):
    check(texts)


def test_long_texts_that_repeat_little_and_much():
    draw = random.Random(1)
    common = [f"w{number}" for number in range(40)]
    rare = [f"r{number}" for number in range(3000)]
    phrase = " ".join(draw.choices(rare, k=12))
    texts = []
    for share in (0.0, 0.5, 0.9, 1.0):
        words = [draw.choice(common if draw.random() < share else rare) for _ in range(4000)]
        texts += [" ".join(words), " ".join(word if draw.random() < 0.98 else phrase for word in words)]
    check([*texts, "", "one", "a a", "the same " * 500])
