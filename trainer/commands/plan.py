"""`premask-train plan`: what a run would be; nothing is started, nothing is written."""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm_data.command import Command
from trainer.commands.options import add_json, add_settings, settings_of

if TYPE_CHECKING:
    from trainer.config import RunSettings


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    settings = settings_of(options, out="unplaced")  # nothing is written

    from rich.table import Table

    from mlm_data.console import Terminal
    from trainer.config import phases_of
    from trainer.training.agree import with_import

    plans = [outlook(phase) for phase in phases_of(with_import(settings))]
    terminal = Terminal()
    if options.json:
        terminal.data({"phases": plans} if settings.phases else plans[0])
        return 0
    for number, plan in enumerate(plans):
        table = Table("", "", title=f"phase {number}" if settings.phases else None, show_header=False)
        for name, value in lines_of(plan).items():
            table.add_row(name, value)
        terminal.print(table)
    return 0


def outlook(settings: "RunSettings") -> dict[str, Any]:
    """A run or phase in figures, as plain types: what it reads, what it costs, when it ends.

    Raises:
        PremaskError: for whatever would stop the run itself before its first step.
    """
    from mlm_data.shards.format import TRAIN
    from trainer.model.arithmetic import memory_bytes, num_parameters, step_flops
    from trainer.training import graphs, machine, parallel
    from trainer.training.datasets import check_fit, open_dataset
    from trainer.training.record import exists, read

    parallel.check(settings)
    dataset = open_dataset(settings.data)
    check_fit(dataset, settings)
    manifest, folder = dataset.manifest, Path(settings.out)
    begun = read(folder) if exists(folder) else None
    shape = begun.settings.model if begun and begun.imported else settings.model
    chosen = machine.choose(settings)
    graphs.check(settings, chosen.device, 1)
    planes = [str(plane) for plane in settings.planes or range(manifest.num_planes)]
    length = manifest.sequence_length
    targets = settings.batch_rows * max(manifest.max_targets(plane) for plane in planes)
    numbers = {"vocab_size": manifest.vocab_size, "targets": targets}
    # A row's segments as they are on average: their lengths enter attention only.
    rows, segments = dataset.num_rows(TRAIN), manifest.splits[TRAIN]["num_segments"]
    used, per_row = manifest.splits[TRAIN]["num_tokens"] / rows, max(1, round(segments / rows))
    lengths = [round(used / per_row)] * (per_row * settings.batch_rows)
    adamw = settings.optimizer.kind == "adamw"
    memory = memory_bytes(shape, places=settings.batch_rows * length, adamw=adamw, **numbers)
    if settings.recompute:  # the residual stream before each block, and all of one block
        block = 22 * shape.width + 6 * shape.intermediate
        memory["activations"] = settings.batch_rows * length * (4 * shape.layers * shape.width + block)
    if settings.ema:
        memory["average"] = memory["weights"]
    ramp = sorted(settings.accumulate) if isinstance(settings.accumulate, dict) else []
    steps = settings.total_steps(length)
    places = None
    if steps is not None:
        borders = sorted({0, steps, *(border for border in ramp if border < steps)})
        places = sum(settings.rows_at(a) * (b - a) for a, b in pairwise(borders)) * length
    return {
        "dataset": {"digest": manifest.digest, "rows": rows, "sequence_length": length, "planes": manifest.num_planes},
        "parameters": num_parameters(shape, manifest.vocab_size),
        "model": shape.model_dump(mode="json"),
        "vocab_size": manifest.vocab_size,
        "rows_per_step": {str(step): settings.rows_at(step) for step in ramp or [0]},  # by the first step that has them
        "micro_batch": {
            "rows": settings.batch_rows,
            "places": settings.batch_rows * length,
            "segments": settings.batch_rows * manifest.max_segments,
            "targets": targets,
        },
        "minutes": settings.budget.minutes,
        "steps": steps,
        "places": places,
        "epochs": None if places is None else places / (rows * length),
        "flops": step_flops(shape, lengths=lengths, **numbers),
        "memory_bytes": memory,
        "device": str(chosen.device),
        "precision": str(chosen.precision).removeprefix("torch."),
        "compiled": chosen.compile,
    }


def lines_of(plan: dict[str, Any]) -> dict[str, str]:
    """The figures of `outlook` for people, by name."""
    data, model, batch = plan["dataset"], plan["model"], plan["micro_batch"]
    length, (first, *later) = data["sequence_length"], plan["rows_per_step"].items()
    if plan["steps"] is None:
        ends = f"after {plan['minutes']:g} minutes: the number of steps follows from the speed of the first 20"
    else:
        ends = f"after {plan['steps']:,} steps, {plan['places']:,} places, {plan['epochs']:.2f} epochs"
    memory = plan["memory_bytes"]
    return {
        "dataset": f"{data['digest'][:16]}: {data['rows']:,} rows of {length}, {data['planes']} planes",
        "parameters": f"{plan['parameters']:,}",
        "model": f"{model['layers']} layers x {model['width']}, {model['heads']} heads, GeGLU {model['intermediate']}, "
        f"vocabulary {plan['vocab_size']:,}",
        "a step": f"{first[1]} rows a rank, {first[1] * length:,} places"
        + "".join(f"; {rows} rows from step {int(step):,} on" for step, rows in later),
        "shapes": f"{batch['rows']} x {length} = {batch['places']:,} places a micro-batch, "
        f"at most {batch['segments']:,} segments and {batch['targets']:,} targets",
        "ends": ends,
        "an epoch": f"{data['rows'] / first[1]:,.0f} steps",
        "operations": ", ".join(f"{kind} {value:.2e}" for kind, value in plan["flops"].items()) + " a micro-batch",
        "memory": f"about {sum(memory.values()) / 2**20:,.0f} MiB: "
        + ", ".join(f"{kind} {value / 2**20:,.0f}" for kind, value in memory.items()),
        "machine": f"{plan['device']}, {plan['precision']}, " + ("compiled" if plan["compiled"] else "eager"),
        "before the first step": "about half a minute, to compile" if plan["compiled"] else "a second",
    }


COMMAND = Command(
    name="plan",
    help="Parameters, memory, shapes, steps and arithmetic of a run; starts nothing.",
    arguments=_arguments,
    run=_run,
)
