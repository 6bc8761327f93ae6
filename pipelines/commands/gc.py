"""`premask gc`: delete what no version needs."""

import argparse

from mlm_data.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="the dataset's folder")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    parser.add_argument("--force", action="store_true", help="although something was written here within the last hour")
    parser.add_argument("--json", action="store_true", help="print it as JSON, every file")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.console import Terminal, counted, size
    from mlm_data.dataset.collect import by_kind, check_quiet, collect, find_garbage
    from mlm_data.dataset.names import split_name
    from mlm_data.errors import ConfigError
    from mlm_data.stores.folder import Folder

    path, name = split_name(options.dataset)
    if name:
        raise ConfigError(f"{options.dataset}: gc looks at all versions: give the folder alone, {path}")
    folder, terminal = Folder(path), Terminal()
    garbage = find_garbage(folder)
    if not (options.dry_run or options.force):
        check_quiet(folder, garbage)
    if not options.dry_run:
        collect(folder, garbage)
    num_bytes = sum(one.num_bytes for one in garbage)
    if options.json:
        kinds = {kind: {"files": files, "bytes": count} for kind, files, count in by_kind(garbage)}
        terminal.data(
            {"deleted": not options.dry_run, "bytes": num_bytes, "kinds": kinds, "files": [one.name for one in garbage]}
        )
        return 0
    for kind, files, count in by_kind(garbage):
        terminal.say(f"{kind}: {counted(files, 'file')}, {size(count)}")
    verb = "would be deleted" if options.dry_run else "deleted"
    terminal.say(f"{verb}: {counted(len(garbage), 'file')}, {size(num_bytes)}" if garbage else "nothing to delete")
    return 0


COMMAND = Command(
    name="gc",
    help="Delete what no version needs: prepared units, temporary files, files that no manifest names.",
    arguments=_arguments,
    run=_run,
)
