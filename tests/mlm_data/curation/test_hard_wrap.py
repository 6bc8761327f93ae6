"""Hard-wrapped lines, compared with plain Python."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.curation.hard_wrap import LONGEST, SHORTEST, count_wrapped

LINE = "a line of a text that was broken where a column ended"


def twin(texts):
    num_lines = num_wrapped = 0
    for text in texts:
        lines = [line.removesuffix(b"\r") for line in text.encode().split(b"\n")]
        num_lines += sum(1 for line in lines if line)
        for line, after in pairwise(lines):
            ends = line[-1:] in {b".", b"?", b"!", b":", b";", b"'", b'"'}
            num_wrapped += bool(after) and SHORTEST <= len(line) <= LONGEST and not ends
    return num_lines, num_wrapped


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", (0, 0)),
        (f"{LINE}\n{LINE}\n{LINE}.", (3, 2)),
        (f"{LINE}\r\n{LINE}\r\n\r\n{LINE}", (3, 1)),
        (f"{LINE}.\n{LINE}", (2, 0)),
        (f"short\n{LINE}", (2, 0)),
        (f"{LINE * 4}\n{LINE}", (2, 0)),
        (f"{LINE}\n", (1, 0)),
        ("\n\n\n", (0, 0)),
    ],
)
def test_lines_that_end_inside_a_sentence(text, wanted):
    assert count_wrapped(pa.array([text], pa.large_string())) == wanted
    assert twin([text]) == wanted


def test_a_line_is_never_followed_by_that_of_another_text():
    texts = pa.array([LINE + "\n", LINE, "", LINE + "\n" + LINE], pa.large_string())
    assert count_wrapped(texts) == (4, 1)
    assert count_wrapped(texts.slice(3)) == (2, 1)
    assert count_wrapped(texts.slice(0, 0)) == (0, 0)


pieces = st.sampled_from([LINE, LINE + ".", "x", "\n", "\r\n", "\n\n", " ", "\r", "é" * 30, "z" * 200])


@given(st.lists(st.lists(pieces, max_size=8).map("".join), max_size=5))
def test_as_plain_python_counts(texts):
    assert count_wrapped(pa.array(texts, pa.large_string())) == twin(texts)
