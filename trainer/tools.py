"""The smaller commands of `premask-train`: each reads its options, calls one function, and prints.

Modules that need torch are imported where they are used, so that `--help` is quick.
"""
# ruff: noqa: T201

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mlm_data.config import parse_settings
from mlm_data.errors import ConfigError
from trainer.config import RunSettings, phases_of, resolve

if TYPE_CHECKING:
    from trainer.machine import Machine
    from trainer.runs import Trained


def settings_of(options: argparse.Namespace) -> RunSettings:
    """The settings that a command's options ask for."""
    given = {name: getattr(options, name) for name in ("data", "out") if getattr(options, name) is not None}
    return resolve(recipe_name=options.recipe, file=options.file, values=given, overrides=options.set)


def open_run(location: str, *, rows: int | None = None) -> "tuple[Trained, Machine]":
    """A run's model on this machine, uncompiled; says on standard error what was wrong with newer checkpoints."""
    from trainer import machine, runs

    folder = runs.newest(Path(location))
    facts = runs.read(folder)
    values = facts["settings"] | {"compile": "off", "device": "auto", "precision": "auto"}
    settings = parse_settings(RunSettings, values, where=str(folder / "run.json"))
    chosen = machine.choose(settings, precision=facts["precision"])
    trained = runs.load(folder, chosen, rows=rows)
    for note in trained.notes:
        print(f"premask-train: {note}", file=sys.stderr)
    return trained, chosen


def probe(options: argparse.Namespace) -> int:
    """`probe RUN FILE [--finetune]`."""
    from trainer.machine import prepare
    from trainer.probe import Tuning
    from trainer.probe import probe as run_probe

    if not options.finetune and (options.epochs is not None or options.lr is not None):
        raise ConfigError("--epochs and --lr say how to fine-tune: add --finetune, or leave them out")
    trained, machine = open_run(options.run)
    prepare(machine)
    tuning = Tuning(machine=machine, epochs=options.epochs, lr=options.lr) if options.finetune else None
    fields = {"text_field": options.text_field, "label_field": options.label_field}
    found = run_probe(trained, Path(options.file), **fields, tuning=tuning, say=_aside)
    if options.json:
        print(json.dumps(found.to_dict()))
        return 0
    lines = [("the commonest class, always", found.majority), ("linear probe, encoder frozen", found.accuracy)]
    if found.finetuned is not None:
        lines.append(("fine-tuned", found.finetuned))
    table = Table("", "accuracy", title=f"{found.classes} classes, {found.num_train:,} texts to learn from")
    for name, accuracy in lines:
        table.add_row(name, f"{accuracy:.3f}")
    console = Console(highlight=False)
    console.print(table)
    cut = f"; {found.num_cut:,} texts were cut to {trained.model.length} tokens" if found.num_cut else ""
    console.print(f"on {found.num_test:,} held-out texts{cut}")
    return 0


def _aside(line: str) -> None:
    print(f"premask-train: {line}", file=sys.stderr)


def export(options: argparse.Namespace) -> int:
    """`export RUN OUT`."""
    from trainer import runs
    from trainer.export import export_hf

    for note in export_hf(runs.newest(Path(options.run)), Path(options.out)):
        print(f"premask-train: {note}", file=sys.stderr)
    print(f"wrote {options.out}: ModernBertForMaskedLM.from_pretrained({options.out!r}) loads it")
    return 0


def begin(options: argparse.Namespace) -> int:
    """`import FOLDER --out RUN`."""
    from trainer.export import import_hf

    for note in import_hf(Path(options.folder), Path(options.out)):
        print(f"premask-train: {note}", file=sys.stderr)
    print(f"wrote {options.out}: go on with premask-train run --out {options.out} --data DATASET")
    return 0


def plot(options: argparse.Namespace) -> int:
    """`plot RUN...`."""
    from trainer.plot import plot as draw

    draw([Path(run) for run in options.runs], Path(options.out))
    print(f"wrote {options.out}")
    return 0


def plan(options: argparse.Namespace) -> int:
    """`plan`: what a run would be; nothing is started."""
    settings = settings_of(options)
    console = Console(highlight=False)
    for number, phase in enumerate(phases_of(settings)):
        table = Table("", "", title=f"phase {number}" if settings.phases else None, show_header=False)
        for name, value in facts_of(phase).items():
            table.add_row(name, value)
        console.print(table)
    return 0


