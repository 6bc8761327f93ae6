"""`premask-train which-docs`: which documents were in a step, and where they came from."""

import argparse
from pathlib import Path

from mlm_data.command import Command, require
from mlm_data.errors import ConfigError
from trainer.commands.options import add_json, aside


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("step", type=int, help="counted from 1")
    add_json(parser)


def _run(options: argparse.Namespace) -> int:
    require("torch", extra="train")
    from rich.table import Table

    from mlm_data.console import Terminal
    from mlm_data.loading.run_steps import check_step, newest_phase
    from trainer.training import checkpoint as ck
    from trainer.training.lineage import documents_of_step
    from trainer.training.record import read

    check_step(options.step)
    folder = newest_phase(Path(options.run))
    record = read(folder)
    if record.dataset is None:
        raise ConfigError(f"{folder}: an imported model has no steps yet: train it")
    table = documents_of_step(record, options.step)
    wanted = ("data", "stream_row", "source", "offset", "start", "num_tokens")
    names = [name for name in wanted if name in table.schema.names]
    lines = table.select(names).to_pylist()
    ids = [value.hex() for value in table["id"].to_pylist()]
    lines = [line | {"id": number} for line, number in zip(lines, ids, strict=True)]
    if options.json:
        Terminal().data(lines)
        return 0
    heads = {"data": "data", "stream_row": "row", "start": "from token", "num_tokens": "tokens"}
    shown = Table(*(heads.get(name, name) for name in names), "document")
    for line in lines:
        shown.add_row(*(str(line[name]) for name in (*names, "id")))
    Terminal().print(shown)
    newest = ck.steps(folder)
    if newest and options.step > newest[-1]:
        aside(f"the run's newest checkpoint is of step {newest[-1]}")
    return 0


COMMAND = Command(
    name="which-docs",
    help="Which documents were in a step, and where they came from.",
    arguments=_arguments,
    run=_run,
)
