"""`premask funnel`: what became of the documents of a dataset, step by step, and examples of what was dropped.

`show_funnel` is the short form, which `build` and `inspect` show.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from pipelines.commands.options import add_dataset

if TYPE_CHECKING:
    from mlm_data.console import Terminal
    from mlm_data.dataset.funnel import Example, Funnel
    from mlm_data.dataset.manifest import Manifest

BY = ("input", "language", "reason")
MOST_EXAMPLES = 5  # a build keeps no more of an input and reason
HEAD_CHARS = 160  # of an example
MOST_GROUPS = 20  # of `mixing`, the largest


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--by",
        nargs="+",
        metavar="NAME",
        choices=BY,
        default=None,
        help="input, language, reason: what counts are added up by (default: input reason)",
    )
    parser.add_argument(
        "--examples",
        type=_number,
        default=1,
        metavar="N",
        help="dropped documents shown of each (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal
    from mlm_data.dataset.examples import load_examples
    from mlm_data.dataset.funnel import choose_examples
    from mlm_data.dataset.names import open_version

    (folder, manifest), terminal = open_version(options.dataset), Terminal()
    by = tuple(dict.fromkeys(options.by or ("input", "reason")))
    examples = choose_examples(load_examples(folder, manifest), options.examples) if options.examples else ()
    if options.json:
        terminal.data(details(manifest, by, examples))
    else:
        show_details(manifest, by, examples, terminal)
    return 0


def show_details(manifest: "Manifest", by: Sequence[str], examples: Sequence["Example"], terminal: "Terminal") -> None:
    """Every step, what cleaning changed, counts by what was asked for, and examples."""
    from mlm_data.console import shown, size, table

    funnel, documents = manifest.funnel, manifest.ledger["documents"]
    terminal.say(f"digest {manifest.digest[:16]}, {size(manifest.ledger['bytes']['read'])} read", style="bold")
    if not funnel.fates:
        terminal.say(
            "this dataset was built by a premask that kept no counts by input: premask inspect shows the others"
        )
        return
    terminal.say()
    _show_steps(manifest, terminal)
    if funnel.changes:
        terminal.say("\nwhat was changed in documents", style="bold")
        lines = table("", "")
        lines.show_header = False
        for name, count in funnel.changes.items():
            lines.add_row(shown(name), f"{count:,}")
        terminal.print(lines)
    terminal.say()
    lines = table(*by, "documents", "share", "characters", "tokens", title=f"by {' and '.join(by)}")
    for column in lines.columns[1 : len(by)]:
        column.justify = "left"
    read = documents["read"] - sum(documents["quarantined"].values())
    for key, (count, chars, tokens) in ordered(funnel, by):
        names = [shown(value) or "not looked for" for value in key]
        lines.add_row(*names, f"{count:,}", f"{count / max(1, read):.1%}", f"{chars:,}", f"{tokens:,}")
    terminal.print(lines)
    if examples:
        terminal.say()
        terminal.say("dropped, for example", style="bold")
    group = None
    for one in examples:
        if group != (one.input, one.reason):
            group = (one.input, one.reason)
            terminal.say(f"{shown(one.input)}: {shown(one.reason)}", style="cyan")
        terminal.say(f"  {shown(one.source)} at {one.offset}")
        terminal.say(f"    {shown(one.head, HEAD_CHARS)}", style="dim")
        if one.kept:
            terminal.say(f"  kept instead: {shown(one.kept)}")
            terminal.say(f"    {shown(one.kept_head, HEAD_CHARS)}", style="dim")
    show_warnings(manifest, terminal)


def ordered(funnel: "Funnel", by: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[int, int, int]]]:
    """Sums of a funnel: by input as they are named, what was kept first, then the most documents."""
    sums = funnel.by(*by)
    reason = by.index("reason") if "reason" in by else None
    name = by.index("input") if "input" in by else None

    def place(item: tuple[tuple[str, ...], tuple[int, int, int]]) -> tuple[Any, ...]:
        key, counts = item
        return (key[name] if name is not None else "", reason is not None and key[reason] != "kept", -counts[0], key)

    return sorted(sums.items(), key=place)


def details(manifest: "Manifest", by: Sequence[str], examples: Sequence["Example"]) -> dict[str, Any]:
    """The same for programs, as plain types. Texts are as they are in the corpus."""
    from dataclasses import asdict

    from mlm_data.dataset.steps import eaten, idle, steps

    def counts(values: tuple[int, int, int]) -> dict[str, int]:
        return dict(zip(("documents", "characters", "tokens"), values, strict=True))

    funnel = manifest.funnel
    return {
        "digest": manifest.digest,
        "documents": manifest.ledger["documents"],
        "steps": [
            {"step": step.name, "in": counts(step.given), "dropped": counts(step.dropped), "out": counts(step.left)}
            for step in steps(funnel)
        ],
        "changes": dict(funnel.changes),
        "by": [dict(zip(by, key, strict=True)) | counts(values) for key, values in ordered(funnel, by)],
        "examples": [asdict(one) for one in examples],
        "warnings": [*eaten(funnel), *idle(funnel, manifest.config)],
    }


def show_warnings(manifest: "Manifest", terminal: "Terminal") -> None:
    """Steps that a person should look at."""
    from mlm_data.console import shown
    from mlm_data.dataset.steps import eaten, idle

    for line in (*eaten(manifest.funnel), *idle(manifest.funnel, manifest.config)):
        terminal.say(f"warning: {shown(line)}", style="yellow")


def _show_steps(manifest: "Manifest", terminal: "Terminal") -> None:
    from mlm_data.console import shown, table
    from mlm_data.dataset.steps import steps

    documents = manifest.ledger["documents"]
    lines = table("step", "in", "dropped", "", "out", "characters out", "tokens out", title="step by step")
    quarantined = sum(documents["quarantined"].values())
    left = documents["read"] - quarantined
    first = tuple(map(sum, zip(*manifest.funnel.fates.values(), strict=True)))
    lines.add_row(
        "read", f"{documents['read']:,}", f"{quarantined:,}", _share(quarantined, documents["read"]), f"{left:,}",
        f"{first[1]:,}", f"{first[2]:,}",
    )  # fmt: skip
    kept = first
    for step in steps(manifest.funnel):
        kept = step.left
        lines.add_row(
            shown(step.name), f"{step.given[0]:,}", f"{step.dropped[0]:,}", _share(step.dropped[0], step.given[0]),
            *(f"{count:,}" for count in kept),
        )  # fmt: skip
    lines.add_row("kept", "", "", "", *(f"{count:,}" for count in kept), style="green")
    terminal.print(lines)
    if repeated := documents.get("repeated"):
        terminal.say(f"{repeated:,} further copies of them, as weights say")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_EXAMPLES:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {MOST_EXAMPLES}, got {text!r}")
    return int(text)


def show_funnel(manifest: "Manifest", terminal: "Terminal", *, missing: Mapping[str, int]) -> None:
    """Documents by fate, tokens by fate, how full the rows are, and what the audit warned of.

    Args:
        missing: kept documents without a value, by field.
    """
    from rich.text import Text

    from mlm_data.console import table

    documents, tokens = manifest.ledger["documents"], manifest.ledger["tokens"]
    lines = table("", "documents", "", title="what became of the documents")
    lines.columns[2].justify = "left"
    for name, count in _documents(documents):
        bar = "█" * round(40 * count / max(1, documents["read"])) or ("▏" if count else "")
        lines.add_row(name, f"{count:,}", Text(bar, style="green" if name == "kept" else "dim"))
    for name, count in missing.items():
        lines.add_row(Text(f"  kept without {name}"), f"{count:,}", "")
    terminal.print(lines)
    terminal.say()
    lines = table("", "tokens", title="and of the tokens")
    lines.add_row("tokenized", f"{tokens['tokenized']:,}")
    for reason, count in tokens["dropped"].items():
        lines.add_row(f"dropped: {reason}", f"{count:,}")
    if tokens["truncated"]:
        lines.add_row("truncated", f"{tokens['truncated']:,}")
    lines.add_row("in rows", f"{tokens['in_rows']:,}")
    unknown = manifest.unknown
    if unknown.unknown:
        lines.add_row("of them [UNK]", f"{unknown.unknown:,} ({unknown.share:.2%})")
    terminal.print(lines)
    terminal.say()
    lines = table("", "rows", "tokens", "full", title=f"rows of {manifest.sequence_length}")
    for split, counts in manifest.splits.items():
        places = counts["num_rows"] * manifest.sequence_length
        full = f"{counts['num_tokens'] / places:.2%}" if places else ""
        lines.add_row(split, f"{counts['num_rows']:,}", f"{counts['num_tokens']:,}", full)
    terminal.print(lines)
    _show_mixing(manifest, terminal)
    if line := unknown.warning():
        terminal.say(f"warning: {line}", style="yellow")
    for split, outcome in manifest.audit.items():
        for warning in outcome.get("warnings", []):
            terminal.say(f"audit warning ({split}): {warning}", style="yellow")
    show_warnings(manifest, terminal)


def _show_mixing(manifest: "Manifest", terminal: "Terminal") -> None:
    """Shares of the groups before and after they were evened out."""
    from rich.text import Text

    from mlm_data.console import table

    if not (groups := manifest.ledger.get("mixing")):
        return
    before = sum(group["tokens"] for group in groups)
    after = sum(group["tokens"] * group["weight"] for group in groups)
    terminal.say()
    lines = table("", "tokens", "share before", "weight", "share after", title="mixing")
    ordered = sorted(groups, key=lambda group: (-group["tokens"], group["group"]))
    for group in ordered[:MOST_GROUPS]:
        share = group["tokens"] * group["weight"] / max(1, after)
        cells = (f"{group['tokens']:,}", f"{group['tokens'] / max(1, before):.1%}", f"{group['weight']:.3g}")
        lines.add_row(Text(group["group"]), *cells, f"{share:.1%}")
    terminal.print(lines)
    if len(groups) > MOST_GROUPS:
        terminal.say(f"and {len(groups) - MOST_GROUPS} smaller groups: all are in the manifest's ledger", style="dim")


def summary(manifest: "Manifest") -> dict[str, Any]:
    """The same for programs, as plain types."""
    from mlm_data.dataset.steps import eaten, idle

    return {
        "digest": manifest.digest,
        "sequence_length": manifest.sequence_length,
        "vocab_size": manifest.vocab_size,
        "planes": manifest.num_planes,
        "ledger": manifest.ledger,
        "splits": manifest.splits,
        "warnings": {split: list(outcome.get("warnings", [])) for split, outcome in manifest.audit.items()},
        "steps_to_look_at": [*eaten(manifest.funnel), *idle(manifest.funnel, manifest.config)],
    }


def _documents(counts: dict[str, Any]) -> list[tuple[str, int]]:
    lines = [("read", counts["read"])]
    lines += [(f"quarantined: {reason}", count) for reason, count in counts["quarantined"].items()]
    lines += [(f"dropped: {reason}", count) for reason, count in counts["dropped"].items()]
    return [*lines, ("kept", counts["kept"])]


COMMAND = Command(
    name="funnel", help="Show what became of the documents, step by step.", arguments=_arguments, run=_run
)
