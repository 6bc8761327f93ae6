"""The pages of docs/reference say what the code does: made again, and compared."""

import ast
import doctest
import re
from pathlib import Path

import pytest

from docs.tools import pictures, reference
from mlm_data import errors
from mlm_data.curation import thresholds
from mlm_data.text.blocks import TRUNCATED

ROOT = Path(__file__).parents[2]
REASONS_PAGE = ROOT / "docs/reference/reasons.md"


@pytest.mark.parametrize(
    "name", ["build-settings.md", "run-settings.md", "formats.md", "quality-rules.md", "commands.md"]
)
def test_pages_are_as_the_code_would_make_them(name):
    assert (reference.FOLDER / name).read_text() == reference.pages()[name], "run `make docs`"


@pytest.mark.parametrize("module", [reference, pictures], ids=lambda module: module.__name__)
def test_the_examples_in_the_tools_are_true(module):
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)


def test_every_error_is_on_the_page():
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and kind is not errors.PremaskError]
    text = REASONS_PAGE.read_text()
    assert [name for name in kinds if f"`{name}`" not in text] == []


def test_every_reason_of_the_ledger_is_on_the_page():
    text = REASONS_PAGE.read_text()
    later = {thresholds.EXACT_DUPLICATE, thresholds.NEAR_DUPLICATE, thresholds.CONTAMINATED, thresholds.THINNED}
    later.add(thresholds.FORGOTTEN)
    found = {*thresholds.BEFORE_QUALITY[1:], *later, TRUNCATED} | {
        reason for file in (ROOT / "mlm_data/text").rglob("*.py") for reason in constants(file.read_text())
    }
    assert {"bad_json", "bad_utf8", "text_not_a_string"} <= found
    assert sorted(reason for reason in found if f"`{reason}`" not in text) == []


def constants(source):
    """Names such as `bad_json` that a module binds to names such as `BAD_JSON`."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant | ast.Tuple):
            values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
            for value in values:
                text = value.value if isinstance(value, ast.Constant) else None
                if isinstance(text, str) and re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", text):
                    yield text
