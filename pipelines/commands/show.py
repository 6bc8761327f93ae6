"""What the commands show a person: plans, progress, the funnel, rows. Text from corpora is escaped."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mlm_data.build.estimate import Estimate
from mlm_data.config import BuildConfig
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import load_files, load_manifest, tokenizer_name
from mlm_data.dataset.missing import missing_values
from mlm_data.dataset.publish import check_output
from mlm_data.stores.folder import Folder
from mlm_data.text.inputs import group_by_reason
from mlm_data.tokens.engine import from_bytes
from pipelines import metrics


def size(num_bytes: float) -> str:
    """Bytes for people, in powers of ten.

    >>> size(54_321_000)
    '54.3 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def table(*columns: str, title: str | None = None) -> Table:
    """A quiet table: names on the left, numbers on the right."""
    made = Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return made


def plan(config: BuildConfig, found: Estimate, console: Console) -> None:
    """Files, formats, units, engine, expected tokens, disk, warnings."""
    files = table("format", "files", "size", "why", title="inputs")
    files.columns[3].justify = "left"
    for group in group_by_reason(found.plan.files):
        name = group.format + (f" ({group.compression})" if group.compression else "")
        files.add_row(Text(name), str(group.num_files), size(group.num_bytes), Text(group.why))
    console.print(files)
    console.print()

    facts = table("", "", title="plan")
    facts.columns[1].justify = "left"
    facts.add_row("files", f"{len({piece.source for unit in found.plan.units for piece in unit.slices})}")
    facts.add_row("units", f"{len(found.plan.units)} of about {size(found.plan.unit_bytes)}")
    if found.reference is None and config.tokenizer.train is not None:
        train = config.tokenizer.train
        facts.add_row("tokenizer", f"{train.kind}, {train.vocab_size} ids, to be trained")
    elif found.reference is not None:
        facts.add_row("tokenizer", f"{found.reference.vocab_size} ids, sha256 {found.reference.sha256[:12]}")
        facts.add_row("roles", Text(found.reference.roles.how))
    facts.add_row("engine", Text(f"{found.engine.name}: {found.engine.why}"))
    trial = " (with a tokenizer trained on the probe alone)" if found.reference is None else ""
    facts.add_row(
        "expected tokens",
        f"{found.num_tokens:,} from {size(found.num_bytes)}: estimated from {size(found.probe_bytes)} of it{trial}",
    )
    facts.add_row(
        "rows",
        f"about {round(found.num_tokens / config.pack.sequence_length / found.probe_fullness):,} of "
        f"{config.pack.sequence_length}, {found.probe_fullness:.1%} full in the probe",
    )
    facts.add_row("planes", f"{config.mask.planes} x {config.mask.kind}, rate {config.mask.rate}")
    facts.add_row("disk", f"about {size(found.disk_bytes(config))} in {config.output}")
    console.print(facts)
    for warning in found.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def explanation(answers: Sequence[tuple[int, str]], console: Console) -> None:
    """One line per unit: reused, or why not."""
    console.print()
    lines = table("unit", "why", title="prepared units")
    lines.columns[1].justify = "left"
    for index, why in answers:
        lines.add_row(str(index), Text(why))
    console.print(lines)


