"""`premask add`: a version with more documents."""

import argparse

from mlm_data.command import Command
from pipelines.commands.options import add_dataset, add_workers, limit_tokenizer_threads


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("paths", nargs="+", metavar="FILE", help="new files, or patterns of files in quotes")
    parser.add_argument(
        "--input", metavar="NAME", help="name or number of the dataset's input whose settings hold, if it has several"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another setting of the input, e.g. text_field=body; or where a file lies, e.g. clean.domains.drop=hosts",
    )
    parser.add_argument(
        "--skip-known", action="store_true", help="leave out files whose names the dataset has documents of"
    )
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _run(options: argparse.Namespace) -> int:
    limit_tokenizer_threads(options.workers)

    from mlm_data.build.add import add
    from mlm_data.build.add_settings import Request
    from mlm_data.console import Terminal, counted, shown, size
    from mlm_data.lean_arrow import leave_pandas_out
    from pipelines.commands.derived import open_parent, progress_bar, say_version

    leave_pandas_out()
    request = Request(
        paths=tuple(options.paths), input=options.input, overrides=tuple(options.set), skip_known=options.skip_known
    )
    parent, current = open_parent(options.dataset)
    with progress_bar("adding", "steps") as progress:
        added = add(parent, request, current=current, workers=options.workers, progress=progress)
    ledger, terminal = added.ledger, Terminal()
    facts = {
        "files": added.num_files,
        "files_skipped": added.num_skipped,
        "bytes": added.num_bytes,
        "documents": ledger.to_dict()["documents"],
        "tokens": added.num_tokens,
        "warnings": list(added.warnings),
    }
    manifest = added.manifest or parent.manifest
    if options.json:
        say_version(parent.manifest, manifest, options.dataset, current=current, as_json=True, more={"added": facts})
        return 0
    for warning in added.warnings:
        terminal.say(f"warning: {shown(warning)}")
    skipped = f", {added.num_skipped:,} left out, whose names it has" if added.num_skipped else ""
    terminal.say(
        f"read: {counted(added.num_files, 'new file')}{skipped}, {size(added.num_bytes)}, "
        f"{counted(ledger.documents_read, 'document')}"
    )
    gone = [*ledger.documents_dropped.items(), *ledger.documents_quarantined.items()]
    reasons = "".join(f", {reason} {count:,}" for reason, count in gone)
    terminal.say(f"new: {counted(ledger.documents_kept, 'document')}, {counted(added.num_tokens, 'token')}{reasons}")
    if added.manifest is None:
        terminal.say(f"{shown(options.dataset)}: nothing to add: this is version {parent.digest[:16]} still")
        return 0
    say_version(parent.manifest, manifest, options.dataset, current=current, as_json=False)
    return 0


COMMAND = Command(
    name="add",
    help="A new version with more documents: only the new files are read.",
    arguments=_arguments,
    run=_run,
)
