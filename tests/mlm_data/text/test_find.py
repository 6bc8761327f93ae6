"""Links, circles, folders that can't be listed, and names that look like globs."""

import os

import pyarrow.fs
import pytest

from mlm_data.errors import InputError
from mlm_data.text import find
from mlm_data.text.find import expand


@pytest.fixture
def tree(tmp_path):
    """A folder of its own, and one elsewhere that a link in it names."""
    for name in ("tree/own/a.txt", "elsewhere/b.txt", "elsewhere/deep/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "tree/law").symlink_to(tmp_path / "elsewhere")
    return tmp_path


def names(pattern):
    """What a glob finds; there must be no warning."""
    found, warnings = expand(str(pattern), "inputs.0.path")
    assert warnings == []
    return [item.relative for item in found]


def test_links_are_followed_below_two_stars_as_below_one(tree):
    assert names(tree / "tree/**") == ["law/b.txt", "law/deep/c.txt", "own/a.txt"]
    assert names(tree / "tree/*/*.txt") == ["law/b.txt", "own/a.txt"]
    assert names(tree / "tree/**/*.txt") == names(tree / "tree/**")
    assert names(tree / "tree/law/**") == ["b.txt", "deep/c.txt"]


def test_a_link_to_a_file_is_a_file(tree):
    (tree / "tree/own/link.txt").symlink_to(tree / "elsewhere/b.txt")
    assert names(tree / "tree/own/**") == ["a.txt", "link.txt"]
    assert names(tree / "tree/own/*") == ["a.txt", "link.txt"]


@pytest.mark.parametrize("target", [".", "..", "../own", "../../tree"])
def test_a_circle_ends_and_is_named(tree, target):
    (tree / "tree/law").unlink()
    (tree / "tree/own/again").symlink_to(target)
    found, warnings = expand(str(tree / "tree/**"), "inputs.0.path")
    mine = [item.relative for item in found if "elsewhere" not in item.relative]
    assert mine == ["own/a.txt"]
    assert len(warnings) == 1
    assert "the same folder as" in warnings[0]
    assert "/own/again" in warnings[0]


def test_links_to_each_other_end(tree):
    """Ten folders, each with a link to each: factorial many paths."""
    for i in range(10):
        (tree / f"many/{i}").mkdir(parents=True)
        (tree / f"many/{i}/{i}.txt").write_text("text")
        for j in range(10):
            (tree / f"many/{i}/to{j}").symlink_to(f"../{j}")
    found, warnings = expand(str(tree / "many/**"), "inputs.0.path")
    assert [item.relative for item in found] == [f"{i}/{i}.txt" for i in range(10)]
    assert len(warnings) == find.MAX_WARNINGS + 1
    assert warnings[-1].endswith("80 more links and folders left out")


def test_a_folder_is_read_under_its_own_name_whichever_comes_first(tree):
    (tree / "tree/aaa").symlink_to("own")
    (tree / "tree/zzz").symlink_to("own")
    found, warnings = expand(str(tree / "tree/**"), "inputs.0.path")
    assert [item.relative for item in found] == ["law/b.txt", "law/deep/c.txt", "own/a.txt"]
    assert warnings == [
        f"{tree}/tree/{name}: the same folder as {tree}/tree/own, by a link; read once, as the latter"
        for name in ("aaa", "zzz")
    ]


@pytest.mark.parametrize("pattern", ["tree/**", "tree/own/*", "tree/*/*", "tree/**/*.txt"])
@pytest.mark.parametrize("target", ["nowhere", "loop.txt"])
def test_a_link_that_leads_nowhere_is_named(tree, pattern, target):
    (tree / "tree/own/loop.txt").symlink_to(target)
    found, warnings = expand(str(tree / pattern), "inputs.0.path")
    assert "own/a.txt".endswith(found[-1].relative)
    assert warnings == [f"{tree}/tree/own/loop.txt: a link to {target}, which is not there; left out"]


def test_a_link_that_no_glob_asks_for_is_nobodys_business(tree):
    (tree / "tree/own/dead").symlink_to("nowhere")
    (tree / "tree/.hidden").symlink_to("nowhere")
    assert names(tree / "tree/own/*.txt") == ["a.txt"]
    (tree / "tree/own/dead").unlink()
    assert names(tree / "tree/own/**") == ["a.txt"]


def test_a_path_that_is_a_dead_link(tree):
    (tree / "dead.txt").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"dead\.txt: a link to nowhere, which is not there"):
        expand(str(tree / "dead.txt"), "inputs.3.path")


def test_a_folder_that_can_not_be_listed_is_named(tree):
    class Guarded:
        """A local disk on which one folder belongs to somebody else; root, who runs tests, may list them all."""

        def get_file_info(self, what):
            if isinstance(what, pyarrow.fs.FileSelector) and what.base_dir.endswith("/law"):
                raise PermissionError(13, "Permission denied")
            return pyarrow.fs.LocalFileSystem().get_file_info(what)

    listed, warnings = [], []
    for folder in (f"{tree}/tree/own", f"{tree}/tree/law"):
        listed += find._list(Guarded(), folder, warnings)
    assert [item.base_name for item in listed] == ["a.txt"]
    assert warnings == [f"{tree}/tree/law: permission denied: what is in this folder is left out"]


def test_a_path_that_exists_wins_over_its_reading_as_a_glob(tmp_path):
    for name in ("data [v2]/a.jsonl", "data [v2]/b?.jsonl", "data [v2]/bc.jsonl", "data v/x.jsonl", "data 2/y.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert names(tmp_path / "data [v2]/a.jsonl") == ["a.jsonl"]
    assert names(tmp_path / "data [v2]/b?.jsonl") == ["b?.jsonl"]
    assert names(tmp_path / "data [v2]/*.jsonl") == ["a.jsonl", "b?.jsonl", "bc.jsonl"]
    assert names(tmp_path / "data [v2]/**") == ["a.jsonl", "b?.jsonl", "bc.jsonl"]
    assert names(tmp_path / "data [v23]/*.jsonl") == ["data 2/y.jsonl", "data v/x.jsonl"]
    with pytest.raises(InputError, match=r"data \[v2\] is a folder: write .*data \[v2\]/\*\* for all files in it"):
        expand(str(tmp_path / "data [v2]"), "inputs.0.path")


def test_a_folder_as_written_in_a_uri(tmp_path):
    (tmp_path / "data [v2]").mkdir()
    (tmp_path / "data [v2]/a.jsonl").write_text("{}")
    found, _ = expand(f"file://{tmp_path}/data [v2]/*.jsonl", "inputs.0.path")
    assert [item.relative for item in found] == ["a.jsonl"]
    assert os.path.basename(found[0].path) == "a.jsonl"


def test_no_file_matches_tells_what_was_left_out(tree):
    (tree / "tree/own/dead.md").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"no file matches; .*dead\.md: a link to nowhere"):
        expand(str(tree / "tree/own/*.md"), "inputs.0.path")
