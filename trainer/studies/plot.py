"""Curves of one or more runs in one HTML file: inline SVG, no script, nothing to download.

The training loss is smoothed by a running mean over a fiftieth of the steps; validation is drawn as it is, with a point
for each evaluation. One legend above the charts names the runs by colour, and a table says where each ended.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlm_data.errors import InputError
from mlm_data.stores.folder import explain
from trainer.training.runlog import read_log

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 900, 320, 60, 40, 10, 20
RATE = "learning rate, as a share of the largest"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a chart."""

    name: str
    x: list[float]
    y: list[float]
    colour: str
    points: bool = False  # mark each point; for few


def plot(runs: Sequence[Path], out: Path) -> None:
    """Write the HTML file.

    Raises:
        InputError: if a run has no steps in its log.
        StorageError: if the file can't be written.
    """
    charts: dict[str, list[Curve]] = {"loss (nats)": [], "accuracy": [], "gradient norm": [], RATE: []}
    names, rows = _names(runs), []
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        lines = [line for path in _folders(run) for line in read_log(path)]
        steps = [line for line in lines if "validation" not in line and "loss" in line]
        if not steps:
            raise InputError(f"{run}: its log has no steps: is it a training run that has begun?")
        x = _through(steps)
        for chart, key in (("loss (nats)", "loss"), ("accuracy", "accuracy"), ("gradient norm", "norm")):
            y = [line.get(key, float("nan")) for line in steps]
            charts[chart].append(Curve(name=f"{names[number]}, training", x=x, y=_smooth(y), colour=colour))
        rates = [line["rate"] for line in steps]
        charts[RATE].append(Curve(name=names[number], x=x, y=rates, colour=colour))
        seen = [line for line in lines if "validation" in line and "loss" in line["validation"]]
        for chart, key in (("loss (nats)", "loss"), ("accuracy", "accuracy")):
            values = [line["validation"][key] for line in seen]
            curve = Curve(name=f"{names[number]}, validation", x=_through(seen), y=values, colour=colour, points=True)
            charts[chart].append(curve)
        rows.append(_row(names[number], colour, x, seen, charts["loss (nats)"][-2].y))
    body = "\n".join(f"<h2>{html.escape(title)}</h2>\n{svg(curves)}" for title, curves in charts.items())
    page = PAGE.format(title=html.escape(", ".join(names)), rows="\n".join(rows), body=body)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise explain(error, str(out), "write the curves") from error


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths where two have one name."""
    names = [run.name for run in runs]
    return [str(run) if names.count(run.name) > 1 else run.name for run in runs]


def _row(name: str, colour: str, x: list[float], seen: list[dict], smoothed: list[float]) -> str:
    """A run's line of the table: steps, training loss and validation loss at the end, and the best validation loss."""
    cells = [f"{x[-1]:,.0f}", f"{smoothed[-1]:.3f}", "", "", ""]
    if seen:
        losses = [line["validation"]["loss"] for line in seen]
        best = int(np.argmin(losses))
        accuracy = seen[-1]["validation"]["accuracy"]
        cells[2:] = f"{losses[-1]:.3f}", f"{accuracy:.1%}", f"{losses[best]:.3f} at {_through(seen)[best]:,.0f}"
    mark = f'<span style="color:{colour}">&#9632;</span>'
    return f"<tr><td>{mark} {html.escape(name)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _folders(run: Path) -> list[Path]:
    """A run's folder, or those of its phases."""
    phases = sorted(run.glob("phase-*"), key=lambda path: int(path.name.removeprefix("phase-")))
    return phases or [run]


def _through(lines: list[dict]) -> list[float]:
    """Steps counted through phases, each of which counts from 1."""
    result, base, last = [], 0, 0
    for line in lines:
        if line["step"] < last:
            base += last
        last = line["step"]
        result.append(float(base + last))
    return result


def _smooth(values: list[float]) -> list[float]:
    width = max(1, len(values) // 50)
    array = np.array(values)
    known = np.where(np.isfinite(array), array, 0.0)
    sums, counts = (np.cumsum(np.append(0.0, part)) for part in (known, np.isfinite(array).astype(float)))
    first = np.maximum(np.arange(len(values)) + 1 - width, 0)
    last = np.arange(len(values)) + 1
    with np.errstate(invalid="ignore"):
        return ((sums[last] - sums[first]) / (counts[last] - counts[first])).tolist()


def svg(curves: Sequence[Curve]) -> str:
    """A line chart with axes and ticks; pointing at a curve names it."""
    curves = [curve for curve in curves if any(np.isfinite(curve.y))]
    if not curves:
        return "<p>nothing recorded</p>"
    xs = np.array([x for curve in curves for x in curve.x])
    ys = np.array([y for curve in curves for y in curve.y if np.isfinite(y)])
    x_ticks, y_ticks = _ticks(0.0, xs.max()), _ticks(ys.min(), ys.max())
    x0, x1, y0, y1 = 0.0, max(xs.max(), x_ticks[-1]), y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x0) / (x1 - x0 or 1) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - y0) / (y1 - y0 or 1) * (HEIGHT - BOTTOM - TOP)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in y_ticks:
        _, y = at(x0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, _ = at(tick, y0)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    for curve in curves:
        places = [at(x, y) for x, y in zip(curve.x, curve.y, strict=True) if np.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        style = 'stroke-width="2" stroke-dasharray="6 3"' if curve.points else 'stroke-width="1.4" opacity="0.75"'
        said = f"<title>{html.escape(curve.name)}</title>"
        parts.append(f'<polyline points="{path}" fill="none" stroke="{curve.colour}" {style}>{said}</polyline>')
        if curve.points:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{curve.colour}"/>' for x, y in places]
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">step</text></svg>')
    return "\n".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around [low, high], about six.

    >>> _ticks(0.0, 93.0)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    span = (high - low) or abs(high) or 1.0
    raw = span / 5
    magnitude = 10 ** np.floor(np.log10(raw))
    step = float(min((m * magnitude for m in (1, 2, 5, 10)), key=lambda value: abs(value - raw)))
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(round(step * n, 12)) for n in range(int(first), int(max(last, first + 1)) + 1)]


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px system-ui, sans-serif; max-width: 960px; margin: 2em auto; color: #111; background: #fff; }}
svg {{ width: 100%; height: auto; }} svg text {{ font-size: 12px; fill: #444; }} .grid {{ stroke: #e5e5e5; }}
h2 {{ font-size: 17px; margin: 1.6em 0 0.3em; }} p {{ color: #444; }}
table {{ border-collapse: collapse; }} td, th {{ padding: 3px 14px 3px 0; text-align: right; font-weight: normal; }}
td:first-child, th:first-child {{ text-align: left; }} th {{ color: #444; border-bottom: 1px solid #ccc; }}
</style></head>
<body><h1>{title}</h1>
<table><thead><tr><th>run</th><th>steps</th><th>training loss</th><th>validation loss</th><th>accuracy</th>
<th>best validation loss</th></tr></thead><tbody>
{rows}
</tbody></table>
<p>Solid: training, a running mean over a fiftieth of the steps. Dashed: validation.</p>
{body}
</body></html>
"""
