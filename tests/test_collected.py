"""Tests that are never collected never fail."""

from fnmatch import fnmatch
from pathlib import Path

from tests.conftest import ROOT


def test_no_folder_of_tests_is_left_out(pytestconfig):
    left_out = pytestconfig.getini("norecursedirs")
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert Path("tests/mlm_data/build") in folders
    assert [one for one in folders for part in one.parts if any(fnmatch(part, pattern) for pattern in left_out)] == []
    assert [one for one in pytestconfig.getini("testpaths") if not (ROOT / one).is_dir()] == []
