"""Make the pages of docs/reference that follow from the code: settings, formats and commands.

    python -m docs.tools.reference

A test makes them again and compares, so a page can't fall behind the code.
"""

import argparse
import inspect
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mlm_data.config import BuildConfig
from mlm_data.curation.rules import RULES
from mlm_data.quality_settings import QualitySettings
from mlm_data.settings import Settings
from mlm_data.text.compression import CODECS
from mlm_data.text.formats import FORMATS
from pipelines.commands import cli as build_cli
from trainer.commands import cli as train_cli
from trainer.config import RunSettings
from trainer.recipes import RECIPES

FOLDER = Path(__file__).parent.parent / "reference"
MADE = "<!-- Made from the code by docs/tools/reference.py: change it there, then `make docs`. -->\n\n"
SIMPLE = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", type(None): "`null`"}
OWN = "its own settings"
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

BUILD_INTRO = """\
# Settings of a build

`premask build` reads them from one YAML file. `--set field=value` overrides one of them, for example
`--set mask.rate=0.15` or `--set inputs.0.path=other.jsonl`. A field that does not exist is an error, which names the
nearest one that does. `premask init` writes a file with the usual ones.

A limit is what one field must keep by itself. What two fields must keep together, the command says when they don't.
"""

RUN_INTRO = """\
# Settings of a run

`premask-train run` takes them from three places: a recipe (`--recipe`), a YAML file, and `--set field=value`. Later
ones win. A field that does not exist is an error, which names the nearest one that does.

The defaults below are those without a recipe; the [recipes](#recipes) set some of them otherwise.
"""

FORMATS_INTRO = """\
# Formats of input files

Bytes decide before names. First the compression ({codecs}), then what a file's first bytes show, then `format` if it is
set, then its extension; of a file without a known extension the content decides. Archives and binaries are refused with
what to do. `premask plan` shows for every input the format, and why.

| format | extensions | what a document is | settings that mean something | compressed |
|---|---|---|---|---|
"""

COMMANDS_INTRO = """\
# Commands

Both commands end with exit code 0 if all is well, and with 2 after one line on standard error if there is something
that you can mend. `premask verify`, `audit`, `doctor` and `status` end with 1 if what they look at is not as it
should be. Ctrl-C ends with 130, SIGTERM with 143. `--debug` shows the traceback of an error.
"""


RULES_INTRO = """\
# Quality rules

Four presets, each off unless an input names it in `quality`. A document is judged by the rules of the presets that are
on, in this order; the first one that it fails is its reason. Where a threshold is `null`, its rule is off. What is
counted, and why, stands in [curation](../explanation/curation.md).

The last column says which rules need words. They don't hold for languages that are written without spaces, such as
Chinese, Japanese and Thai. Some thresholds of other languages than English differ, unless you set them.

| reason | a document is dropped if | threshold | counts words |
|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """Name of each generated page in docs/reference -> its text."""
    run = settings_page(RUN_INTRO, RunSettings) + recipes_table()
    texts = {
        "build-settings.md": settings_page(BUILD_INTRO, BuildConfig),
        "run-settings.md": run,
        "formats.md": formats_page(),
        "quality-rules.md": rules_page(),
        "commands.md": COMMANDS_INTRO + commands(build_cli.parser()) + commands(train_cli.parser()),
    }
    return {name: MADE + text for name, text in texts.items()}


def rules_page() -> str:
    """The rules of the quality presets, in the order in which they judge."""
    lines = [RULES_INTRO]
    for rule in RULES:
        preset = QualitySettings.model_validate(rule.preset)
        value = getattr(getattr(preset, rule.preset), rule.threshold)
        shown = "`true`" if value is True else f"{value:,}"
        words = "yes" if rule.counts_words else ""
        lines.append(f"| `{rule.name}` | `{rule.formula}` | {shown} | {words} |\n")
    return "".join(lines)


def settings_page(intro: str, kind: type[Settings]) -> str:
    """A page with one table for each settings class below `kind`, in the order of the fields that hold them."""
    parts, places = [intro], {inner: path for path, inner in reversed(list(classes(kind)))}
    for path, inner in classes(kind):
        if places[inner] != path:
            continue
        title = f"`{path}`" if path else "Top level"
        described = inner.descriptions()
        lines = ["| setting | type | default | limits | what it is |", "|---|---|---|---|---|"]
        for name, field in inner.model_fields.items():
            kind_of = type_name(field.annotation)
            for held in inner_classes(field.annotation):
                kind_of = kind_of.replace(OWN, f"[its own settings](#{places[held].replace('.', '')})")
            cells = (f"`{name}`", kind_of, default(field), limits(field), described[name].replace("None:", "`null`:"))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        about = (inner.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        parts.append(f"\n## {title}\n\n{about}\n\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def classes(kind: type[Settings], path: str = "") -> Iterator[tuple[str, type[Settings]]]:
    """Each settings class that a configuration holds, with the dotted name of the field that holds it."""
    yield path, kind
    for name, field in kind.model_fields.items():
        for inner in inner_classes(field.annotation):
            yield from classes(inner, f"{path}.{name}" if path else name)


def inner_classes(annotation: Any) -> list[type[Settings]]:
    """The settings classes that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for part in get_args(annotation) for found in inner_classes(part)]


