"""The page of `premask report`: one file of HTML about a version, for a phone, a screen and a sheet of paper.

Every chart has the same numbers as a table below it, so a chart is nothing to a screen reader but its caption. Tables
that may be wider than a phone scroll in regions of their own, which the keyboard reaches. Nothing is as long as the
dataset: lists end after a number of lines and say how many follow, so the page stays small.

What a version does not tell is named as missing: counts by input in a dataset of an older premask, languages where
nobody looked for them.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlm_data.characters import byte_characters
from mlm_data.console import percent, shown, size
from mlm_data.dataset.dataset import PlaneRow, RowView
from mlm_data.dataset.diff import leaves
from mlm_data.dataset.funnel import Example, choose_examples
from mlm_data.dataset.history import Entry
from mlm_data.dataset.manifest import Manifest
from mlm_data.dataset.statistics import Lengths, Statistics
from mlm_data.dataset.steps import KEPT, eaten, idle, steps
from mlm_data.rows.audit_counts import GROUPS, PlaneCounts
from mlm_data.rows.audit_kernels import FRACTION_BITS
from mlm_data.rows.masking import Plane
from mlm_data.shards.format import SPLITS
from mlm_data.tokens.reference import Reference
from pipelines.commands import report_charts as charts
from pipelines.commands.pages import escaped, head

MOST_LINES = 30  # of a table of names
MOST_BARS = 15
MOST_AUDIT_PLANES = 4  # planes whose checks are listed, beside every check that did not pass
MOST_SETTINGS = 300
MOST_VERSIONS = 50
MOST_DROPPED = 60  # examples of dropped documents
MOST_PLACES = 240  # of a row in the examples
HEAD_CHARS = 200  # of a dropped document
SHORT_NAME = 16  # characters of a name that needs no room of its own in a table
NAME_CHARS = 200  # of a name, a token or a value

STYLE = """
html { scroll-padding-top: 1rem; }
body { line-height: 1.5; }
main { min-width: 0; }
a { color: var(--bar); }
a:focus-visible, summary:focus-visible, .wide:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.skip { position: absolute; left: -999rem; } .skip:focus { position: static; }
.vh { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
header p { color: var(--soft); overflow-wrap: anywhere; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
h2 { border-top: 1px solid var(--line); padding-top: 1.2rem; margin-top: 2.2rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; padding: 0; margin: 1rem 0; list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
.facts { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; margin: 1rem 0; }
@media (min-width: 40rem) { .facts { grid-template-columns: repeat(4, 1fr); } }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .75rem; }
.facts dt { font-size: .85rem; color: var(--soft); } .facts dd { margin: 0; font-size: 1.2rem; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: .9rem;
  align-items: start; margin: .9rem 0; }
figure { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; margin: 0;
  min-width: 0; }
figcaption { font-size: .9rem; margin-bottom: .5rem; } figcaption strong { display: block; }
figcaption span { color: var(--soft); }
svg { display: block; width: 100%; max-width: 30rem; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: system-ui, sans-serif; }
.note, .warning { border-left: .25rem solid var(--line); padding: .2rem 0 .2rem .75rem; overflow-wrap: anywhere; }
.warning { border-color: var(--second); }
th.long { min-width: 9rem; } th:first-child:not(.long) { overflow-wrap: normal; white-space: nowrap; }
td.number, th.number { white-space: nowrap; }
td.text { text-align: left; min-width: 8rem; overflow-wrap: anywhere; }
th { font-weight: 600; } thead th { color: var(--soft); font-weight: 500; }
tr.here > * { background: var(--card); font-weight: 600; }
table caption { text-align: left; color: var(--soft); padding: .4rem 0; }
.dropped { padding: 0; list-style: none; } .dropped li { border-bottom: 1px solid var(--line); padding: .4rem 0; }
.dropped p { max-width: none; overflow-wrap: anywhere; }
.row { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem;
  margin: .75rem 0; }
.row h3 { margin: 0 0 .4rem; } .row p { max-width: none; overflow-wrap: anywhere; }
.where { font-size: .85rem; color: var(--soft); margin-top: .6rem; }
mark { background: none; color: inherit; border-radius: .2rem; padding: 0 .12rem; }
mark.hidden { background: var(--bar); color: var(--paper); }
mark.other { border: 1px dashed var(--second); } mark.other del { color: var(--second); margin-right: .25rem; }
mark.same { text-decoration: underline double var(--second); text-underline-offset: .2rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } nav, .skip { display: none; }
  .charts { grid-template-columns: 1fr 1fr; } figure.list { grid-column: 1 / -1; }
  td.text, th.long { min-width: 0; } td, th { padding-right: .5rem; }
  figure, .row, .dropped li, tr, .facts div { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .wide { overflow: visible; } a { color: inherit; text-decoration: none; }
  details:not([open]) { display: none; } * { print-color-adjust: exact; }
}
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report says, gathered."""

    title: str  # as the dataset was named on the command line
    manifest: Manifest
    statistics: Statistics
    reference: Reference
    side: Mapping[str, Any]
    versions: Sequence[Entry]  # all of the dataset, the newest first
    rows: Sequence[RowView]  # examples, each with one plane
    examples: Sequence[Example]  # dropped documents


def page(report: Report) -> str:
    """The whole page."""
    title = f"Dataset report: {escaped(report.title, NAME_CHARS)}"
    sections = (
        ("funnel", "What went in, what came out", _funnel(report)),
        ("sources", "Sources and languages", _sources(report)),
        ("lengths", "Lengths", _lengths(report)),
        ("packing", "Packing", _packing(report)),
        ("masks", "Masks and their audit", _masks(report)),
        ("tokens", "Token frequencies", _tokens(report)),
        ("unknown", "Unknown tokens", _unknown(report)),
        ("rows", "Rows, for example", _rows(report)),
        ("dropped", "Dropped documents, for example", _dropped(report)),
        ("configuration", "Configuration", _configuration(report)),
        ("lineage", "Lineage", _lineage(report)),
    )
    parts = [*head(title, STYLE), '<a class="skip" href="#funnel">to the figures</a>', *_header(report, title)]
    parts.append('<nav aria-label="Sections"><ul>')
    parts += [f'<li><a href="#{key}">{name}</a></li>' for key, name, _ in sections]
    parts.append("</ul></nav>")
    for key, name, content in sections:
        parts += [f'<section id="{key}" aria-labelledby="{key}-name"><h2 id="{key}-name">{name}</h2>', *content]
        parts.append("</section>")
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _header(report: Report, title: str) -> Iterator[str]:
    manifest, statistics = report.manifest, report.statistics
    documents = manifest.ledger["documents"]
    here = next((one for one in report.versions if one.digest == manifest.digest), None)
    yield f"<header><h1>{title}</h1><p>digest <code>{manifest.digest}</code></p>"
    told = [f"made by {escaped(str(report.side.get('made_by', 'build')))}"]
    if published := report.side.get("published"):
        told.append(f"published {escaped(str(published).replace('T', ' ').removesuffix('+00:00'))} UTC")
    if here and here.tags:
        told.append(f"tags: {', '.join(escaped(tag) for tag in here.tags)}")
    yield f"<p>{'; '.join(told)}</p></header>"
    tokens = sum(split["num_tokens"] for split in manifest.splits.values())
    rows = sum(split["num_rows"] for split in manifest.splits.values())
    masks = manifest.config["mask"]
    rates = list(dict.fromkeys(f"{rate:.3g}" for rate in masks["rate"]))  # in the order of epochs
    facts = [
        ("tokens in rows", f"{tokens:,}"),
        ("documents kept", f"{documents['kept']:,}"),
        ("documents read", f"{documents['read']:,}"),
        ("bytes read", size(manifest.ledger["bytes"]["read"])),
        (f"rows of {manifest.sequence_length:,}", f"{rows:,}"),
        ("planes", f"{manifest.num_planes:,}, {escaped(str(masks['kind']))}"),
        ("rates", ", ".join(rates[:4]) + (", ..." if len(rates) > 4 else "")),
        ("vocabulary", f"{manifest.vocab_size:,}"),
    ]
    yield '<dl class="facts">'
    for name, value in facts:
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    yield "</dl>"
    if not statistics.is_whole:
        yield _note(
            f"Distributions were counted in {statistics.num_shards_read:,} of {statistics.num_shards:,} shards, with "
            f"{statistics.num_tokens_read:,} of {statistics.num_tokens:,} tokens: those of the smallest hashes. Sums "
            "are of the whole version."
        )


def _funnel(report: Report) -> Iterator[str]:
    manifest, funnel = report.manifest, report.manifest.funnel
    documents, tokens = manifest.ledger["documents"], manifest.ledger["tokens"]
    for line in (*eaten(funnel), *idle(funnel, manifest.config)):
        yield _warning(line)
    lines = [("read", documents["read"], None)]
    lines += [(f"quarantined: {name}", count, None) for name, count in documents["quarantined"].items()]
    lines += [(f"dropped: {name}", count, tokens["dropped"].get(name)) for name, count in documents["dropped"].items()]
    if repeated := documents.get("repeated"):
        lines.append(("copies, as weights say", repeated, tokens.get("repeated")))
    lines.append(("kept", documents["kept"], tokens["in_rows"]))
    all_documents = documents["read"] + documents.get("repeated", 0)
    cells: list[Sequence[str]] = [
        (name, f"{count:,}", percent(count, all_documents), "" if part is None else f"{part:,}")
        for name, count, part in lines
    ]
    ledger = _table(
        "Documents and their content tokens, by what became of them",
        ("", "documents", "share", "tokens"),
        cells,
        most=len(cells),
    )
    if tokens["truncated"]:
        ledger += _paragraph(f"{tokens['truncated']:,} tokens of kept documents were cut off.")
    yield '<div class="charts">'
    if funnel.fates:
        found = steps(funnel)
        first = documents["read"] - sum(documents["quarantined"].values())
        names = ["read", *(f"after {step.name}" for step in found)]
        left = [first, *(step.left[0] for step in found)]
        drops = [0, *(step.dropped[0] for step in found)]
        labels = [f"{count:,}" for count in left]
        cells = [
            (step.name, *(f"{value:,}" for value in (step.given[0], step.dropped[0], step.left[0], step.left[2])))
            for step in found
        ]
        table = _table("Documents step by step", ("step", "in", "dropped", "out", "tokens out"), cells)
        stacked = [count + drop for count, drop in zip(left, drops, strict=True)]
        chart = charts.bars(names, stacked, drops, labels=labels)
        yield _figure(
            "Documents step by step", "Blue goes on, orange is dropped by this step.", chart, "funnel",
            charts.bars_height(len(names)), table,
        )  # fmt: skip
        totals, kept = funnel.by("input"), funnel.by("input", "reason")
        inputs = sorted(totals, key=lambda key: (-totals[key][0], key))
        whole = [totals[key][0] for key in inputs]
        stays = [kept.get((*key, KEPT), (0, 0, 0)) for key in inputs]
        cells = [
            (key[0], f"{count:,}", f"{stay[0]:,}", percent(stay[0], count), f"{stay[2]:,}")
            for key, count, stay in zip(inputs, whole, stays, strict=True)
        ]
        top = min(MOST_BARS, len(inputs))
        chart = charts.bars(
            [key[0] for key in inputs[:top]],
            whole[:top],
            [count - stay[0] for count, stay in zip(whole[:top], stays, strict=False)],
            labels=[f"{count:,}" for count in whole[:top]],
        )
        table = _table("Documents by input", ("input", "read", "kept", "share kept", "tokens kept"), cells)
        yield _figure(
            "Documents by input", "Blue is kept, orange dropped.", chart, "inputs", charts.bars_height(top), table
        )
    yield "</div>"
    if not funnel.fates:
        yield _note("This version keeps no counts by input and step.")
    elif sum(counts[0] for key, counts in funnel.fates.items() if key[2] == KEPT) != documents["kept"] - documents.get(
        "repeated", 0
    ):
        yield _note(
            "Steps and inputs are those of the build that this version was made from; the table is this version's."
        )
    yield ledger
    if funnel.changes:
        cells = [(name, f"{count:,}") for name, count in funnel.changes.items()]
        yield _table("What was changed in documents", ("", "number"), cells)


def _sources(report: Report) -> Iterator[str]:
    statistics, funnel = report.statistics, report.manifest.funnel
    yield '<div class="charts">'
    every = list(statistics.sources.items())
    top = every[:MOST_BARS]
    total = sum(tokens for _, (_, tokens) in every)
    chart = charts.bars(
        [name for name, _ in top],
        [tokens for _, (_, tokens) in top],
        labels=[percent(tokens, total) for _, (_, tokens) in top],
    )
    cells: list[Sequence[str]] = [
        (name, f"{num:,}", f"{tokens:,}", percent(tokens, total)) for name, (num, tokens) in every
    ]
    table = _table("Sources with the most tokens", ("source", "documents", "tokens", "share"), cells)
    yield _figure(
        f"Largest of {len(every):,} sources", "Files, by the content tokens of their kept documents.", chart,
        "sources", charts.bars_height(len(top)), table,
    )  # fmt: skip
    kept = {key[0]: counts for key, counts in funnel.by("language", "reason").items() if key[0] and key[1] == KEPT}
    read = {key[0]: counts for key, counts in funnel.by("language").items() if key[0]}
    if read:
        names = sorted(read, key=lambda name: (-kept.get(name, (0, 0, 0))[2], -read[name][0], name))
        some = names[:MOST_BARS]
        chart = charts.bars(
            some,
            [kept.get(name, (0, 0, 0))[2] for name in some],
            labels=[f"{kept.get(name, (0, 0, 0))[2]:,}" for name in some],
        )
        cells = [
            (name, f"{read[name][0]:,}", *(f"{kept.get(name, (0, 0, 0))[place]:,}" for place in (0, 2)))
            for name in names
        ]
        table = _table("Languages", ("language", "documents judged", "documents kept", "tokens kept"), cells)
        yield _figure(
            "Languages", "Content tokens of kept documents.", chart, "languages", charts.bars_height(len(some)), table
        )
    yield "</div>"
    if not read:
        yield _note("Nobody looked for languages when this dataset was built (clean.languages).")
    if groups := report.manifest.ledger.get("mixing"):
        after = sum(group["tokens"] * group["weight"] for group in groups)
        before = sum(group["tokens"] for group in groups)
        ordered = sorted(groups, key=lambda group: (-group["tokens"], group["group"]))
        cells = [
            (
                group["group"],
                f"{group['tokens']:,}",
                f"{group['tokens'] / max(1, before):.1%}",
                f"{group['weight']:.3g}",
                f"{group['tokens'] * group['weight'] / max(1, after):.1%}",
            )
            for group in ordered
        ]
        yield _table("Mixing", ("group", "tokens", "share before", "weight", "share after"), cells)


def _lengths(report: Report) -> Iterator[str]:
    statistics = report.statistics
    yield '<div class="charts">'
    documents, segments = statistics.documents, statistics.segments
    edges, counts = _octaves(documents)
    yield _histogram(
        "Documents", f"Content tokens of {documents.num:,} kept documents. {_summary(documents)}", edges, counts,
        table="Documents by length", of="content tokens", unit="documents", name="documents", log=True,
    )  # fmt: skip
    edges, counts = _even(segments, report.manifest.sequence_length)
    yield _histogram(
        "Segments", f"Places of {segments.num:,} pieces of documents, special tokens included. {_summary(segments)}",
        edges, counts, table="Segments by length", of="places", unit="segments", name="segments",
    )  # fmt: skip
    yield "</div>"


def _packing(report: Report) -> Iterator[str]:
    manifest, statistics = report.manifest, report.statistics
    cells = []
    for split, counts in manifest.splits.items():
        places = counts["num_rows"] * manifest.sequence_length
        bound = manifest.packing.get(split, {}).get("num_rows_bound")
        cells.append((
            split, f"{counts['num_rows']:,}", "" if bound is None else f"{bound:,}", f"{counts['num_segments']:,}",
            f"{counts['num_tokens']:,}", f"{counts['num_tokens'] / places:.2%}" if places else "",
        ))  # fmt: skip
    yield _table(
        f"Rows of {manifest.sequence_length:,} places",
        ("split", "rows", "fewest possible", "segments", "tokens", "full"), cells,
    )  # fmt: skip
    yield '<div class="charts">'
    edges, heights = _even(statistics.used, manifest.sequence_length)
    yield _histogram(
        "How full rows are", f"Places in segments of {statistics.used.num:,} rows. {_summary(statistics.used)}",
        edges, heights, table="Rows by places that are used", of="places", unit="rows", name="used",
    )  # fmt: skip
    allowed = manifest.config["pack"]["max_segments"]
    edges, heights = _even(statistics.row_segments, int(statistics.row_segments.values.max(initial=1)))
    yield _histogram(
        "Segments in a row", f"At most {allowed:,} are allowed. {_summary(statistics.row_segments)}",
        edges, heights, table="Rows by segments", of="segments", unit="rows", name="row-segments",
    )  # fmt: skip
    yield "</div>"


def _masks(report: Report) -> Iterator[str]:
    statistics = report.statistics
    audit = {split: report.manifest.audit[split] for split in SPLITS if split in report.manifest.audit}
    checks = [line for outcome in audit.values() for line in outcome.get("table", ())]
    failed = sum(line["verdict"] == "failed" for line in checks)
    if checks:
        verdict = f"{failed:,} checks failed." if failed else "None failed."
        yield _paragraph(
            f"The audit made {len(checks):,} checks of all masks before this version was published. {verdict}"
        )
    else:
        yield _note("This version keeps no audit of its masks: premask audit makes one.")
    for split, outcome in audit.items():
        for line in outcome.get("warnings", ()):
            yield _warning(f"{split}: {line}")
    yield _paragraph(
        "Each row hides its share of tokens, rounded down, so rates lie a little below that of the configuration. What "
        "is expected of a group follows from what its rows hide. Source groups are sources whose names share a hash: "
        "masks must not depend on where a text came from. Planes of the same rule as one that is shown are left out."
    )
    yield '<div class="charts">'
    for split, counts in statistics.audited.items():
        for name, found in counts.planes.items():
            yield _plane(split, name, found, statistics.planes[split][name])
    yield "</div>"
    for split, outcome in audit.items():
        lines = outcome.get("table", ())
        planes = list(dict.fromkeys(str(line["plane"]) for line in lines if "/" not in str(line["plane"])))
        named = set(planes[:MOST_AUDIT_PLANES])
        listed = [
            line
            for line in lines
            if line["verdict"] not in ("passed", "counted") or set(str(line["plane"]).split("/")) <= named
        ]
        cells = [
            (line["plane"], line["check"], _count(line["observed"]), _count(line["expected"]), line["verdict"])
            for line in listed
        ]
        name = f"Checks of the {split} split"
        if not lines:
            continue
        left = len(lines) - len(listed)
        rest = _paragraph(f"{left:,} more of further planes passed: premask audit lists them.") if left else ""
        table = _table(name, ("plane", "check", "observed", "expected", "verdict"), cells, most=len(cells), text=(1, 4))
        yield _details(f"{name}: {len(lines):,}", table + rest)


def _plane(split: str, name: str, found: PlaneCounts, plane: Plane) -> str:
    one = 1 << FRACTION_BITS
    lines = [
        (group, units, hidden / units, fixed / one / units)
        for group, units, hidden, fixed in zip(GROUPS, found.units, found.hidden, found.expected, strict=True)
        if units
    ]
    cells = [
        (group, f"{units:,}", f"{rate:.3%}", f"{expected:.3%}", f"{(rate - expected) * 100:+.3f}")
        for group, units, rate, expected in lines
    ]
    # Two standard deviations of a sum of independent draws; draws within a row depend on each other, which lessens it.
    chance = [2 * float(np.sqrt(max(0.0, rate * (1 - rate)) / units)) for _, units, _, rate in lines]
    shown_lines = [(*line, spread) for line, spread in zip(lines, chance, strict=True) if spread <= plane.rate / 4]
    chart = charts.rates(
        [line[0] for line in shown_lines],
        [line[2] for line in shown_lines],
        [line[3] for line in shown_lines],
        [line[4] for line in shown_lines],
        rate=plane.rate,
    )
    few = len(lines) - len(shown_lines)
    omitted = f" Groups of few tokens are in the table only: {few}." if few else ""
    share = found.num_targets / max(1, found.num_candidates)
    held = found.num_targets - found.num_same - found.num_other
    told = (
        f"{plane.kind}, rate {plane.rate:.3g}. Of {found.num_candidates:,} places that may be hidden {share:.2%} are: "
        f"{percent(held, found.num_targets)} of them as [MASK], {percent(found.num_other, found.num_targets)} as "
        f"another token, {percent(found.num_same, found.num_targets)} as they are. Lines: twice the standard "
        f"deviation of chance.{omitted}"
    )
    table = _table(
        f"Hidden in plane {name}, by group", ("group", "tokens or words", "hidden", "expected", "difference, points"),
        cells, most=len(cells),
    )  # fmt: skip
    key = f"plane-{split}-{name}"
    return _figure(f"Plane {name} ({split}): rate by group", told, chart, key, 0.9 + 0.19 * len(shown_lines), table)


def _tokens(report: Report) -> Iterator[str]:
    frequencies, tokens = report.statistics.frequencies, report.reference.tokens
    order = np.argsort(-frequencies, kind="stable")
    counts = frequencies[order]
    seen = int((counts > 0).sum())
    total = int(counts.sum())
    specials = sum(role >= 0 for role in (report.manifest.roles.cls, report.manifest.roles.sep)) + 2
    never = max(0, sum(1 for token in tokens if token) - specials - seen)
    yield _paragraph(f"{total:,} content tokens; {seen:,} tokens of the vocabulary occur, {never:,} never do.")
    if not seen:
        return
    places = np.unique(np.geomspace(1, seen, 160).astype(np.int64))
    slope = _zipf(counts[:seen])
    shares = []
    for top in (1, 10, 100, 1000, 10_000):
        if top <= seen:
            shares.append((f"{top:,}", f"{counts[top - 1]:,}", f"{counts[:top].sum() / total:.2%}"))
    fit = f"The dashed line is fitted to ranks 10 to 10,000: exponent {slope[0]:.2f}." if slope else ""
    yield '<div class="charts">'
    yield _figure(
        "Rank and frequency", f"Zipf's law is a straight line of exponent -1. {fit}",
        charts.ranks(places.tolist(), counts[places - 1].tolist(), slope), "zipf", 2.8,
        _table("Ranks", ("rank", "occurrences", "share of all up to here"), shares),
    )  # fmt: skip
    top = min(MOST_LINES, seen)
    cells = [
        (
            f"{rank + 1}",
            tokens[token] if token < len(tokens) else "",
            f"{token}",
            f"{counts[rank]:,}",
            f"{counts[rank] / total:.2%}",
        )
        for rank, token in enumerate(order[:top].tolist())
    ]
    table = _table("The most frequent tokens", ("rank", "token", "id", "occurrences", "share"), cells, text=(1,))
    yield f'<figure class="list">{table}</figure></div>'


def _unknown(report: Report) -> Iterator[str]:
    unknown, manifest = report.manifest.unknown, report.manifest
    if manifest.roles.unk < 0:
        yield _paragraph("The tokenizer has no unknown token: it can spell every text.")
        return
    found = int(report.statistics.frequencies[manifest.roles.unk])
    total = int(report.statistics.frequencies.sum())
    yield _paragraph(f"{found:,} of {total:,} content tokens in rows are [UNK] ({percent(found, total)}).")
    if line := unknown.warning():
        yield _warning(line)
    if not unknown.by_script:
        yield _note("This version keeps no counts of unknown tokens by script and source.")
        return
    ordered = sorted(unknown.by_script.items(), key=lambda item: (-item[1][1], -item[1][0], item[0]))
    cells = [(name, f"{tokens:,}", f"{lost:,}", f"{lost / max(1, tokens):.3%}") for name, (tokens, lost) in ordered]
    yield _table("By the script of the document", ("script", "tokens", "unknown", "share"), cells)
    worst = [(name, f"{tokens:,}", f"{lost:,}", f"{lost / max(1, tokens):.3%}")
             for name, (tokens, lost) in unknown.by_source.items()]  # fmt: skip
    if worst:
        yield _table("Sources with the most", ("source", "tokens", "unknown", "share"), worst)


def _rows(report: Report) -> Iterator[str]:
    yield (
        '<p>What one plane does: <mark class="hidden">word</mark> stands there as [MASK]; '
        '<mark class="other"><del>other</del>word</mark> is shown as another token; <mark class="same">word</mark> is '
        "shown as it is, and must be predicted, too. Special tokens and padding are left out.</p>"
    )
    spell = Speller(report.reference)
    for view in report.rows:
        name, plane = next(iter(view.planes.items()))
        used = sum(segment.length for segment in view.segments)
        label = f"{view.split} row {view.row:,}"
        yield f'<article class="row" aria-label="{label}"><h3>{label}</h3>'
        segments = "1 segment" if len(view.segments) == 1 else f"{len(view.segments):,} segments"
        yield _paragraph(
            f"Plane {name}: {plane.targets.size:,} targets; {used:,} places in {segments}, "
            f"{len(view.tokens) - used:,} of padding."
        )
        left = MOST_PLACES
        for segment in view.segments:
            if left <= 0:
                break
            where = f"{shown(segment.source, NAME_CHARS)} at {segment.offset:,}, from its token {segment.start:,}"
            yield f'<p class="where"><bdi>{escaped(where)}</bdi></p>'
            places = range(segment.place, segment.place + min(segment.length, left))
            left -= segment.length
            yield f'<p dir="auto">{_marked(view, plane, places, spell)}</p>'
        if used > MOST_PLACES:
            yield f'<p class="where">and {used - MOST_PLACES:,} more places</p>'
        yield "</article>"
    if not report.rows:
        yield _note("There are no rows.")


class Speller:
    """Texts of tokens one after another, as people write them.

    Byte-level tokenizers write bytes as characters, and a token may end within a character: its bytes appear with the
    token that completes them.
    """

    def __init__(self, reference: Reference) -> None:
        self._tokens = reference.tokens
        self._specials = set(reference.special_ids.tolist()) - {reference.roles.unk}
        kinds = json.dumps([reference.settings.get(name) for name in ("decoder", "pre_tokenizer")])
        self._bytes = {char: byte for byte, char in enumerate(byte_characters())} if '"ByteLevel"' in kinds else {}
        self._is_spaced = bool(self._bytes) or '"Metaspace"' in kinds  # tokens hold their spaces themselves
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def is_special(self, token: int) -> bool:
        """Whether it is no content."""
        return token in self._specials

    def begin(self) -> None:
        """What comes next follows nothing: an unfinished character is forgotten."""
        self._decoder.reset()

    def word(self, token: int, *, starts: bool) -> tuple[str, str]:
        """The space before the next token, and its text. `starts`: it begins a word."""
        text = self._string(token)
        if self._is_bytes(text):
            text = self._decoder.decode(self._to_bytes(text))
        if self._is_spaced:
            text = text.replace("▁", " ")
            return (" ", text[1:]) if text.startswith(" ") else ("", text)
        return (" " if starts else ""), text.removeprefix("##")

    def alone(self, token: int) -> str:
        """The text of a token that follows nothing."""
        text = self._string(token)
        if self._is_bytes(text):
            text = self._to_bytes(text).decode("utf-8", "replace")
        return text.replace("▁", " ").strip() if self._is_spaced else text.removeprefix("##")

    def _string(self, token: int) -> str:
        return self._tokens[token] if token < len(self._tokens) else ""

    def _is_bytes(self, text: str) -> bool:
        return bool(self._bytes) and all(char in self._bytes for char in text)

    def _to_bytes(self, text: str) -> bytes:
        return bytes(self._bytes[char] for char in text)


def _marked(view: RowView, plane: PlaneRow, places: range, spell: Speller) -> str:
    """The content of some places; targets are marked."""
    targets, parts = set(plane.targets.tolist()), []
    spell.begin()
    for place in places:
        token = int(view.tokens[place])
        if spell.is_special(token):
            continue
        lead, word = spell.word(token, starts=bool(view.word_starts[place]))
        text = escaped(word, NAME_CHARS) or "…"
        if place not in targets:
            parts.append(f"{lead}{escaped(word, NAME_CHARS)}")
        elif place not in plane.swaps:
            parts.append(
                f'{lead}<mark class="hidden"><span class="vh">[masked: </span>{text}<span class="vh">]</span></mark>'
            )
        elif plane.swaps[place] == token:
            parts.append(
                f'{lead}<mark class="same"><span class="vh">[as it is: </span>{text}<span class="vh">]</span></mark>'
            )
        else:
            other = spell.alone(plane.swaps[place])
            parts.append(
                f'{lead}<mark class="other"><span class="vh">[shown as </span><del>{escaped(other, NAME_CHARS) or "…"}'
                f'</del><span class="vh">instead of </span>{text}<span class="vh">]</span></mark>'
            )
    return "".join(parts).strip()


def _dropped(report: Report) -> Iterator[str]:
    examples = choose_examples(report.examples, 2)
    if not examples:
        yield _note("This version keeps no examples of dropped documents.")
        return
    yield '<ul class="dropped">'
    for one in examples[:MOST_DROPPED]:
        kept = f"; kept instead: {shown(one.kept, NAME_CHARS)}" if one.kept else ""
        place = f"{shown(one.input, NAME_CHARS)}: {shown(one.source, NAME_CHARS)} at {one.offset:,}{kept}"
        yield f'<li><strong>{_broken(escaped(one.reason, NAME_CHARS))}</strong> <span class="where">'
        yield f"<bdi>{_broken(escaped(place))}</bdi></span>"
        yield f'<p dir="auto">{escaped(one.head, HEAD_CHARS)}</p></li>'
    yield "</ul>"
    if len(examples) > MOST_DROPPED:
        yield f'<p class="where">and {len(examples) - MOST_DROPPED:,} more: premask funnel --examples shows them</p>'


def _configuration(report: Report) -> Iterator[str]:
    manifest = report.manifest
    settings = dict(sorted(leaves(manifest.config)))
    cells = [(name, json.dumps(value, ensure_ascii=False)) for name, value in settings.items()]
    table = _table("Settings that the digest depends on", ("setting", "value"), cells, most=MOST_SETTINGS, text=(1,))
    yield table
    roles = ", ".join(
        f"{name} {getattr(manifest.roles, name)}"
        for name in ("cls", "sep", "pad", "mask", "unk")
        if getattr(manifest.roles, name) >= 0
    )
    sha = escaped(manifest.tokenizer["sha256"])
    yield f"<p>Tokenizer <code>{sha}</code>: {manifest.vocab_size:,} ids; {roles}.</p>"


def _lineage(report: Report) -> Iterator[str]:
    known = {one.digest: one for one in report.versions}
    chain: list[str] = []
    parent = report.side.get("parent")
    while isinstance(parent, str) and parent not in chain and len(chain) < MOST_VERSIONS:
        chain.append(parent)
        parent = known[parent].parent if parent in known else None
    if chain:
        names = " ← ".join(f"<code>{escaped(digest, 12).rstrip('…')}</code>" for digest in chain)
        gone = "" if chain[-1] in known else " (which is not in this folder any more)"
        yield f"<p>Before it: {names}{gone}.</p>"
    else:
        yield _paragraph("No version was before it.")
    head_cells = ("version", "made by", "when", "parent", "documents", "tokens", "tags")
    cells, here = [], None
    for number, one in enumerate(report.versions[:MOST_VERSIONS]):
        if one.digest == report.manifest.digest:
            here = number
        when = one.published.replace("T", " ").removesuffix("+00:00")
        counts = ("", "") if one.problem else (f"{one.num_documents:,}", f"{one.num_tokens:,}")
        made = "damaged" if one.problem else one.made_by
        cells.append((one.digest[:12], made, when, (one.parent or "")[:12], *counts, " ".join(one.tags)))
    yield _table(
        "Versions of this dataset, the newest first", head_cells, cells, most=MOST_VERSIONS, text=(1, 2, 3, 6),
        more=len(report.versions) - len(cells), here=here,
    )  # fmt: skip
    versions = report.side.get("versions")
    if isinstance(versions, Mapping) and versions:
        listed = ", ".join(f"{escaped(str(name))} {escaped(str(value))}" for name, value in sorted(versions.items()))
        yield f"<p>Made with {listed}.</p>"


def _octaves(lengths: Lengths) -> tuple[list[int], list[int]]:
    """Counts between edges that grow by the square root of 2; lengths of 0 count as 1."""
    most = int(lengths.values.max(initial=1))
    edges = np.unique(np.round(np.sqrt(2.0) ** np.arange(0, 2 * np.log2(most + 1) + 3)).astype(np.int64))
    edges = edges[: int(np.searchsorted(edges, most, side="right")) + 1]
    first = int(np.searchsorted(edges, max(1, int(lengths.values.min(initial=most))), side="right")) - 1
    edges = edges[max(0, first) :]
    if edges.size < 2:
        edges = np.array([1, 2])
    places = np.clip(np.searchsorted(edges, lengths.values, side="right") - 1, 0, edges.size - 2)
    counts = np.bincount(places, lengths.counts, minlength=edges.size - 1).astype(np.int64)
    return edges.tolist(), counts.tolist()


def _even(lengths: Lengths, most: int) -> tuple[list[int], list[int]]:
    """Counts in at most 32 steps of the same whole size, from 0 to beyond `most`."""
    step = max(1, -(-(most + 1) // 32))
    edges = np.arange(0, most + 1 + step, step)
    counts = np.bincount(lengths.values // step, lengths.counts, minlength=edges.size - 1).astype(np.int64)
    return edges.tolist(), counts.tolist()


def _histogram(
    title: str,
    told: str,
    edges: Sequence[int],
    counts: Sequence[int],
    *,
    table: str,
    of: str,
    unit: str,
    name: str,
    log: bool = False,
) -> str:
    """How many of a `unit` have so many `of` something: bars, and the same as a table."""
    total = sum(counts)
    cells = [
        (f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}", f"{count:,}", percent(count, total))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
    chart = charts.histogram(edges, counts, xlabel=of, ylabel=unit, log=log)
    return _figure(title, told, chart, name, 2.4, _table(table, ("length", unit, "share"), cells, most=len(cells)))


def _summary(lengths: Lengths) -> str:
    values = ", ".join(f"{name} {lengths.quantile(share):,}" for name, share in (("median", 0.5), ("99 %", 0.99)))
    return f"Mean {lengths.mean:,.1f}, {values}, longest {int(lengths.values.max(initial=0)):,}."


def _zipf(counts: np.ndarray) -> tuple[float, float] | None:
    """Exponent and height at rank 1 of a line through ranks 10 to 10,000 in logarithms, each octave of equal weight."""
    last = min(10_000, counts.size)
    if last < 40:
        return None
    places = np.unique(np.geomspace(10, last, 60).astype(np.int64))
    x, y = np.log(places), np.log(counts[places - 1])
    x_mean, y_mean = x.mean(), y.mean()
    exponent = float(((x - x_mean) * (y - y_mean)).sum() / ((x - x_mean) ** 2).sum())
    return exponent, float(np.exp(y_mean - exponent * x_mean))


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _paragraph(text: str) -> str:
    return f"<p>{escaped(text)}</p>"


def _note(text: str) -> str:
    return f'<p class="note">{escaped(text)}</p>'


def _warning(text: str) -> str:
    return f'<p class="warning"><strong>Warning:</strong> {escaped(text)}</p>'


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{escaped(summary)}</summary>{content}</details>"


def _figure(title: str, told: str, chart: Any, name: str, height: float, table: str) -> str:
    drawn = charts.svg(chart, name=name, height=height)
    caption = f"<figcaption><strong>{escaped(title)}</strong> <span>{escaped(told)}</span></figcaption>"
    return f"<figure>{caption}{drawn}{_details('as a table', table)}</figure>"


def _broken(text: str) -> str:
    """An escaped text that may be broken behind marks that join words in names."""
    return text.replace("_", "_<wbr>").replace(":", ":<wbr>").replace("/", "/<wbr>").replace(".", ".<wbr>")


def _table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    most: int = MOST_LINES,
    text: Sequence[int] = (),
    more: int = 0,
    here: int | None = None,
) -> str:
    """A table whose first column names its rows; every cell is escaped.

    Args:
        caption: what it is about.
        columns: names.
        rows: cells, as strings.
        most: rows that are shown; the number of the others is told, with `more` that are not in `rows`.
        text: columns that hold no numbers, beside the first.
        here: the row that is this version's.
    """
    every = list(rows)
    parts = [f'<div class="wide" role="region" tabindex="0" aria-label="{escaped(caption)}"><table>']
    parts.append(f"<caption>{escaped(caption)}</caption><thead><tr>")
    for number, name in enumerate(columns):
        kind = ' class="name"' if number in text else ""
        parts.append(f'<th scope="col"{kind}>{escaped(name)}</th>' if name else "<td></td>")
    parts.append("</tr></thead><tbody>")
    for number, cells in enumerate(every[:most]):
        parts.append('<tr class="here" aria-current="true">' if number == here else "<tr>")
        for place, cell in enumerate(cells):
            value = escaped(str(cell), NAME_CHARS)
            if place == 0 or place in text:
                value = f"<bdi>{_broken(value)}</bdi>"
            if place == 0:
                kind = ' class="long"' if len(str(cell)) > SHORT_NAME else ""
                parts.append(f'<th scope="row"{kind}>{value}</th>')
            else:
                parts.append(f'<td class="{"text" if place in text else "number"}">{value}</td>')
        parts.append("</tr>")
    parts.append("</tbody></table></div>")
    left = len(every[most:]) + more
    if left:
        parts.append(f'<p class="where">and {left:,} more</p>')
    return "".join(parts)
