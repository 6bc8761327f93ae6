"""Text from corpora on a terminal."""

import io

import pytest

from mlm_data.console import Terminal, shown, table

HOSTILE = (
    "\x1b[31mred\x1b]8;;http://a\x07 \x9b2J \u202eabc\u202c \u2066x\u2069 \u200f \r\n\t \u2028 \x00 \ud800 \U000e0041"
)


def test_nothing_that_moves_the_cursor_or_turns_the_text_is_left():
    assert shown(HOSTILE).isprintable()
    assert shown(HOSTILE).startswith("\\x1b[31mred\\x1b]8;;http://a\\x07 \\x9b2J \\u202eabc\\u202c")


def test_letters_of_every_script_stay():
    text = "naïve čaj 漢字 हिन्दी 🦉 e\u0301 <b>&amp;</b> \\n"
    assert shown(text) == text


@pytest.mark.parametrize(("most", "wanted"), [(0, "…"), (3, "abc…"), (6, "abcdef"), (None, "abcdef")])
def test_long_texts_are_cut_before_they_are_escaped(most, wanted):
    assert shown("abcdef", most) == wanted


def test_a_terminal_writes_it_as_it_is():
    file = io.StringIO()
    Terminal(file).say(shown(HOSTILE))
    assert file.getvalue() == shown(HOSTILE) + "\n"


def test_a_table_that_no_terminal_reads_is_not_folded(monkeypatch):
    """As in `premask log books | grep v1`."""
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = table("one", "other")
    lines.add_row("a" * 100, "b" * 100)

    def written() -> list[list[str]]:
        file = io.StringIO()
        Terminal(file=file).print(lines)
        return [line.split() for line in file.getvalue().splitlines()]

    assert written() == [["one", "other"], ["a" * 100, "b" * 100]]
    monkeypatch.setenv("COLUMNS", "80")
    assert len(written()) > 2