def type_name(annotation: Any) -> str:
    """A type in words.

    >>> type_name(tuple[str, ...]), type_name(Literal["a", "b"]), type_name(int | None)
    ('list of texts', '`a`, `b`', 'whole number, or `null`')
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    if origin is Annotated:
        return type_name(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return ", or ".join(type_name(part) for part in parts)
    if origin is tuple:
        names = [type_name(part) for part in parts if part is not Ellipsis]
        amount = "" if Ellipsis in parts else f"{len(names)} "
        return f"list of {amount}{names[0]}" + "s" * (names[0] != OWN)
    if origin is dict:
        return f"map of {type_name(parts[0])} to {type_name(parts[1])}"
    if issubclass(annotation, Settings):
        return OWN
    return f"`{annotation.__name__}`"


def default(field: FieldInfo) -> str:
    """A field's default as YAML would have it."""
    value = field.default
    if value is PydanticUndefined:
        return "must be given"
    if value is None:
        return "`null`"
    if isinstance(value, Settings):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return '`""`' if value == "" else f"`{number(value)}`"


def limits(field: FieldInfo) -> str:
    """What pydantic checks of the field alone."""
    found = []
    for item in field.metadata:
        found += [f"{sign} {number(getattr(item, name))}" for name, sign in SIGNS.items() if hasattr(item, name)]
        if hasattr(item, "min_length"):
            found.append(f"at least {item.min_length}")
    return ", ".join(found)


def number(value: Any) -> str:
    """A number as a person writes it.

    >>> number(2**63), number(2**31 - 1), number(65536), number("NFC")
    ('2^63', '2^31 - 1', '65,536', 'NFC')
    """
    if isinstance(value, int) and value >= 2**31 - 1:
        for power in range(31, 65):
            if value in (2**power, 2**power - 1):
                return f"2^{power}" + (" - 1" if value < 2**power else "")
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def recipes_table() -> str:
    """What each recipe sets."""
    flat = {name: dict(flatten(make())) for name, make in RECIPES.items()}
    fields = list(dict.fromkeys(field for values in flat.values() for field in values))
    abouts = (f"`{name}`: {inspect.getdoc(make)}" for name, make in RECIPES.items())
    about = "".join("- " + textwrap.indent(text, "    ").strip() + "\n" for text in abouts)
    head = "| setting | " + " | ".join(f"`{name}`" for name in flat) + " |\n|---" + "|---" * len(flat) + "|\n"
    rows = (
        f"| `{field}` | " + " | ".join(f"`{values[field]}`" if field in values else "" for values in flat.values())
        for field in fields
    )
    return f"\n## Recipes\n\n{about}\n{head}" + " |\n".join(rows) + " |\n"


def flatten(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values under dotted names, floats as a person writes them."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", f"{value:g}" if isinstance(value, float) else value


def formats_page() -> str:
    """A page with a line for each format, from its record and the first lines of its module."""
    lines = [FORMATS_INTRO.format(codecs=", ".join(f"`.{codec.extension}`" for codec in CODECS.values()))]
    for kind in FORMATS.values():
        about = (
            (inspect.getdoc(inspect.getmodule(kind.read)) or "")
            .split("\n\n")[0]
            .partition(" See `")[0]
            .replace("\n", " ")
        )
        named = [", ".join(f"`{one}`" for one in names) for names in (kind.extensions, sorted(kind.settings))]
        lines.append(
            f"| `{kind.name}` | {named[0]} | {about} | {named[1]} | {'yes' if kind.takes_compression else 'no'} |\n"
        )
    return "".join(lines)


def commands(parser: argparse.ArgumentParser) -> str:
    """A section for a program, with a part for each of its commands."""
    parts = [f"\n## {parser.prog}\n\n{parser.description}\n"]
    for name, inner in subparsers(parser).items():
        shown = [action for action in inner._actions if argparse.SUPPRESS not in (action.help, action.dest)]
        lines = [f"\n### {parser.prog} {name}\n\n{inner.description}\n"]
        lines.append("\n| argument | default | what it is |\n|---|---|---|\n")
        lines += (argument(action) for action in shown if action.dest not in ("help", "debug"))
        lines += [f"\n```text\n{inner.epilog}\n```\n"] if inner.epilog else []
        parts.append("".join(lines))
    return "".join(parts)


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a program."""
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices


def argument(action: argparse.Action) -> str:
    """A line of a command's table."""
    metavar = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    takes = action.nargs != 0
    if action.option_strings:
        name = ", ".join(f"`{option} {metavar}`" if takes else f"`{option}`" for option in action.option_strings)
    else:
        name = f"`{metavar}`" + (" ..." if action.nargs == "+" else "")
    help_text = (action.help or "").replace("%(default)s", str(action.default))
    if action.choices and takes:
        help_text = f"{help_text}: " * bool(help_text) + "one of " + ", ".join(f"`{one}`" for one in action.choices)
    silent = action.default in (None, False, []) or "default" in help_text or not takes
    shown = "" if silent else f"`{action.default}`"
    cells = (name, shown, help_text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
