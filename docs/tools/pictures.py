"""Draw the pictures of docs/benchmarks.md: bars, from the figures of the table below each picture.

    python -m docs.tools.pictures

The tables are the only place where figures stand. A test draws the pictures again and compares.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent.parent
PAGE, FOLDER = DOCS / "benchmarks.md", DOCS / "pictures"
COLOURS = ("#4c78c8", "#d08a2e", "#4a9a54", "#8660c0")
WIDTH, LABELS, BAR, GAP, TOP = 860, 330, 18, 10, 46  # pixels; LABELS: of the column of names
ROOM = 130  # right of the longest bar, for its figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A bar chart of one table."""

    name: str
    title: str
    columns: tuple[int, ...] = (1,)  # of the table; the names of the rows are column 0
    series: tuple[str, ...] = ()  # what the columns are called, where there is more than one


PICTURES = (
    Picture(name="build", title="Speed of a build, MB/s (more is better)", columns=(1, 2),
            series=("a document is a file", "a document is a paragraph")),
    Picture(name="disk", title="Bytes per token on disk (less is better)", columns=(1, 2),
            series=("a document is a file", "a document is a paragraph")),
    Picture(name="build-beside-datasets", title="Seconds for 90 MB of text (less is better)", columns=(1, 4),
            series=("EPYC", "Xeon")),
    Picture(name="loader", title="Million tokens per second (more is better)", columns=(1, 2),
            series=("premask", "HF's collator")),
    Picture(name="tokens", title="MB of text per CPU second, words known (more is better)", columns=(2, 4),
            series=("premask", "HF tokenizers")),
    Picture(name="memory", title="MiB of memory that one call adds (less is better)", columns=(1, 2, 3),
            series=("200 MB document", "a word of 50 MB", "10 million words")),
    Picture(name="training", title="Useful tokens per second, two cores of an EPYC (more is better)"),
    Picture(name="planes", title="Held-out nats above those with fresh masks (less is better)", columns=(3,)),
    Picture(name="same-loss", title="Held-out nats after 300 steps from the same weights (less is better)"),
    Picture(name="demo", title="Share of hidden tokens that are guessed rightly (more is better)", columns=(2,)),
    Picture(name="probe", title="Share of held-out paragraphs that are labelled rightly (more is better)"),
    Picture(name="h100", title="Places per second, ModernBERT-base on one H100 (more is better)", columns=(2,)),
    Picture(name="h100-beside-hf", title="Useful tokens per second on one H100 (more is better)", columns=(2,)),
)  # fmt: skip


def pictures() -> dict[str, str]:
    """Name of each picture -> its SVG."""
    page = PAGE.read_text(encoding="utf-8")
    return {f"{one.name}.svg": draw(one, table_below(page, f"pictures/{one.name}.svg")) for one in PICTURES}


def table_below(page: str, image: str) -> list[list[str]]:
    """The rows of the first table below an image, without its head."""
    lines = page[page.index(image) :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def value(cell: str) -> float | None:
    """The figure of a cell; of a range its middle.

    >>> value("4,253"), value("4.75 s"), value("79,768 to 123,560"), value("+0.0206"), value("")
    (4253.0, 4.75, 101664.0, 0.0206, None)
    """
    found = [float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*(?:\.\d+)?", cell)]
    return sum(found[:2]) / len(found[:2]) if found else None


def draw(picture: Picture, rows: Sequence[Sequence[str]]) -> str:
    """A chart of horizontal bars, a group for each row that has a figure."""
    shown = [row for row in rows if any(value(row[column]) is not None for column in picture.columns)]
    longest = max(value(row[column]) or 0 for row in shown for column in picture.columns)
    scale = (WIDTH - LABELS - ROOM) / longest
    parts, y = [], TOP + (22 if picture.series else 0)
    for number, name in enumerate(picture.series):
        x = LABELS + 200 * number
        parts.append(f'<rect x="{x}" y="{TOP - 12}" width="12" height="12" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 18}" y="{TOP - 1}" font-size="12" fill="#444">{escape(name)}</text>')
    for row in shown:
        height = len(picture.columns) * BAR
        parts += label(row[0], y + height / 2)
        for number, column in enumerate(picture.columns):
            figure, top = value(row[column]), y + number * BAR
            if figure is None:
                continue
            width = max(1.0, figure * scale)
            parts.append(
                f'<rect x="{LABELS}" y="{top + 1}" width="{width:.1f}" height="{BAR - 2}" fill="{COLOURS[number]}"/>'
                f'<text x="{LABELS + width + 6:.1f}" y="{top + 13}" font-size="12" fill="#1a1a1a">'
                f"{escape(row[column])}</text>"
            )
        y += max(height, 30) + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 8}" font-family="system-ui, sans-serif">'
        f'<rect width="{WIDTH}" height="{y + 8}" fill="#ffffff"/>'
        f'<text x="16" y="24" font-size="14" font-weight="600" fill="#1a1a1a">{escape(picture.title)}</text>'
    )
    return head + "\n" + "\n".join(parts) + "\n</svg>\n"


def label(text: str, middle: float) -> list[str]:
    """A row's name, right-aligned before its bars, on two lines where it is long."""
    plain = text.replace("`", "")
    lines = [plain]
    if len(plain) > 48:
        cut = plain.rfind(" ", 0, 48)
        rest = plain[cut + 1 :]
        lines = [plain[:cut], rest if len(rest) <= 48 else rest[: rest.rfind(" ", 0, 46)] + " ..."]
    first = middle + 4 - 7 * (len(lines) - 1)
    return [
        f'<text x="{LABELS - 10}" y="{first + 14 * number:.0f}" text-anchor="end" font-size="12" fill="#1a1a1a">'
        f"{escape(line)}</text>"
        for number, line in enumerate(lines)
    ]


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
