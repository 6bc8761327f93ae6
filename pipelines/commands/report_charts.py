"""The charts of `premask report`: drawn by matplotlib, as SVG that takes its colours from the page.

matplotlib writes colours, fonts and ids into its SVG. `svg` turns them into what a page can live with:

    fill: #010203          fill: var(--ink)                  the colours below are marks, one for each variable
    font-family: DejaVu    nothing: the page has a font      text stays text: it can be searched, and is printed sharp
    <g id="patch_1">       <g>                               only ids that are referred to stay, and no two are equal
    <?xml ...>, metadata   nothing

A chart of the same numbers has the same bytes each time: there is no date in it, and ids are hashes. Names from
corpora are never read as mathematics, and matplotlib escapes them.
"""

import functools
import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mlm_data.command import require
from mlm_data.console import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Marks, and the variables of the page that take their places.
INK, SOFT, LINE, BAR, SECOND, PAPER = "#010203", "#020304", "#030405", "#040506", "#050607", "#060708"
VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", BAR: "bar", SECOND: "second", PAPER: "card"}
WIDTH = 5.4  # inches, 389 units: as wide as a phone's column, so that its text is as large as the page's there
NAME = 26  # characters of a name beside a bar

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False,
    "font.size": 11.0,
    "text.color": SOFT,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": SOFT,
    "lines.solid_capstyle": "round",
}


def svg(draw: Callable[["Axes"], None], *, name: str, height: float) -> str:
    """A chart as an SVG element that may stand in a page.

    Args:
        draw: draws on the axes that it is given.
        name: another one for each chart of a page.
        height: in inches.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    require("matplotlib", extra="report")
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    text = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings(), _quiet_fonts():
        warnings.filterwarnings("ignore", message=r"(?s).*[Gg]lyph.*")  # the reader's browser has them
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")
        draw(figure.add_subplot())
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(text, metadata=metadata)
    return _embedded(text.getvalue(), name)


class _quiet_fonts:  # noqa: N801  a context, as those of contextlib
    """Silences remarks on fonts that this machine lacks."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("matplotlib")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)


_TAG = re.compile(r"<[^>]*>")


