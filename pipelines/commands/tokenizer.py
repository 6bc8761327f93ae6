"""`premask tokenizer train`: the tokenizer that a build would train, as a file."""

import argparse

from mlm_data.command import Command
from mlm_data.errors import ConfigError
from pipelines.commands.options import add_config, limit_tokenizer_threads


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["train"])
    add_config(parser)
    parser.add_argument("--out", default="tokenizer.json", help="where to put it (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print path and sha256 as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.build.plan import make_plan, training_texts
    from mlm_data.config import load_config
    from mlm_data.console import Terminal, shown
    from mlm_data.stores.folder import write_file
    from mlm_data.tokens.train import train

    limit_tokenizer_threads()
    config = load_config(options.config, options.set)
    if config.tokenizer.train is None:
        raise ConfigError(
            f"{options.config}: tokenizer.train is not set, so there is nothing to train: "
            "set it, for example --set tokenizer.train.kind=wordpiece"
        )
    plan = make_plan(config)
    with Terminal(stderr=True).status("training the tokenizer"):
        trained = train(training_texts(config, plan.units), config.tokenizer.train)
    written = write_file(options.out, trained.json_bytes)
    if options.json:
        alphabet = None if trained.alphabet is None else str(trained.alphabet)
        Terminal().data({"path": options.out, "sha256": written.sha256, "alphabet": alphabet})
    else:
        if trained.alphabet is not None:
            Terminal().say(f"alphabet: {trained.alphabet}")
        Terminal().say(f"wrote {shown(options.out)}  sha256 {written.sha256}")
    return 0


COMMAND = Command(name="tokenizer", help="Train a tokenizer from a build's inputs.", arguments=_arguments, run=_run)
