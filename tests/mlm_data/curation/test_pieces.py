import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlm_data.curation.pieces import COUNTS, count_pieces
from mlm_data.hashing import string_buffers
from tests.mlm_data.curation import plain_quality


def count(texts: list[str], short_chars: int = 5) -> list[dict[str, int]]:
    data, offsets = string_buffers(pa.array(texts, pa.large_string()))
    found = count_pieces(data, offsets[:-1], offsets[1:], short_chars=short_chars)
    return [{name: int(found[name][text]) for name in COUNTS} for text in range(len(texts))]


@settings(deadline=None)
@given(st.lists(st.text("ab.…•-# \t\n\r\x0b\u2028\u00a0é中。\U0001f600", max_size=60), max_size=4))
@example(["", "\n", "\n\n", " ", "a\n\n\na", "a\n \n\na\n", "......", "\r\n\r\n", "中\n\n中"])
def test_counts_are_those_of_plain_python(texts):
    assert count(texts) == [plain_quality.pieces(text, 5) for text in texts]


def test_the_set_of_lines_grows():
    lines = [str(number) for number in range(5000)]
    text = "\n".join([*lines, *lines[:7]])
    assert count([text]) == [plain_quality.pieces(text, 5)]
    paragraphs = "\n\n".join([*lines, *lines[:7]])
    assert count([paragraphs]) == [plain_quality.pieces(paragraphs, 5)]


@pytest.mark.parametrize("text", ["a" * 1000, "é" * 777, "中\n" * 333, "\n" * 500 + "x"])
def test_characters_are_counted_eight_bytes_at_a_time(text):
    assert count([text])[0]["num_characters"] == len(text)
