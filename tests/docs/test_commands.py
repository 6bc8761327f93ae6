"""Every command line in README.md and docs/ is one that the commands would take."""

import pytest

from docs.tools.reference import build_parser, train_parser
from mlm_data.config import BuildConfig
from mlm_data.settings import apply_overrides, parse_settings, parse_yaml
from tests.docs.commands import PAGES, ROOT, blocks, command_lines
from trainer.config import resolve

PARSERS = {"premask": build_parser(), "premask-train": train_parser()}
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


CONFIGS = [
    (str(page.relative_to(ROOT)), block)
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml" and "inputs:" in block.text
]


@pytest.mark.parametrize(("page", "block"), CONFIGS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_configuration_is_one(page, block):
    values = parse_yaml(block.text, where=page)
    parse_settings(
        BuildConfig, {"output": "o", "tokenizer": {"path": "t.json"}} | apply_overrides(values, []), where=page
    )
