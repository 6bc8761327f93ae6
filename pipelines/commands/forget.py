"""`premask forget`: the version without some documents; with --purge, no version with them any more."""

import argparse
from typing import TYPE_CHECKING

from mlm_data.command import Command
from pipelines.commands.options import add_dataset, add_workers

if TYPE_CHECKING:
    from mlm_data.derive.forget import Chosen, Forgotten
    from mlm_data.derive.purge import Purged


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--ids", metavar="FILE", help="ids, one a line: your own (id_field), or documents' as 32 hexadecimal digits"
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="GLOB",
        help="all documents of the sources that match; may be given several times",
    )
    parser.add_argument(
        "--purge", action="store_true", help="take them out of all versions, and delete what held them; can't be undone"
    )
    parser.add_argument(
        "--force", action="store_true", help="purge although something was written here within the last hour"
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _run(options: argparse.Namespace) -> int:
    from mlm_data.derive.forget import Chosen, read_ids
    from mlm_data.errors import ConfigError

    if options.ids is None and not options.source:
        raise ConfigError("say what to forget: --ids FILE or --source GLOB")
    if options.force and not options.purge:
        raise ConfigError("--force is for --purge: without it nothing is deleted")
    chosen = Chosen(ids=read_ids(options.ids) if options.ids is not None else (), sources=options.source)
    return _purge(options, chosen) if options.purge else _forget(options, chosen)


def _forget(options: argparse.Namespace, chosen: "Chosen") -> int:
    from mlm_data.console import Terminal, counted, shown
    from mlm_data.derive.forget import forget
    from pipelines.commands.derived import open_parent, progress_bar, say_version

    parent, current = open_parent(options.dataset)
    with progress_bar("forgetting") as progress:
        made = forget(parent, chosen, current=current, workers=options.workers, progress=progress)
    more = {"forgotten": _counts(made, made.num_missing, made.missing)}
    say_version(parent.manifest, made.manifest, options.dataset, current=current, as_json=options.json, more=more)
    if options.json:
        return 0
    terminal = Terminal()
    terminal.say(
        f"forgotten: {counted(made.num_documents, 'document')}, {counted(made.num_tokens, 'token')}; "
        f"shards made again: {made.num_shards}"
    )
    if made.num_missing:
        terminal.say(f"not found: {made.num_missing:,}, the first: {', '.join(map(shown, made.missing))}")
    return 0


def _purge(options: argparse.Namespace, chosen: "Chosen") -> int:
    from mlm_data.console import Terminal, counted, shown, size
    from mlm_data.dataset.names import split_name
    from mlm_data.derive.purge import purge
    from mlm_data.errors import ConfigError
    from mlm_data.stores.folder import Folder
    from pipelines.commands.derived import progress_bar

    path, name = split_name(options.dataset)
    if name:
        raise ConfigError(f"{options.dataset}: a purge is of all versions: give the folder alone, {path}")
    with progress_bar("forgetting") as progress:
        done = purge(Folder(path), chosen, workers=options.workers, force=options.force, progress=progress)
    terminal = Terminal()
    if options.json:
        terminal.data(_as_json(done))
        return 0
    terminal.say(f"digest {done.digest}", style="bold")
    if done.forgotten is not None:
        lost = done.forgotten
        documents, tokens = counted(lost.num_documents, "document"), counted(lost.num_tokens, "token")
        terminal.say(f"forgotten: {documents}, {tokens} of the current version")
    terminal.say(f"purged: {counted(len(done.versions), 'version')} that held one of {counted(done.num_texts, 'text')}")
    named = {digest: " ".join(tag for tag, of in done.tags.items() if of == digest) for digest in done.versions}
    for digest, tagged in named.items():
        terminal.say(f"  {digest[:16]} {shown(tagged)}".rstrip())
    terminal.say(f"deleted: {counted(done.num_files, 'file')}, {size(done.num_bytes)}")
    if done.num_missing:
        terminal.say(f"not found: {done.num_missing:,}, the first: {', '.join(map(shown, done.missing))}")
    for name in done.unknown:
        terminal.say(f"yours to look at, no part of the dataset: {shown(f'{path}/{name}')}", style="yellow")
    for name in done.inputs:
        terminal.say(f"yours to clean, an input of purged versions: {shown(name)}", style="yellow")
    terminal.say(
        "yours to clean: exports, reports and other copies elsewhere, and models that were trained on purged versions",
        style="yellow",
    )
    return 0


def _counts(made: "Forgotten", num_missing: int, missing: tuple[str, ...]) -> dict[str, object]:
    return {
        "documents": made.num_documents,
        "tokens": made.num_tokens,
        "shards": made.num_shards,
        "not_found": {"count": num_missing, "first": list(missing)},
    }


def _as_json(done: "Purged") -> dict[str, object]:
    made = done.forgotten
    return {
        "digest": done.digest,
        "is_new": made is not None,
        "forgotten": made and _counts(made, done.num_missing, done.missing),
        "purged": {"texts": done.num_texts, "versions": list(done.versions), "tags": dict(done.tags)},
        "deleted": {"files": done.num_files, "bytes": done.num_bytes},
        "left_to_you": {"inputs": list(done.inputs), "files": list(done.unknown)},
        "not_found": {"count": done.num_missing, "first": list(done.missing)},
    }


COMMAND = Command(
    name="forget",
    help="A new version without some documents; the old version keeps them, unless you say --purge.",
    arguments=_arguments,
    run=_run,
)
