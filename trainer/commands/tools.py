"""The smaller commands of `premask-train`: each reads its options, calls one function, and prints.

Modules that need torch are imported where they are used, so that `--help` is quick.
"""
# ruff: noqa: T201

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mlm_data.errors import ConfigError
from mlm_data.settings import parse_settings
from trainer.config import RunSettings, phases_of, resolve

if TYPE_CHECKING:
    from trainer.training.machine import Machine
    from trainer.training.runs import Trained


def settings_of(options: argparse.Namespace) -> RunSettings:
    """The settings that a command's options ask for."""
    given = {name: getattr(options, name) for name in ("data", "out") if getattr(options, name) is not None}
    return resolve(recipe_name=options.recipe, file=options.file, values=given, overrides=options.set)


def open_run(location: str, *, rows: int | None = None, which: str = "newest") -> "tuple[Trained, Machine]":
    """A run's model on this machine, uncompiled; says on standard error what was wrong with newer checkpoints."""
    from trainer.training import machine, runs

    folder = runs.newest(Path(location))
    facts = runs.read(folder)
    values = facts["settings"] | {"compile": "off", "device": "auto", "precision": "auto"}
    settings = parse_settings(RunSettings, values, where=str(folder / "run.json"))
    chosen = machine.choose(settings, precision=facts["precision"])
    trained = runs.load(folder, chosen, rows=rows, which=which)
    for note in trained.notes:
        print(f"premask-train: {note}", file=sys.stderr)
    return trained, chosen


def probe(options: argparse.Namespace) -> int:
    """`probe RUN FILE [--finetune]`."""
    from trainer.studies.probe import Tuning
    from trainer.studies.probe import probe as run_probe
    from trainer.training.machine import prepare

    if not options.finetune and (options.epochs is not None or options.lr is not None):
        raise ConfigError("--epochs and --lr say how to fine-tune: add --finetune, or leave them out")
    trained, machine = open_run(options.run, which=options.checkpoint)
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
    from trainer.export import export_hf
    from trainer.training import runs

    for note in export_hf(runs.newest(Path(options.run)), Path(options.out), which=options.checkpoint):
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
    from trainer.studies.plot import plot as draw

    draw([Path(run) for run in options.runs], Path(options.out))
    print(f"wrote {options.out}")
    return 0


def plan(options: argparse.Namespace) -> int:
    """`plan`: what a run would be; nothing is started."""
    from trainer.training import runs

    if options.out is None:
        options.set = ["out=unplaced", *options.set]  # nothing is written
    settings = settings_of(options)
    console = Console(highlight=False)
    for number, phase in enumerate(phases_of(runs.with_import(settings))):
        table = Table("", "", title=f"phase {number}" if settings.phases else None, show_header=False)
        for name, value in facts_of(phase).items():
            table.add_row(name, value)
        console.print(table)
    return 0


