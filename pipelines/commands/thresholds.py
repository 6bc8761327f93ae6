"""`premask thresholds`: how the scores of a sample are spread, and where each threshold cuts them."""

import argparse
import os
from typing import TYPE_CHECKING

from mlm_data.command import Command
from pipelines.commands.options import add_config, share, write_out

if TYPE_CHECKING:
    from rich.text import Text

    from mlm_data.build.histograms import Histogram, InputScores
    from mlm_data.console import Terminal

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 16  # bins in the terminal
JSON_BINS = 40


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        "--sample", type=share, default=0.01, metavar="1%", help="of each input, at least 1 MiB (default: %(default)s)"
    )
    parser.add_argument(
        "--html", default=None, metavar="FILE", help="write pictures, too: one page that needs no network"
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.build.histograms import sample_scores
    from mlm_data.config import TEXTS_ONLY, load_config
    from mlm_data.console import Terminal, shown
    from mlm_data.errors import StorageError

    page_at = options.html or ""
    if "://" not in page_at and not os.path.isdir(os.path.dirname(os.path.abspath(page_at))):
        raise StorageError(f"--html {options.html}: no such folder: make it first")
    config = load_config(options.config, options.set, defaults=TEXTS_ONLY)
    scores = sample_scores(config, options.sample)
    terminal = Terminal()
    if options.html is not None:
        from pipelines.commands.thresholds_page import page

        write_out(options.html, page(scores, title=config.name))
    if options.json:
        terminal.data({one.name: _summary(one) for one in scores})
        return 0
    for one in scores:
        show_input(one, terminal)
    if options.html is not None:
        terminal.say(f"pictures: {shown(options.html)}")
    return 0


def show_input(one: "InputScores", terminal: "Terminal") -> None:
    """A line for each score."""
    from rich.text import Text

    from mlm_data.console import counted, number, percent, shown, size, table

    kept = f"{one.num_kept / one.num_documents:.1%} would stay, copies aside" if one.num_documents else ""
    documents = counted(one.num_documents, "document")
    terminal.say(f"{shown(one.name)}: {documents}, {size(one.num_bytes)}; {kept}", style="bold")
    lines = table("rule", "", "range", "threshold", "alone", "first")
    lines.columns[1].justify = "left"
    lines.columns[1].no_wrap = True
    step = ""
    for histogram in one.histograms.values():
        if histogram.step != step:
            step = histogram.step
            lines.add_row(Text(shown(step), style="bold"))
        bins = histogram.display(WIDTH)
        is_flag = histogram.bound == "none"
        ends = [number(histogram.label(bins.edges[end])) for end in (0, -1)]
        lines.add_row(
            f"  {shown(histogram.reason.rpartition(':')[2])}",
            Text("") if is_flag else spark(histogram),
            "" if is_flag else "..".join(ends),
            threshold(histogram),
            percent(histogram.num_fails, one.num_documents) if histogram.thresholds else "",
            percent(histogram.num_first, one.num_documents) if histogram.thresholds else "",
            style=None if histogram.num_fails else "dim",
        )
    terminal.print(lines)
    terminal.say("alone: what this rule would drop without the others; first: what it is the reason for\n", style="dim")


def spark(histogram: "Histogram") -> "Text":
    """A line of bars, as high as the square root of the counts, red where most documents go; `|` is the threshold."""
    from rich.text import Text

    bins = histogram.display(WIDTH)
    most = max(1, int((bins.stay + bins.go).max()))
    cut = -1
    if len(histogram.thresholds) == 1:
        cut = sum(bins.edges[1:-1] <= min(histogram.thresholds)) + (histogram.bound == "at_most")
    text = Text()
    for place, (stay, go) in enumerate(zip(bins.stay.tolist(), bins.go.tolist(), strict=True)):
        height = (stay + go) / most
        level = 0 if not height else max(1, round(8 * height**0.5))
        text.append("|" if place == cut else "", style="bold")
        text.append(BARS[level], style="red" if go > stay else "green")
    return text.append("|" if cut == len(bins.stay) else "", style="bold")


def threshold(histogram: "Histogram") -> str:
    """A threshold with its sign; two where languages have their own."""
    from mlm_data.console import number

    sign = {"at_most": "<= ", "at_least": ">= "}.get(histogram.bound, "")
    if not histogram.thresholds:
        return ""
    low, high = min(histogram.thresholds), max(histogram.thresholds)
    if histogram.bound == "none":
        return "none"
    return sign + (number(low) if low == high else f"{number(low)}..{number(high)}")


def _summary(one: "InputScores") -> dict[str, object]:
    return {
        "documents": one.num_documents,
        "bytes": one.num_bytes,
        "fates": dict(sorted(one.fates.items())),
        "scores": [histogram.to_dict(JSON_BINS) for histogram in one.histograms.values()],
    }


COMMAND = Command(
    name="thresholds", help="Show how scores are spread, and where each threshold cuts.", arguments=_arguments, run=_run
)
