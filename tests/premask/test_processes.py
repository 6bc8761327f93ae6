"""Two processes that train together: no row twice, none lost, whoever deals them out."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from premask import open_dataset
from tests.synthetic import make_dataset

pytest.importorskip("accelerate", reason="pip install accelerate")

SCRIPT = textwrap.dedent(
    """
    import hashlib, json, sys
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from mlm_data.errors import ConfigError
    from premask import open_dataset

    ds, accelerator = open_dataset(sys.argv[1]), Accelerator(cpu=True)
    rank, world = accelerator.process_index, accelerator.num_processes

    def names(batches):
        return [hashlib.sha256(row.numpy().tobytes()).hexdigest() for batch in batches for row in batch["labels"]]

    dealt = DataLoader(ds.torch(batch_rows=None, epochs=1, rank=0, world_size=1), batch_size=5)
    said = {"world": world, "dealt": names(accelerator.prepare(dealt))}
    said["own"] = names(ds.torch(batch_rows=5, epochs=1, rank=rank, world_size=world))
    try:
        ds.torch()
    except ConfigError as error:
        said["refused"] = str(error)
    with open(f"{sys.argv[2]}/{rank}.json", "w") as file:
        json.dump(said, file)
    """
)


@pytest.mark.slow
def test_two_processes_share_the_rows(tmp_path):
    folder = make_dataset(tmp_path / "d", num_rows=50)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment["ACCELERATE_USE_CPU"] = "true"
    done = subprocess.run(
        [*command, str(tmp_path / "script.py"), str(folder), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert len(open_dataset(folder).rows("train")) == 50
    for way in ("dealt", "own"):
        found = [name for rank in ranks for name in rank[way]]
        assert len(found) == len(set(found)) == 50, way
    for rank in ranks:
        assert rank["world"] == 2
        assert "2 processes train together" in rank["refused"]