def facts_of(settings: RunSettings) -> dict[str, str]:
    """What `plan` says of one run or phase, by name."""
    from mlm_data.shards.format import TRAIN
    from trainer.studies.arithmetic import memory_bytes, num_parameters, step_flops
    from trainer.training import graphs, machine, parallel, runs
    from trainer.training.data import check_rows, check_vocabulary, open_dataset

    parallel.check(settings)
    dataset = open_dataset(settings.data)
    check_rows(dataset, settings.batch_rows)
    check_vocabulary(dataset)
    manifest, folder = dataset.manifest, Path(settings.out)
    begun = runs.read(folder) if (folder / runs.FACTS).exists() else {}
    shape = runs.shape_of(folder, begun) if "imported" in begun else settings.model
    chosen = machine.choose(settings)
    graphs.check(settings, chosen.device, 1)
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
    if settings.recompute:  # the residual stream before each block, and all of one block
        block = 22 * shape.width + 6 * shape.intermediate
        memory["activations"] = places * (4 * shape.layers * shape.width + block)
    if settings.ema:
        memory["average"] = memory["weights"]
    per_step = settings.rows_at(0) * manifest.sequence_length
    epoch = rows * manifest.sequence_length
    budget, ramp = settings.budget, settings.accumulate if isinstance(settings.accumulate, dict) else {}
    total = sum(memory.values())
    if budget.minutes is not None:
        ends = f"after {budget.minutes:g} minutes: the number of steps follows from the speed of the first 20"
    else:
        steps = settings.total_steps(manifest.sequence_length) or 0
        borders = sorted({0, steps, *(border for border in ramp if border < steps)})
        counted = sum(settings.rows_at(a) * (b - a) for a, b in pairwise(borders)) * manifest.sequence_length
        ends = f"after {steps:,} steps, {counted:,} places, {counted / epoch:.2f} epochs"
    return {
        "dataset": f"{manifest.digest[:16]}: {rows:,} rows of {manifest.sequence_length}, {manifest.num_planes} planes",
        "parameters": f"{num_parameters(shape, manifest.vocab_size):,}",
        "model": f"{shape.layers} layers x {shape.width}, {shape.heads} heads, GeGLU {shape.intermediate}, "
        f"vocabulary {manifest.vocab_size:,}",
        "a step": f"{settings.rows_at(0)} rows a rank, {per_step:,} places"
        + "".join(f"; {settings.rows_at(step)} rows from step {step:,} on" for step in sorted(ramp) if step),
        "shapes": f"{settings.batch_rows} x {manifest.sequence_length} = {places:,} places a micro-batch, "
        f"at most {settings.batch_rows * manifest.max_segments:,} segments and {targets:,} targets",
        "ends": ends,
        "an epoch": f"{rows / settings.rows_at(0):,.0f} steps",
        "operations": ", ".join(f"{kind} {value:.2e}" for kind, value in flops.items()) + " a micro-batch",
        "memory": f"about {total / 2**20:,.0f} MiB: "
        + ", ".join(f"{kind} {value / 2**20:,.0f}" for kind, value in memory.items()),
        "machine": f"{chosen.device}, {str(chosen.precision).removeprefix('torch.')}, "
        + ("compiled" if chosen.compile else "eager"),
        "before the first step": "about half a minute, to compile" if chosen.compile else "a second",
    }


def bench(options: argparse.Namespace) -> int:
    """`bench`."""
    from trainer.studies.bench import bench as measure
    from trainer.training.data import open_dataset

    options.out = options.out or "unused"
    settings = settings_of(options)
    found = measure(open_dataset(settings.data), settings, rounds=options.rounds, peers=options.peers)
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
    from trainer.training import checkpoint as ck
    from trainer.training import runs
    from trainer.training.data import documents_of_step

    folder = runs.newest(Path(options.run))
    facts = runs.read(folder)
    if options.step < 1:
        raise ConfigError(f"steps are counted from 1, got {options.step}")
    settings = parse_settings(RunSettings, facts["settings"], where=str(folder / runs.FACTS))
    table = documents_of_step(settings, facts, options.step)
    wanted = ["data", "stream_row", "source", "offset", "start", "num_tokens"]
    lines = table.select([name for name in wanted if name in table.column_names]).to_pylist()
    ids = [value.hex() for value in table["id"].to_pylist()]
    lines = [line | {"id": number} for line, number in zip(lines, ids, strict=True)]
    if options.json:
        print(json.dumps(lines))
        return 0
    mixed = ("data",) if "data" in table.column_names else ()
    shown = Table(*mixed, "row", "source", "offset", "from token", "tokens", "document")
    for line in lines:
        names = (*mixed, "stream_row", "source", "offset", "start", "num_tokens", "id")
        cells = [line[name] for name in names]
        shown.add_row(*(str(cell) for cell in cells))
    Console(highlight=False).print(shown)
    newest = ck.steps(folder)
    if newest and options.step > newest[-1]:
        print(f"premask-train: the run's newest checkpoint is of step {newest[-1]}", file=sys.stderr)
    return 0