def build(config: BuildConfig, *, workers: int, sample: float, beam_args: Sequence[str], console: Console) -> None:
    """Run a build with a live display, then show the funnel and where everything is."""
    from mlm_data.build.plan import find_tokenizer, make_plan
    from pipelines.build import build as run_build

    whole = sum(unit.num_bytes for unit in make_plan(config).units) if sample < 1 else 0
    if sample < 1:
        config = config.model_copy(update={"output": config.output.rstrip("/") + "-sample"})
    check_output(Folder(config.output))
    started = time.perf_counter()
    made = make_plan(config, sample=sample)
    total = sum(unit.num_bytes for unit in made.units)
    for warning in made.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    if config.tokenizer.train is not None:
        with console.status("training the tokenizer, or finding it"):
            find_tokenizer(config, made)
    with _live(console, total):
        built = run_build(config, workers=workers, beam_args=beam_args, plan=made)
    seconds = time.perf_counter() - started
    funnel(built.manifest, console, missing_values(Folder(config.output), built.manifest))
    disk = disk_bytes(config.output)
    console.print(
        f"\n{size(total)} in {seconds:.1f} s ({size(total / seconds)}/s), {built.num_units} units"
        + (f", {built.num_reused} of them reused" if built.num_reused else "")
        + f"\n{size(sum(disk.values()))} on disk: "
        + ", ".join(f"{kind} {size(value)}" for kind, value in disk.items()),
        highlight=False,
    )
    console.print(f"digest {built.manifest.digest}", highlight=False, soft_wrap=True)
    if sample < 1:
        factor = whole / max(1, total)
        console.print(
            f"\nthe whole ({size(whole)}) would take about {factor * seconds:.0f} s with {workers} workers and "
            f"{size(factor * sum(disk.values()))} of disk",
            highlight=False,
        )
    console.print(f"next: premask verify {config.output}", highlight=False, soft_wrap=True)


def funnel(manifest: Any, console: Console, missing: Mapping[str, int]) -> None:
    """What became of every document and token; `missing` counts the kept documents without a value, by field."""
    documents, tokens = manifest.ledger["documents"], manifest.ledger["tokens"]
    lines = table("", "documents", "", title="what became of the documents")
    lines.columns[2].justify = "left"
    for name, count in _funnel_lines(documents):
        bar = "█" * round(40 * count / max(1, documents["read"])) or ("▏" if count else "")
        lines.add_row(name, f"{count:,}", Text(bar, style="green" if name == "kept" else "dim"))
    for name, count in missing.items():
        lines.add_row(Text(f"  kept without {name}"), f"{count:,}", "")
    console.print(lines)
    console.print()
    lines = table("", "tokens", title="and of the tokens")
    lines.add_row("tokenized", f"{tokens['tokenized']:,}")
    for reason, count in tokens["dropped"].items():
        lines.add_row(f"dropped: {reason}", f"{count:,}")
    if tokens["truncated"]:
        lines.add_row("truncated", f"{tokens['truncated']:,}")
    lines.add_row("in rows", f"{tokens['in_rows']:,}")
    console.print(lines)
    console.print()
    lines = table("", "rows", "tokens", "full", title=f"rows of {manifest.sequence_length}")
    for split, counts in manifest.splits.items():
        places = counts["num_rows"] * manifest.sequence_length
        full = f"{counts['num_tokens'] / places:.2%}" if places else ""
        lines.add_row(split, f"{counts['num_rows']:,}", f"{counts['num_tokens']:,}", full)
    console.print(lines)
    for split, outcome in manifest.audit.items():
        for warning in outcome.get("warnings", []):
            console.print(Text(f"audit warning ({split}): {warning}", style="yellow"))


def disk_bytes(output: str) -> dict[str, int]:
    """Bytes of the current version's files by kind."""
    folder = Folder(output)
    files = load_files(folder, load_manifest(folder))
    sums: dict[str, int] = {}
    for kind, num_bytes in zip(files["kind"].to_pylist(), files["num_bytes"].to_pylist(), strict=True):
        sums[kind] = sums.get(kind, 0) + num_bytes
    return sums


def inspect(path: str, *, split: str, row: int | None, console: Console) -> None:
    """A dataset's funnel, or one row with what each plane hides."""
    dataset = Dataset.open(path)
    manifest = dataset.manifest
    if row is None:
        config = manifest.config
        console.print(f"[bold]{Path(path).name}[/bold]  digest {manifest.digest[:16]}", highlight=False)
        console.print(
            f"rows of {manifest.sequence_length}, {manifest.vocab_size} ids, {manifest.num_planes} planes: "
            f"{config['mask']['kind']}, rates {config['mask']['rate']}\n",
            highlight=False,
        )
        funnel(manifest, console, missing_values(dataset.folder, manifest))
        console.print(f"\nnext: premask inspect {path} --row 0", highlight=False, soft_wrap=True)
        return
    tokens = from_bytes(Folder(path).read(tokenizer_name(manifest.tokenizer["sha256"]))).tokens
    _show_row(dataset.row(split, row), tokens, console)


