"""The pages of docs/reference say what the code does: made again, and compared."""

import ast
import re
from pathlib import Path

import pytest

from docs.tools import reference
from mlm_data import errors

ROOT = Path(__file__).parents[2]
REASONS_PAGE = ROOT / "docs/reference/reasons.md"


@pytest.mark.parametrize("name", ["build-settings.md", "run-settings.md", "commands.md"])
def test_pages_are_as_the_code_would_make_them(name):
    assert (reference.FOLDER / name).read_text() == reference.pages()[name], "run `make docs`"


def test_every_error_is_on_the_page():
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and kind is not errors.PremaskError]
    text = REASONS_PAGE.read_text()
    assert [name for name in kinds if f"`{name}`" not in text] == []


def test_every_reason_of_the_ledger_is_on_the_page():
    text = REASONS_PAGE.read_text()
    found = {
        reason
        for room in ("text", "curation")
        for file in (ROOT / "mlm_data" / room).rglob("*.py")
        for reason in constants(file.read_text())
    }
    assert {"too_short", "exact_duplicate", "bad_json", "truncated"} <= found
    assert sorted(reason for reason in found - {"kept"} if f"`{reason}`" not in text) == []


def constants(source):
    """Names such as `bad_json` that a module binds to names such as `BAD_JSON`."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant | ast.Tuple):
            values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
            for value in values:
                text = value.value if isinstance(value, ast.Constant) else None
                if isinstance(text, str) and re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", text):
                    yield text
