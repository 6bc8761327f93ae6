"""The command `premask`: plan, build, verify and look at datasets. A file for each command; only `build` needs Beam."""

import argparse
import sys
import threading
from collections.abc import Sequence

from mlm_data import command, ending
from pipelines.commands import (
    add,
    audit,
    build,
    card,
    clean,
    demo,
    demo_corpus,
    diff,
    doctor,
    export,
    forget,
    funnel,
    gc,
    import_,
    init,
    inspect,
    log,
    plan,
    remask,
    repack,
    report,
    status,
    tag,
    thresholds,
    tokenizer,
    try_,
    verify,
    where,
    which_docs,
)

PROGRAM = "premask"
DESCRIPTION = "Raw text to statically masked Arrow datasets for masked-language-model pretraining."
MODULES = (
    init,
    doctor,
    plan,
    thresholds,
    try_,
    clean,
    tokenizer,
    build,
    status,
    verify,
    inspect,
    funnel,
    add,
    report,
    card,
    remask,
    repack,
    forget,
    log,
    tag,
    diff,
    export,
    import_,
    where,
    which_docs,
    audit,
    gc,
    demo_corpus,
    demo,
)
COMMANDS = tuple(module.COMMAND for module in MODULES)


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    return command.make_parser(PROGRAM, DESCRIPTION, COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; without `argv` as a process, which ends here if threads still live.

    The interpreter can't end beneath threads that work, as those of a build that failed; and where they only wait, it
    would take apart what Beam has made, for nothing.
    """
    if argv is not None:
        return command.main(PROGRAM, DESCRIPTION, COMMANDS, argv)
    with ending.signals(PROGRAM):
        code = command.main(PROGRAM, DESCRIPTION, COMMANDS)
        if ending.signalled() or threading.active_count() > 2:  # the second waits for signals
            ending.leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
