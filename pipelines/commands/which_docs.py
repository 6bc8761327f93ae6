"""`premask which-docs`: which documents were in a step of a run, without the trainer."""

import argparse

from mlm_data.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="the dataset's folder: the run's own version of it is read")
    parser.add_argument("--run", required=True, metavar="RUN", help="the folder of the run")
    parser.add_argument("--step", required=True, type=int, metavar="N", help="counted from 1")
    parser.add_argument("--rank", type=int, default=None, metavar="R", help="of this rank alone (default: of all)")
    parser.add_argument("--json", action="store_true", help="print it as JSON, every column")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal, aside, shown, table
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.dataset.names import split_name
    from mlm_data.lean_arrow import leave_pandas_out
    from mlm_data.loading.run_steps import documents_of_step, read_run

    leave_pandas_out()
    terminal, run = Terminal(), read_run(options.run)
    folder, name = split_name(options.dataset)
    dataset = Dataset.open(options.dataset if name else folder, None if name else run.dataset)
    lines = documents_of_step(dataset, run, options.step, rank=options.rank).to_pylist()
    lines = [line | {"id": line["id"].hex()} for line in lines]
    if options.json:
        terminal.data(lines)
        return 0
    heads = {"stream_row": "row", "plane": "plane", "source": "source", "offset": "offset", "start": "from token"}
    heads |= {"num_tokens": "tokens", "id": "document"} | ({"id_field": "own id"} if "id_field" in lines[0] else {})
    rows = table(*heads.values())
    for name, column in zip(heads, rows.columns, strict=True):
        column.justify = "left" if name in ("source", "id", "id_field") else "right"
    for line in lines:
        rows.add_row(*("" if line[name] is None else shown(str(line[name])) for name in heads))
    terminal.print(rows)
    if run.steps is not None and options.step > run.steps:
        aside("premask", f"the run's newest checkpoint is of step {run.steps}")
    return 0


COMMAND = Command(
    name="which-docs",
    help="Show which documents were in a step of a run, and where they came from.",
    arguments=_arguments,
    run=_run,
)