def _show_row(view: Any, tokens: Sequence[str], console: Console) -> None:
    shown = [_spoken(tokens[token] if token < len(tokens) else "") for token in view.tokens.tolist()]
    console.print(f"[bold]{view.split} row {view.row}[/bold]  shard {view.shard}", highlight=False)
    for number, segment in enumerate(view.segments):
        where = f"{segment.source} @ {segment.offset}, from its token {segment.start}, id {segment.id[:12]}"
        console.print(Text(f"\nsegment {number}  {where}", style="cyan"))
        places = range(segment.place, segment.place + segment.length)
        console.print(_text(view, shown, places, set(), {}), soft_wrap=False)
    used = sum(segment.length for segment in view.segments)
    console.print(Text(f"\n{len(view.tokens) - used} places of padding", style="dim"))
    for name, plane in view.planes.items():
        targets = set(plane.targets.tolist())
        swaps = {place: _spoken(tokens[token]) for place, token in plane.swaps.items()}
        kept = sum(1 for place, token in plane.swaps.items() if token == int(view.tokens[place]))
        console.print(
            Text(
                f"\nplane {name}: {len(targets)} targets, {len(targets) - len(swaps)} shown as [MASK], "
                f"{len(swaps) - kept} as a random token, {kept} as they are",
                style="cyan",
            )
        )
        console.print(_text(view, shown, range(used), targets, swaps), soft_wrap=False)


def _text(view: Any, shown: list[str], places: range, targets: set[int], swaps: dict[int, str]) -> Text:
    """A row as a person reads it: what the model sees, with what it must say behind it."""
    text = Text()
    for place in places:
        lead = " " if view.word_starts[place] and place != places.start else ""
        word = shown[place]
        if place not in targets:
            text.append(lead + word)
        elif place in swaps:
            text.append(lead)
            text.append(swaps[place], style="bold magenta")
            text.append(f"({word.strip()})", style="dim")
        else:
            text.append(lead)
            text.append("▒▒", style="bold red")
            text.append(f"({word.strip()})", style="dim")
    return text


def _spoken(token: str) -> str:
    """A token's string without its family's marks, and without control characters."""
    token = token.removeprefix("##").replace("Ġ", " ").replace("▁", " ").replace("Ċ", "⏎")
    return "".join(char if char.isprintable() else "�" for char in token.removeprefix(" "))


def verify(path: str, console: Console) -> bool:
    """Check everything, the masks' statistics too, and say what is off; True if nothing is."""
    from mlm_data.dataset.check import check_dataset

    with Progress(
        TextColumn("checking"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), console=console, transient=True
    ) as bars:
        task = bars.add_task("", total=None)
        report = check_dataset(path, progress=lambda done, total: bars.update(task, completed=done, total=total))
    for problem in report.problems:
        console.print(Text(problem, style="red"), soft_wrap=True)
    for warning in report.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    verdict = "sound" if report.ok else f"[red]{len(report.problems)} problems[/red]"
    console.print(
        f"{verdict}: {report.num_files} files, {size(report.num_bytes)}, {report.num_checks} checks of the masks; "
        f"digest {report.digest}",
        highlight=False,
        soft_wrap=True,
    )
    return report.ok


def _funnel_lines(documents: dict[str, Any]) -> list[tuple[str, int]]:
    lines = [("read", documents["read"])]
    lines += [(f"quarantined: {reason}", count) for reason, count in documents["quarantined"].items()]
    lines += [(f"dropped: {reason}", count) for reason, count in documents["dropped"].items()]
    return [*lines, ("kept", documents["kept"])]


@contextmanager
def _live(console: Console, total: int):
    """Bars for the two steps that take the time, fed by the workers' threads."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bars:
        steps = {
            "prepare": bars.add_task("read, clean, tokenize", total=total),
            "assemble": bars.add_task("deduplicate, pack, mask, write", total=total),
        }
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                for step, amount in metrics.progress().items():
                    bars.update(steps[step], completed=amount)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            for step, amount in metrics.progress().items():
                bars.update(steps[step], completed=amount)
