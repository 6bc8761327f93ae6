"""The pictures of docs/benchmarks.md show the figures of their tables."""

import re

from docs.tools import pictures


def test_pictures_are_as_the_tables_would_make_them():
    drawn = pictures.pictures()
    assert {file.name for file in pictures.FOLDER.iterdir()} == set(drawn)
    for name, text in drawn.items():
        assert (pictures.FOLDER / name).read_text() == text, "run `make docs`"


def test_every_picture_is_shown():
    shown = re.findall(r"\(pictures/([\w-]+\.svg)\)", pictures.PAGE.read_text())
    assert sorted(shown) == sorted(pictures.pictures())


def test_bars_are_as_long_as_their_figures():
    picture = pictures.Picture(name="", title="")
    text = pictures.draw(picture, [["a", "1,000 x"], ["b", "250 x"], ["c", ""]])
    full, quarter = re.findall(rf'x="{pictures.LABELS}" y="[\d.]+" width="([\d.]+)"', text)
    assert float(quarter) == float(full) / 4
    assert "1,000 x" in text
