"""`premask card`: README.md of a dataset, with the header that the Hugging Face Hub reads."""

import argparse
import re

from mlm_data.command import Command
from pipelines.commands.options import add_dataset, folder_name, write_out


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--out", default=None, metavar="README.md", help="where to write it (default: print it)")
    parser.add_argument("--name", default=None, metavar="NAME", help="the title (default: the configuration's name)")
    parser.add_argument(
        "--license", type=_identifier, default=None, metavar="ID", help="as the Hub calls it, such as cc-by-4.0"
    )
    parser.add_argument(
        "--language",
        type=_languages,
        default=(),
        metavar="en,de",
        help="codes (default: what the build has found, if it has looked)",
    )


def _run(options: argparse.Namespace) -> int:
    import sys

    from mlm_data.console import Terminal, shown
    from mlm_data.dataset.card import card, name_of
    from mlm_data.dataset.dataset import Dataset

    dataset = Dataset.open(options.dataset)
    name = options.name or name_of(dataset) or folder_name(options.dataset)
    text = card(dataset, name=str(name), license_id=options.license, languages=options.language)
    if options.out is None:
        sys.stdout.write(text)
        return 0
    write_out(options.out, text)
    Terminal().say(f"{shown(options.out)}: the card of {dataset.digest[:16]}")
    return 0


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", text):
        raise argparse.ArgumentTypeError(f"must be a name such as cc-by-4.0, in small letters, got {text!r}")
    return text


def _languages(text: str) -> tuple[str, ...]:
    codes = tuple(dict.fromkeys(text.split(",")))
    if bad := [code for code in codes if not re.fullmatch(r"[a-z]{2,3}", code)]:
        raise argparse.ArgumentTypeError(f"must be codes such as en,de, of two or three letters, got {bad[0]!r}")
    return codes


COMMAND = Command(
    name="card", help="Write README.md of a dataset, with the Hub's header.", arguments=_arguments, run=_run
)
