"""What became of every document and token of a dataset, as tables for people."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from mlm_data.console import Terminal, table
from mlm_data.dataset.manifest import Manifest


def show_funnel(manifest: Manifest, terminal: Terminal, *, missing: Mapping[str, int]) -> None:
    """Documents by fate, tokens by fate, how full the rows are, and what the audit warned of.

    Args:
        missing: kept documents without a value, by field.
    """
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
    if line := unknown.warning():
        terminal.say(f"warning: {line}", style="yellow")
    for split, outcome in manifest.audit.items():
        for warning in outcome.get("warnings", []):
            terminal.say(f"audit warning ({split}): {warning}", style="yellow")


def summary(manifest: Manifest) -> dict[str, Any]:
    """The same for programs, as plain types."""
    return {
        "digest": manifest.digest,
        "sequence_length": manifest.sequence_length,
        "vocab_size": manifest.vocab_size,
        "planes": manifest.num_planes,
        "ledger": manifest.ledger,
        "splits": manifest.splits,
        "warnings": {split: list(outcome.get("warnings", [])) for split, outcome in manifest.audit.items()},
    }


def _documents(counts: dict[str, Any]) -> list[tuple[str, int]]:
    lines = [("read", counts["read"])]
    lines += [(f"quarantined: {reason}", count) for reason, count in counts["quarantined"].items()]
    lines += [(f"dropped: {reason}", count) for reason, count in counts["dropped"].items()]
    return [*lines, ("kept", counts["kept"])]
