"""How a program ends, whatever its command does."""

import io
import subprocess
import sys

import pytest

from mlm_data.command import Command, main, one_line, require
from mlm_data.console import Terminal
from mlm_data.errors import ConfigError, InputError


def program(run, *argv: str, **fields: object) -> int:
    def arguments(parser) -> None:
        parser.add_argument("--number", type=int)

    command = Command(name="act", help="Act.", arguments=arguments, run=run, **fields)
    return main("prog", "A program.", [command], ["act", *argv])


def ends_with(error: BaseException):
    def run(options) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("a\x1b[31mb\nc"), 2, "prog: a [31mb c\n"),
        (KeyboardInterrupt(), 130, "prog: interrupted: start it again to go on\n"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_errors_have_exit_codes_and_one_line(error, code, said, capsys):
    assert program(ends_with(error)) == code
    assert capsys.readouterr().err == said


def test_what_the_command_returns_is_the_exit_code():
    assert [program(lambda options, code=code: code) for code in (0, 1)] == [0, 1]


@pytest.mark.parametrize("argv", [["--debug", "act"], ["act", "--debug"], ["act", "--debug", "--number", "1"]])
def test_debug_stands_before_the_command_or_after_it(argv):
    command = Command(name="act", help="Act.", arguments=lambda parser: parser.add_argument("--number"), run=ends_with(
        InputError("x")
    ))  # fmt: skip
    with pytest.raises(InputError):
        main("prog", "A program.", [command], argv)


def test_errors_that_nobody_can_mend_stay_what_they_are():
    with pytest.raises(ZeroDivisionError):
        program(lambda options: 1 // 0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--numbr=3"], "unrecognized argument --numbr=3: did you mean --number?"),
        (["spare"], "unrecognized argument spare: see `prog act --help`"),
        (["--num", "3"], "did you mean --number?"),  # abbreviations may change their meaning with the next option
        (["b\udcff"], r"an argument is no UTF-8: b'b\xff': rename what it names, or set a UTF-8 locale"),
        (["--number", "x"], "argument --number: invalid int value: 'x': see `prog act --help`"),
    ],
)
def test_mistakes_in_arguments_are_one_line(argv, message, capsys):
    assert program(lambda options: 0, *argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_command_may_take_options_that_it_does_not_know():
    seen = []
    assert program(lambda options: seen.append(options.rest) or 0, "--runner=x", "--number", "3", passes_on=True) == 0
    assert seen == [["--runner=x"]]


def test_help_is_an_answer(capsys):
    assert main("prog", "A program.", [], ["--help"]) == 0
    assert "A program." in capsys.readouterr().out


def test_a_package_that_is_not_there_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"apache_beam is not installed: pip install 'premask\[build\]'"):
        require("apache_beam", extra="build")
    assert require("json", extra="build").__name__ == "json"


def test_a_message_is_one_line():
    assert one_line("a\r\nb\u2028c\x9b") == "a  b c "


PIPE = """
import sys
from mlm_data.command import Command, main
from mlm_data.console import Terminal

def run(options):
    terminal = Terminal()
    for number in range(100_000):
        {write}
    return 0

sys.exit(main("prog", "", [Command(name="act", help="", arguments=lambda parser: None, run=run)], ["act"]))
"""


@pytest.mark.parametrize("write", ["terminal.say(str(number))", "terminal.data(number)"])
def test_a_reader_that_goes_away_ends_the_program_quietly(write):
    writer = [sys.executable, "-c", PIPE.format(write=write)]
    process = subprocess.Popen(writer, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_text_from_corpora_neither_colours_nor_moves_the_cursor():
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    terminal = Terminal(out)
    hostile = "a[red]b\x1b[2Jc\x9b31md\x07 :smile:"
    terminal.say(hostile)
    terminal.print(Text(hostile))
    table = Table(hostile)
    table.add_row(Text(hostile))
    terminal.print(table)
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()
    assert out.getvalue().count("a[red]b�[2Jc�31md") == 4
    assert ":smile:" in out.getvalue()
