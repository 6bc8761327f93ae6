"""The scripts of docs/how-to/other-trainers.md run: on a small dataset, with a small model, for few steps."""

import re

import pytest

from tests.docs.commands import ROOT, blocks
from tests.synthetic import make_dataset

PAGE = ROOT / "docs/how-to/other-trainers.md"
SMALL = "hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size="


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "d", num_rows=70, shard_rows=70)


def test_the_scripts_run(folder):
    """One after the other, as a reader would type them; a block without imports goes on with the names before it."""
    names = {"rank": 0, "world_size": 2}
    scripts = [block.text for block in blocks(PAGE) if block.language == "python"]
    assert len(scripts) == 6
    for script in scripts:
        script = script.replace('"datasets/books"', repr(str(folder))).replace("vocab_size=", SMALL)
        script = re.sub(r"range\(1000\)", "range(2)", script)
        exec(compile(script, str(PAGE), "exec"), names)
    assert names["step"] == 1
    assert names["state"]["rows_consumed"] == 32_000
    assert len(names["rows"]) == 70
