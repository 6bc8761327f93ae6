"""The pictures of `premask thresholds`: one page of HTML with drawings in SVG, which asks the network for nothing.

A card for each score, with its bars, the threshold as a dashed line, and the same counts as a table. Bars are as high
as the square root of their counts, so that rare documents can be seen beside many. Colours and safety are those of
`pages`.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from mlm_data.build.histograms import Bins, Histogram, InputScores
from mlm_data.console import number, percent, size
from mlm_data.quality_settings import PRESETS
from pipelines.commands.pages import escaped, head

MOST_BINS = 40
WIDTH, HEIGHT, FOOT = 320, 88, 18  # of a drawing, in its own units; FOOT is for the labels below

STYLE = """
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .75rem;
  align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; margin: 0;
  min-width: 0; }
.card h4 { margin: 0; font-size: .95rem; overflow-wrap: anywhere; }
.card p { margin: .1rem 0 .4rem; font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
.card .verdict { color: var(--ink); font-size: .9rem; margin: .3rem 0 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.stay { fill: var(--bar); } .go { fill: var(--second); } .axis { stroke: var(--line); }
.cut { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 .8em; }
.key:first-child { margin-left: 0; } .key.stay { background: var(--bar); } .key.go { background: var(--second); }
.wide th:first-child { min-width: 6rem; } .wide .name { min-width: 16rem; }
"""


def page(scores: Sequence[InputScores], *, title: str) -> str:
    """The whole page."""
    heading = f"Scores and thresholds: {escaped(title)}"
    parts = [
        *head(heading, STYLE),
        f"<h1>{heading}</h1>",
        "<p>A sample of each input, scored and judged as the build does it; copies were not looked for. Bars are as "
        "high as the square root of the number of documents. A dashed line is a threshold.</p>",
        '<p><span class="key stay"></span>passes this threshold <span class="key go"></span>would be dropped by it</p>',
        *_overview(scores),
    ]
    for one in scores:
        parts += _input(one)
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _overview(scores: Sequence[InputScores]) -> Iterator[str]:
    yield '<div class="wide"><table><thead><tr><th scope="col">input</th><th scope="col">documents</th>'
    yield '<th scope="col">bytes</th><th scope="col">would stay</th>'
    yield '<th scope="col" class="name">dropped most often as</th></tr></thead><tbody>'
    for one in scores:
        reasons = sorted(((-count, reason) for reason, count in one.fates.items() if reason != "kept"))[:3]
        told = ", ".join(f"{escaped(reason)} {percent(-count, one.num_documents)}" for count, reason in reasons)
        yield (
            f'<tr><th scope="row">{escaped(one.name)}</th><td>{one.num_documents:,}</td><td>{size(one.num_bytes)}</td>'
            f'<td>{percent(one.num_kept, one.num_documents)}</td><td class="name">{told or "nothing"}</td></tr>'
        )
    yield "</tbody></table></div>"


def _input(one: InputScores) -> Iterator[str]:
    yield f"<section><h2>{escaped(one.name)}</h2>"
    for step, histograms in groupby(one.histograms.values(), key=_heading):
        yield f'<h3>{escaped(step)}</h3><div class="cards">'
        for histogram in histograms:
            yield from _card(histogram)
        yield "</div>"
    yield "</section>"


def _heading(histogram: Histogram) -> str:
    return histogram.step if histogram.step in PRESETS else "clean"


def _card(histogram: Histogram) -> Iterator[str]:
    name = histogram.reason.partition(":")[2] if histogram.reason.startswith(f"{histogram.step}:") else histogram.reason
    yield f'<article class="card"><h4>{escaped(name or histogram.what)}</h4>'
    told = f"{escaped(histogram.what)}<br>" if name else ""
    yield f"<p>{told}{escaped(limit(histogram))}</p>"
    bins = histogram.display(MOST_BINS)
    if histogram.bound != "none":
        yield from drawing(histogram, bins)
    if histogram.thresholds:
        yield f'<p class="verdict">{verdict(histogram)}</p>'
    if histogram.bound != "none":
        yield from _numbers(histogram, bins)
    yield "</article>"


def verdict(histogram: Histogram) -> str:
    """What a threshold does to the sample, in words."""
    total, alone, first = histogram.num_documents, histogram.num_fails, histogram.num_first
    if not alone:
        return f"drops none of {total:,}"
    return f"drops {alone:,} of {total:,} ({percent(alone, total)}); is the first to drop {first:,} of them"


def limit(histogram: Histogram) -> str:
    """What a document must keep to pass, in words."""
    if not histogram.thresholds:
        return "no threshold"
    if histogram.bound == "none":
        return f"none allowed ({histogram.setting})"
    low, high = min(histogram.thresholds), max(histogram.thresholds)
    amount = number(low) if low == high else f"{number(low)} to {number(high)}, by language"
    return f"{'at most' if histogram.bound == 'at_most' else 'at least'} {amount} ({histogram.setting})"


def drawing(histogram: Histogram, bins: Bins) -> Iterator[str]:
    """Bars, thresholds and the ends of the axis, as SVG."""
    num = len(bins.stay)
    wide, most = WIDTH / num, max(1, int((bins.stay + bins.go).max()))
    told = f"Histogram of {histogram.what}; {limit(histogram)}; {histogram.num_fails:,} documents beyond it"
    yield f'<svg viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" aria-label="{escaped(told)}">'
    for place, (stay, go) in enumerate(zip(bins.stay.tolist(), bins.go.tolist(), strict=True)):
        if not stay + go:
            continue
        tall = max(1.5, (HEIGHT - 4) * ((stay + go) / most) ** 0.5)
        upper = tall * go / (stay + go)  # what goes stands on what stays
        x, gap = place * wide, min(1.0, wide / 8)
        for kind, top, height in (("go", HEIGHT - tall, upper), ("stay", HEIGHT - tall + upper, tall - upper)):
            if height > 0:
                yield (
                    f'<rect class="{kind}" x="{x + gap / 2:.2f}" y="{top:.2f}" width="{wide - gap:.2f}" '
                    f'height="{height:.2f}"/>'
                )
    yield f'<line class="axis" x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}"/>'
    for threshold in sorted(histogram.thresholds):
        x = _place(threshold, bins) * wide
        yield f'<line class="cut" x1="{x:.2f}" y1="0" x2="{x:.2f}" y2="{HEIGHT}"/>'
    yield f'<text x="0" y="{HEIGHT + 14}">{number(histogram.label(bins.edges[0]))}</text>'
    yield f'<text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{number(histogram.label(bins.edges[-1]))}</text>'
    if len(histogram.thresholds) == 1:
        (threshold,) = histogram.thresholds
        x = _place(threshold, bins) * wide
        if 40 < x < WIDTH - 40:  # beside the labels at both ends
            yield f'<text x="{x:.2f}" y="{HEIGHT + 14}" text-anchor="middle">{number(threshold)}</text>'
    yield "</svg>"


def _place(value: float, bins: Bins) -> float:
    """Where a value lies, in bins from the left."""
    place = int(np.clip(np.searchsorted(bins.edges, value, side="right") - 1, 0, len(bins.stay) - 1))
    low, high = bins.edges[place], bins.edges[place + 1]
    return float(place + min(1.0, max(0.0, (value - low) / (high - low))))


def _numbers(histogram: Histogram, bins: Bins) -> Iterator[str]:
    """The same as a table, for those who can't see the drawing."""
    yield "<details><summary>as a table</summary><table><thead><tr>"
    yield (
        "".join(f'<th scope="col">{name}</th>' for name in ("from", "below", "pass", "dropped"))
        + "</tr></thead><tbody>"
    )
    for place, (stay, go) in enumerate(zip(bins.stay.tolist(), bins.go.tolist(), strict=True)):
        if stay + go:
            low, high = (number(histogram.label(edge)) for edge in bins.edges[place : place + 2])
            yield f"<tr><td>{low}</td><td>{high}</td><td>{stay:,}</td><td>{go:,}</td></tr>"
    yield "</tbody></table></details>"
