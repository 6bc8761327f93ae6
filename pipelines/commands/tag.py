"""`premask tag`: give a version a name, move the name, or take it away."""

import argparse

from mlm_data.command import Command
from pipelines.commands.options import add_dataset


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("name", help="the tag: letters, digits, dots, dashes, underscores")
    parser.add_argument(
        "--version", metavar="NAME", help="a digest's beginning or another tag (default: the current one)"
    )
    parser.add_argument("--force", action="store_true", help="move a tag that names another version")
    parser.add_argument("--delete", action="store_true", help="take the tag away; its version stays")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal
    from mlm_data.dataset.manifest import load_manifest
    from mlm_data.dataset.names import delete_tag, digest_of, find_version, set_tag
    from mlm_data.errors import ConfigError

    terminal = Terminal()
    folder, digest = find_version(options.dataset)
    if digest is not None and options.version is not None:
        raise ConfigError(f"{options.dataset} names a version, --version {options.version} another: give one of them")
    if options.delete:
        if digest is not None or options.version is not None or options.force:
            raise ConfigError("--delete takes a tag away from whatever it names: give neither a version nor --force")
        named = delete_tag(folder, options.name)
        terminal.say(f"{options.name} is gone; it was {named[:16] or 'damaged'}")
        return 0
    if options.version is not None:
        digest = digest_of(folder, options.version)
    digest = load_manifest(folder, digest).digest
    before = set_tag(folder, options.name, digest, force=options.force)
    moved = f", no longer {before[:16] or 'damaged'}" if before is not None and before != digest else ""
    terminal.say(f"{folder.location}@{options.name} is {digest[:16]}{moved}")
    return 0


COMMAND = Command(name="tag", help="Give a version a name, or move or delete the name.", arguments=_arguments, run=_run)
