"""Every command line in README.md and docs/ is one that the commands would take."""

import re

import pytest

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings, parse_yaml
from pipelines.commands import cli as build_cli
from tests.docs.commands import PAGES, ROOT, blocks, command_lines
from trainer.commands import cli as train_cli
from trainer.config import resolve

PARSERS = {"premask": build_cli.parser(), "premask-train": train_cli.parser()}
LINES = [
    (str(page.relative_to(ROOT)), words) for page in PAGES for block in blocks(page) for words in command_lines(block)
]


@pytest.mark.parametrize(
    ("page", "words"), LINES, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_command_line_parses(page, words):
    program, *arguments = [word for word in words if word != "..."]
    options, rest = PARSERS[program].parse_known_args(arguments)
    passes_on = program == "premask" and arguments[0] == "build"
    assert not rest or passes_on, f"{page}: {rest}"
    if program == "premask-train" and getattr(options, "set", None) and not getattr(options, "file", None):
        resolve(recipe_name=options.recipe, values={"data": "d", "out": "o"}, overrides=options.set)


def test_pages_have_command_lines():
    assert {page for page, _ in LINES} >= {"README.md", "docs/start.md", "docs/how-to/train.md"}


def test_paths_that_pages_name_are_there():
    named = re.compile(r"`((?:mlm_data|pipelines|trainer|tests|docs|examples)/[\w./*-]+)`")
    found = {(page.name, path) for page in PAGES for path in named.findall(page.read_text())}
    assert len(found) > 30
    assert [(page, path) for page, path in sorted(found) if not any(ROOT.glob(path.rstrip("/")))] == []


def configurations(field):
    """The fenced YAML of all pages that has a line which begins with this field."""
    found = ((str(page.relative_to(ROOT)), block) for page in PAGES for block in blocks(page))
    return [(page, block) for page, block in found if block.language == "yaml" and f"\n{field}:" in f"\n{block.text}"]


def page_of(value):
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("page", "block"), configurations("inputs"), ids=page_of)
def test_a_configuration_of_a_build_is_one(page, block):
    parse_settings(
        BuildConfig, {"output": "o", "tokenizer": {"path": "t"}} | parse_yaml(block.text, where=page), where=page
    )


@pytest.mark.parametrize(("page", "block"), configurations("recipe"), ids=page_of)
def test_a_configuration_of_a_run_is_one(page, block):
    resolve(values=parse_yaml(block.text, where=page))
