"""`premask clean`: the cleaned documents as files, without a tokenizer; what they are before they become tokens."""

import argparse
import time

from mlm_data.command import Command, require
from pipelines.commands.options import add_config, add_runners, add_share, quiet_beam


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_runners(parser)
    add_share(parser, "clean a part")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the documents go")
    parser.add_argument("--dropped", metavar="DIR", help="where the others go, each with its reason")
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl", help="of the files (default jsonl)")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON, progress on standard error")


def _run(options: argparse.Namespace) -> int:
    quiet_beam()
    require("apache_beam", extra="build")

    from mlm_data.build.clean_texts import Output
    from mlm_data.config import TEXTS_ONLY, load_config
    from mlm_data.console import Terminal, counted, size, standard_error
    from mlm_data.dataset.funnel import Funnel
    from mlm_data.stores.places import absolute
    from pipelines.build import clean
    from pipelines.commands.display import Display

    config = load_config(options.config, options.set, defaults=TEXTS_ONLY)
    config = config.model_copy(update={"output": absolute(options.out)})
    output = Output(format=options.format, dropped=options.dropped and absolute(options.dropped))
    terminal = Terminal(file=standard_error() if options.json else None)
    started = time.perf_counter()
    with Display(terminal) as display:
        arguments = {"workers": options.workers, "beam_args": options.rest, "sample": options.sample}
        cleaned = clean(config, output, **arguments, watcher=display)
    if cleaned is None:
        terminal.say("the runner was told to run nothing, so nothing was cleaned")
        return 0
    if options.json:
        Terminal().data({"output": options.out} | cleaned)
        return 0
    for (reason,), (documents, characters, _) in Funnel.from_dict(cleaned["funnel"]).by("reason").items():
        terminal.say(f"{documents:>12,} documents {characters:>15,} characters  {reason}")
    files, seconds = cleaned["files"], time.perf_counter() - started
    num_bytes = sum(file["bytes"] for file in files)
    terminal.say(f"\n{counted(len(files), 'file')}, {size(num_bytes)}, in {seconds:.1f} s: {options.out}")
    return 0


COMMAND = Command(
    name="clean",
    help="Write the cleaned documents as files, without a tokenizer; unknown options go to Beam.",
    arguments=_arguments,
    run=_run,
    passes_on=True,
)
