import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.curation.line_edits import c4_lines, edit_lines, loses_too_many_words
from mlm_data.hashing import string_buffers
from mlm_data.quality_settings import C4Settings
from tests.mlm_data.curation import plain_quality

PARTS = st.sampled_from(
    [
        *("a", "word", "Ünïcödé", "MANY CAPITALS", "12", "٣", "3 likes", "1.2K Views!", ".", "...", "!", '"', "'", " "),
        *("\n", "\n\n", "\t", "\u2028", "\r\n", "[", "]", "[1]", "[]", "[edit]", "[citation needed]", "[12", "[edit"),
        *(
            "lorem ipsum",
            "LoRem Ipsum",
            "JavaScript",
            "{",
            "Terms of use",
            "uses cookies",
            "use cookie",
            "中文。",
            "\u0301",
        ),
        *("x" * 1000, "y" * 1001, "_", "likes"),
    ]
)
TEXTS = st.lists(st.lists(PARTS, max_size=25).map("".join), max_size=4)


def left_by_c4(texts: list[str]) -> tuple[list[str], list[int], list[int]]:
    data, offsets = string_buffers(pa.array(texts, pa.large_string()))
    left = c4_lines(data, offsets[:-1], offsets[1:], C4Settings(), np.zeros(len(texts), bool))
    kept = [left.data[a:b].tobytes().decode() for a, b in zip(left.offsets[:-1], left.offsets[1:], strict=True)]
    return kept, left.num_lorem_ipsum_lines.tolist(), left.num_curly_bracket_lines.tolist()


@settings(deadline=None)
@given(TEXTS)
def test_c4_is_that_of_plain_python(texts):
    plain = [plain_quality.c4(text) for text in texts]
    assert left_by_c4(texts) == ([p[0] for p in plain], [p[1] for p in plain], [p[2] for p in plain])
    edited = edit_lines(pa.array(texts, pa.large_string()), ("c4",))
    assert edited.texts.to_pylist() == [p[0] for p in plain]
    assert edited.characters_removed.tolist() == [len(t) - len(p[0]) for t, p in zip(texts, plain, strict=True)]
    counts = edited.by_edit["c4"]
    assert counts.num_lines.tolist() == [len(text.splitlines()) for text in texts]
    assert (counts.num_lines - counts.num_lines_removed).tolist() == [len(p[3]) for p in plain]
    assert counts.num_words.tolist() == [len(text.split()) for text in texts]


@settings(deadline=None)
@given(TEXTS)
def test_refinedweb_is_that_of_plain_python(texts):
    plain = [plain_quality.refinedweb(text) for text in texts]
    edited = edit_lines(pa.array(texts, pa.large_string()), ("refinedweb",))
    assert edited.texts.to_pylist() == [p[0] for p in plain]
    counts = edited.by_edit["refinedweb"]
    assert counts.num_words.tolist() == [p[1] for p in plain]
    assert counts.num_words_removed.tolist() == [p[2] for p in plain]
    assert edited.characters_removed.tolist() == [len(t) - len(p[0]) for t, p in zip(texts, plain, strict=True)]


KEPT = "This line is kept."


@pytest.mark.parametrize(
    ("edit", "gone", "stays"),
    [
        ("c4", "x" * 1001 + " is long.", "x" * 1000 + " is long."),
        ("c4", "No full stop here", "A full stop here."),
        ("c4", "It goes on...", "It goes on.."),
        ("c4", "Two words.", "Now three words."),
        ("c4", "Turn on JavaScript, please.", "Turn on Java scripts, please."),
        ("c4", "Read our Privacy Policy, please.", "Read our privacy and policy, please."),
        ("c4", "A source is given. [12]", "A source is given.'"),
        ("refinedweb", "ABCDE and", "ABCD and"),
        ("refinedweb", "1234", "12 34"),
        ("refinedweb", "3 likes", "3 people like it"),
        ("refinedweb", "» 1.2K views!", "It has 1.2K views!"),
        ("refinedweb", "Menu", "The menu"),
    ],
)
def test_a_line_that_goes_and_its_neighbour_that_stays(edit, gone, stays):
    texts = pa.array([f"{gone}\n{KEPT}", f"{stays}\n{KEPT}"], pa.large_string())
    edited = edit_lines(texts, (edit,))
    assert edited.texts.to_pylist() == [KEPT, f"{stays}\n{KEPT}"]
    assert edited.characters_removed.tolist() == [len(gone) + 1, 0]
    assert edited.by_edit[edit].num_lines_removed.tolist() == [1, 0]


def test_citations_go_and_their_line_stays():
    text = "One[1] two[23] three[] four[edit] five[citation needed] six[a] [7 eight."
    assert left_by_c4([text])[0] == ["One two three four five six[a] [7 eight."]


def test_edits_follow_each_other_and_blank_lines_are_one_at_most():
    texts = pa.array(["A kept line.\n\nMENU\n\nAnother kept line.\n\nMENU", "MENU", ""], pa.large_string())
    edited = edit_lines(texts, ("refinedweb",))
    assert edited.texts.to_pylist() == ["A kept line.\n\nAnother kept line.", "", ""]
    both = edit_lines(texts, ("refinedweb", "c4"))
    assert both.texts.to_pylist() == ["A kept line.\nAnother kept line.", "", ""]
    assert both.characters_removed.tolist() == [13, 4, 0]
    assert list(both.by_edit) == ["refinedweb", "c4"]
    assert edit_lines(texts, ()).texts is texts


def test_a_twentieth_of_the_words_may_go():
    texts = pa.array([" ".join(["word"] * 19) + "\nMENU", " ".join(["word"] * 18) + "\nMENU"], pa.large_string())
    assert loses_too_many_words(edit_lines(texts, ("refinedweb",)).by_edit["refinedweb"]).tolist() == [False, True]


def test_a_slice_of_an_array_is_edited_as_it_is_alone():
    texts = pa.array(["Skipped one two.", "MENU\nThe one that counts.", "Skipped, too."], pa.large_string())[1:2]
    assert edit_lines(texts, ("c4",)).texts.to_pylist() == ["The one that counts."]


def test_texts_of_languages_without_spaces_are_left_alone():
    texts = pa.array(["你好。", "MENU\nThis line is kept.", "เมนู"], pa.large_string())
    edited = edit_lines(texts, ("c4", "refinedweb"), ["zh", "en", "th"])
    assert edited.texts.to_pylist() == ["你好。", "This line is kept.", "เมนู"]
    assert edited.characters_removed.tolist() == [0, 5, 0]
    assert edit_lines(texts, ("refinedweb",)).texts.to_pylist() == ["", "This line is kept.", ""]


def test_no_texts():
    assert edit_lines(pa.array([], pa.large_string()), ("c4", "refinedweb")).texts.to_pylist() == []
