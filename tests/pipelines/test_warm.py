import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from mlm_data.build.checkup import kernel_names
from mlm_data.dataset.check import check_dataset
from pipelines.warm import FAMILIES, warm
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON


def test_warming_makes_a_sound_dataset_for_every_family(tmp_path):
    warm(tmp_path)
    built = [path.parent for path in tmp_path.glob("*/LATEST")]
    assert len(built) == len(FAMILIES)
    assert all(check_dataset(str(path)).ok for path in built)
    sources = {
        Path(name).name
        for path in built
        for file in (path / "documents").iterdir()
        for name in pa.ipc.open_file(file).read_all()["source"].unify_dictionaries().chunk(0).dictionary.to_pylist()
    }
    assert sources == {
        *("topics.jsonl", "topics.txt", "page.html", "table.csv", "array.json", "pages.wet", "words.jsonl"),
    }


@pytest.mark.slow
def test_warming_compiles_what_a_usual_build_needs(tmp_path):
    """In an empty cache; what is left is named here, with the reason."""
    code = "import sys; from pathlib import Path; from pipelines.warm import warm; warm(Path(sys.argv[1]))"
    (tmp_path / "warm").mkdir()
    env = PYTHON | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "warm")], cwd=ROOT, env=env, check=True)
    cached = {path.name.partition(".py3")[0] for path in (tmp_path / "cache").rglob("*.nbi")}
    package = ROOT / "mlm_data"
    cold = {name for path, name, line in kernel_names(package) if f"{path.stem}.{name}-{line}" not in cached}
    own_tokenizers = {"find_added", "find_long_words", "mark_words", "scan_cl100k"}
    rare_rows = {"_balance", "_worst_fit", "_take_out", "_maskable", "_swaps"}  # many short segments, many special ids
    rare_inputs = {"_first_blank_line", "_strip", "rehash", "_spread"}  # huge documents and pages, spaCy's words
    others = {"draws"}  # of the trainer
    assert cold <= own_tokenizers | rare_rows | rare_inputs | others
