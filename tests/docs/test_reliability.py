"""Each test that docs/explanation/reliability.md names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/reliability.md"
_NAME = re.compile(r"`((?:tests/)?[\w/]*test_\w+\.py|test_\w+)`")


def named_tests(text: str) -> list[tuple[str, str]]:
    """(file, function; "" for a whole file) of what stands in backquotes; without a folder it is in tests/faults."""
    found, file = [], ""
    for name in _NAME.findall(text):
        if name.endswith(".py"):
            file = name if "/" in name else f"tests/faults/{name}"
        found.append((file, "" if name.endswith(".py") else name))
    return found


def test_each_test_that_is_named_is_there():
    named = named_tests(PAGE.read_text(encoding="utf-8"))
    assert len([function for _, function in named if function]) > 10
    for file, function in named:
        assert (ROOT / file).is_file(), file
        code = (ROOT / file).read_text(encoding="utf-8")
        assert not function or re.search(rf"^def {function}\(", code, re.MULTILINE), f"{file}: {function}"


def test_each_promise_names_a_test():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    promises = _below(rows, "| Promise")
    assert len(promises) > 15
    for row in promises:
        assert named_tests(row), row


def _below(rows: list[str], heading: str) -> list[str]:
    """The rows of the tables whose first row begins so."""
    found, is_there = [], False
    for row, after in zip(rows, [*rows[1:], ""], strict=True):
        if after.startswith("|---"):
            is_there = row.startswith(heading)
        elif is_there and not row.startswith("|---"):
            found.append(row)
    return found