def _embedded(text: str, name: str) -> str:
    """An SVG file's element as a part of a page: see the module's docstring.

    Only tags are changed: a `>` of a text or an attribute is written as an entity, so what a name says stays.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', text))
    prefix = re.sub(r"\W", "-", name)

    def mend(found: re.Match[str]) -> str:
        tag = found.group()
        if tag.startswith("<svg"):
            box = re.search(r'viewBox="[\d. -]+"', tag)
            return f'<svg {box.group() if box else ""} aria-hidden="true" focusable="false">'
        tag = re.sub(r' id="([\w.-]+)"', lambda one: f' id="{prefix}-{one[1]}"' if one[1] in used else "", tag)
        tag = re.sub(r'(url\(#|href="#)([\w-]+)', rf"\g<1>{prefix}-\g<2>", tag)
        tag = tag.replace("xlink:href", "href")
        for mark, variable in VARIABLES.items():
            tag = tag.replace(mark, f"var(--{variable})")
        tag = re.sub(r"font-family: [^;\"]*; ?", "", tag)
        return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)

    text = _TAG.sub(mend, text)
    return re.sub(r"\n\s*", "\n", text).strip()


def bars(
    names: Sequence[str], counts: Sequence[int], parts: Sequence[int] | None = None, *, labels: Sequence[str]
) -> Callable[["Axes"], None]:
    """Horizontal bars, the first on top, with a figure behind each.

    Args:
        names: of the bars, as they are in the corpus.
        counts: how long they are.
        parts: of each, what is of another colour at its end.
        labels: what stands behind each.
    """

    def draw(axes: "Axes") -> None:
        places = range(len(names))
        whole = [count - part for count, part in zip(counts, parts or [0] * len(counts), strict=True)]
        axes.barh(places, whole, height=0.7, color=BAR)
        if parts is not None:
            axes.barh(places, parts, left=whole, height=0.7, color=SECOND)
        for place, label in zip(places, labels, strict=True):
            axes.annotate(label, (counts[place], place), (4, 0), textcoords="offset points", va="center", color=INK)
        axes.set_yticks(places, [shown(name, NAME) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, max([*counts, 1]) * 1.3)  # room for the figures
        axes.xaxis.set_visible(False)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)

    return draw


def bars_height(num: int) -> float:
    """Inches that so many bars want."""
    return 0.2 + 0.27 * max(1, num)


def histogram(
    edges: Sequence[float], counts: Sequence[int], *, xlabel: str, ylabel: str, log: bool = False
) -> Callable[["Axes"], None]:
    """Bars between edges that rise; `log` puts these on a logarithmic axis."""

    def draw(axes: "Axes") -> None:
        if log:
            axes.set_xscale("log")
        widths = [high - low for low, high in pairwise(edges)]
        shift = 0.5 if set(widths) == {1} and not log else 0.0  # a bar of one number stands over it
        places = [edge - shift for edge in edges]
        axes.bar(places[:-1], counts, width=widths, align="edge", color=BAR, edgecolor=PAPER, linewidth=0.6)
        axes.set_xlim(places[0], places[-1])
        if not log:
            axes.locator_params("x", integer=True)
        axes.locator_params("y", integer=True)
        axes.grid(visible=False, axis="x")
        _counts(axes, "y")
        _counts(axes, "x")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)

    return draw


def rates(
    names: Sequence[str],
    found: Sequence[float],
    expected: Sequence[float],
    chance: Sequence[float],
    *,
    rate: float,
) -> Callable[["Axes"], None]:
    """A dot for each band's rate, what chance may do to it as a line through it, and a stroke where it is expected.

    All in shares; the dashed line is the rate of the configuration.
    """

    def draw(axes: "Axes") -> None:
        places = list(range(len(names)))
        percent = [[100 * value for value in values] for values in (found, expected, chance)]
        axes.axvline(100 * rate, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)), label="rate of the configuration")
        axes.errorbar(
            percent[0], places, xerr=percent[2], fmt="o", color=BAR, markersize=4, linewidth=1.2, label="hidden"
        )
        axes.plot(percent[1], places, "|", color=INK, markersize=9, markeredgewidth=1.4, label="expected")
        axes.set_yticks(places, [shown(name, 36) for name in names], fontsize=9.5)
        axes.set_ylim(len(names) - 0.4, -0.6)
        low = min([100 * rate, *(value - spread for value, spread in zip(percent[0], percent[2], strict=True))])
        high = max([100 * rate, *(value + spread for value, spread in zip(percent[0], percent[2], strict=True))])
        room = max(100 * rate * 0.02, (high - low) * 0.05)
        axes.set_xlim(max(0.0, low - room), min(100.0, high + room))
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, handletextpad=0.4, columnspacing=1, fontsize=9.5
        )

    return draw


def ranks(places: Sequence[int], counts: Sequence[int], slope: tuple[float, float] | None) -> Callable[["Axes"], None]:
    """How often the token of each rank occurs, both axes logarithmic.

    `slope` is the exponent of the dashed line and its height at rank 1.
    """

    def draw(axes: "Axes") -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        if slope is not None:
            ends = [places[0], places[-1]]
            line = [slope[1] * place ** slope[0] for place in ends]
            axes.plot(ends, line, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)), label=f"exponent {slope[0]:.2f}")
        axes.plot(places, counts, color=BAR, linewidth=1.8, label="tokens")
        axes.set_ylim(bottom=0.7)
        _counts(axes, "x")
        _counts(axes, "y")
        axes.set_xlabel("rank")
        axes.set_ylabel("occurrences")
        axes.legend(loc="upper right")

    return draw


def _counts(axes: "Axes", which: str) -> None:
    """Whole numbers with k, M and G on an axis."""
    axis: Any = getattr(axes, f"{which}axis")
    axis.set_major_formatter(lambda value, _: short(value))
    axis.set_minor_formatter(lambda value, _: "")


@functools.cache
def short(value: float) -> str:
    """A number on an axis.

    >>> [short(value) for value in (0, 512, 1500, 20_000, 3_000_000)]
    ['0', '512', '1.5k', '20k', '3M']
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
