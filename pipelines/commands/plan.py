"""`premask plan`: what would be read and made; nothing is written."""

import argparse
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from pipelines.commands.options import add_config, limit_tokenizer_threads

if TYPE_CHECKING:
    from mlm_data.build.estimate import Estimate
    from mlm_data.build.scale import Load, Machine, Prices
    from mlm_data.config import BuildConfig
    from mlm_data.console import Terminal
    from mlm_data.dataset.funnel import Funnel
    from mlm_data.text.inputs import Group

MOST_LINES = 40  # of the forecast, for people


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--explain", action="store_true", help="say of each unit whether, and why, it would be redone")
    parser.add_argument("--cost", action="store_true", help="elements, bytes, requests, hours and money on --runner")
    parser.add_argument("--runner", choices=["local", "dataflow"], default="local", help="for --cost (default local)")
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="FILE or NAME=VALUE",
        help="for --cost: prices and facts of a worker, such as vcpu_hour=0.07 or cores=16; a file has a line for each",
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.build.estimate import estimate, explain
    from mlm_data.config import load_config
    from mlm_data.console import Terminal, table

    prices, machine = _prices(options.price)
    limit_tokenizer_threads()
    config = load_config(options.config, options.set)
    found = estimate(config)
    answers = explain(config, found) if options.explain else []
    terminal = Terminal()
    if options.json:
        units = [{"unit": index, "why": why} for index, why in answers]
        facts: dict[str, Any] = {"prepared_units": units} if options.explain else {}
        facts |= {"cost": cost_summary(config, found, prices, machine, options.runner)} if options.cost else {}
        terminal.data(summary(config, found) | facts)
        return 0
    show(config, found, terminal)
    if options.cost:
        show_cost(config, found, prices, machine, options.runner, terminal)
    if options.explain:
        terminal.say()
        lines = table("unit", "why", title="prepared units")
        lines.columns[1].justify = "left"
        for index, why in answers:
            lines.add_row(str(index), why)
        terminal.print(lines)
    return 0


def show(config: "BuildConfig", found: "Estimate", terminal: "Terminal") -> None:
    """Files, formats, units, engine, expected tokens, disk, warnings."""
    from mlm_data.console import shown, size, table
    from mlm_data.text.inputs import group_by_reason

    files = table("format", "files", "size", "why", title="inputs")
    files.columns[3].justify = "left"
    for group in group_by_reason(found.plan.files):
        files.add_row(_name(group), str(group.num_files), size(group.num_bytes), group.why)
    terminal.print(files)
    terminal.say()

    facts = table("", "", title="plan")
    facts.columns[1].justify = "left"
    facts.add_row("files", f"{_num_files(found)}")
    facts.add_row("units", f"{len(found.plan.units)} of about {size(found.plan.unit_bytes)}")
    if found.reference is None and config.tokenizer.train is not None:
        train = config.tokenizer.train
        facts.add_row("tokenizer", f"{train.kind}, {train.vocab_size} ids, to be trained")
    elif found.reference is not None:
        facts.add_row("tokenizer", f"{found.reference.vocab_size} ids, sha256 {found.reference.sha256[:12]}")
        facts.add_row("roles", found.reference.roles.how)
    for note in found.notes:
        facts.add_row(note.name, note.text)
    facts.add_row("engine", f"{found.engine.name}: {found.engine.why}")
    trial = " (with a tokenizer trained on the probe alone)" if found.reference is None else ""
    facts.add_row(
        "expected tokens",
        f"{found.num_tokens:,} from {size(found.num_bytes)}: estimated from {size(found.probe_bytes)} of it{trial}",
    )
    facts.add_row(
        "rows",
        f"about {_num_rows(config, found):,} of {config.pack.sequence_length}, "
        f"{found.probe_fullness:.1%} full in the probe",
    )
    facts.add_row("[UNK]", f"{found.probe_unknown.share:.2%} of the probe's tokens")
    facts.add_row("planes", f"{config.mask.planes} x {config.mask.kind}, rate {config.mask.rate}")
    facts.add_row("disk", f"about {size(found.disk_bytes(config))} in {config.output}")
    terminal.print(facts)
    show_forecast(found.probe_funnel, terminal)
    for warning in found.warnings:
        terminal.say(f"warning: {shown(warning)}", style="yellow")


def load_of(config: "BuildConfig", found: "Estimate") -> "Load":
    """What the build has to do, from its plan and what the probe says of the whole."""
    import numpy as np

    from mlm_data.build.scale import Load
    from mlm_data.stores.folder import Folder
    from mlm_data.types import id_type

    pieces = [piece for unit in found.plan.units for piece in unit.slices]
    each = found.num_bytes / max(1, found.probe_bytes)
    counts = found.probe_funnel.by("reason")
    kept = counts.get(("kept",), (found.probe_documents,))[0]
    near = config.deduplicate.near
    return Load(
        num_bytes=found.num_bytes,
        num_files=_num_files(found),
        num_slices=len(pieces),
        num_units=len(found.plan.units),
        num_documents=round(each * kept),
        num_tokens=found.num_tokens,
        path_bytes=sum(len(piece.path) + len(piece.source) for piece in pieces) // max(1, len(pieces)),
        source_bytes=sum(len(piece.source) for piece in pieces) // max(1, len(pieces)),
        bands=near.bands if near is not None else 0,
        has_lines=config.deduplicate.lines is not None,
        drops_evaluations=config.decontaminate is not None and not config.cuts_evaluations,
        groups=len(config.inputs) if config.mixing is not None else 0,
        splits=2 if config.split.validation else 1,
        id_bytes=np.dtype(id_type(found.vocab_size(config))).itemsize,
        planes=config.mask.planes,
        is_local=Folder(config.output).is_local,
    )


