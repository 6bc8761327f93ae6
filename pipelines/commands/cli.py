"""The command `premask`: plan, build, verify and look at datasets.

A mistake that a user can mend is one line on standard error and exit code 2; `verify` exits with 1 if anything is off.
`--debug` shows the traceback.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mlm_data.errors import ConfigError, PremaskError

DESCRIPTION = "Raw text to statically masked Arrow datasets for masked-language-model pretraining."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "build":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    logging.getLogger().setLevel(logging.ERROR)  # Beam warns of clients for services that nobody asked for
    # One pool of threads for the tokenizers, as large as the build may be; read when the pool is first used.
    os.environ.setdefault("RAYON_NUM_THREADS", str(getattr(options, "workers", None) or os.cpu_count() or 1))
    try:
        return options.run(options)
    except PremaskError as error:
        if options.debug:
            raise
        print(f"premask: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("premask: interrupted; start it again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="premask", description=DESCRIPTION)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, text: str, **extra) -> argparse.ArgumentParser:
        inner = commands.add_parser(name, help=text, description=text, allow_abbrev=False, **extra)
        inner.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        inner.set_defaults(run=run)
        return inner

    inner = command("init", _init, "write a commented premask.yaml")
    inner.add_argument("path", nargs="?", default="premask.yaml")

    inner = command("plan", _plan, "what would be read and made; writes nothing")
    _add_config(inner)
    inner.add_argument("--explain", action="store_true", help="say of each unit whether, and why, it would be redone")

    inner = command("tokenizer", _tokenizer, "train a tokenizer from a build's inputs")
    inner.add_argument("action", choices=["train"])
    _add_config(inner)
    inner.add_argument("--out", default="tokenizer.json", help="where to put it (default: %(default)s)")

    inner = command("build", _build, "build the dataset; unknown options go to Beam")
    _add_config(inner)
    inner.add_argument("--workers", type=_count, default=os.cpu_count() or 1, help="threads (default: all cores)")
    inner.add_argument("--sample", type=_share, default=1.0, metavar="1%", help="build a part, and estimate the whole")

    inner = command(
        "verify", _verify, "check every file, hash, schema, ledger and audit; exit code 1 if anything is off"
    )
    inner.add_argument("dataset")

    inner = command("inspect", _inspect, "show a dataset, or a row as a person would read it")
    inner.add_argument("dataset")
    inner.add_argument("--row", type=int, default=None, help="which row of the split")
    inner.add_argument("--split", choices=["train", "validation"], default="train")

    inner = command("demo-corpus", _demo_corpus, "collect Python's documentation from this machine as JSONL")
    inner.add_argument("--out", default="demo/corpus.jsonl")
    inner.add_argument("--megabytes", type=float, default=20.0)

    inner = command("demo", _demo, "the whole way on this machine's own documentation: build, train, fill blanks")
    inner.add_argument("--out", default="demo")
    inner.add_argument("--minutes", type=float, default=5.0, help="of training (default: %(default)s)")
    inner.add_argument("--workers", type=_count, default=os.cpu_count() or 1)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="the build's YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="override, e.g. mask.rate=0.15"
    )


def _init(options: argparse.Namespace) -> int:
    from pipelines.commands.template import TEMPLATE

    path = Path(options.path)
    if path.exists():
        raise ConfigError(f"{path}: exists already: remove it or name another file")
    try:
        path.write_text(TEMPLATE, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't write: {error.strerror}") from error
    print(f"wrote {path}\nnext: edit it, then `premask plan {path}`")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from mlm_data.build.estimate import estimate, explain
    from mlm_data.config import load_config
    from pipelines.commands import show

    config = load_config(options.config, options.set)
    found = estimate(config)
    show.plan(config, found, Console())
    if options.explain:
        show.explanation(explain(config, found), Console())
    return 0


def _tokenizer(options: argparse.Namespace) -> int:
    from mlm_data.build.plan import make_plan, training_texts
    from mlm_data.config import load_config
    from mlm_data.stores.folder import Folder
    from mlm_data.tokens.train import train_tokenizer

    config = load_config(options.config, options.set)
    if config.tokenizer.train is None:
        raise ConfigError(f"{options.config}: tokenizer.train is not set, so there is nothing to train")
    plan = make_plan(config)
    with Console(stderr=True).status("training the tokenizer"):
        data = train_tokenizer(training_texts(config, plan.units), config.tokenizer.train)
    out = Path(options.out)
    written = Folder(out.parent).write(out.name, data)
    print(f"wrote {out}  sha256 {written.sha256}")
    return 0


def _build(options: argparse.Namespace) -> int:
    from mlm_data.config import load_config
    from pipelines.commands import show
    from pipelines.runners import check_beam_args

    config = load_config(options.config, options.set)
    check_beam_args(options.rest)
    show.build(config, workers=options.workers, sample=options.sample, beam_args=options.rest, console=Console())
    return 0


def _verify(options: argparse.Namespace) -> int:
    from pipelines.commands import show

    return 0 if show.verify(options.dataset, Console()) else 1


def _inspect(options: argparse.Namespace) -> int:
    from pipelines.commands import show

    show.inspect(options.dataset, split=options.split, row=options.row, console=Console())
    return 0


def _demo_corpus(options: argparse.Namespace) -> int:
    from pipelines.commands.demo_corpus import write_demo_corpus

    with Console(stderr=True).status("collecting documentation") as status:
        written = write_demo_corpus(
            options.out,
            max_bytes=int(options.megabytes * 10**6),
            workers=os.cpu_count() or 1,
            progress=lambda done: status.update(f"collecting documentation  {done / 1e6:.1f} MB"),
        )
    print(f"wrote {options.out}  {written.num_bytes / 1e6:.1f} MB")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from pipelines.commands.demo import run

    run(Path(options.out), minutes=options.minutes, workers=options.workers, console=Console())
    return 0


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 1024, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share such as 1% or 0.01, got {text!r}")
    return value


def _one_line(text: str) -> str:
    """A message without line breaks and control characters: it may quote a hostile text."""
    return "".join(char if char.isprintable() else " " for char in text.replace("\n", " "))


if __name__ == "__main__":
    sys.exit(main())
