"""One way to run a command: `premask` and `premask-train` are lists of `Command`s, and `main` runs one of them.

    exit code 0     done
              1     looked, and something is off (`premask verify`)
              2     a mistake that a user can mend: one line on standard error says what, where and the remedy
              130   interrupted, as by Ctrl-C
              141   the reader of the output went away, as `head` does
              143   terminated, by SIGTERM

`--debug`, before the command or after it, shows the traceback instead of the line. A module of a command imports at its
top only what costs nothing; what does the work is imported when the command runs, so that `--help` answers at once.
"""

import argparse
import contextlib
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mlm_data import ending
from mlm_data.errors import ConfigError, PremaskError
from mlm_data.hiding import hidden

FAILED, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # the last two: 128 and the signal's number, as a shell counts


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of a program."""

    name: str
    help: str  # a sentence
    arguments: Callable[[argparse.ArgumentParser], None]  # adds what it takes
    run: Callable[[argparse.Namespace], int]  # returns the exit code
    passes_on: bool = False  # options that it does not know are no mistake: they come as `options.rest`


def num_cores() -> int:
    """Cores that this process may use: a container or `taskset` may give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_path(text: str) -> str:
    """An argument that names a file or folder on this machine: as a path, a URI would be a folder called `s3:`."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"must be a path on this machine, got {text!r}")
    return text


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        found = re.match(r"argument COMMAND: invalid choice: '([^']*)'", message)
        nearest = difflib.get_close_matches(found[1], self._commands(), n=1) if found else []
        if found is not None and nearest:
            raise ConfigError(f"{found[1]}: no such command: did you mean {nearest[0]}?")
        raise ConfigError(f"{message}: see `{self.prog} --help`")

    def _commands(self) -> list[str]:
        return [name for action in self._actions if action.dest == argparse.SUPPRESS for name in action.choices or ()]


def make_parser(program: str, description: str, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser of a program; what it parses has the command itself as `command`."""
    parser = _Parser(prog=program, description=description, allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    inner = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command in commands:
        one = inner.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        command.arguments(one)
        one.set_defaults(command=command, known=[name for action in one._actions for name in action.option_strings])
    return parser


def main(program: str, description: str, commands: Sequence[Command], argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        _check_encoding(words)
        options, rest = make_parser(program, description, commands).parse_known_args(words)
        if rest and not options.command.passes_on:
            raise ConfigError(_unknown(program, options, rest[0]))
        options.words, options.rest = words, rest
        code = options.command.run(options)
        sys.stdout.flush()  # a reader that has gone away is noticed here, not when the process ends
    except BaseException as error:
        return _ended(program, error, debug=debug)
    return code


def _check_encoding(words: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8, which Python holds as halves of surrogate pairs: nothing of ours is called so."""
    for word in words:
        if _IS_BYTE.search(word):
            raise ConfigError(
                f"an argument is no UTF-8: {os.fsencode(word)!r}: rename what it names, or set a UTF-8 locale"
            )


_IS_BYTE = re.compile("[\udc80-\udcff]")


def _ended(program: str, error: BaseException, *, debug: bool) -> int:
    """The exit code for what a command has raised; what nobody can mend is raised again."""
    if isinstance(error, SystemExit):  # of --help
        return int(error.code or 0) if isinstance(error.code, int | None) else FAILED
    if isinstance(error, KeyboardInterrupt) or ending.signalled():  # libraries wrap it in what they like
        if ending.signalled():
            ending.say(program)
            return 128 + ending.signalled()
        _complain(program, ending.INTERRUPTED)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _forget_output()
        return BROKEN_PIPE
    if isinstance(error, PremaskError) and not debug:
        _complain(program, str(error))
        return FAILED
    raise error


def _unknown(program: str, options: argparse.Namespace, word: str) -> str:
    """What to say of an argument that the command does not take."""
    name = word.partition("=")[0]
    nearest = difflib.get_close_matches(name, options.known, n=1) if name.startswith("-") else []
    hint = f"did you mean {nearest[0]}?" if nearest else f"see `{program} {options.command.name} --help`"
    return f"unrecognized argument {word}: {hint}"


def _complain(program: str, message: str) -> None:
    sys.stderr.write(f"{program}: {hidden(one_line(message))}\n")


def _forget_output() -> None:
    """What is still to be written goes nowhere; else Python would complain of it when the process ends."""
    with contextlib.suppress(OSError, ValueError):  # a test's output has no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(text: str) -> str:
    r"""A text without line breaks and control characters: a message may quote a hostile one.

    >>> one_line("a\nb\x1b[31m")
    'a b [31m'
    """
    return "".join(char if char.isprintable() else " " for char in text)


def require(package: str, *, extra: str) -> Any:
    """A package that only an extra of premask installs, imported.

    Raises:
        ConfigError: with the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ConfigError(f"{package} is not installed: pip install 'premask[{extra}]'") from error