def facts_of(settings: RunSettings) -> dict[str, str]:
    """What `plan` says of one run or phase, by name."""
    from mlm_data.shards.format import TRAIN
    from trainer import machine, parallel
    from trainer.arithmetic import memory_bytes, num_parameters, step_flops
    from trainer.data import check_rows, open_dataset

    parallel.check(settings)
    dataset = open_dataset(settings.data)
    check_rows(dataset, settings.batch_rows)
    manifest, shape = dataset.manifest, settings.model
    chosen = machine.choose(settings)
    planes = [str(plane) for plane in settings.planes or range(manifest.num_planes)]
    places = settings.batch_rows * manifest.sequence_length
    targets = settings.batch_rows * max(manifest.max_targets(plane) for plane in planes)
    numbers = {"vocab_size": manifest.vocab_size, "targets": targets}
    # A row's segments as they are on average: their lengths enter attention only.
    rows, segments = dataset.num_rows(TRAIN), manifest.splits[TRAIN]["num_segments"]
    used, per_row = manifest.splits[TRAIN]["num_tokens"] / rows, max(1, round(segments / rows))
    lengths = [round(used / per_row)] * (per_row * settings.batch_rows)
    flops = step_flops(shape, lengths=lengths, **numbers)
    memory = memory_bytes(shape, places=places, adamw=settings.optimizer.kind == "adamw", **numbers)
    per_step = settings.rows_at(0) * manifest.sequence_length
    epoch = rows * manifest.sequence_length
    budget = settings.budget
    if budget.minutes is not None:
        ends = f"after {budget.minutes:g} minutes: the number of steps follows from the speed of the first 20"
    else:
        steps = budget.steps or round((budget.tokens or 0) / per_step)
        ends = f"after {steps:,} steps, {steps * per_step:,} places, {steps * per_step / epoch:.2f} epochs"
    return {
        "dataset": f"{manifest.digest[:16]}: {rows:,} rows of {manifest.sequence_length}, {manifest.num_planes} planes",
        "parameters": f"{num_parameters(shape, manifest.vocab_size):,}",
        "a step": f"{settings.rows_at(0)} rows a rank, {per_step:,} places, {targets:,} targets a micro-batch at most",
        "ends": ends,
        "an epoch": f"{rows / settings.rows_at(0):,.0f} steps",
        "operations": ", ".join(f"{kind} {value:.2e}" for kind, value in flops.items()) + " a micro-batch",
        "memory": ", ".join(f"{kind} {value / 2**20:,.0f} MiB" for kind, value in memory.items()) + " (estimate)",
        "machine": f"{chosen.device}, {str(chosen.precision).removeprefix('torch.')}, "
        + ("compiled: about half a minute before the first step" if chosen.compile else "eager"),
    }


def bench(options: argparse.Namespace) -> int:
    """`bench`."""
    from trainer.bench import bench as measure
    from trainer.data import open_dataset

    options.out = options.out or "unused"
    settings = settings_of(options)
    found = measure(open_dataset(settings.data), settings, rounds=options.rounds, peers=not options.no_peers)
    if options.json:
        print(json.dumps(found))
        return 0
    console = Console(highlight=False)
    table = Table("", "useful tokens/s", "best round", "useful places", "premask is faster by")
    for line in found["peers"]:
        speed, best = (f"{line[name]:,.0f}" for name in ("useful_tokens_per_second", "best"))
        table.add_row(line["name"], speed, best, f"{line['useful_share']:.0%}", f"{line['ours_is_faster_by']:.2f} x")
    console.print(table)
    if found["waterfall"]:
        steps = ", ".join(f"{line['what']} {line['factor']:.2f} x" for line in found["waterfall"])
        console.print(f"from HF as people use it: {steps}")
    console.print(
        f"{found['precision']} products; {found['share_of_peak']:.0%} of {found['gemm_peak_gflops']:.0f} GFLOP/s; "
        f"a consumer of 1 million tokens/s waits {found['loader_wait']:.2%} of its time"
    )
    console.print("time: " + ", ".join(f"{name} {share:.0%}" for name, share in found["time"].items()))
    return 0


def which_docs(options: argparse.Namespace) -> int:
    """`which-docs RUN STEP`."""
    from trainer import checkpoint as ck
    from trainer import runs
    from trainer.data import documents_of_step

    folder = runs.newest(Path(options.run))
    facts = runs.read(folder)
    if options.step < 1:
        raise ConfigError(f"steps are counted from 1, got {options.step}")
    settings = parse_settings(RunSettings, facts["settings"], where=str(folder / runs.FACTS))
    table = documents_of_step(settings, facts, options.step)
    lines = table.select(["stream_row", "source", "offset", "start", "num_tokens"]).to_pylist()
    ids = [value.hex() for value in table["id"].to_pylist()]
    lines = [line | {"id": number} for line, number in zip(lines, ids, strict=True)]
    if options.json:
        print(json.dumps(lines))
        return 0
    shown = Table("row", "source", "offset", "from token", "tokens", "document")
    for line in lines:
        cells = (line["stream_row"], line["source"], line["offset"], line["start"], line["num_tokens"], line["id"])
        shown.add_row(*(str(cell) for cell in cells))
    Console(highlight=False).print(shown)
    newest = ck.steps(folder)
    if newest and options.step > newest[-1]:
        print(f"premask-train: the run's newest checkpoint is of step {newest[-1]}", file=sys.stderr)
    return 0
