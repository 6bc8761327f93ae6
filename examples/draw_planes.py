"""Draw what the planes of a row hide: a line for each plane, a square for each place.

python examples/draw_planes.py DATASET planes.svg
"""

import sys
from html import escape
from pathlib import Path

from mlm_data.dataset.dataset import Dataset, RowView

SIDE, LEFT, TOP = 14, 70, 90  # pixels
COLOURS = {"mask": "#c03030", "random": "#8660c0", "kept": "#d08a2e", "visible": "#e4e4e4"}


def kind_of(view: RowView, plane: str, place: int) -> str:
    """What a plane shows at a place."""
    row = view.planes[plane]
    if place not in row.targets:
        return "visible"
    if place not in row.swaps:
        return "mask"
    return "kept" if row.swaps[place] == view.tokens[place] else "random"


def draw(view: RowView, words: list[str]) -> str:
    """The row as SVG."""
    parts = []
    for place, word in enumerate(words):
        x = LEFT + place * SIDE
        turn = f"translate({x + 10} {TOP - 6}) rotate(-60)"
        parts.append(f'<text transform="{turn}" font-size="10">{escape(word)}</text>')
        for number, plane in enumerate(view.planes):
            colour, y = COLOURS[kind_of(view, plane, place)], TOP + number * SIDE
            parts.append(f'<rect x="{x}" y="{y}" width="{SIDE - 2}" height="{SIDE - 2}" fill="{colour}"/>')
    for number, plane in enumerate(view.planes):
        parts.append(f'<text x="8" y="{TOP + number * SIDE + 10}" font-size="11">plane {escape(plane)}</text>')
    width, height = LEFT + len(words) * SIDE + 60, TOP + len(view.planes) * SIDE + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    return head + f'<rect width="{width}" height="{height}" fill="#fff"/>' + "".join(parts) + "</svg>\n"


def main(folder: Path, picture: Path) -> None:
    """Draw the first training row of a dataset."""
    dataset = Dataset.open(folder)
    view, tokens = dataset.row("train", 0), dataset.reference().tokens
    picture.write_text(draw(view, [tokens[token] for token in view.tokens.tolist()]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
