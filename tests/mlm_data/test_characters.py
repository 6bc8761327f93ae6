"""Characters and the bytes that stand for them."""

import numpy as np
from tokenizers import pre_tokenizers

from mlm_data.characters import byte_characters, code_point


def test_code_points_are_those_of_python():
    text = "a\x00\x7f\x80ß߿ࠀ\uffff\U00010000\U0010ffff"
    data = np.frombuffer(text.encode(), np.uint8)
    places = np.cumsum([0, *(len(character.encode()) for character in text)])
    assert [code_point(data, place) for place in places[:-1]] == [(ord(c), len(c.encode())) for c in text]


def test_the_byte_alphabet_is_that_of_tokenizers():
    assert set(byte_characters()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert [byte_characters()[byte] for byte in b"a \n"] == ["a", "Ġ", "Ċ"]
