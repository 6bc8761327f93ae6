"""Words and their marks are those of HF's WhitespaceSplit and Metaspace."""

import random
from itertools import pairwise

import numpy as np
from tokenizers import pre_tokenizers

from mlm_data.tokens.metaspace import marked_words

HF = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])


def check(text):
    data, bounds = marked_words(np.frombuffer(text.encode(), np.uint8))
    got = [bytes(data[a:b]).decode() for a, b in pairwise(bounds)]
    assert got == [word for word, _ in HF.pre_tokenize_str(text)], ascii(text)


def test_random_texts():
    rng = random.Random(0)
    for _ in range(2000):
        check("".join(rng.choice("a b▁é\u3000漢\x1c\u0085") for _ in range(rng.randrange(12))))


def test_every_character():
    for first in range(0, 0x30000, 64):
        check("".join(f"x{chr(point)}" for point in range(first, first + 64) if not 0xD800 <= point < 0xE000))