def show_cost(
    config: "BuildConfig", found: "Estimate", prices: "Prices", machine: "Machine", runner: str, terminal: "Terminal"
) -> None:
    """Quantities, money, and what breaks first."""
    from mlm_data.build.scale import cost, limits, lines_of
    from mlm_data.console import table

    load = load_of(config, found)
    needed = cost(load, prices, machine)
    terminal.say()
    facts = table("", "", title=f"what it takes on {runner}")
    facts.columns[1].justify = "left"
    for name, text in lines_of(load, needed):
        facts.add_row(name, text)
    terminal.print(facts)
    if runner == "dataflow":
        terminal.say()
        money = table("", "US dollars", title="money, by prices that are assumptions")
        for name, value in needed.money.items():
            money.add_row(name, f"{value:,.2f}")
        money.add_row("all", f"{needed.total:,.2f}")
        terminal.print(money)
        terminal.say("prices: list prices of us-central1 in 2024, if not given by --price; starting, idling and")
        terminal.say("repeating are not in it; it was computed, not run")
    first = limits(load, machine)[0]
    terminal.say()
    verb = "breaks" if first.share > 1 else "would break first"
    used = f"{first.value:.3g} {first.unit} of {first.limit:.3g} ({first.share:.0%})"
    terminal.say(f"{verb}: {first.name}: {used}: {first.remedy}", style="red" if first.share > 1 else None)


def cost_summary(
    config: "BuildConfig", found: "Estimate", prices: "Prices", machine: "Machine", runner: str
) -> dict[str, Any]:
    """The same for programs, as plain types."""
    from mlm_data.build.scale import cost, crossings, limits

    load = load_of(config, found)
    needed = cost(load, prices, machine)
    return {
        "runner": runner,
        "load": vars(load),
        "crossings": [vars(one) | {"kind": one.kind.name} for one in crossings(load)],
        "needed": vars(needed) | {"money": dict(needed.money) if runner == "dataflow" else None},
        "limits": [vars(one) | {"share": one.share} for one in limits(load, machine)],
        "prices": vars(prices),
        "machine": vars(machine),
    }


def _prices(given: list[str]) -> tuple["Prices", "Machine"]:
    """Prices and a worker's machine, of `--price`.

    Raises:
        ConfigError: what is neither a file nor NAME=VALUE, or names no price.
    """
    from mlm_data.build.scale import Machine, Prices
    from mlm_data.settings import parse_yaml, read_yaml

    values: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        values |= {name: parse_yaml(f"value: {text}", where=f"--price {item}")["value"]} if equals else read_yaml(item)
    of_machine = {name: values.pop(name) for name in list(values) if name in Machine.__dataclass_fields__}
    return Prices.parse(values, where="--price"), Machine.parse(of_machine, where="--price")


def show_forecast(funnel: "Funnel", terminal: "Terminal") -> None:
    """What rules would drop of the probe, and what cleaning would change in it; nothing where that is nothing."""
    from mlm_data.console import shown, table

    totals = {name: counts[0] for (name,), counts in funnel.by("input").items()}
    dropped = sorted((key, counts) for key, counts in funnel.fates.items() if key[2] != "kept")
    if dropped:
        title = f"what would be dropped of the {sum(totals.values()):,} documents that were looked at, copies aside"
        has_language = any(language for _, language, _ in funnel.fates)
        lines = table("input", *["language"] * has_language, "reason", "documents", "of the input's", title=title)
        for column in lines.columns[1 : 2 + has_language]:
            column.justify = "left"
        dropped.sort(key=lambda item: (item[0][0], -item[1][0]))
        for (name, language, reason), counts in dropped[:MOST_LINES]:
            keys = [shown(name), *[language] * has_language, shown(reason)]
            lines.add_row(*keys, f"{counts[0]:,}", f"{counts[0] / totals[name]:.1%}")
        terminal.say()
        terminal.print(lines)
        if len(dropped) > MOST_LINES:
            terminal.say(f"and {len(dropped) - MOST_LINES} more lines: --json has all of them")
    if funnel.changes:
        terminal.say()
        terminal.say("what would be changed in them", style="bold")
        lines = table("", "")
        lines.show_header = False
        for name, count in funnel.changes.items():
            lines.add_row(shown(name), f"{count:,}")
        terminal.print(lines)


def summary(config: "BuildConfig", found: "Estimate") -> dict[str, Any]:
    """The same for programs, as plain types."""
    from mlm_data.text.inputs import group_by_reason

    return {
        "formats": [group.to_dict() for group in group_by_reason(found.plan.files)],
        "files": _num_files(found),
        "units": len(found.plan.units),
        "unit_bytes": found.plan.unit_bytes,
        "tokenizer": found.reference and found.reference.sha256,
        "tokenizer_notes": {note.name: note.text for note in found.notes},
        "engine": found.engine.name,
        "expected_tokens": found.num_tokens,
        "expected_rows": _num_rows(config, found),
        "expected_disk_bytes": round(found.disk_bytes(config)),
        "output": config.output,
        "unknown": found.probe_unknown.to_dict() | {"share": found.probe_unknown.share},
        "forecast": {"documents": found.probe_documents, **found.probe_funnel.to_dict()},
        "warnings": list(found.warnings),
    }


def _name(group: "Group") -> str:
    return group.format + (f" ({group.compression})" if group.compression else "")


def _num_files(found: "Estimate") -> int:
    return len({(piece.input, piece.source) for unit in found.plan.units for piece in unit.slices})


def _num_rows(config: "BuildConfig", found: "Estimate") -> int:
    return round(found.num_tokens / config.pack.sequence_length / found.probe_fullness)


COMMAND = Command(
    name="plan", help="Say what would be read and made; nothing is written.", arguments=_arguments, run=_run
)
